package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mpr/lockfile"
)

// Commands that change a CA's folder at the same time do so one after the other, or not at all.
func TestPKICommandsAtOnce(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca")
	mpr := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "mpr", append([]string{"pki"}, args...)...).CombinedOutput() //nolint:gosec // ourselves, by [TestMain]
		return string(out), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := mpr(args...)
		if err != nil {
			t.Fatalf("mpr pki %v: %v: %s", args, err, out)
		}
		return out
	}
	must("init", ca)
	must("issue", ca, "--role", "gateway")

	held, err := lockfile.Take(filepath.Join(ca, pkiLock), "mpr pki rotate")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", ca}, {"issue", ca, "--role", "login"}, {"renew", ca, "--all"}, {"rotate", ca}} {
		out, err := mpr(args...)
		if err == nil || !strings.Contains(out, "(mpr pki rotate) since") || !strings.Contains(out, "nothing was changed") {
			t.Errorf("mpr pki %v beside another: %v: %s", args, err, out)
		}
	}
	must("show", ca)
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	var all sync.WaitGroup
	steps := 0
	for range 8 {
		all.Go(func() {
			out, err := mpr("rotate", ca, "--json")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				steps++
			case !strings.Contains(out, "nothing was changed") && !strings.Contains(out, "is still of the CA before"):
				t.Errorf("mpr pki rotate beside others: %v: %s", err, out)
			}
		})
	}
	all.Wait()
	switch stage := must("show", ca, "--json"); {
	case steps == 1 && strings.Contains(stage, `"stage":"announced"`), steps == 2 && strings.Contains(stage, `"stage":"signing"`):
	default:
		t.Errorf("%d rotations ended well, and now %s", steps, stage)
	}
	must("renew", ca, "--all")
	if _, err := os.Stat(filepath.Join(ca, "gateway.pem")); err != nil {
		t.Error(err)
	}
}
