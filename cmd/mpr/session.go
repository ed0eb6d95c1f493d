package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// savedSession is a session at an admin API, as a file keeps it.
type savedSession struct {
	// Admin is the base URL of the admin API. The secret is shown to no other.
	Admin   string    `json:"admin"`
	Login   string    `json:"login"`
	Secret  string    `json:"secret"`
	Expires time.Time `json:"expires"`
}

// sessionFile is where the session at an admin API is kept: in the user's own configuration, a file
// for each.
func sessionFile(admin string) (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for sessions: %w", err)
	}
	sum := sha256.Sum256([]byte(strings.TrimSuffix(admin, "/")))
	return filepath.Join(folder, "mpr", "sessions", hex.EncodeToString(sum[:8])+".json"), nil
}

// loadSession reads the session at an admin API; nil where there is none.
func loadSession(admin string) (*savedSession, error) {
	path, err := sessionFile(admin)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // without a home there is no session
	}
	data, err := os.ReadFile(path) //nolint:gosec // a path of our own
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // that there is none is no error here
	}
	var n savedSession
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err == nil && (n.Admin != strings.TrimSuffix(admin, "/") || n.Secret == "") {
		err = errors.New("it isn't the session of this admin API")
	}
	if err != nil {
		return nil, fmt.Errorf("read your session: %w; delete %s and sign in again", err, path)
	}
	return &n, nil
}

// save keeps the session, for its user alone. Whoever reads the file meanwhile sees the old one or
// the new one.
func (n *savedSession) save() error {
	path, err := sessionFile(n.Admin)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save your session: %w", err)
	}
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("save your session: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "session-*") // with mode 0600
	if err != nil {
		return fmt.Errorf("save your session: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save your session: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// forgetSession deletes the session at an admin API, if there is one.
func forgetSession(admin string) error {
	path, err := sessionFile(admin)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget your session: %w", err)
	}
	return nil
}
