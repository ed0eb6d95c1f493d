package login

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"mpr/store"
)

// sweepEvery is how often rows that no longer matter are deleted.
const sweepEvery = 10 * time.Minute

func (s *Service) sweep(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := s.sweepOnce(ctx); err != nil {
				slog.Error("delete expired sessions and codes", "error", err)
			}
		}
	}
}

const (
	// codeKept is how long after its end the reuse of a code is noticed.
	codeKept = 24 * time.Hour
	// refreshKept is how long the reuse of a refresh token is noticed. Afterwards it is
	// refused as unknown.
	refreshKept = 90 * 24 * time.Hour
	// grantKept is how long a grant without a living token is kept.
	grantKept = time.Hour
)

// sweepOnce deletes what has ended: sessions, codes, used refresh tokens, grants of
// service accounts whose token has expired, and revoked grants with their refresh tokens.
func (s *Service) sweepOnce(ctx context.Context) error {
	now := s.Now()
	ended := store.Micros(now.Add(-grantKept))
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, d := range []struct {
			statement string
			before    int64
		}{
			{`DELETE FROM sessions WHERE expires < $1`, store.Micros(now)},
			{`DELETE FROM codes WHERE expires < $1`, store.Micros(now.Add(-codeKept))},
			{`DELETE FROM refresh_tokens WHERE used > 0 AND used < $1`, store.Micros(now.Add(-refreshKept))},
			{`DELETE FROM refresh_tokens WHERE grant_id IN (SELECT id FROM grants WHERE published = 1 AND revoked > 0 AND last_token < $1)`, ended},
			{`DELETE FROM grants WHERE published = 1 AND revoked > 0 AND last_token < $1`, ended},
			{`DELETE FROM grants WHERE user_id = 0 AND last_token < $1`, ended},
		} {
			if _, err := tx.ExecContext(ctx, d.statement, d.before); err != nil {
				return err
			}
		}
		return nil
	})
}
