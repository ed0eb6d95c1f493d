package operator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"mpr/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema of what is kept, in the control store.
func Migrations() fs.FS { return store.Files(migrations) }

// User is a user of the login service.
type User struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
	Name  string `json:"name"`
	// Credential changes when the user's password does, and is "" while there is none.
	Credential string `json:"credential"`
	// Disabled says that the user can't sign in.
	Disabled bool `json:"disabled"`
}

// Identity is the login service.
type Identity interface {
	// User answers [problem.NotFound] where there is no such user any more.
	User(ctx context.Context, id int64) (User, error)
}

// Options are what a [Service] needs.
type Options struct {
	// DB is the control store, with the schema of [Migrations].
	DB *store.DB
	// Environment is the one whose users are operators.
	Environment string
	Identity    Identity
	// Lifetime is how long a session lasts at the most, Idle how long one that isn't used.
	Lifetime, Idle time.Duration
	// Kept is how long entries of the audit log are kept.
	Kept time.Duration
	// KeepAdmin refuses to take away the last admin: nobody else could make another one.
	KeepAdmin bool
	Now       func() time.Time
}

// Service keeps roles, sessions and the audit log.
type Service struct {
	Options
	cancel context.CancelFunc
	loops  sync.WaitGroup
}

const (
	// sweepEvery is how often what has expired is deleted, and sweepAtOnce how much of it in one
	// transaction: others want to write, too.
	sweepEvery  = time.Hour
	sweepAtOnce = 1000
)

// New starts the service.
func New(o Options) *Service {
	s := &Service{Options: o}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.loops.Go(func() {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("old sessions, idempotency keys and entries of the audit log stay for now", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return s
}

// Close ends the work in the background.
func (s *Service) Close() error {
	s.cancel()
	s.loops.Wait()
	return nil
}

// Sweep deletes what has expired. The service does it by itself from time to time.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.Now()
	for _, old := range []struct {
		statement string
		before    time.Time
	}{
		{`DELETE FROM operator_sessions WHERE hash IN (SELECT hash FROM operator_sessions WHERE expires < $1 LIMIT $2)`, now},
		{`DELETE FROM operator_codes WHERE hash IN (SELECT hash FROM operator_codes WHERE expires < $1 LIMIT $2)`, now},
		{`DELETE FROM operator_keys WHERE (environment, kind, key) IN (SELECT environment, kind, key FROM operator_keys WHERE used < $1 LIMIT $2)`, now.Add(-keysKept)},
		// Outcomes first: one without its entry would stay for ever.
		{`DELETE FROM operator_outcomes WHERE audit_id IN (SELECT a.id FROM operator_audit a JOIN operator_outcomes o ON o.audit_id = a.id WHERE a.at < $1 LIMIT $2)`, now.Add(-s.Kept)},
		{`DELETE FROM operator_audit WHERE id IN (SELECT id FROM operator_audit WHERE at < $1 LIMIT $2)`, now.Add(-s.Kept)},
	} {
		for more := true; more; {
			err := s.DB.Write(ctx, func(tx *sql.Tx) error {
				done, err := tx.ExecContext(ctx, old.statement, store.Micros(old.before), sweepAtOnce)
				if err != nil {
					return err
				}
				n, err := done.RowsAffected()
				more = n == sweepAtOnce
				return err
			})
			if err != nil {
				return fmt.Errorf("delete what has expired: %w", err)
			}
		}
	}
	return nil
}

// NewSecret makes a secret that nobody can guess: 43 characters, 256 random bits.
func NewSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Challenge is the S256 challenge of a verifier (RFC 7636 section 4.2).
func Challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// fingerprint is how secrets are stored: they have 256 random bits, so that a plain SHA-256 is
// enough.
func fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
