package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Entry is one record of a bucket as a watch sees it.
type Entry struct {
	Key string
	// Value is nil where the record was deleted or has expired.
	Value []byte
}

// Follower follows a bucket until it is closed: it hears every record that is there, then
// every change. After a loss of the connection it hears all records again (but see followOn), so
// what it calls must take repeats; a change that another has followed may be skipped.
type Follower struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	synced chan struct{} // closed once all records that were there have been heard
	once   sync.Once
	since  atomic.Int64 // Unix nanoseconds of the last moment at which it was in step
	conn   *nats.Conn
	near   *Near // nil: the bucket itself is followed
	// kept is whether what is applied stays, so that a watch may begin where the last one ended;
	// at is how far that is, nil where it isn't known.
	kept bool
	at   atomic.Pointer[point]
}

// point says that all records of a bucket up to a revision were heard and applied. A bucket
// that is made anew, as a restored one is, counts from 1 again: when it was made tells them apart.
type point struct {
	Made     time.Time `json:"made"`
	Revision uint64    `json:"revision"`
}

const (
	followRetry = 100 * time.Millisecond
	// stepCheck is how often a watch asks the bucket whether it has missed anything.
	stepCheck = 2 * time.Second
)

// Follow starts to follow the bucket. apply is called from one goroutine, an entry at a
// time. It never fails because the directory is away or the bucket isn't made yet: it
// goes on trying.
func Follow(nc *nats.Conn, bucket string, apply func(Entry)) *Follower {
	return FollowNear(nc, nil, bucket, apply)
}

// FollowNear is [Follow] by the bucket's mirror. Where that can't be reached the bucket
// itself is followed; where the directory can't be, the mirror still is.
func FollowNear(nc *nats.Conn, near *Near, bucket string, apply func(Entry)) *Follower {
	f := &Follower{conn: nc, near: near}
	f.start(bucket, apply)
	return f
}

// followOn is [FollowNear] of a bucket whose records are never deleted: what was heard once isn't
// heard again, but for the last record of each key where the bucket is another one. from is how
// far it has been heard already; nil for none of it.
func followOn(nc *nats.Conn, near *Near, bucket string, apply func(Entry), from *point) *Follower {
	f := &Follower{conn: nc, near: near, kept: true}
	f.at.Store(from)
	f.start(bucket, apply)
	return f
}

func (f *Follower) start(bucket string, apply func(Entry)) {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel, f.synced = cancel, make(chan struct{})
	f.done.Go(func() {
		for ctx.Err() == nil {
			err := f.watch(ctx, bucket, apply)
			if ctx.Err() != nil {
				return
			}
			slog.Debug("watch ended", "bucket", bucket, "error", err)
			_ = Pause(ctx, followRetry)
		}
	})
}

// watch follows the bucket until the watch is over or no longer to be trusted.
func (f *Follower) watch(ctx context.Context, bucket string, apply func(Entry)) error {
	// NATS' own watch notices only by missing heartbeats, ten seconds later, that the server
	// was restarted and has forgotten it. A revocation must not take that long.
	connected := f.conn.StatusChanged(nats.CONNECTED)
	defer f.conn.RemoveStatusListener(connected)
	var nearer chan nats.Status // never ready without a mirror
	if f.near != nil {
		nearer = f.near.Conn.StatusChanged(nats.CONNECTED)
		defer f.near.Conn.RemoveStatusListener(nearer)
	}
	kv, s, err := f.open(ctx, bucket)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx, s.resume()...)
	if err != nil {
		return err
	}
	defer stop(w)
	check := time.NewTicker(stepCheck)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-connected:
			return errors.New("the connection was made again")
		case <-nearer:
			return errors.New("the connection to the mirror was made again")
		case <-check.C:
			if err := s.check(ctx); err != nil {
				return err
			}
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("the watch was closed")
			}
			if entry == nil { // all that was there has been heard
				s.begin()
				continue
			}
			s.heard = max(s.heard, entry.Revision())
			e := Entry{Key: entry.Key()}
			if entry.Operation() == jetstream.KeyValuePut {
				e.Value = entry.Value()
			}
			apply(e)
			s.note()
		}
	}
}

// open opens what is to be followed, and reads how the bucket stands.
func (f *Follower) open(ctx context.Context, bucket string) (jetstream.KeyValue, *step, error) {
	s := &step{follower: f, bucket: bucket}
	err := s.openBucket(ctx)
	if f.near == nil || !f.near.Conn.IsConnected() {
		return s.kv, s, err
	}
	mirror, mirrorErr := f.near.bucketOf(ctx, bucket, s.last.origin)
	switch {
	case mirrorErr == nil && err != nil:
		// What the mirror has counts, and since when it is behind isn't known.
		s.last, err = readBucket(ctx, mirror)
		s.last.read = time.Time{}
		return mirror, s, err
	case mirrorErr == nil:
		return mirror, s, nil
	}
	slog.DebugContext(ctx, "the mirror can't be followed yet; following the bucket itself", "bucket", bucket, "error", mirrorErr)
	s.far = true
	return s.kv, s, err
}

// each has visit see what a bucket holds now, until it answers an error, which is answered then.
func each(ctx context.Context, kv jetstream.KeyValue, visit func(jetstream.KeyValueEntry) error, opts ...jetstream.WatchOpt) error {
	w, err := kv.WatchAll(ctx, opts...)
	if err != nil {
		return Unavailable(err)
	}
	defer stop(w)
	for {
		select {
		case <-ctx.Done():
			return Unavailable(context.Cause(ctx))
		case entry, ok := <-w.Updates():
			if !ok {
				return Unavailable(nats.ErrConnectionClosed)
			}
			if entry == nil { // that was all
				return nil
			}
			if err := visit(entry); err != nil {
				return err
			}
		}
	}
}

// stopWithin is how long the end of a watch is waited for.
const stopWithin = time.Second

// stop ends a watch. What waits to be delivered is taken, or the watch's own goroutine
// would wait for ever to deliver it. A watch whose context ended in the moment in which it
// was made is stopped, but says so to nobody: NATS sets the handler that does too late.
func stop(w jetstream.KeyWatcher) {
	_ = w.Stop() // where the connection is closed, so is the watch
	limit := time.NewTimer(stopWithin)
	defer limit.Stop()
	for {
		select {
		case _, ok := <-w.Updates():
			if !ok {
				return
			}
		case <-limit.C:
			return
		}
	}
}

// step tells whether a watch keeps step with its bucket.
type step struct {
	follower *Follower
	bucket   string
	kv       jetstream.KeyValue // the bucket itself; nil for as long as it can't be reached
	far      bool               // the bucket is followed although there should be a mirror
	synced   bool
	last     bucketState
	heard    uint64 // the highest revision
	before   uint64 // what heard was at the last check
}

// bucketState is what a bucket says of itself.
type bucketState struct {
	read     time.Time
	made     time.Time
	revision uint64 // of the newest record
	origin   *jetstream.StreamInfo
}

// openBucket opens the bucket itself and reads how it stands.
func (s *step) openBucket(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepCheck)
	defer cancel()
	js, err := jetstream.New(s.follower.conn)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, s.bucket)
	if err != nil {
		return err
	}
	s.kv = kv
	s.last, err = readBucket(ctx, kv)
	return err
}

func readBucket(ctx context.Context, kv jetstream.KeyValue) (bucketState, error) {
	at := bucketState{read: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, stepCheck)
	defer cancel()
	status, err := kv.Status(ctx)
	if err != nil {
		return at, err
	}
	info, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return at, fmt.Errorf("the bucket's status is a %T", status)
	}
	at.origin = info.StreamInfo()
	at.made, at.revision = at.origin.Created, at.origin.State.LastSeq
	return at, nil
}

// resume has a watch begin behind what was heard before, where that is of the same bucket.
func (s *step) resume() []jetstream.WatchOpt {
	p := s.follower.at.Load()
	if p == nil || s.kv == nil { // a mirror that is alone doesn't say for sure what it mirrors
		return nil
	}
	if !p.Made.Equal(s.last.made) || p.Revision > s.last.revision {
		s.follower.at.Store(nil)
		return nil
	}
	s.heard = p.Revision
	return []jetstream.WatchOpt{jetstream.ResumeFromRevision(p.Revision + 1)}
}

// note keeps how far the bucket was heard. Records come in the order of their revisions.
func (s *step) note() {
	if s.follower.kept && s.synced && s.kv != nil {
		s.follower.at.Store(&point{s.last.made, s.heard})
	}
}

// begin notes that all that was there when the watch began has been heard. The newest of
// it may have expired since, so its revision needn't have been heard itself.
func (s *step) begin() {
	s.synced = true
	s.heard = max(s.heard, s.last.revision)
	s.note()
	if !s.last.read.IsZero() {
		s.follower.since.Store(s.last.read.UnixNano())
	}
	s.follower.once.Do(func() { close(s.follower.synced) })
}

// check compares what was heard with what the bucket has. It answers an error where the
// watch must begin again: the bucket is another one, or the watch has fallen silent.
func (s *step) check(ctx context.Context) error {
	if !s.synced {
		return nil
	}
	if near := s.follower.near; s.far && near.Conn.IsConnected() {
		if _, err := near.bucketOf(ctx, s.bucket, s.last.origin); err == nil {
			return errors.New("the mirror can be followed")
		}
	}
	if s.kv == nil { // a mirror alone: the bucket may be back, and be another one
		if s.openBucket(ctx) == nil {
			return errors.New("the bucket can be reached again")
		}
		return nil
	}
	at, err := readBucket(ctx, s.kv)
	if err != nil {
		return nil //nolint:nilerr // away for now; the watch goes on once it is back
	}
	switch {
	case !at.made.Equal(s.last.made):
		return errors.New("the bucket was made anew")
	case s.heard >= at.revision:
		s.follower.since.Store(at.read.UnixNano())
	case s.heard < s.last.revision && s.heard == s.before:
		return errors.New("the watch has fallen silent")
	}
	s.last, s.before = at, s.heard
	return nil
}

// Synced is closed once every record that was there at the start has been heard.
func (f *Follower) Synced() <-chan struct{} { return f.synced }

// InSync is the last moment at which the copy was known to be in step; the zero time if
// it never was.
func (f *Follower) InSync() time.Time {
	n := f.since.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// diskGrace is how long a start waits for the directory before it goes on with what the
// file says; where a server answers but has no quorum, diskPatience.
const (
	diskGrace    = time.Second
	diskPatience = 5 * time.Second
)

// Ready waits until the followers are in step. Where a copy on disk was loaded it waits
// for a moment only: a start must not need the directory.
func Ready(ctx context.Context, nc *nats.Conn, fromDisk bool, watches ...*Follower) error {
	var patience <-chan time.Time
	if fromDisk {
		timer := time.NewTimer(diskPatience)
		defer timer.Stop()
		patience = timer.C
	}
	grace := time.NewTicker(diskGrace)
	defer grace.Stop()
	for _, w := range watches {
		for waiting := true; waiting; {
			select {
			case <-w.Synced():
				waiting = false
			case <-grace.C:
				if fromDisk && !nc.IsConnected() {
					return nil
				}
			case <-patience:
				return nil
			case <-ctx.Done():
				if fromDisk {
					return nil
				}
				return fmt.Errorf("the directory can't be reached and there is no copy of it on disk: %w", context.Cause(ctx))
			}
		}
	}
	return nil
}

// Close ends the following and waits for the last call of apply.
func (f *Follower) Close() {
	f.cancel()
	f.done.Wait()
}
