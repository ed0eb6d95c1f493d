package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mpr/test/engine"
)

// Limits of a start and of a stop, generous for slow machines and the race detector.
const (
	readyWithin = 60 * time.Second
	stopWithin  = 30 * time.Second
)

// running is an `mpr dev` in the background of a script.
type running struct {
	stores string // of engine.Open
	cmd    *exec.Cmd
	log    bytes.Buffer
	done   chan error
}

// theDev is where a script keeps its *running.
type theDev struct{}

func setup(env *testscript.Env) error {
	stores, drop, err := engine.Open()
	if err != nil {
		return err
	}
	env.Defer(func() {
		if err := drop(); err != nil {
			env.T().Fatal(err)
		}
	})
	env.Values[theDev{}] = &running{stores: stores}
	// The race detector would have each of some two hundred commands sleep for a second at its end.
	// Sessions of operators are kept in the user's configuration.
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, ".config"))
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	return nil
}

func devOf(ts *testscript.TestScript) *running {
	r, ok := ts.Value(theDev{}).(*running)
	if !ok {
		ts.Fatalf("the script has no place for mpr dev")
	}
	return r
}

// startDev runs mpr dev on the data folder d in the background and waits for its line of
// JSON. The script finds the id of the demo company in EU01 in $EU01 and so on, and the
// admin API in $ADMIN and $TOKEN, and people in $USER1 and $PASSWORD1 and so on: dev [ARGUMENT...].
func startDev(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: dev [ARGUMENT...]")
	}
	r := devOf(ts)
	if r.cmd != nil {
		ts.Fatalf("mpr dev is running already")
	}
	r.log.Reset()
	r.done = make(chan error, 1)
	r.cmd = exec.Command("mpr", append([]string{"dev", "--port", "0", "--json", "--data", "d"}, args...)...)
	r.cmd.Dir = ts.MkAbs(".")
	r.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MPR_") })
	r.cmd.Env = append(r.cmd.Env, "MPR_STORES="+r.stores)
	r.cmd.Stderr = &r.log
	out, err := r.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(r.cmd.Start())
	lines := make(chan []byte, 1)
	go func(cmd *exec.Cmd, done chan<- error) {
		in := bufio.NewReader(out)
		line, _ := in.ReadBytes('\n') // where it ended without one, the line is no JSON
		lines <- line
		_, _ = io.Copy(io.Discard, in)
		done <- cmd.Wait()
	}(r.cmd, r.done)
	ts.Defer(func() { _ = r.stop() })
	select {
	case line := <-lines:
		if err := tell(ts, line); err != nil {
			_ = r.stop()
			ts.Fatalf("%v\n%s", err, &r.log)
		}
	case <-time.After(readyWithin):
		_ = r.cmd.Process.Kill()
		ts.Fatalf("mpr dev isn't ready after %s", readyWithin)
	}
}

// tell sets the script's variables from the facts.
func tell(ts *testscript.TestScript, line []byte) error {
	var facts struct {
		Admin struct {
			URL       string `json:"url"`
			TokenFile string `json:"token_file"`
		} `json:"admin"`
		Users []struct {
			Login    string `json:"login"`
			Password string `json:"password"`
		} `json:"users"`
		Companies []struct {
			ID     json.Number `json:"id"`
			Region string      `json:"region"`
		} `json:"companies"`
	}
	if err := json.Unmarshal(line, &facts); err != nil {
		return fmt.Errorf("mpr dev printed %q: %w", line, err)
	}
	ts.Setenv("ADMIN", facts.Admin.URL)
	ts.Setenv("TOKEN", facts.Admin.TokenFile)
	for i, u := range facts.Users {
		ts.Setenv(fmt.Sprintf("USER%d", i+1), u.Login)
		ts.Setenv(fmt.Sprintf("PASSWORD%d", i+1), u.Password)
	}
	for _, c := range facts.Companies {
		ts.Setenv(c.Region, c.ID.String())
	}
	return nil
}

// stopDev presses Ctrl-C and wants a clean end: stop.
func stopDev(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: stop")
	}
	r := devOf(ts)
	if err := r.stop(); err != nil {
		ts.Fatalf("mpr dev: %v\n%s", err, &r.log)
	}
}

// stop ends the process once; a second time it does nothing.
func (r *running) stop() error {
	if r.cmd == nil {
		return nil
	}
	defer func() { r.cmd = nil }()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-time.After(stopWithin):
		_ = r.cmd.Process.Kill()
		return fmt.Errorf("still there %s after Ctrl-C", stopWithin)
	}
}

// field puts a field of the JSON in a file (stdout for the last output) into a variable;
// dots lead into objects and lists: field VARIABLE regions.2.internal FILE.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: field VARIABLE PATH FILE")
	}
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile(args[2])))
	decoder.UseNumber()
	var value any
	ts.Check(decoder.Decode(&value))
	for name := range strings.SplitSeq(args[1], ".") {
		ok := false
		switch v := value.(type) {
		case map[string]any:
			value, ok = v[name]
		case []any:
			i, err := strconv.Atoi(name)
			if ok = err == nil && i < len(v); ok {
				value = v[i]
			}
		}
		if !ok {
			ts.Fatalf("there is no %s in %s", args[1], args[2])
		}
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}
