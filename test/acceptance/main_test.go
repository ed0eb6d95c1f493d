package acceptance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mpr/test/engine"
	"mpr/test/nodes"
)

// binary is the path of mpr, built with the race detector: by scripts/test.sh, which names it
// in MPR_TEST_BINARY, or else by TestMain.
var binary string

func TestMain(m *testing.M) {
	nodes.Serve()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "mpr-acceptance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	if binary = os.Getenv("MPR_TEST_BINARY"); binary == "" {
		binary = filepath.Join(dir, "mpr")
		build := exec.CommandContext(context.Background(), "go", "build", "-race", "-o", binary, "mpr/cmd/mpr")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build mpr: %v\n%s", err, out)
			return 1
		}
	}
	if err := makeDoorCA(filepath.Join(dir, "doors")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	sharedData = filepath.Join(dir, "data")
	stores, drop, err := engine.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	sharedStores = stores
	code = m.Run()
	if err := errors.Join(stopShared(), drop()); err != nil {
		fmt.Fprintln(os.Stderr, "the mpr dev that the tests shared:", err)
		code = 1
	}
	return code
}

// The tests that only talk share one mpr dev; those that stop it, kill it or count what
// is in it start their own.
var (
	sharedData, sharedStores string

	sharedOnce sync.Once
	sharedDev  *dev
	sharedErr  error
)

// shared is the mpr dev that all tests talk to, started by the first that asks.
func shared(t *testing.T) *dev {
	t.Helper()
	sharedOnce.Do(func() { sharedDev, sharedErr = launch(t.Context(), sharedData, sharedStores) })
	if sharedErr != nil {
		t.Fatalf("start mpr dev: %v", sharedErr)
	}
	sharedDev.showLogOnFailure(t)
	return sharedDev
}

func stopShared() error {
	if sharedDev == nil {
		return sharedErr
	}
	return sharedDev.stop()
}

// need skips the test where a program is missing, or fails it with CI=true. MPR_MISSING,
// set by scripts/test.sh, names programs that are to count as missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		_, err := exec.LookPath(name)
		if err != nil || slices.Contains(strings.Fields(os.Getenv("MPR_MISSING")), name) {
			lacking(t, name+" is missing: install it, or run make test as root on Debian")
		}
	}
}

// lacking ends a test that can't run here.
func lacking(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
