package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mpr/test/engine"
)

const (
	// readyWithin is how long a start may take before the suite gives up: the race
	// detector and a busy machine make it slower than the 3 s that are promised.
	readyWithin = 60 * time.Second
	// stopWithin is how long Ctrl-C may take.
	stopWithin = 30 * time.Second
)

// dev is a running `mpr dev`.
type dev struct {
	facts
	// line is what it printed on standard output: one line of JSON.
	line []byte
	// ready is how long it took until the line was there.
	ready time.Duration

	data   string
	stores string // of engine.Stores
	args   []string
	log    *logBook
	cmd    *exec.Cmd
	rest   chan []byte // what came on standard output after the line
}

// startDev starts a test's own mpr dev on a data folder, and ends it with the test.
func startDev(t *testing.T, data string, args ...string) *dev {
	t.Helper()
	t.Parallel() // nobody else comes to it, and most of its time is waiting
	return startAnother(t, data, args...)
}

// startAnother is startDev for a test that has started one before.
func startAnother(t *testing.T, data string, args ...string) *dev {
	t.Helper()
	return startOn(t, data, engine.Stores(t), args...)
}

// startOn is startAnother with stores that are there already.
func startOn(t *testing.T, data, stores string, args ...string) *dev {
	t.Helper()
	d, err := launch(context.Background(), data, stores, args...)
	if err != nil {
		t.Fatalf("start mpr dev: %v", err)
	}
	d.showLogOnFailure(t)
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Errorf("stop mpr dev: %v", err)
		}
	})
	return d
}

// launch starts mpr dev and waits for its line of JSON.
func launch(ctx context.Context, data, stores string, args ...string) (*dev, error) {
	d := &dev{data: data, stores: stores, args: args, log: &logBook{}}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *dev) start(ctx context.Context) error {
	args := append([]string{"dev", "--port", "0", "--json", "--data", d.data}, d.args...)
	d.cmd = exec.Command(binary, args...) //nolint:noctx // it outlives the context that waits for its start
	d.cmd.Stderr = d.log
	d.cmd.Env = append(d.environ(), "GORACE=exitcode=66")
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.cmd.Start(); err != nil {
		return err
	}
	lines := make(chan []byte, 1)
	d.rest = make(chan []byte, 1)
	go func() {
		out := bufio.NewReader(stdout)
		line, _ := out.ReadBytes('\n')
		lines <- line
		rest, _ := io.ReadAll(out)
		d.rest <- rest
	}()
	timeout := time.NewTimer(readyWithin)
	defer timeout.Stop()
	select {
	case d.line = <-lines:
	case <-timeout.C:
		return errors.Join(fmt.Errorf("no line of JSON within %v", readyWithin), d.kill(), d.log)
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), d.kill())
	}
	d.ready = time.Since(began)
	d.facts = facts{}
	if err := json.Unmarshal(d.line, &d.facts); err != nil {
		return errors.Join(fmt.Errorf("standard output %q: %w", d.line, err), d.kill(), d.log)
	}
	return nil
}

// environ is the environment without the settings of mpr that a developer may have there.
// Commands end when they are done: the race detector would have each of them sleep for a second.
func environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MPR_") })
	return append(env, "GORACE=exitcode=66 atexit_sleep_ms=0")
}

// environ is that of commands which belong to this mpr dev.
func (d *dev) environ() []string { return append(environ(), "MPR_STORES="+d.stores) }

// Stop presses Ctrl-C and holds mpr to its promise: it drains and exits 0.
func (d *dev) Stop(t *testing.T) {
	t.Helper()
	if err := d.stop(); err != nil {
		t.Fatalf("stop mpr dev: %v", err)
	}
}

// Kill ends the process as a loss of power would: nothing is flushed, nobody is told.
func (d *dev) Kill(t *testing.T) {
	t.Helper()
	if err := d.kill(); err != nil {
		t.Fatalf("kill mpr dev: %v", err)
	}
}

// Restart starts mpr dev again on the same data. It must have ended before.
func (d *dev) Restart(t *testing.T) {
	t.Helper()
	if d.cmd != nil {
		t.Fatal("mpr dev is still running")
	}
	if err := d.start(t.Context()); err != nil {
		t.Fatalf("start mpr dev again: %v", err)
	}
}

func (d *dev) stop() error {
	if d.cmd == nil {
		return d.log.fault()
	}
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	late := time.AfterFunc(stopWithin, func() { _ = d.cmd.Process.Kill() })
	rest := <-d.rest
	err := d.cmd.Wait()
	onTime := late.Stop()
	d.cmd = nil
	if !onTime {
		return fmt.Errorf("it was still running %v after Ctrl-C", stopWithin)
	}
	if len(rest) > 0 {
		err = errors.Join(err, fmt.Errorf("it printed more than one line: %q", rest))
	}
	return errors.Join(err, d.log.fault())
}

func (d *dev) kill() error {
	if err := d.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-d.rest
	err := d.cmd.Wait()
	d.cmd = nil
	if _, ended := errors.AsType[*exec.ExitError](err); !ended {
		return fmt.Errorf("after SIGKILL: %w", err)
	}
	return d.log.fault()
}

// showLogOnFailure shows what mpr logged during the test, if the test fails.
func (d *dev) showLogOnFailure(t *testing.T) {
	from := d.log.len()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("mpr dev's log during this test:\n%s", d.log.since(from))
		}
	})
}

// logBook keeps the last part of a log.
type logBook struct {
	mu      sync.Mutex
	text    []byte
	dropped int
}

const logBookSize = 1 << 20

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if over := len(b.text) - logBookSize; over > 0 {
		b.text = append(b.text[:0], b.text[over:]...)
		b.dropped += over
	}
	return len(p), nil
}

func (b *logBook) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped + len(b.text)
}

// since is the log from a place on: its last 200 lines.
func (b *logBook) since(from int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := strings.SplitAfter(string(b.text[max(0, from-b.dropped):]), "\n")
	return strings.Join(lines[max(0, len(lines)-200):], "")
}

// Error makes the log part of an error.
func (b *logBook) Error() string { return "its log:\n" + b.since(0) }

// fault says whether the log tells of something that must never happen, whatever the
// clients do.
func (b *logBook) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, sign := range []string{"WARNING: DATA RACE", "panic", `level=ERROR msg="request failed"`} {
		if i := bytes.Index(b.text, []byte(sign)); i >= 0 {
			start := bytes.LastIndexByte(b.text[:i], '\n') + 1
			return fmt.Errorf("its log tells of a fault:\n%s", b.text[start:min(len(b.text), i+4000)])
		}
	}
	return nil
}
