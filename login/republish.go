package login

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"mpr/store"
	"mpr/token"
)

// Buckets say which buckets verifiers hear from. [token.Buckets] is one.
type Buckets interface {
	// States are those of the buckets, by name; they are made where they were lost.
	States(context.Context) (map[string]token.BucketState, error)
}

// lostEvery is how often the buckets are looked at.
const lostEvery = 2 * time.Second

// republish tells verifiers all keys and revocations again where a bucket was lost and made
// anew, or restored from a backup, until the context ends: the store knows them all.
func (s *Service) republish(ctx context.Context) {
	t := time.NewTicker(lostEvery)
	defer t.Stop()
	for {
		if err := s.republishLost(ctx); err != nil && ctx.Err() == nil {
			slog.Debug("look for lost buckets; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Service) republishLost(ctx context.Context) error {
	states, err := s.Buckets.States(ctx)
	if err != nil {
		return err
	}
	for name, now := range states {
		known, err := s.publishedTo(ctx, name)
		if err != nil {
			return err
		}
		if known.Made.Equal(now.Made) && known.Revision == now.Revision {
			continue
		}
		lost := !known.Made.Equal(now.Made) || known.Revision > now.Revision
		if lost {
			slog.InfoContext(ctx, "a bucket was made anew, or is an older one: telling all keys and revocations again", "bucket", name)
			if err := s.ring.Announce(ctx); err != nil {
				return err
			}
		}
		err = s.DB.Write(ctx, func(tx *sql.Tx) error { return notePublished(ctx, tx, name, now, lost) })
		if err != nil {
			return fmt.Errorf("note which bucket knows the revocations: %w", err)
		}
		if lost {
			s.wakePublisher()
		}
	}
	return nil
}

func (s *Service) publishedTo(ctx context.Context, bucket string) (known token.BucketState, err error) {
	var made int64
	err = s.DB.Read().QueryRowContext(ctx, `SELECT made, revision FROM published_to WHERE bucket = $1`, bucket).Scan(&made, &known.Revision)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return known, fmt.Errorf("read which bucket knows the revocations: %w", err)
	}
	known.Made = store.Time(made)
	return known, nil
}

// notePublished notes a bucket and, where the one before was lost, that no revocation is
// published any longer.
func notePublished(ctx context.Context, tx *sql.Tx, bucket string, now token.BucketState, lost bool) error {
	if lost {
		if _, err := tx.ExecContext(ctx, `UPDATE grants SET published = 0 WHERE published = 1 AND revoked > 0`); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO published_to (bucket, made, revision) VALUES ($1, $2, $3)
		ON CONFLICT (bucket) DO UPDATE SET made = excluded.made, revision = excluded.revision`, bucket, store.Micros(now.Made), now.Revision)
	return err
}
