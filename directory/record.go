package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/problem"
)

// Record is one record of a bucket that several processes change by compare-and-set.
type Record struct {
	kv  jetstream.KeyValue
	key string
}

// OpenRecord opens a record. The bucket is made, with this many replicas, where it doesn't
// exist.
func OpenRecord(ctx context.Context, nc *nats.Conn, bucketName, key string, replicas int) (*Record, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", bucketName, err)
	}
	kv, err := bucket(ctx, js, bucketName, replicas, 1)
	if err != nil {
		return nil, err
	}
	return &Record{kv, key}, nil
}

// Read answers the record and its revision; nil and 0 where there is none.
func (r *Record) Read(ctx context.Context) (value []byte, revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	entry, err := r.kv.Get(ctx, r.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", r.key, Unavailable(err))
	}
	return entry.Value(), entry.Revision(), nil
}

// Replace writes the record if it still has the revision, 0 where there was none;
// otherwise it answers [problem.Conflict] and changes nothing.
func (r *Record) Replace(ctx context.Context, value []byte, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var err error
	if revision == 0 {
		_, err = r.kv.Create(ctx, r.key, value)
	} else {
		_, err = r.kv.Update(ctx, r.key, value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return problem.New(problem.Conflict, "The record %s has changed meanwhile. Read it again and repeat.", r.key).Because(err)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", r.key, Unavailable(err))
	}
	return nil
}

// Forget deletes all that is kept under names of environments that forget chooses: their
// placements, regions, keys, revocations and the stream of their changes. It is told the
// names as [BucketName] spells them.
func Forget(ctx context.Context, nc *nats.Conn, forget func(environment string) bool) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	names := js.StreamNames(ctx)
	var gone []string
	for name := range names.Name() {
		_, environment, ok := strings.Cut(strings.TrimPrefix(name, "KV_"), "_")
		if ok && forget(environment) {
			gone = append(gone, name)
		}
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list the buckets: %w", Unavailable(err))
	}
	for _, name := range gone {
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("delete %s: %w", name, Unavailable(err))
		}
	}
	return nil
}
