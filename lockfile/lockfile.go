package lockfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// HeldError says that another process has the lock.
type HeldError struct {
	// Holder is who has it, such as "process 4711 on gw1 (mpr pki rotate) since 2026-01-02T15:04:05Z";
	// "another process" where that isn't known.
	Holder string
}

func (e *HeldError) Error() string { return "locked by " + e.Holder }

// File is a lock that is held until it is closed.
type File struct{ file *os.File }

// Take opens a file, makes it where it is missing, and locks it for this process alone, or fails
// with a [HeldError] at once. what says for what, such as "mpr pki rotate".
func Take(path, what string) (*File, error) {
	f, err := open(path, false)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // only told
	holder := fmt.Sprintf("process %d on %s (%s) since %s\n", os.Getpid(), cmp.Or(host, "this machine"), what, time.Now().UTC().Format(time.RFC3339))
	f.write(holder)
	return f, nil
}

// Share is [Take] together with others that share the file.
func Share(path string) (*File, error) {
	f, err := open(path, true)
	if err != nil {
		return nil, err
	}
	// Who had it alone and was killed no longer has it. Several may clear it at once.
	f.write("")
	return f, nil
}

// Wait waits until nobody else has the lock of an open file, and takes it; closing the file ends
// it. Nothing is written.
func Wait(f *os.File) error { return wait(f) }

func open(path string, shared bool) (*File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the caller's folder
	if err != nil {
		return nil, err
	}
	held, err := try(f, shared)
	if held {
		err = &HeldError{holder(f)}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{f}, nil
}

func holder(f *os.File) string {
	const most = 512
	said, err := io.ReadAll(io.LimitReader(f, most))
	line, _, whole := strings.Cut(string(said), "\n")
	if err != nil || !whole || line == "" {
		return "another process"
	}
	return line
}

// write says who has the lock, where the disk has room for that: the lock doesn't depend on it.
func (f *File) write(holder string) {
	if f.file.Truncate(0) == nil {
		_, _ = f.file.WriteAt([]byte(holder), 0)
	}
}

// Close ends the lock. What the file says stays, and counts for nobody who can lock it.
func (f *File) Close() error { return f.file.Close() }
