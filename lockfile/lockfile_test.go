package lockfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"mpr/lockfile"
)

// Who comes second hears who came first; who shares a lock is no longer told apart.
func TestTakeAndShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	alone, err := lockfile.Take(path, "a test")
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []func() (*lockfile.File, error){
		func() (*lockfile.File, error) { return lockfile.Take(path, "another") },
		func() (*lockfile.File, error) { return lockfile.Share(path) },
	} {
		_, err := again()
		held, is := errors.AsType[*lockfile.HeldError](err)
		if !is || !regexp.MustCompile(`^process \d+ on .+ \(a test\) since 2\d+-.+Z$`).MatchString(held.Holder) {
			t.Errorf("the second is told %v", err)
		}
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		shared, err := lockfile.Share(path)
		if err != nil {
			t.Fatal(err)
		}
		defer shared.Close() //nolint:errcheck // only locked
	}
	// What the first has said, as one that was killed leaves it, isn't told of those that share.
	if _, err := lockfile.Take(path, "another"); err == nil || err.Error() != "locked by another process" {
		t.Errorf("beside those that share it: %v", err)
	}
}

func TestNoFolder(t *testing.T) {
	if _, err := lockfile.Take(filepath.Join(t.TempDir(), "no", "lock"), "a test"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
}
