package login

import (
	"context"
	"database/sql"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"mpr/store"
)

// sweepEvery is how often rows that no longer matter are deleted; failed attempts to sign in, which
// strangers make, each forgetEvery.
const (
	sweepEvery  = 10 * time.Minute
	forgetEvery = time.Minute
)

func (s *Service) sweep(ctx context.Context) {
	t, attempts := time.NewTicker(sweepEvery), time.NewTicker(forgetEvery)
	defer t.Stop()
	defer attempts.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := s.sweepOnce(ctx); err != nil {
				slog.Error("delete expired sessions and codes", "error", err)
			}
		case <-attempts.C:
			if err := s.sweepAttempts(ctx); err != nil && ctx.Err() == nil {
				slog.Error("delete attempts to sign in", "error", err)
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

// sweepAtOnce is how many rows are deleted in one transaction, and grantsAtOnce how many grants: a
// backlog, however large, neither runs into the time limit of a statement nor holds up others, and
// what was deleted of it stays deleted.
const (
	sweepAtOnce  = 1000
	grantsAtOnce = 100
)

// sweepOnce deletes what has ended: sessions, codes, used refresh tokens, grants of
// service accounts whose token has expired, and revoked grants with their refresh tokens.
func (s *Service) sweepOnce(ctx context.Context) error {
	now := s.Now()
	ended := store.Micros(now.Add(-grantKept))
	for _, d := range []struct {
		statement string
		before    int64
	}{
		{`DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires < $1 LIMIT $2)`, store.Micros(now)},
		{`DELETE FROM codes WHERE hash IN (SELECT hash FROM codes WHERE expires < $1 LIMIT $2)`, store.Micros(now.Add(-codeKept))},
		{`DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE used > 0 AND used < $1 LIMIT $2)`, store.Micros(now.Add(-refreshKept))},
		{`DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE user_id = 0 AND last_token < $1 LIMIT $2)`, ended},
	} {
		if err := s.sweepAll(ctx, d.statement, d.before, sweepAtOnce); err != nil {
			return err
		}
	}
	for more := true; more; {
		var err error
		if more, err = s.sweepRevoked(ctx, ended); err != nil {
			return err
		}
	}
	return nil
}

// sweepAll repeats a statement, whose last argument is how much it deletes at the most, until there
// is no more.
func (s *Service) sweepAll(ctx context.Context, statement string, args ...any) error {
	for more := true; more; {
		err := s.DB.Write(ctx, func(tx *sql.Tx) error {
			done, err := tx.ExecContext(ctx, statement, args...)
			if err != nil {
				return err
			}
			n, err := done.RowsAffected()
			more = n == sweepAtOnce
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepRevoked deletes some revoked grants, each after its refresh tokens, of which it may have very
// many. It says whether there are more.
func (s *Service) sweepRevoked(ctx context.Context, ended int64) (more bool, err error) {
	grants, err := store.Column[string](s.DB.Read().QueryContext(ctx, `SELECT id FROM grants WHERE published = 1 AND revoked > 0 AND last_token < $1 LIMIT $2`, ended, grantsAtOnce))
	if err != nil || len(grants) == 0 {
		return false, err
	}
	ids, marks := make([]any, len(grants)), make([]string, len(grants))
	for i, id := range grants {
		ids[i], marks[i] = id, "$"+strconv.Itoa(i+1)
	}
	these := strings.Join(marks, ", ")
	limit := "$" + strconv.Itoa(len(ids)+1)
	err = s.sweepAll(ctx, `DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE grant_id IN (`+these+`) LIMIT `+limit+`)`, append(ids, sweepAtOnce)...)
	if err != nil {
		return false, err
	}
	return len(ids) == grantsAtOnce, s.sweepAll(ctx, `DELETE FROM grants WHERE id IN (`+these+`)`, ids...)
}
