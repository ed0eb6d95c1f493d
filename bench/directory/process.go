package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopWithin is how long a process may take to end when it is asked to.
const stopWithin = 2 * time.Minute

// process is a role of the built binary.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
}

// start starts a role. Whoever starts it stops it.
func (s *system) start(ctx context.Context, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	// The context ends by Ctrl-C, which the terminal sends to them as well.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.o.binary, args...) //nolint:gosec // whoever starts this names it
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w (make build makes the binary)", name, err), log.Close())
	}
	return &process{name, cmd, log}, nil
}

// stop asks a process to end, and waits until it has.
func (p *process) stop() error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(stopWithin, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err = errors.Join(err, p.cmd.Wait(), p.log.Close()); err != nil {
		return fmt.Errorf("stop %s (%s has its log): %w", p.name, p.log.Name(), err)
	}
	return nil
}

// memory is how much memory of a process is in use, and the most that was, in bytes.
func memory(pid int) (now, peak float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) //nolint:gosec // of the kernel
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		name, text, _ := strings.Cut(line, ":")
		to := map[string]*float64{"VmRSS": &now, "VmHWM": &peak}[name]
		if to == nil {
			continue
		}
		if _, err := fmt.Sscan(text, to); err != nil {
			return 0, 0, err
		}
		*to *= 1 << 10
	}
	return now, peak, nil
}

// size is how much the files below a folder hold, in bytes.
func size(folder string) (total float64, err error) {
	err = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it is gone since
		}
		if err == nil {
			total += float64(info.Size())
		}
		return err
	})
	return total, err
}

// eventually repeats f until it says true.
func eventually(ctx context.Context, what string, limit, every time.Duration, f func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		ok, err := f(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}
