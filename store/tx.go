package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"mpr/problem"
)

// Write runs f in one transaction. It commits where f returns nil and rolls back
// otherwise. Where the engine reports a serialization failure, a deadlock or a busy
// file, f runs again in a new transaction, ten times at the most; where the database is
// away, until [Options.Patience] is over: f must have no effect outside the transaction.
//
// A commit whose answer is lost isn't repeated, since it may have happened.
func (db *DB) Write(ctx context.Context, f func(*sql.Tx) error) error {
	begun := time.Now()
	for attempt := 1; ; attempt++ {
		err := db.writeOnce(ctx, f)
		longest := time.Duration(attempt) * 5 * time.Millisecond // spread those that collided
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case repeatable(err) && attempt < maxAttempts:
		case IsAway(err) && !errors.Is(err, errCommit) && time.Since(begun) < db.options.Patience:
			longest = awayRetry
		default:
			return err
		}
		wait := time.NewTimer(rand.N(longest))
		select {
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-wait.C:
		}
	}
}

// along is what belongs into the transaction of another one's write.
type along struct {
	db *DB
	f  func(*sql.Tx) error
}

type alongKey struct{}

// Along answers a context with which each [DB.Write] to this database runs f in its transaction,
// at the end of it: for notes about a change by whoever asks for it, which the one who makes the
// change needn't know of.
func (db *DB) Along(ctx context.Context, f func(*sql.Tx) error) context.Context {
	return context.WithValue(ctx, alongKey{}, along{db, f})
}

// awayRetry is how long a write waits at the most before it looks whether the database is back.
const awayRetry = 200 * time.Millisecond

// errCommit marks the failure of a commit.
var errCommit = errors.New("commit")

func (db *DB) writeOnce(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// A panic must not take SQLite's only write connection with it.
	panicking := true
	defer func() {
		if panicking {
			_ = tx.Rollback()
		}
	}()
	err = f(tx)
	if a, ok := ctx.Value(alongKey{}).(along); ok && err == nil && a.db == db {
		err = a.f(tx)
	}
	panicking = false
	if err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%w: %w", errCommit, err)
	}
	return nil
}

// Snapshot runs f in a transaction that reads one state of the database, whatever is
// written meanwhile. It holds up no writer, takes one of the connections for reads, and may
// take long.
func (db *DB) Snapshot(ctx context.Context, f func(*sql.Tx) error) error {
	var options *sql.TxOptions // SQLite in WAL mode reads one state in any transaction
	if db.postgres {
		options = &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	tx, err := db.read.BeginTx(ctx, options)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // there is nothing to undo
	if err := db.longReads(ctx, tx); err != nil {
		return err
	}
	return f(tx)
}

// ignoreDone drops what Rollback answers where the engine or the context has ended the
// transaction already, or the connection has gone and the transaction with it.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) || IsAway(err) {
		return nil
	}
	return err
}

func repeatable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01" // serialization_failure, deadlock_detected
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code()&0xff == sqlite3.SQLITE_BUSY || lite.Code()&0xff == sqlite3.SQLITE_LOCKED
	}
	return false
}

// retryAway is when it is worth trying again to use a database that is away.
const retryAway = time.Second

// Explain makes of an error that says that the database is away, or too slow, a problem that
// asks to try again. Others it leaves alone.
func Explain(err error) error {
	_, explained := errors.AsType[*problem.Problem](err)
	switch {
	case explained:
	case IsAway(err) && errors.Is(err, errCommit):
		return problem.New(problem.StoreUnavailable, "The database went away while a change was being stored, and it isn't known whether it was kept. Look before you repeat it.").Because(err)
	case IsAway(err):
		return problem.New(problem.StoreUnavailable, "The database can't be reached just now. Nothing was changed; try again.").After(retryAway).Because(err)
	case isTooSlow(err):
		return problem.New(problem.StoreUnavailable, "The database took too long. Nothing was changed; try again.").After(retryAway).Because(err)
	}
	return err
}
