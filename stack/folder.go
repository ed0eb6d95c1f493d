package stack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mpr/directory"
	"mpr/lockfile"
)

const (
	// lockFile marks a data folder as ours and is locked while a process uses it.
	lockFile = "mpr.lock"
	// directoryLock is locked while a process runs the folder's directory server.
	directoryLock = "directory.lock"
	// directoryFolder has the data of that server.
	directoryFolder = "directory"
)

// openFolder makes the data folder where it is missing and locks it, since two processes
// on one set of embedded stores would destroy them. Roles that run as processes of their
// own share it: each has its own stores there. The lock ends with the process, however it
// ends.
func openFolder(dir string, shared bool) (*lockfile.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	path := filepath.Join(dir, lockFile)
	take := func() (*lockfile.File, error) { return lockfile.Take(path, "mpr") }
	if shared {
		take = func() (*lockfile.File, error) { return lockfile.Share(path) }
	}
	f, err := take()
	if held, is := errors.AsType[*lockfile.HeldError](err); is {
		return nil, fmt.Errorf("the data folder %s is in use by another mpr, %s: stop it, or choose another folder with --data", dir, held.Holder)
	}
	if err != nil {
		return nil, fmt.Errorf("open the data folder: %w", err)
	}
	return f, nil
}

// resetFolder deletes a data folder, and what also deletes: a folder without our mark is left
// alone, and so is one that is in use.
func resetFolder(dir string, also func() error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return also()
	}
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, lockFile)); err != nil {
		return fmt.Errorf("reset: %s is not a data folder of mpr (it has no %s): nothing was deleted", dir, lockFile)
	}
	f, err := openFolder(dir, false) // fails while a process uses it
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // the file is about to be deleted
	if err := also(); err != nil {
		return err
	}
	// The mark goes last, so that a reset that was cut off can be repeated.
	for _, e := range entries {
		if e.Name() == lockFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	return nil
}

// readOrMakeSecret reads a secret from its file; where there is no file it makes a
// random secret of 256 bits or more and keeps it. Of processes that start at the same
// time one makes it, and all answer the same.
func readOrMakeSecret(path string) (string, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the path
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeSecret(path); err != nil {
			return "", fmt.Errorf("keep a new secret: %w", err)
		}
		data, err = os.ReadFile(path) //nolint:gosec // the operator names the path
	}
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	secret := strings.TrimSpace(string(data))
	if len(secret) < 16 {
		return "", fmt.Errorf("the secret in %s has fewer than 16 characters: write a longer one, or delete the file to have one made", path)
	}
	return secret, nil
}

// makeSecret makes a secret and keeps it, unless another process has been faster. A link
// appears in one step, with the whole secret behind it, and never replaces a file.
func makeSecret(path string) error {
	draft := filepath.Join(filepath.Dir(path), ".secret-"+rand.Text())
	if err := writeFile(draft, []byte(rand.Text()+rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	err := os.Link(draft, path)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(draft))
}

// writeFile replaces the content of a small file in one step.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	return directory.WriteFile(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
