package machine

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
const stopWithin = 2 * time.Minute

// Process is a process that a measurement has started.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  *os.File
}

// Start starts a program, whose output is appended to NAME.log in a folder. Whoever starts it
// stops it.
func Start(ctx context.Context, folder, name, program string, args ...string) (*Process, error) {
	log, err := os.OpenFile(filepath.Join(folder, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	// The context ends by Ctrl-C, which the terminal sends to them as well.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...) //nolint:gosec // whoever starts this names it
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w (make build makes bin/mpr)", name, err), log.Close())
	}
	return &Process{name, cmd, log}, nil
}

// StartOn is Start on one core.
func StartOn(ctx context.Context, core int, folder, name, program string, args ...string) (*Process, error) {
	return Start(ctx, folder, name, "taskset", append([]string{"-c", strconv.Itoa(core), program}, args...)...)
}

// Pin keeps this process, and what it starts from here on, on one core.
func Pin(ctx context.Context, core int) error {
	if out, err := exec.CommandContext(ctx, "taskset", "-apc", strconv.Itoa(core), strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil { //nolint:gosec // numbers
		return fmt.Errorf("this needs two cores and taskset (Debian package util-linux): %w: %s", err, out)
	}
	return nil
}

// Stop asks the process to end, and waits until it has. Once it has ended, it does nothing.
func (p *Process) Stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(stopWithin, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err = errors.Join(err, p.cmd.Wait(), p.log.Close()); err != nil {
		return fmt.Errorf("stop %s (%s has its log): %w", p.Name, p.log.Name(), err)
	}
	return nil
}

// Kill ends the process as a loss of power would.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = p.cmd.Wait() // it says that it was killed
	return p.log.Close()
}

// Faults are an error where the log tells of something that must never happen.
func (p *Process) Faults() error {
	text, err := os.ReadFile(p.log.Name())
	for _, sign := range []string{"panic", `level=ERROR`} {
		if i := bytes.Index(text, []byte(sign)); i >= 0 {
			err = errors.Join(err, fmt.Errorf("%s: its log tells of a fault: %s", p.Name, text[i:min(len(text), i+1000)]))
		}
	}
	return err
}

// CPU is the time that the process has used on processors.
func (p *Process) CPU() (time.Duration, error) {
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

// ticks are those of the kernel's accounts, for each second: the same on all of Linux.
const ticks = 100

// Accounted is the time that the kernel has put on the process's account, in user mode and in its
// own (utime and stime), also that of threads that have ended.
func (p *Process) Accounted() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)) //nolint:gosec // of the kernel
	if err != nil {
		return 0, err
	}
	// The name of the program, in parentheses, may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: /proc/PID/stat is too short", p.Name)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticks, err
}

// Memory is how much memory of the process is in use, and the most that was, in bytes.
func (p *Process) Memory() (now, peak float64, err error) { return Memory(p.cmd.Process.Pid) }

// Memory is how much memory of a process is in use, and the most that was, in bytes.
func Memory(pid int) (now, peak float64, err error) {
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
