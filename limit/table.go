package limit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"mpr/directory"
)

// Table is a gateway's copy of the limits: those for all apps, and what operators have set
// for some. It follows the bucket, and is written to a file when it changes, so that a
// gateway that starts while the directory is away knows them.
type Table struct {
	environment string
	file        string
	all         Limits

	mu      sync.RWMutex // guards set
	set     map[string]Setting
	version atomic.Uint64 // another one after each change
	// gateways is how many gateways there were when that was last known.
	gateways atomic.Int64

	changed chan struct{} // holds a token while the file should be written soon
	stop    chan struct{}
	once    sync.Once
	saving  sync.WaitGroup
	watch   *directory.Follower
}

// tableFile is the content of the file.
type tableFile struct {
	Environment string             `json:"environment"`
	Gateways    int64              `json:"gateways"`
	Apps        map[string]Setting `json:"apps"`
}

// Follow starts to follow the limits of an environment, with a copy in file. all are the
// limits of apps for which nothing else is set. That the directory can't be reached is no
// error, nor that the bucket isn't made yet.
func Follow(nc *nats.Conn, environment, file string, all Limits) *Table {
	t := &Table{environment: environment, file: file, all: all, set: map[string]Setting{}, changed: make(chan struct{}, 1), stop: make(chan struct{})}
	t.gateways.Store(1)
	if err := t.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		slog.Warn("leaving out the copy of the limits", "file", file, "error", err)
	}
	t.watch = directory.Follow(nc, directory.BucketName(bucketKind, environment), t.apply)
	t.saving.Go(t.saveChanges)
	return t
}

// Of are the limits of an app.
func (t *Table) Of(client string) Limits {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.set[client].Over(t.all)
}

func (t *Table) apply(e directory.Entry) {
	var s Setting
	if e.Value != nil {
		if err := json.Unmarshal(e.Value, &s); err != nil || !s.valid() {
			slog.Error("leaving out limits that aren't any", "client_id", e.Key, "error", err)
			return
		}
	}
	t.mu.Lock()
	if e.Value == nil {
		delete(t.set, e.Key)
	} else {
		t.set[e.Key] = s
	}
	t.mu.Unlock()
	t.version.Add(1)
	t.saveSoon()
}

func (s Setting) valid() bool {
	return (s.Hour == nil || isCount(*s.Hour)) && (s.Spike == nil || isCount(*s.Spike))
}

// note remembers how many gateways there are.
func (t *Table) note(gateways int64) {
	if t.gateways.Swap(gateways) != gateways {
		t.saveSoon()
	}
}

func (t *Table) saveSoon() {
	select {
	case t.changed <- struct{}{}:
	default: // soon enough already
	}
}

func (t *Table) saveChanges() {
	for {
		select {
		case <-t.stop:
			return
		case <-t.changed:
			if err := t.save(); err != nil {
				slog.Error("write the copy of the limits", "file", t.file, "error", err)
			}
		}
	}
}

func (t *Table) save() error {
	if t.file == "" {
		return nil
	}
	t.mu.RLock()
	c := tableFile{t.environment, t.gateways.Load(), maps.Clone(t.set)}
	t.mu.RUnlock()
	return directory.WriteFile(t.file, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(c) })
}

func (t *Table) load() error {
	var c tableFile
	if err := directory.ReadCopy(t.file, t.environment, &c); err != nil {
		return err
	}
	for client, s := range c.Apps {
		if !s.valid() {
			return fmt.Errorf("the file is damaged: the limits of %s can't be", client)
		}
	}
	if c.Apps != nil {
		t.set = c.Apps
	}
	t.gateways.Store(min(max(c.Gateways, 1), maxPeers))
	return nil
}

// Close ends the following and writes the copy a last time.
func (t *Table) Close() error {
	t.once.Do(func() { close(t.stop) })
	t.watch.Close()
	t.saving.Wait()
	return t.save()
}
