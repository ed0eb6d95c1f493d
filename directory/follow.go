package directory

import (
	"context"
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
// every change. After a loss of the connection it hears all records again, so what it
// calls must take repeats; a change that another has followed may be skipped.
type Follower struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	synced chan struct{} // closed once all records that were there have been heard
	once   sync.Once
	since  atomic.Int64 // Unix nanoseconds of the last moment at which it was in sync
	conn   *nats.Conn
}

const (
	followRetry = 250 * time.Millisecond
	// inSyncCheck is how often a watch that hears nothing asks whether it still could.
	inSyncCheck = time.Second
)

// Follow starts to follow the bucket. apply is called from one goroutine, an entry at a
// time. It never fails because the directory is away or the bucket isn't made yet: it
// goes on trying.
func Follow(nc *nats.Conn, bucket string, apply func(Entry)) *Follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Follower{cancel: cancel, synced: make(chan struct{}), conn: nc}
	f.done.Go(func() {
		for ctx.Err() == nil {
			err := f.watch(ctx, bucket, apply)
			if ctx.Err() != nil {
				return
			}
			slog.Debug("watch ended", "bucket", bucket, "error", err)
			wait := time.NewTimer(followRetry)
			select {
			case <-ctx.Done():
			case <-wait.C:
			}
			wait.Stop()
		}
	})
	return f
}

func (f *Follower) watch(ctx context.Context, bucket string, apply func(Entry)) error {
	js, err := jetstream.New(f.conn)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer w.Stop() //nolint:errcheck // the watch is over either way
	check := time.NewTicker(inSyncCheck)
	defer check.Stop()
	synced := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-check.C:
			if synced && f.conn.IsConnected() {
				f.since.Store(time.Now().UnixNano())
			}
		case entry, ok := <-w.Updates():
			switch {
			case !ok:
				return fmt.Errorf("the watch of %s was closed", bucket)
			case entry == nil: // all that was there has been heard
				synced = true
				f.since.Store(time.Now().UnixNano())
				f.once.Do(func() { close(f.synced) })
			case entry.Operation() == jetstream.KeyValuePut:
				apply(Entry{Key: entry.Key(), Value: entry.Value()})
			default:
				apply(Entry{Key: entry.Key()})
			}
		}
	}
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

// Close ends the following and waits for the last call of apply.
func (f *Follower) Close() {
	f.cancel()
	f.done.Wait()
}
