package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/directory"
)

// Buckets is where the login service announces public keys and revocations, for every
// verifier of the environment to hear.
type Buckets struct {
	late *directory.Late[*buckets]
	open func(context.Context) (*buckets, error)
}

type buckets struct {
	keys, revocations jetstream.KeyValue
}

// The kinds of our buckets.
const (
	keysBucket        = "keys"
	revocationsBucket = "revocations"
)

// markerTTL is how long a bucket keeps the note that a record has expired.
const markerTTL = time.Minute

// OpenBuckets opens the buckets of an environment, or makes them with this many replicas.
func OpenBuckets(ctx context.Context, nc *nats.Conn, environment string, replicas int) (*Buckets, error) {
	b := LateBuckets(nc, environment, replicas)
	_, err := b.late.Get(ctx)
	return b, err
}

// LateBuckets are the buckets of an environment, which are opened, or made, when they are
// first needed: that the directory can't be reached yet is no error.
func LateBuckets(nc *nats.Conn, environment string, replicas int) *Buckets {
	open := func(ctx context.Context) (*buckets, error) { return openBuckets(ctx, nc, environment, replicas) }
	return &Buckets{directory.NewLate(open), open}
}

// BucketState tells a bucket from one that was made after it, and from what it was before.
type BucketState struct {
	Made time.Time
	// Revision is that of the newest record. It only grows, unless the bucket was restored.
	Revision int64
}

// States are those of the buckets, by name. Those that are missing are made.
func (b *Buckets) States(ctx context.Context) (map[string]BucketState, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	now, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]BucketState{}
	for _, kv := range []jetstream.KeyValue{now.keys, now.revocations} {
		status, err := kv.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("look at the bucket %s: %w", kv.Bucket(), directory.Unavailable(err))
		}
		info, is := status.(*jetstream.KeyValueBucketStatus)
		if !is {
			return nil, fmt.Errorf("the status of the bucket %s is a %T", kv.Bucket(), status)
		}
		at := info.StreamInfo()
		all[kv.Bucket()] = BucketState{at.Created.UTC().Truncate(time.Microsecond), int64(at.State.LastSeq)} //nolint:gosec // far below 2^63
	}
	return all, nil
}

func openBuckets(ctx context.Context, nc *nats.Conn, environment string, replicas int) (*buckets, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open the buckets of keys and revocations: %w", err)
	}
	b := &buckets{}
	for kind, kv := range map[string]*jetstream.KeyValue{keysBucket: &b.keys, revocationsBucket: &b.revocations} {
		*kv, err = directory.OpenBucket(ctx, js, jetstream.KeyValueConfig{
			Bucket: directory.BucketName(kind, environment), History: 1, Storage: jetstream.FileStorage, Replicas: replicas, LimitMarkerTTL: markerTTL,
		})
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// writeTimeout bounds a write where the caller's context doesn't.
const writeTimeout = 5 * time.Second

// AnnounceKey makes a public key known. Repeating it changes nothing.
func (b *Buckets) AnnounceKey(ctx context.Context, key jose.JSONWebKey) error {
	value, err := json.Marshal(key.Public())
	if err != nil {
		return fmt.Errorf("announce key %s: %w", key.KeyID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	at, err := b.late.Get(ctx)
	if err != nil {
		return fmt.Errorf("announce key %s: %w", key.KeyID, err)
	}
	if _, err := at.keys.Put(ctx, key.KeyID, value); err != nil {
		return fmt.Errorf("announce key %s: %w", key.KeyID, directory.Unavailable(err))
	}
	return nil
}

// RetireKey takes a public key back: tokens that it has signed are refused from now on.
func (b *Buckets) RetireKey(ctx context.Context, kid string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	at, err := b.late.Get(ctx)
	if err != nil {
		return fmt.Errorf("retire key %s: %w", kid, err)
	}
	if err := at.keys.Delete(ctx, kid); err != nil {
		return fmt.Errorf("retire key %s: %w", kid, directory.Unavailable(err))
	}
	return nil
}

// Revoke makes known that a grant is revoked. The note is kept until the last access
// token of the grant has expired. Repeating it changes nothing.
func (b *Buckets) Revoke(ctx context.Context, grant string, until time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	at, err := b.late.Get(ctx)
	if err != nil {
		return fmt.Errorf("revoke a grant: %w", err)
	}
	// A verifier whose clock is behind must still know of it.
	ttl := max(time.Until(until), 0).Truncate(time.Second) + 2*maxSkew
	_, err = at.revocations.Create(ctx, grant, []byte(until.UTC().Format(time.RFC3339)), jetstream.KeyTTL(ttl))
	if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("revoke a grant: %w", directory.Unavailable(err))
	}
	return nil
}
