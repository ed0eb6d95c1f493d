package login

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"mpr/store"
)

// Attempts to sign in are limited for each account by each address, so that nobody can lock others
// out; for each account by everyone; and for each address. They are counted in the store, by all
// login services together: what a guesser may try doesn't grow with their number.

// peerFactor is how many more failures an address may have than an account: many
// people sit behind one address.
const peerFactor = 10

// allowance is what an attempt is taken from.
type allowance struct {
	countsFor string
	perMinute int64
	// ofAccount says that it belongs to an account, and not to an address alone.
	ofAccount bool
}

// each is how much of a minute's allowance an attempt is, in microseconds.
func (a allowance) each() int64 { return time.Minute.Microseconds() / a.perMinute }

// allowances are those of an attempt, always in the same order: transactions lock them in it.
func (s *Service) allowances(peer, login string) []allowance {
	// What people type is neither kept nor of any length.
	key := func(parts ...string) string {
		sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
		return hex.EncodeToString(sum[:])
	}
	few, many := int64(s.AttemptsPerMinute), int64(peerFactor*s.AttemptsPerMinute)
	return []allowance{{key("both", peer, login), few, true}, {key("account", login), many, true}, {key("address", peer), many, false}}
}

// refusal says how long it takes until another attempt may be made.
type refusal struct {
	wait      time.Duration
	ofAccount bool
}

// errNoneLeft ends a transaction that takes nothing.
var errNoneLeft = errors.New("no attempt is left")

// takeAttempt takes an attempt before it is made, so that many at once can't slip through; where none
// is left it answers a refusal, and takes nothing. giveBack is for one that has not failed: it costs
// nothing.
func (s *Service) takeAttempt(ctx context.Context, peer, login string) (r *refusal, giveBack func(), err error) {
	all, now := s.allowances(peer, login), store.Micros(s.Now())
	// Whoever has none left costs us no more than a look.
	if r, err = s.refusal(ctx, all, now); r != nil || err != nil {
		return r, nil, err
	}
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, a := range all {
			var full int64
			err := tx.QueryRowContext(ctx, `INSERT INTO signin_attempts (counts_for, full_again) VALUES ($1, $2)
				ON CONFLICT (counts_for) DO UPDATE SET full_again = CASE WHEN signin_attempts.full_again < $3 THEN $2 ELSE signin_attempts.full_again + $4 END
				WHERE signin_attempts.full_again <= $5 RETURNING full_again`,
				a.countsFor, now+a.each(), now, a.each(), now+time.Minute.Microseconds()-a.each()).Scan(&full)
			if isNoRows(err) {
				return errNoneLeft
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errNoneLeft) { // others were faster
		r, err = s.refusal(ctx, all, now)
		if r == nil {
			r = &refusal{wait: time.Second}
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("count an attempt to sign in: %w", err)
	}
	if r != nil {
		return r, nil, nil
	}
	return nil, func() { s.giveBack(context.WithoutCancel(ctx), all, now) }, nil
}

// refusal answers the longest wait; nil where none is due.
func (s *Service) refusal(ctx context.Context, all []allowance, now int64) (longest *refusal, err error) {
	for _, a := range all {
		var full int64
		err := s.DB.Read().QueryRowContext(ctx, `SELECT full_again FROM signin_attempts WHERE counts_for = $1`, a.countsFor).Scan(&full)
		if err != nil && !isNoRows(err) {
			return nil, fmt.Errorf("count attempts to sign in: %w", err)
		}
		wait := time.Duration(full+a.each()-now)*time.Microsecond - time.Minute
		if err == nil && wait > 0 && (longest == nil || wait > longest.wait) {
			longest = &refusal{wait, a.ofAccount}
		}
	}
	return longest, nil
}

// giveBackWithin is how long an attempt may take to be given back: the answer waits for it.
const giveBackWithin = 2 * time.Second

// giveBack gives an attempt back. Where that fails it counts as one that has failed.
func (s *Service) giveBack(ctx context.Context, all []allowance, now int64) {
	ctx, cancel := context.WithTimeout(ctx, giveBackWithin)
	defer cancel()
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, a := range all {
			if _, err := tx.ExecContext(ctx, `UPDATE signin_attempts SET full_again = full_again - $2 WHERE counts_for = $1`, a.countsFor, a.each()); err != nil {
				return err
			}
			// Who signs in leaves no rows behind.
			if _, err := tx.ExecContext(ctx, `DELETE FROM signin_attempts WHERE counts_for = $1 AND full_again <= $2`, a.countsFor, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		slog.WarnContext(ctx, "an attempt to sign in counts as one that has failed", "error", err)
	}
}

// sweepAttempts deletes what has no attempts to remember.
func (s *Service) sweepAttempts(ctx context.Context) error {
	return s.sweepAll(ctx, `DELETE FROM signin_attempts WHERE counts_for IN (SELECT counts_for FROM signin_attempts WHERE full_again < $1 LIMIT $2)`, store.Micros(s.Now()), sweepAtOnce)
}
