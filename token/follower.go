package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/nats-io/nats.go"

	"mpr/directory"
)

// Follower holds a copy of an environment's public keys and revocations. It follows the
// buckets, writes the copy to a file when it changes, and starts from that file where
// the directory can't be reached.
type Follower struct {
	environment string
	file        string
	nc          *nats.Conn
	fromDisk    bool

	keys    atomic.Pointer[map[string]jose.JSONWebKey] // replaced, never changed
	revoked revocations

	write    sync.Mutex // orders what changes keys
	dirty    atomic.Bool
	watches  []*directory.Follower
	stop     chan struct{}
	stopOnce sync.Once
	saving   sync.WaitGroup
}

// revocations is the set of revoked grants.
type revocations struct {
	mu     sync.RWMutex
	grants map[string]time.Time // until when the note matters
}

// saveEvery is how often a copy that has changed is written, and how often revocations
// that no longer matter are forgotten.
const saveEvery = time.Second

// Follow starts to follow the buckets of an environment, with its copy in file. That the
// directory can't be reached is no error.
func Follow(ctx context.Context, nc *nats.Conn, environment, file string) (*Follower, error) {
	return FollowNear(ctx, nc, nil, environment, file)
}

// FollowNear is [Follow] by the buckets' mirrors; near may be nil.
func FollowNear(_ context.Context, nc *nats.Conn, near *directory.Near, environment, file string) (*Follower, error) {
	f := &Follower{environment: environment, file: file, nc: nc, stop: make(chan struct{})}
	f.keys.Store(&map[string]jose.JSONWebKey{})
	f.revoked.grants = map[string]time.Time{}
	switch err := f.load(); {
	case err == nil:
		f.fromDisk = true
	case !errors.Is(err, fs.ErrNotExist):
		slog.Warn("leaving out the copy of keys and revocations", "file", file, "error", err)
	}
	f.watches = []*directory.Follower{
		directory.FollowNear(nc, near, directory.BucketName(keysBucket, environment), f.applyKey),
		directory.FollowNear(nc, near, directory.BucketName(revocationsBucket, environment), f.applyRevocation),
	}
	f.saving.Go(f.saveNowAndThen)
	return f, nil
}

// Ready waits until keys and revocations are loaded: from the directory or, where that
// can't be reached, from the file.
func (f *Follower) Ready(ctx context.Context) error {
	return directory.Ready(ctx, f.nc, f.fromDisk, f.watches...)
}

// key answers a public key.
func (f *Follower) key(kid string) (jose.JSONWebKey, bool) {
	k, ok := (*f.keys.Load())[kid]
	return k, ok
}

// isRevoked says whether a grant is revoked. It allocates nothing.
func (f *Follower) isRevoked(grant string) bool {
	f.revoked.mu.RLock()
	defer f.revoked.mu.RUnlock()
	_, ok := f.revoked.grants[grant]
	return ok
}

func (f *Follower) applyKey(e directory.Entry) {
	var key jose.JSONWebKey
	if e.Value != nil {
		if err := key.UnmarshalJSON(e.Value); err != nil || key.KeyID != e.Key || !usable(key) {
			slog.Error("leaving out a public key that isn't one", "kid", e.Key, "error", err)
			return
		}
	}
	f.change(func(keys map[string]jose.JSONWebKey) {
		if e.Value == nil {
			delete(keys, e.Key)
		} else {
			keys[e.Key] = key
		}
	})
}

// change replaces the keys by a copy that f has changed.
func (f *Follower) change(edit func(map[string]jose.JSONWebKey)) {
	f.write.Lock()
	defer f.write.Unlock()
	keys := maps.Clone(*f.keys.Load())
	edit(keys)
	f.keys.Store(&keys)
	f.dirty.Store(true)
}

// Announcer tells this follower of the keys that its own process announces, and then next: a
// login service that starts while the directory is away knows the tokens that it has made.
// It would otherwise take them for unknown, and have nothing to revoke.
func (f *Follower) Announcer(next Announcer) Announcer { return ownKeys{f, next} }

type ownKeys struct {
	follower *Follower
	next     Announcer
}

func (o ownKeys) AnnounceKey(ctx context.Context, key jose.JSONWebKey) error {
	if _, known := o.follower.key(key.KeyID); !known {
		o.follower.change(func(keys map[string]jose.JSONWebKey) { keys[key.KeyID] = key.Public() })
	}
	return o.next.AnnounceKey(ctx, key)
}

func (o ownKeys) RetireKey(ctx context.Context, kid string) error {
	o.follower.change(func(keys map[string]jose.JSONWebKey) { delete(keys, kid) })
	return o.next.RetireKey(ctx, kid)
}

// usable says whether tokens may be verified with a key: a public one, for an algorithm of
// the short list.
func usable(key jose.JSONWebKey) bool {
	return key.KeyID != "" && key.Valid() && key.IsPublic() && slices.Contains(algorithms, jose.SignatureAlgorithm(key.Algorithm))
}

func (f *Follower) applyRevocation(e directory.Entry) {
	if e.Value == nil {
		return // it has expired; forget does the rest, by our own clock
	}
	until, err := time.Parse(time.RFC3339, string(e.Value))
	if err != nil {
		// Better a grant too many refused than one too few.
		slog.Error("a revocation has no end; keeping it for a day", "error", err)
		until = time.Now().AddDate(0, 0, 1)
	}
	f.revoked.mu.Lock()
	f.revoked.grants[e.Key] = until
	f.revoked.mu.Unlock()
	f.dirty.Store(true)
}

// forget drops the revocations of grants whose last access token has expired, with room
// for clocks that differ, so that the set stays bounded.
func (f *Follower) forget(now time.Time) {
	f.revoked.mu.Lock()
	defer f.revoked.mu.Unlock()
	for grant, until := range f.revoked.grants {
		if now.After(until.Add(2 * maxSkew)) {
			delete(f.revoked.grants, grant)
			f.dirty.Store(true)
		}
	}
}

func (f *Follower) saveNowAndThen() {
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-t.C:
			f.forget(time.Now())
			if err := f.save(); err != nil {
				slog.Error("write the copy of keys and revocations", "file", f.file, "error", err)
			}
		}
	}
}

// Close ends the following and writes the copy a last time.
func (f *Follower) Close() error {
	f.stopOnce.Do(func() { close(f.stop) })
	for _, w := range f.watches {
		w.Close()
	}
	f.saving.Wait()
	return f.save()
}

// copyFile is the content of the file: all of it is public.
type copyFile struct {
	Environment string               `json:"environment"`
	Keys        []jose.JSONWebKey    `json:"keys"`
	Revoked     map[string]time.Time `json:"revoked"`
}

func (f *Follower) save() error {
	if f.file == "" || !f.dirty.Swap(false) {
		return nil
	}
	c := copyFile{Environment: f.environment}
	for _, k := range *f.keys.Load() {
		c.Keys = append(c.Keys, k)
	}
	f.revoked.mu.RLock()
	c.Revoked = maps.Clone(f.revoked.grants)
	f.revoked.mu.RUnlock()
	err := directory.WriteFile(f.file, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(c) })
	if err != nil {
		f.dirty.Store(true)
	}
	return err
}

func (f *Follower) load() error {
	var c copyFile
	if err := directory.ReadCopy(f.file, f.environment, &c); err != nil {
		return err
	}
	keys := map[string]jose.JSONWebKey{}
	for _, k := range c.Keys {
		if !usable(k) {
			return fmt.Errorf("the file is damaged: %q is no public key of ours", k.KeyID)
		}
		keys[k.KeyID] = k
	}
	f.keys.Store(&keys)
	if c.Revoked != nil {
		f.revoked.grants = c.Revoked
	}
	return nil
}
