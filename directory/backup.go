package directory

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/problem"
)

// Kinds of buckets that are backed up. The others hold what is passing, or what the login
// services tell again. A bucket that nothing can make again must stand here, whoever's it is.
var backedUp = []string{"placements", "regions", "policy", "generations", "limits"}

// backupLine is a record: of which bucket, and what it says. The records of a bucket stand
// together, the older ones first.
type backupLine struct {
	Bucket string          `json:"bucket"`
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value"`
}

// kindOf is the kind of a bucket that is backed up; "" of another one.
func kindOf(bucket string) string {
	for _, kind := range backedUp {
		if bucket == kind || strings.HasPrefix(bucket, kind+"_") {
			return kind
		}
	}
	return ""
}

// Backup writes the records of all environments, and answers how many there are.
func Backup(ctx context.Context, nc *nats.Conn, to io.Writer) (n int, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, fmt.Errorf("back up the directory: %w", err)
	}
	names := js.KeyValueStoreNames(ctx)
	out := bufio.NewWriter(to)
	var buckets []string
	for bucket := range names.Name() {
		if kindOf(bucket) != "" {
			buckets = append(buckets, bucket)
		}
	}
	if err := names.Error(); err != nil {
		return 0, fmt.Errorf("back up the directory: %w", Unavailable(err))
	}
	for _, bucket := range buckets {
		written, err := backupBucket(ctx, js, bucket, json.NewEncoder(out))
		if n += written; err != nil {
			return n, fmt.Errorf("back up the bucket %s: %w", bucket, Unavailable(err))
		}
	}
	return n, out.Flush()
}

func backupBucket(ctx context.Context, js jetstream.JetStream, bucket string, out *json.Encoder) (n int, err error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return 0, err
	}
	err = each(ctx, kv, func(entry jetstream.KeyValueEntry) error {
		n++
		return out.Encode(backupLine{bucket, entry.Key(), entry.Value()})
	}, jetstream.IgnoreDeletes(), jetstream.IncludeHistory())
	return n, err
}

// Restore writes the records of a backup into buckets that have none, and answers how many.
func Restore(ctx context.Context, nc *nats.Conn, replicas int, from io.Reader) (n int, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, fmt.Errorf("restore the directory: %w", err)
	}
	r := &restoring{js: js, replicas: replicas}
	lines := json.NewDecoder(bufio.NewReader(from))
	for {
		var line backupLine
		err := lines.Decode(&line)
		if errors.Is(err, io.EOF) {
			return n, r.flush(ctx)
		}
		if err != nil {
			return n, fmt.Errorf("restore the directory: the file is damaged: %w", err)
		}
		if err := r.take(ctx, line); err != nil {
			return n, fmt.Errorf("restore the bucket %s: %w", line.Bucket, err)
		}
		n++
	}
}

// restoring is a restore under way.
type restoring struct {
	js       jetstream.JetStream
	replicas int
	bucket   string // which is being filled
	kv       jetstream.KeyValue
	batch    []company.Placement
}

func (r *restoring) take(ctx context.Context, line backupLine) error {
	if line.Bucket != r.bucket {
		if err := r.begin(ctx, line.Bucket); err != nil {
			return err
		}
	}
	if kindOf(line.Bucket) != "placements" {
		_, err := r.kv.Put(ctx, line.Key, line.Value)
		return Unavailable(err)
	}
	p, err := readPlacement(line.Value)
	if err != nil {
		return err
	}
	if r.batch = append(r.batch, p); len(r.batch) == loadBatch {
		return r.flush(ctx)
	}
	return nil
}

// begin opens a bucket, which must be empty.
func (r *restoring) begin(ctx context.Context, name string) (err error) {
	if err := r.flush(ctx); err != nil {
		return err
	}
	switch kindOf(name) {
	case "":
		return errors.New("it is none of those that are backed up: the file is damaged")
	case "placements":
		r.kv, err = placementBucket(ctx, r.js, name, r.replicas)
	case "policy":
		r.kv, err = bucket(ctx, r.js, name, r.replicas, policyHistory)
	default:
		r.kv, err = bucket(ctx, r.js, name, r.replicas, 1)
	}
	if err != nil {
		return err
	}
	r.bucket = name
	status, err := r.kv.Status(ctx)
	if err != nil {
		return Unavailable(err)
	}
	if status.Values() > 0 {
		return problem.New(problem.Conflict, "The bucket %s has records already: restore into an empty directory only.", name)
	}
	return nil
}

func (r *restoring) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	d := &Directory{js: r.js, placements: r.kv}
	err := d.loadBatch(ctx, r.batch)
	r.batch = nil
	return err
}
