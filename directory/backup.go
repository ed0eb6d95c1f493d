package directory

import (
	"bufio"
	"bytes"
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

// Unused refuses a directory in which a bucket of a backup has records already.
func Unused(ctx context.Context, nc *nats.Conn, from io.Reader) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("restore the directory: %w", err)
	}
	last := ""
	return eachLine(from, func(line backupLine) error {
		if line.Bucket == last {
			return nil
		}
		last = line.Bucket
		kv, err := js.KeyValue(ctx, line.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return nil
		}
		if err != nil {
			return Unavailable(err)
		}
		n, err := records(ctx, kv)
		if err == nil && n > 0 {
			err = problem.New(problem.Conflict, "The bucket %s has records already: restore into an empty directory only.", line.Bucket)
		}
		return err
	})
}

func records(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
	status, err := kv.Status(ctx)
	if err != nil {
		return 0, Unavailable(err)
	}
	return status.Values(), nil
}

// eachLine reads a backup.
func eachLine(from io.Reader, visit func(backupLine) error) error {
	lines := json.NewDecoder(bufio.NewReader(from))
	for {
		var line backupLine
		err := lines.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("restore the directory: the file is damaged: %w", err)
		}
		if err := visit(line); err != nil {
			return fmt.Errorf("restore the bucket %s: %w", line.Bucket, err)
		}
	}
}

// Restore writes the records of a backup, and answers how many it has. Records that are there already
// stay as they are, so that a restore that was cut off can be repeated; one that is not in the backup,
// or is another one there, is [problem.Conflict].
func Restore(ctx context.Context, nc *nats.Conn, replicas int, from io.Reader) (n int, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, fmt.Errorf("restore the directory: %w", err)
	}
	r := &restoring{js: js, replicas: replicas}
	err = eachLine(from, func(line backupLine) error {
		n++
		return r.take(ctx, line)
	})
	if err != nil {
		return n, err
	}
	if err := r.end(ctx); err != nil {
		return n, fmt.Errorf("restore the bucket %s: %w", r.bucket, err)
	}
	return n, nil
}

// restoring is a restore under way.
type restoring struct {
	js       jetstream.JetStream
	replicas int
	bucket   string // which is being filled
	kv       jetstream.KeyValue
	batch    []company.Placement
	taken    uint64 // placements
	// there are the records of another bucket than one of placements that an earlier try has
	// written, by key, the older ones first.
	there map[string][][]byte
}

func (r *restoring) take(ctx context.Context, line backupLine) error {
	if line.Bucket != r.bucket {
		if err := r.begin(ctx, line.Bucket); err != nil {
			return err
		}
	}
	if kindOf(line.Bucket) != "placements" {
		if before := r.there[line.Key]; len(before) > 0 {
			r.there[line.Key] = before[1:]
			if !bytes.Equal(before[0], line.Value) {
				return otherRecord(line.Key)
			}
			return nil
		}
		_, err := r.kv.Put(ctx, line.Key, line.Value)
		return Unavailable(err)
	}
	p, err := readPlacement(line.Value)
	if err != nil {
		return err
	}
	r.taken++
	if r.batch = append(r.batch, p); len(r.batch) == loadBatch {
		return r.flush(ctx)
	}
	return nil
}

func otherRecord(key string) error {
	return problem.New(problem.Conflict, "The record %s is there, and is another one than in the backup: restore into an empty directory only.", key)
}

// begin opens a bucket.
func (r *restoring) begin(ctx context.Context, name string) (err error) {
	if err := r.end(ctx); err != nil {
		return err
	}
	kind := kindOf(name)
	switch kind {
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
	r.bucket, r.taken, r.there = name, 0, map[string][][]byte{}
	if kind == "placements" {
		return nil
	}
	return each(ctx, r.kv, func(entry jetstream.KeyValueEntry) error {
		r.there[entry.Key()] = append(r.there[entry.Key()], entry.Value())
		return nil
	}, jetstream.IgnoreDeletes(), jetstream.IncludeHistory())
}

// end ends a bucket: it has what the backup has, and nothing else.
func (r *restoring) end(ctx context.Context) error {
	if r.bucket == "" {
		return nil
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	for key, left := range r.there {
		if len(left) > 0 {
			return otherRecord(key)
		}
	}
	if kindOf(r.bucket) != "placements" {
		return nil
	}
	n, err := records(ctx, r.kv)
	if err == nil && n != r.taken {
		err = problem.New(problem.Conflict, "There are %d records, and %d in the backup: restore into an empty directory only.", n, r.taken)
	}
	return err
}

func (r *restoring) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	d := &Directory{js: r.js, placements: r.kv}
	err := d.loadBatch(ctx, r.batch)
	if errors.Is(err, problem.New(problem.Conflict, "")) {
		if r.batch, err = r.missing(ctx, r.batch); err == nil && len(r.batch) > 0 {
			err = d.loadBatch(ctx, r.batch)
		}
	}
	r.batch = nil
	return err
}

// missing are those of the placements that aren't there yet.
func (r *restoring) missing(ctx context.Context, batch []company.Placement) (list []company.Placement, err error) {
	for _, p := range batch {
		entry, err := r.kv.Get(ctx, p.Company.String())
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			list = append(list, p)
			continue
		}
		if err != nil {
			return nil, Unavailable(err)
		}
		if value, err := json.Marshal(p); err != nil || !bytes.Equal(value, entry.Value()) {
			return nil, errors.Join(err, otherRecord(entry.Key()))
		}
	}
	return list, nil
}
