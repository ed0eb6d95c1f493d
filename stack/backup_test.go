package stack

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mpr/company"
	"mpr/config"
	"mpr/directory"
	"mpr/ledger"
	"mpr/problem"
	"mpr/store"
)

// backedUp is a configuration whose control store is a file, and a backup of it, taken while nothing
// runs.
func backedUp(t *testing.T) (from string, m Manifest) {
	t.Helper()
	c := config.Default(0, t.TempDir())
	db, err := store.Open(t.Context(), c.Control.Store, ledger.Migrations())
	must(t, err)
	must(t, db.Close())
	s, err := directoryAlone(c)
	must(t, err)
	d, err := directory.Open(t.Context(), s.nats, "production", 1)
	must(t, err)
	must(t, d.Create(t.Context(), company.Placement{Company: 7, Region: "US01", Epoch: 1}))
	must(t, s.close())
	from = filepath.Join(t.TempDir(), "backup")
	m, err = Backup(t.Context(), c, from, false, func(io.Writer) error { t.Error("nothing runs that could be asked"); return nil }, func(string) {})
	must(t, err)
	return from, m
}

// What is left of another database beside the place of one that is restored would be applied to it.
func TestRestoreBesideWhatIsLeft(t *testing.T) {
	from, _ := backedUp(t)
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		c := config.Default(0, t.TempDir())
		path := store.Path(c.Control.Store, 0)
		left := path + suffix
		must(t, os.WriteFile(left, []byte("of another database"), 0o600))
		_, err := Restore(t.Context(), c, from, func(string) {})
		if err == nil || !strings.Contains(err.Error(), left) {
			t.Fatalf("restored beside %s: %v", left, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("something was changed")
		}
		// One that was cut off, and is repeated: what is there came from it.
		must(t, os.WriteFile(filepath.Join(c.Data, restoreMark), nil, 0o600))
		_, err = Restore(t.Context(), c, from, func(string) {})
		must(t, err)
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is still there", left)
		}
		db, err := store.Open(t.Context(), c.Control.Store, ledger.Migrations())
		must(t, err)
		must(t, db.Close())
	}
}

// Whoever takes a backup hears what is not in it.
func TestBackupSaysWhatItLeavesOut(t *testing.T) {
	_, m := backedUp(t)
	has := map[string]bool{}
	for _, f := range m.Files {
		has[f.Environment+"/"+f.What] = true
	}
	all, err := stores(config.Default(0, t.TempDir()), StoreChoice{})
	must(t, err)
	left := map[string]bool{}
	for _, s := range m.Left {
		left[s.Environment+"/"+s.Store] = true
		if s.Problem == "" || s.Reachable || !strings.HasSuffix(s.Where, ".db") {
			t.Errorf("left out is %+v", s)
		}
	}
	for _, s := range all {
		if name := s.environment + "/" + s.name; has[name] == left[name] || has[name] != (s.name == StoreControl) {
			t.Errorf("%s: in the backup %v, left out %v", name, has[name], left[name])
		}
	}
}

// A directory that is there is never taken for one that an earlier restore has left.
func TestRestoreLeavesADirectoryAlone(t *testing.T) {
	from, _ := backedUp(t)
	c := config.Default(0, t.TempDir())
	precious := filepath.Join(c.Data, directoryFolder, "precious")
	must(t, os.MkdirAll(filepath.Dir(precious), 0o700))
	must(t, os.WriteFile(precious, nil, 0o600))
	for range 2 {
		if _, err := Restore(t.Context(), c, from, func(string) {}); err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Errorf("restored over a directory: %v", err)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(store.Path(c.Control.Store, 0)); err == nil {
		t.Error("something was changed")
	}
}

// A restore into a cluster that was cut off is repeated; one into a cluster that is in use isn't begun,
// however often it is tried.
func TestRestoreIntoACluster(t *testing.T) {
	from, _ := backedUp(t)
	secret, err := os.ReadFile(filepath.Join(from, "secret"))
	must(t, err)
	cluster, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0", Secret: strings.TrimSpace(string(secret))})
	must(t, err)
	t.Cleanup(cluster.Close)
	into := func() *config.Config {
		c := config.Default(0, t.TempDir())
		c.Directory.URLs = []string{"nats://" + cluster.Addr()}
		return c
	}
	c := into()
	_, err = Restore(t.Context(), c, from, func(string) {})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(c.Data, restoreMark), []byte(restoreText+restoreBegun), 0o600))
	_, err = Restore(t.Context(), c, from, func(string) {})
	must(t, err)

	other := into()
	for range 2 {
		if _, err := Restore(t.Context(), other, from, func(string) {}); !errors.Is(err, problem.New(problem.Conflict, "")) {
			t.Errorf("restored into a cluster that is in use: %v", err)
		}
	}
}
