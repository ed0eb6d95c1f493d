package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Near is a NATS server, or cluster, near this process that mirrors the buckets of one that
// is far away: a leaf node with a JetStream domain of its own. What is followed is read from
// there, and so crosses the distance once for all processes that are near it; all else goes
// to the directory itself.
type Near struct {
	Conn *nats.Conn
	// Domain is the JetStream domain of the directory.
	Domain string
	// Replicas of each mirror.
	Replicas int
}

// originKey is a mirror's note of which bucket it is the mirror of: when that was made.
const originKey = "mpr-origin"

// bucketOf opens the mirror of a bucket, and makes it where it is missing or mirrors one that
// is no longer there. It must have come as far as the bucket. origin is nil where the
// directory can't be asked: then the mirror is taken as it is.
func (n *Near) bucketOf(ctx context.Context, name string, origin *jetstream.StreamInfo) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, stepCheck)
	defer cancel()
	js, err := jetstream.New(n.Conn)
	if err != nil {
		return nil, err
	}
	for made := false; ; {
		stream, err := js.Stream(ctx, "KV_"+name)
		switch {
		case err == nil && (origin == nil || mirrors(stream.CachedInfo(), origin)):
			return js.KeyValue(ctx, name)
		case err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) || origin == nil:
			return nil, fmt.Errorf("open the mirror of %s: %w", name, err)
		case err != nil || stream.CachedInfo().Config.Metadata[originKey] != madeAt(origin):
			if made {
				break // another process is making it, too
			}
			if made, err = true, n.make(ctx, js, name, origin); err != nil {
				return nil, fmt.Errorf("make the mirror of %s: %w", name, err)
			}
		}
		if err := Pause(ctx, mirrorPause); err != nil {
			return nil, fmt.Errorf("the mirror of %s is behind: %w", name, err)
		}
	}
}

// mirrorPause is how long a mirror that is behind is left to catch up before the next look.
const mirrorPause = 50 * time.Millisecond

// mirrors says whether a mirror is that of the bucket, and has come as far.
func mirrors(mirror, origin *jetstream.StreamInfo) bool {
	return mirror.Config.Metadata[originKey] == madeAt(origin) && mirror.State.LastSeq >= origin.State.LastSeq
}

// make makes the mirror. One of a bucket that was made anew since is in its way: it would wait
// for what is long past.
func (n *Near) make(ctx context.Context, js jetstream.JetStream, name string, origin *jetstream.StreamInfo) error {
	if err := js.DeleteStream(ctx, "KV_"+name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	_, err := js.CreateStream(ctx, n.config(name, origin))
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process has been faster
		return nil
	}
	return err
}

func (n *Near) config(name string, origin *jetstream.StreamInfo) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + name, Replicas: max(n.Replicas, 1), Storage: jetstream.FileStorage, Metadata: map[string]string{originKey: madeAt(origin)},
		MaxMsgsPerSubject: origin.Config.MaxMsgsPerSubject, MaxAge: origin.Config.MaxAge, AllowMsgTTL: origin.Config.AllowMsgTTL,
		DenyDelete: true, AllowRollup: true, Discard: jetstream.DiscardNew, MirrorDirect: true, AllowDirect: true,
		Mirror: &jetstream.StreamSource{Name: "KV_" + name, External: &jetstream.ExternalStream{APIPrefix: "$JS." + n.Domain + ".API"}},
	}
}

func madeAt(origin *jetstream.StreamInfo) string {
	return origin.Created.UTC().Format(time.RFC3339Nano)
}
