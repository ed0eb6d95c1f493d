package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpr/config"
	"mpr/directory"
	"mpr/lockfile"
	"mpr/store"
)

// Names of what is in a backup beside the databases.
const (
	backupManifest  = "manifest.json"
	backupDirectory = "directory.jsonl"
	backupFormat    = 1
)

// Manifest says what is in a backup. It is written last: a folder without it is none.
type Manifest struct {
	Format int        `json:"format"`
	At     time.Time  `json:"at"`
	Files  []BackedUp `json:"files"`
	// Left are stores that are not in it: those that have backups of their own and, with a problem,
	// those of which nothing is there.
	Left []StoreStatus `json:"left,omitempty"`
}

// BackedUp is a file of a backup.
type BackedUp struct {
	// What it is: "directory", "secret", "token", or a store.
	What        string `json:"what"`
	Environment string `json:"environment,omitempty"`
	Generation  int    `json:"generation,omitempty"`
	File        string `json:"file"`
	SHA256      string `json:"sha256"`
	Bytes       int64  `json:"bytes"`
}

// Backup copies the directory, the SQLite databases and the secrets to a folder that isn't
// there yet, while everything runs. The directory goes first and the identity stores last:
// fences that are newer than the directory are mended by a rebuild, and a global index that
// is newer than its regions by the regions themselves.
// online reads the directory of a control role that runs; where elsewhere isn't set, it is called only
// where one runs on this data folder, and the directory there is read otherwise. A backup that
// fails leaves no folder behind.
func Backup(ctx context.Context, c *config.Config, to string, elsewhere bool, online func(io.Writer) error, tell func(what string)) (m Manifest, err error) {
	m = Manifest{Format: backupFormat, At: time.Now().UTC().Truncate(time.Second), Files: []BackedUp{}}
	all, err := stores(c, StoreChoice{})
	if err != nil {
		return m, err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return m, fmt.Errorf("make the folder of the backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(to))
		}
	}()
	add := func(f BackedUp, write func(path string) error) error {
		tell(f.What)
		path := filepath.Join(to, f.File)
		if err := write(path); err != nil {
			return fmt.Errorf("back up %s: %w", f.What, err)
		}
		if f.SHA256, f.Bytes, err = sumFile(path); err != nil {
			return fmt.Errorf("back up %s: %w", f.What, err)
		}
		m.Files = append(m.Files, f)
		return nil
	}
	for _, what := range []string{"secret", "token", "demo"} {
		from := smallFile(c, what)
		if _, err := os.Stat(from); err == nil {
			if err := add(BackedUp{What: what, File: what}, func(path string) error { return copyFile(from, path) }); err != nil {
				return m, err
			}
		}
	}
	if err := add(BackedUp{What: "directory", File: backupDirectory}, func(path string) error { return backUpDirectory(ctx, c, path, elsewhere, online) }); err != nil {
		return m, err
	}
	if err := m.backUpStores(ctx, all, add); err != nil {
		return m, err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	return m, writeFile(filepath.Join(to, backupManifest), append(data, '\n'), 0o600)
}

// backUpStores backs up the stores that are here, identity stores last, and notes the others.
func (m *Manifest) backUpStores(ctx context.Context, all []aStore, add func(BackedUp, func(path string) error) error) error {
	for _, identities := range []bool{false, true} {
		for i, one := range all {
			if (one.name != StoreIdentity) == identities {
				continue
			}
			left := StoreStatus{Environment: one.environment, Store: one.name, Engine: store.Engine(one.dsn), Where: store.Where(one.dsn, 0)}
			if left.Reachable = left.Engine != "SQLite"; left.Reachable {
				m.Left = append(m.Left, left)
				continue
			}
			before := len(m.Files)
			if err := one.backUp(ctx, i, add); err != nil {
				return err
			}
			if len(m.Files) == before {
				left.Problem = "there is no such file here: it is on another machine, or hasn't been made yet"
				m.Left = append(m.Left, left)
			}
		}
	}
	return nil
}

// backUp backs up all generations of a store.
func (s aStore) backUp(ctx context.Context, number int, add func(BackedUp, func(path string) error) error) error {
	var errs []error
	err := s.each(ctx, func(generation int) {
		f := BackedUp{What: s.name, Environment: s.environment, Generation: generation, File: fmt.Sprintf("%d-%s-%d.db", number, s.name, generation)}
		err := add(f, func(path string) error { return store.Backup(ctx, s.dsn, generation, path) })
		if !errors.Is(err, fs.ErrNotExist) { // another machine's, or not made yet
			errs = append(errs, err)
		}
	})
	return errors.Join(append(errs, err)...)
}

func backUpDirectory(ctx context.Context, c *config.Config, path string, elsewhere bool, online func(io.Writer) error) error {
	if elsewhere {
		return directory.WriteFile(path, 0o600, online)
	}
	if len(c.Directory.URLs) > 0 {
		return directory.WriteFile(path, 0o600, online)
	}
	free, err := lockfile.Take(filepath.Join(c.Data, directoryLock), "mpr backup")
	if _, held := errors.AsType[*lockfile.HeldError](err); held {
		return directory.WriteFile(path, 0o600, online)
	}
	if err == nil {
		err = free.Close()
	}
	if err != nil {
		return err
	}
	s, err := directoryAlone(c)
	if err != nil {
		return err
	}
	return errors.Join(directory.WriteFile(path, 0o600, func(w io.Writer) error {
		_, err := directory.Backup(ctx, s.nats, w)
		return err
	}), s.close())
}

// directoryAlone is the directory without any role.
func directoryAlone(c *config.Config) (*system, error) {
	s, err := newSystem(c)
	if err != nil {
		return nil, err
	}
	if err := s.serveDirectory(""); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// Restore puts a backup into a system that is empty and doesn't run. It looks at everything
// before it writes anything.
func Restore(ctx context.Context, c *config.Config, from string, tell func(what string)) (m Manifest, err error) {
	data, err := os.ReadFile(filepath.Join(from, backupManifest)) //nolint:gosec // the operator names it
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is no backup, or one that was cut off: it has no %s", from, backupManifest)
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Format != backupFormat {
		return m, fmt.Errorf("%s isn't that of a backup of this version: %w", backupManifest, errors.Join(err, errors.New("another format")))
	}
	folder, err := openFolder(c.Data, false)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	mark := filepath.Join(c.Data, restoreMark)
	before, err := os.ReadFile(mark) //nolint:gosec // in the data folder
	again := err == nil              // what is there came from one that was cut off
	begun := strings.Contains(string(before), restoreBegun)
	places, err := m.lookOver(c, from, again)
	if err != nil {
		return m, err
	}
	if !again {
		if err := writeFile(mark, []byte(restoreText), 0o600); err != nil {
			return m, err
		}
	}
	if begun && len(c.Directory.URLs) == 0 {
		if err := os.RemoveAll(filepath.Join(c.Data, directoryFolder)); err != nil {
			return m, err
		}
	}
	for i, f := range m.Files {
		tell(f.What)
		source := filepath.Join(from, filepath.Base(f.File))
		if f.What == "directory" {
			continue // it needs the secret
		}
		if err := os.MkdirAll(filepath.Dir(places[i]), 0o700); err != nil {
			return m, err
		}
		for _, path := range taken(c, f, places[i])[1:] { // a start by hand, in between, may have left some
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return m, fmt.Errorf("restore %s: %w", f.What, err)
			}
		}
		if err := copyFile(source, places[i]); err != nil {
			return m, fmt.Errorf("restore %s: %w", f.What, err)
		}
	}
	if err := restoreDirectory(ctx, c, filepath.Join(from, backupDirectory), begun); err != nil {
		return m, err
	}
	return m, os.Remove(mark)
}

// lookOver looks at the files of a backup and at where they belong. again says that what is there came
// from a restore that was cut off.
func (m *Manifest) lookOver(c *config.Config, from string, again bool) (places []string, err error) {
	places = make([]string, len(m.Files))
	for i, f := range m.Files {
		if places[i], err = placeOf(c, f); err != nil {
			return nil, err
		}
		if sum, _, err := sumFile(filepath.Join(from, filepath.Base(f.File))); err != nil || sum != f.SHA256 {
			return nil, fmt.Errorf("%s is damaged: %w", f.File, errors.Join(err, errors.New("its checksum is another one")))
		}
		for _, path := range taken(c, f, places[i]) {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) && !again {
				return nil, fmt.Errorf("%s is there already: restore into an empty system only; nothing was changed", path)
			}
		}
	}
	return places, nil
}

// restoreMark is in a data folder for as long as a restore goes on: half a system looks like an empty
// one. It has restoreBegun in it once the directory was seen to be empty: only then is what stands there
// from a restore.
const (
	restoreMark  = "restoring"
	restoreText  = "mpr restore was cut off: repeat it\n"
	restoreBegun = "the directory was begun\n"
)

// whole refuses a data folder in which a restore was cut off.
func whole(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, restoreMark)); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("a restore into the data folder %s was cut off: repeat `mpr restore`, or delete the folder", dir), err)
	}
	return nil
}

// restoreDirectory restores the directory. begun says that an earlier restore has begun with it.
func restoreDirectory(ctx context.Context, c *config.Config, path string, begun bool) (err error) {
	s, err := directoryAlone(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it is only read
	if !begun {
		if err := directory.Unused(ctx, s.nats, f); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(c.Data, restoreMark), []byte(restoreText+restoreBegun), 0o600); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	_, err = directory.Restore(ctx, s.nats, c.Directory.Replicas, f)
	return err
}

// smallFile is where the secrets are, and what `mpr dev` tells of its demo data; "" of
// anything else.
func smallFile(c *config.Config, what string) string {
	switch what {
	case "secret":
		return c.Secret
	case "token":
		return c.Control.TokenFile
	case "demo":
		return filepath.Join(c.Data, demoFile)
	}
	return ""
}

// placeOf is where a file of a backup belongs; "" of the directory's.
func placeOf(c *config.Config, f BackedUp) (string, error) {
	if path := smallFile(c, f.What); path != "" || f.What == "directory" {
		return path, nil
	}
	all, err := stores(c, StoreChoice{})
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if s.name == f.What && s.environment == f.Environment {
			if path := store.Path(s.dsn, f.Generation); path != "" {
				return path, nil
			}
			return "", fmt.Errorf("the store %s is a PostgreSQL database now: a SQLite file can't be restored into it", s.title())
		}
	}
	return "", fmt.Errorf("the configuration has no store %s of %s: restore with the configuration of the backup", f.What, f.Environment)
}

// taken are the files that must not be there where a file of a backup belongs, the file itself first;
// of the directory the folder, where it is ours. SQLite would apply what is left of another database to the one that is
// restored.
func taken(c *config.Config, f BackedUp, place string) []string {
	switch {
	case f.What == "directory" && len(c.Directory.URLs) > 0:
		return nil
	case f.What == "directory":
		return []string{filepath.Join(c.Data, directoryFolder)}
	case smallFile(c, f.What) != "":
		return []string{place}
	}
	return append([]string{place}, store.Beside(place)...)
}

// copyFile copies a file in one step, to a place of its owner's alone.
func copyFile(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // named by the configuration, or within the backup
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it is only read
	return directory.WriteFile(to, 0o600, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

func sumFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path) //nolint:gosec // within the backup
	if err != nil {
		return "", 0, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}
