package acceptance

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Regions that are gone, or answer nobody, are named, and hold up the comparison of none of the
// others.
func TestDirectoryIsComparedWithoutRegions(t *testing.T) {
	s := newTopology(t)
	s.start(t, "control", "login", "US01", "US02", "EU01", "gateway")
	s.populate(t)
	s.run(t, &object{}, "directory", "verify")

	s.kill(t, "EU01")
	stopped := s.processes["US02"].cmd.Process
	signal := func(what syscall.Signal) {
		t.Helper()
		if err := stopped.Signal(what); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { _ = stopped.Signal(syscall.SIGCONT) })
	for _, args := range [][]string{{"directory", "verify"}, {"directory", "rebuild", "--force"}} {
		cmd := s.command(append(args, "--admin", s.Admin.URL, "--token-file", s.Admin.TokenFile, "--json")...)
		var failure strings.Builder
		cmd.Stderr = &failure
		out, err := cmd.Output()
		var got struct {
			Companies, Placed, Unjudged, Made int
			Differences                       map[string]int
			Silent                            []struct{ Region, Reason string }
		}
		if err == nil || json.Unmarshal(out, &got) != nil {
			t.Fatalf("mpr %v: %v: %s", args, err, out)
		}
		if got.Companies != 4 || got.Placed != 4 || got.Unjudged != 3 || got.Made != 0 || len(got.Differences) != 0 {
			t.Errorf("mpr %v: %s", args, out)
		}
		if len(got.Silent) != 2 || got.Silent[0].Region != "EU01" || !strings.Contains(got.Silent[0].Reason, "connection refused") ||
			got.Silent[1].Region != "US02" || got.Silent[1].Reason != "no answer within 5s" {
			t.Errorf("mpr %v: %+v", args, got.Silent)
		}
		if text := failure.String(); !strings.Contains(text, "didn't answer: EU01 (dial tcp") || !strings.Contains(text, "Start them") {
			t.Errorf("mpr %v says %s", args, text)
		}
	}

	signal(syscall.SIGCONT)
	s.start(t, "EU01")
	s.runEventually(t, &object{}, "directory", "verify")
}

// Processes that can't reach the directory say why, once, and go on trying; so do those that it
// refuses.
func TestWhyTheDirectoryIsAwayStandsInTheLog(t *testing.T) {
	s := newTopology(t)
	s.secondGateway(t)
	stranger := s.processes["gateway 2"]
	yaml, err := os.ReadFile(stranger.args[2])
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.secret")
	if err := errors.Join(
		os.WriteFile(wrong, []byte("a secret of another system\n"), 0o600),
		os.WriteFile(stranger.args[2], []byte(strings.Replace(string(yaml), filepath.Join(s.data, "internal.secret"), wrong, 1)), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	told := func(name, what string) {
		t.Helper()
		log := s.processes[name].log
		eventually(t, readyWithin, func() (bool, string) { return strings.Contains(log.since(0), what), name + " doesn't say " + what })
		if n := strings.Count(log.since(0), what); n != 1 {
			t.Errorf("%s says %d times %s", name, n, what)
		}
	}
	s.start(t, "login", "gateway", "gateway 2", "US01")
	for _, name := range []string{"login", "gateway", "gateway 2", "US01"} {
		told(name, "connect: connection refused")
	}
	s.start(t, "control")
	for _, name := range []string{"login", "gateway", "US01"} {
		told(name, "the directory can be reached now")
	}
	told("gateway 2", "must have the same secret")
	for name, p := range s.processes {
		if strings.Contains(p.log.since(0), "outbound buffer") || strings.Count(p.log.since(0), "connection refused") > 1 {
			t.Errorf("%s speaks of a buffer, or of one refusal again and again", name)
		}
	}
}
