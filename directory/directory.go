package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/problem"
)

// Directory changes the placements, the regions and the policy of one environment.
type Directory struct {
	js         jetstream.JetStream
	placements jetstream.KeyValue
	regions    jetstream.KeyValue
	policy     jetstream.KeyValue
	holds      jetstream.KeyValue
	gateways   jetstream.KeyValue
}

const (
	// writeTimeout bounds a write to the directory where the caller's context doesn't.
	writeTimeout = 5 * time.Second
	// openTimeout bounds the opening of a bucket, which a cluster may have to elect leaders for.
	openTimeout = 3 * writeTimeout
)

// BucketName is the name of an environment's bucket. NATS allows letters, digits, "-"
// and "_" in it; whatever else an environment's name has becomes "-".
func BucketName(kind, environment string) string {
	return kind + "_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '-'
	}, environment)
}

// Open opens the directory of an environment and makes its buckets, with this many
// replicas each, where they don't exist.
func Open(ctx context.Context, nc *nats.Conn, environment string, replicas int) (*Directory, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	d := &Directory{js: js}
	if d.placements, err = placementBucket(ctx, js, BucketName("placements", environment), replicas); err != nil {
		return nil, err
	}
	if d.regions, err = bucket(ctx, js, BucketName("regions", environment), replicas, 1); err != nil {
		return nil, err
	}
	if d.policy, err = bucket(ctx, js, BucketName("policy", environment), replicas, policyHistory); err != nil {
		return nil, err
	}
	if d.holds, err = passing(ctx, js, BucketName("holds", environment), replicas, holdsKept); err != nil {
		return nil, err
	}
	if d.gateways, err = passing(ctx, js, BucketName("gateways", environment), replicas, leaseFor); err != nil {
		return nil, err
	}
	return d, nil
}

// passing is [OpenBucket] for records that are kept for a while only. On disk like the others:
// a server that starts again has forgotten a bucket in memory, and nobody would make it anew.
func passing(ctx context.Context, js jetstream.JetStream, name string, replicas int, kept time.Duration) (jetstream.KeyValue, error) {
	return OpenBucket(ctx, js, jetstream.KeyValueConfig{Bucket: name, History: 1, Storage: jetstream.FileStorage, Replicas: replicas, TTL: kept})
}

// bucket is [OpenBucket] for records that stay. history is how many values of each key are
// kept.
func bucket(ctx context.Context, js jetstream.JetStream, name string, replicas int, history uint8) (jetstream.KeyValue, error) {
	return OpenBucket(ctx, js, jetstream.KeyValueConfig{Bucket: name, History: history, Storage: jetstream.FileStorage, Replicas: replicas})
}

// OpenBucket opens a bucket, or makes it as cfg says. Any number of processes may do so at
// once: whoever finds that another one was faster opens what that one made.
func OpenBucket(ctx context.Context, js jetstream.JetStream, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for {
		kv, err := js.KeyValue(ctx, cfg.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = js.CreateKeyValue(ctx, cfg)
		}
		if errors.Is(err, jetstream.ErrBucketExists) && Pause(ctx, createRetry) == nil {
			continue
		}
		if err == nil {
			err = raiseReplicas(ctx, js, "KV_"+cfg.Bucket, cfg.Replicas)
		}
		if err != nil {
			return nil, fmt.Errorf("open the bucket %s: %w", cfg.Bucket, Unavailable(err))
		}
		return kv, nil
	}
}

// raiseReplicas has a stream that was made with fewer copies kept in as many as are wanted. It
// never lowers the number: a process with an older configuration would undo what a newer one
// has done. Where the cluster has too few servers the stream is used as it is.
func raiseReplicas(ctx context.Context, js jetstream.JetStream, name string, replicas int) error {
	if replicas <= 1 {
		return nil
	}
	s, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	if cfg.Replicas >= replicas {
		return nil
	}
	cfg.Replicas = replicas
	_, err = js.UpdateStream(ctx, cfg)
	if _, refused := errors.AsType[*jetstream.APIError](err); refused {
		slog.WarnContext(ctx, "the cluster doesn't keep as many copies as directory.replicas says", "stream", name, "replicas", replicas, "error", err)
		return nil
	}
	return err
}

// placementBucket opens a bucket whose stream takes atomic batches, for [Directory.Load],
// and is read from its leader alone: a follower may not have the revision yet that a
// caller was told a moment ago. Both are asked for at every start, since whoever made the
// bucket may have died in between.
func placementBucket(ctx context.Context, js jetstream.JetStream, name string, replicas int) (jetstream.KeyValue, error) {
	kv, err := bucket(ctx, js, name, replicas, 1)
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, "KV_"+name)
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", name, Unavailable(err))
	}
	cfg := s.CachedInfo().Config
	if cfg.AllowAtomicPublish && !cfg.AllowDirect {
		return kv, nil
	}
	cfg.AllowAtomicPublish, cfg.AllowDirect = true, false
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return nil, fmt.Errorf("set up the bucket %s: %w", name, Unavailable(err))
	}
	return bucket(ctx, js, name, replicas, 1) // what was opened before remembers how it was read
}

// Create records where a new company lives. It answers nil where the very same record is
// there already, and [problem.Conflict] where another one is.
func (d *Directory) Create(ctx context.Context, p company.Placement) error {
	value, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("create placement: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		_, err := d.placements.Create(ctx, p.Company.String(), value)
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return Unavailable(err)
		}
		there, _, err := d.Get(ctx, p.Company)
		switch {
		case errors.Is(err, problem.New(problem.NotFound, "")):
			// A cluster refuses for a record that is still on its way. It may fail yet.
			if err := Pause(ctx, createRetry); err != nil {
				return Unavailable(err)
			}
			continue
		case err != nil:
			return err
		case there.Region != p.Region || there.Epoch != p.Epoch || !there.Onboarded.Equal(p.Onboarded):
			return problem.New(problem.Conflict, "Company %d lives in %s already, at epoch %d.", p.Company, there.Region, there.Epoch)
		}
		return nil
	}
}

const createRetry = 10 * time.Millisecond

// Pause waits, unless the context ends before.
func Pause(ctx context.Context, d time.Duration) error {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

// Get reads a placement and the revision of its record. It may have changed by the time
// of the answer: rely on the revision check of [Directory.Update], never on Get.
func (d *Directory) Get(ctx context.Context, id company.ID) (company.Placement, uint64, error) {
	entry, err := d.placements.Get(ctx, id.String())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return company.Placement{}, 0, problem.New(problem.NotFound, "There is no company %d.", id)
	}
	if err != nil {
		return company.Placement{}, 0, Unavailable(err)
	}
	p, err := readPlacement(entry.Value())
	return p, entry.Revision(), err
}

// Update replaces a placement if its record still has the revision; otherwise, and where
// the epoch doesn't grow, it answers [problem.Conflict] and changes nothing; where a mover
// with a later turn has placed the company, [problem.MoverReplaced]. It answers the new
// revision.
func (d *Directory) Update(ctx context.Context, p company.Placement, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	entry, err := d.placements.GetRevision(ctx, p.Company.String(), revision)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, changedMeanwhile(p.Company)
	}
	if err != nil {
		return 0, Unavailable(err)
	}
	last, err := readPlacement(entry.Value())
	if err != nil {
		return 0, err
	}
	if p.Turn < last.Turn {
		return 0, problem.New(problem.MoverReplaced, "A mover with a later turn than %d has placed company %d.", p.Turn, p.Company)
	}
	if p.Epoch <= last.Epoch {
		return 0, problem.New(problem.Conflict, "Company %d is at epoch %d; a change must go beyond it, not to %d.", p.Company, last.Epoch, p.Epoch)
	}
	value, err := json.Marshal(p)
	if err != nil {
		return 0, fmt.Errorf("update placement: %w", err)
	}
	next, err := d.placements.Update(ctx, p.Company.String(), value, revision)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		// Where an answer is lost the client library sends the record once more, and is told
		// that it has changed: by itself.
		if now, err := d.placements.Get(ctx, p.Company.String()); err == nil && bytes.Equal(now.Value(), value) {
			return now.Revision(), nil
		}
		return 0, changedMeanwhile(p.Company)
	}
	return next, Unavailable(err)
}

func changedMeanwhile(id company.ID) error {
	return problem.New(problem.Conflict, "The placement of company %d has changed meanwhile. Read it again and repeat.", id)
}

// loadBatch is how many placements one atomic batch holds; the server takes 1,000 at the
// most.
const loadBatch = 500

// Load records many new placements, in atomic batches, and answers how many. It is for
// filling an empty directory: a company that is there already makes its batch fail.
func (d *Directory) Load(ctx context.Context, placements iter.Seq[company.Placement]) (int, error) {
	loaded := 0
	batch := make([]company.Placement, 0, loadBatch)
	flush := func() error {
		if err := d.loadBatch(ctx, batch); err != nil {
			return err
		}
		loaded += len(batch)
		batch = batch[:0]
		return nil
	}
	for p := range placements {
		if batch = append(batch, p); len(batch) == loadBatch {
			if err := flush(); err != nil {
				return loaded, err
			}
		}
	}
	if len(batch) == 0 {
		return loaded, nil
	}
	return loaded, flush()
}

// loadBatch publishes a batch (NATS ADR-50): all of it is stored, or nothing.
func (d *Directory) loadBatch(ctx context.Context, batch []company.Placement) error {
	id := nats.NewInbox()[len("_INBOX."):]
	for i, p := range batch {
		value, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("load placements: %w", err)
		}
		msg := nats.NewMsg("$KV." + d.placements.Bucket() + "." + p.Company.String())
		msg.Data = value
		msg.Header.Set("Nats-Batch-Id", id)
		msg.Header.Set("Nats-Batch-Sequence", fmt.Sprint(i+1))
		msg.Header.Set(nats.ExpectedLastSubjSeqHdr, "0")
		if i < len(batch)-1 {
			if err := d.js.Conn().PublishMsg(msg); err != nil {
				return Unavailable(err)
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		answer, err := d.js.Conn().RequestMsgWithContext(ctx, msg)
		if err != nil {
			return Unavailable(err)
		}
		return batchAnswer(answer.Data, len(batch))
	}
	return nil
}

func batchAnswer(data []byte, size int) error {
	var ack struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return fmt.Errorf("load placements: %w", err)
	}
	switch {
	case ack.Error == nil:
		return nil
	case wrongSequence(ack.Error):
		return problem.New(problem.Conflict, "One of %d companies has a placement already: none of them was loaded.", size).Because(ack.Error)
	}
	return fmt.Errorf("load placements: %w", Unavailable(ack.Error))
}

func readPlacement(value []byte) (company.Placement, error) {
	var p company.Placement
	if err := json.Unmarshal(value, &p); err != nil {
		return p, fmt.Errorf("read placement: %w", err)
	}
	return p, nil
}

// errAway is the cause of what fails for as long as there is no connection.
var errAway = errors.New("there is no connection to it; the log says why, where it was lost or couldn't be made")

// Unavailable turns the ways in which NATS says that it can't be reached into a problem
// that asks to try again.
func Unavailable(err error) error {
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) {
		err = errAway // the library speaks of its buffer
	}
	refused, is := errors.AsType[jetstream.JetStreamError](err)
	switch {
	case err == nil:
		return nil
	case is && refused.APIError() != nil && refused.APIError().Code == http.StatusServiceUnavailable, // a node that has lost the others, before an election
		errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, errAway),
		errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, jetstream.ErrTooManyStalledMsgs), errors.Is(err, context.DeadlineExceeded):
		return problem.New(problem.DirectoryUnavailable, "The directory can't be reached. Try again.").After(time.Second).Because(err)
	}
	return err
}
