package main

import (
	"context"
	"errors"
	"path/filepath"

	"mpr/bench/machine"
)

// process is a role, which may be started more than once.
type process struct {
	args []string
	*machine.Process
}

func (s *system) add(name, file string, args ...string) {
	s.processes[name] = &process{args: append(args, "--config", filepath.Join(s.dir, file))}
}

// start starts a role, and has it stopped at the end.
func (s *system) start(ctx context.Context, name string) (err error) {
	p := s.processes[name]
	if p.Process, err = machine.Start(ctx, s.dir, name, s.o.binary, p.args...); err != nil {
		return err
	}
	s.closes = append(s.closes, p.stop)
	return nil
}

// stop asks a process to end, and fails where its log tells of something that must never
// happen.
func (p *process) stop() error { return errors.Join(p.Stop(), p.Faults()) }
