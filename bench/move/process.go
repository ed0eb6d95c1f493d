package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopWithin is how long a process may take to end when it is asked to.
const stopWithin = 30 * time.Second

// process is a role.
type process struct {
	args []string
	log  *os.File
	cmd  *exec.Cmd
}

func (s *system) add(name, file string, args ...string) {
	s.processes[name] = &process{args: append(args, "--config", filepath.Join(s.dir, file))}
}

// start starts a role, and has it stopped at the end.
func (s *system) start(ctx context.Context, name string) (err error) {
	p := s.processes[name]
	if p.log, err = os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil { //nolint:gosec // our own folder
		return err
	}
	// The context ends by Ctrl-C, which the terminal sends to them as well.
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), s.o.binary, p.args...) //nolint:gosec // whoever starts this names it
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w (make build makes the binary)", name, err), p.log.Close())
	}
	s.closes = append(s.closes, func() error { return p.stop(name) })
	return nil
}

// stop asks a process to end, and fails where its log tells of something that must never
// happen.
func (p *process) stop(name string) error {
	if p.cmd == nil {
		return nil
	}
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(stopWithin, func() { _ = p.cmd.Process.Kill() })
	err = errors.Join(err, p.cmd.Wait(), p.log.Close())
	late.Stop()
	p.cmd = nil
	text, e := os.ReadFile(p.log.Name())
	for _, sign := range []string{"panic", `level=ERROR`} {
		if i := bytes.Index(text, []byte(sign)); i >= 0 {
			e = errors.Join(e, fmt.Errorf("its log tells of a fault: %s", text[i:min(len(text), i+1000)]))
		}
	}
	if err = errors.Join(err, e); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// kill ends a process as a loss of power would.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = p.cmd.Wait() // it says that it was killed
	p.cmd = nil
	return p.log.Close()
}

// cpu is the time that a process has used on processors.
func (p *process) cpu() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file) //nolint:gosec // of the kernel
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		used, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(used, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n)
	}
	return total, nil
}

// peak is the most memory that a process has had until now, in bytes.
func (p *process) peak() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) //nolint:gosec // of the kernel
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kilobytes int64
			_, err := fmt.Sscan(text, &kilobytes)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("the kernel doesn't tell how much memory a process has had")
}
