package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpr/test/engine"
	"mpr/test/loopback"
)

// drainTime is how long calls in flight may take to end once a role is asked to stop. A
// role without any must be gone within it.
const drainTime = 10 * time.Second

// topology is mpr as it runs in production: each role a process of its own, all of them
// on one configuration file. Its facts are filled in as its doors tell them.
type topology struct {
	*dev
	config    string
	processes map[string]*process
	env       []string // of commands, on top
}

// newTopology writes the configuration, of production and of further environments, and
// starts nothing.
func newTopology(t *testing.T, further ...string) *topology {
	t.Helper()
	t.Parallel() // as startDev
	dir := t.TempDir()
	s := &topology{
		dev:       &dev{data: filepath.Join(dir, "data"), stores: engine.Stores(t), log: &logBook{}},
		config:    filepath.Join(dir, "mpr.yaml"),
		processes: map[string]*process{},
	}
	const each = 10
	a := loopback.FreeAddresses(t, 2+each*(1+len(further)))
	var yaml strings.Builder
	fmt.Fprintf(&yaml, "data: %q\nstores: {dsn: %q}\ncontrol: {listen: %q}\ndirectory: {listen: %q}\nenvironments:\n", s.data, s.stores, a[0], a[1])
	var environments []map[string]string
	for i, name := range append([]string{"production"}, further...) {
		environments = append(environments, writeEnvironment(&yaml, name, a[2+each*i:]))
	}
	if err := os.WriteFile(s.config, []byte(yaml.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	facts := map[string]any{
		"environments": environments,
		"admin":        map[string]string{"url": "http://" + a[0], "token_file": filepath.Join(s.data, "admin.token")},
	}
	text, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s.facts); err != nil {
		t.Fatal(err)
	}
	s.addProcesses(t)
	return s
}

// addProcesses adds a process for each role, and ends it with the test.
func (s *topology) addProcesses(t *testing.T, flags ...string) {
	t.Helper()
	for _, args := range [][]string{{"control"}, {"login"}, {"gateway"}, {"region", "--code", "US01"}, {"region", "--code", "US02"}, {"region", "--code", "EU01"}} {
		p := &process{args: append(slices.Concat(args, flags), "--config", s.config), log: &logBook{}}
		s.add(t, args[len(args)-1], p) // the role, or the region's code
	}
}

// add adds a process, and ends it with the test.
func (s *topology) add(t *testing.T, name string, p *process) {
	t.Helper()
	s.processes[name] = p
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, p.log.since(0))
		}
		if p.cmd != nil {
			_ = p.kill()
		}
	})
}

// writeEnvironment writes an environment's part of the configuration, and answers its
// facts.
func writeEnvironment(yaml *strings.Builder, name string, a []string) map[string]string {
	fmt.Fprintf(yaml, "  - name: %s\n", name)
	facts := map[string]string{"name": name, "login": "http://" + a[0], "api": "http://" + a[1]}
	if kind, ok := strings.CutSuffix(name, " sandbox"); ok {
		fmt.Fprintf(yaml, "    sandbox: %s\n    sandbox_of: production\n", kind)
	} else {
		facts["legacy"] = "http://" + a[2]
		fmt.Fprintf(yaml, "    legacy: {host: app.procore.com, listen: %q}\n", a[2])
	}
	fmt.Fprintf(yaml, "    login: {host: %s, listen: %q}\n    api: {host: %s, listen: %q}\n",
		strings.TrimPrefix(hosts[name].login, "https://"), a[0], strings.TrimPrefix(hosts[name].api, "https://"), a[1])
	fmt.Fprintf(yaml, "    identity: {internal: %q}\n    regions:\n", a[3])
	for i, number := range []int{0, 16, 17} {
		fmt.Fprintf(yaml, "      - {code: %s, number: %d, listen: %q, internal: %q}\n", regions[i], number, a[4+2*i], a[5+2*i])
	}
	return facts
}

// process is one role.
type process struct {
	args []string
	log  *logBook
	cmd  *exec.Cmd

	taken map[string]int // how often it has read a file again
}

// start starts roles, in this order, and waits for none of them.
func (s *topology) start(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		p := s.processes[name]
		if p.cmd != nil {
			t.Fatalf("%s is running already", name)
		}
		cmd := exec.Command(binary, p.args...) //nolint:noctx // it is ended by the test
		cmd.Stderr, cmd.Stdout = p.log, p.log
		cmd.Env = append(environ(), "GORACE=exitcode=66")
		if err := cmd.Start(); err != nil {
			t.Fatalf("start %s: %v", name, err)
		}
		p.cmd = cmd
	}
}

// kill ends roles as a loss of power would.
func (s *topology) kill(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := s.processes[name].kill(); err != nil {
			t.Fatalf("kill %s: %v", name, err)
		}
	}
}

// stop ends roles as an operator would.
func (s *topology) stop(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		began := time.Now()
		if err := s.processes[name].stop(); err != nil {
			t.Errorf("stop %s: %v", name, err)
		}
		t.Logf("%s ended %v after SIGTERM", name, time.Since(began).Round(time.Millisecond))
	}
}

func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	err := p.cmd.Wait()
	p.cmd = nil
	exit, ended := errors.AsType[*exec.ExitError](err)
	if !ended {
		return fmt.Errorf("after SIGKILL: %w", err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("it had ended by itself: %w", err)
	}
	return p.log.fault()
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	late := time.AfterFunc(drainTime, func() { _ = p.cmd.Process.Kill() })
	err := p.cmd.Wait()
	p.cmd = nil
	if !late.Stop() {
		return fmt.Errorf("it was still running %v after SIGTERM", drainTime)
	}
	return errors.Join(err, p.log.fault())
}

// command is a run of mpr that ends by itself.
func (s *topology) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...) //nolint:noctx // it ends by itself
	cmd.Env = append(environ(), s.env...)
	return cmd
}

// mpr runs a command against the admin API.
func (s *topology) mpr(args ...string) ([]byte, error) {
	cmd := s.command(append(args, "--admin", s.Admin.URL, "--token-file", s.Admin.TokenFile, "--json")...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("mpr %s: %w\n%s", strings.Join(args, " "), err, &complaint)
	}
	return out, nil
}

// run runs a command and reads its JSON.
func (s *topology) run(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := s.mpr(args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("mpr %v printed %q: %v", args, out, err)
	}
}

// runEventually repeats a command, which must be one that can be repeated, until it
// succeeds.
func (s *topology) runEventually(t *testing.T, into any, args ...string) {
	t.Helper()
	var out []byte
	took := eventually(t, readyWithin, func() (bool, string) {
		var err error
		out, err = s.mpr(args...)
		return err == nil, fmt.Sprint(err)
	})
	t.Logf("mpr %s succeeded after %v", strings.Join(args[:2], " "), took.Round(time.Millisecond))
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("mpr %v printed %q: %v", args, out, err)
	}
}
