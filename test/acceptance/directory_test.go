package acceptance

import (
	"encoding/json"
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
