package limit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/directory"
	"mpr/problem"
)

// MaxLimit is the largest limit that can be set.
const MaxLimit = 1_000_000_000

// Limits are how many calls an app may make in an hour, and in the ten seconds of a spike;
// 0 for as many as it likes.
type Limits struct {
	Hour  int64 `json:"hour"`
	Spike int64 `json:"spike"`
}

func (l Limits) of(k kind) int64 {
	if k == hourly {
		return l.Hour
	}
	return l.Spike
}

// Setting is what an operator has set for one app. What is nil is as for all apps.
type Setting struct {
	Hour  *int64 `json:"hour,omitempty"`
	Spike *int64 `json:"spike,omitempty"`
	// By is who has set it, and At when.
	By string    `json:"by,omitempty"`
	At time.Time `json:"at,omitzero"`
}

// Over are the limits that come out of the setting and those for all apps.
func (s Setting) Over(all Limits) Limits {
	if s.Hour != nil {
		all.Hour = *s.Hour
	}
	if s.Spike != nil {
		all.Spike = *s.Spike
	}
	return all
}

// Settings keep what operators set for apps of an environment, in a bucket that all its
// gateways follow.
type Settings struct {
	late *directory.Late[jetstream.KeyValue]
}

// bucketKind is the kind of our bucket.
const bucketKind = "limits"

const (
	writeTimeout = 5 * time.Second
	// changeTries is how often a change is made anew where somebody else was quicker.
	changeTries = 10
)

// OpenSettings are the settings of an environment, in a bucket that is opened, or made with
// this many replicas, when it is first needed.
func OpenSettings(nc *nats.Conn, environment string, replicas int) *Settings {
	return &Settings{directory.NewLate(func(ctx context.Context) (jetstream.KeyValue, error) {
		js, err := jetstream.New(nc)
		if err != nil {
			return nil, fmt.Errorf("open the limits: %w", err)
		}
		return directory.OpenBucket(ctx, js, jetstream.KeyValueConfig{
			Bucket: directory.BucketName(bucketKind, environment), History: 1, Storage: jetstream.FileStorage, Replicas: replicas,
		})
	})}
}

// Make makes the bucket where there is none. Until it is there, each gateway asks for it many times a
// second, so as to miss nothing that is set.
func (s *Settings) Make(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := s.late.Get(ctx)
	return err
}

// Setting answers what is set for an app; nothing where nobody has set anything.
func (s *Settings) Setting(ctx context.Context, client string) (Setting, error) {
	setting, _, err := s.read(ctx, client)
	return setting, err
}

func (s *Settings) read(ctx context.Context, client string) (setting Setting, revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	kv, err := s.late.Get(ctx)
	if err != nil {
		return setting, 0, err
	}
	entry, err := kv.Get(ctx, client)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return setting, 0, nil
	}
	if err != nil {
		return setting, 0, directory.Unavailable(err)
	}
	if err := json.Unmarshal(entry.Value(), &setting); err != nil {
		return setting, 0, fmt.Errorf("read the limits of %s: %w", client, err)
	}
	return setting, entry.Revision(), nil
}

// Change sets limits of an app: what is nil in the new setting stays as it is.
func (s *Settings) Change(ctx context.Context, client string, set Setting) (Setting, error) {
	for range changeTries {
		now, revision, err := s.read(ctx, client)
		if err != nil {
			return now, err
		}
		if set.Hour != nil {
			now.Hour = set.Hour
		}
		if set.Spike != nil {
			now.Spike = set.Spike
		}
		now.By, now.At = set.By, set.At
		err = s.write(ctx, client, now, revision)
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return now, directory.Unavailable(err)
		}
	}
	return Setting{}, problem.New(problem.Conflict, "Others change the limits of %s all the time. Look at them and repeat.", client)
}

func (s *Settings) write(ctx context.Context, client string, setting Setting, revision uint64) error {
	value, err := json.Marshal(setting)
	if err != nil {
		return fmt.Errorf("set the limits of %s: %w", client, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	kv, err := s.late.Get(ctx)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = kv.Create(ctx, client, value)
	} else {
		_, err = kv.Update(ctx, client, value, revision)
	}
	return err
}

// Reset takes back what is set for an app.
func (s *Settings) Reset(ctx context.Context, client string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	kv, err := s.late.Get(ctx)
	if err != nil {
		return err
	}
	return directory.Unavailable(kv.Delete(ctx, client))
}
