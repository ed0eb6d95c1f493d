package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib" // and the driver "pgx"
)

// application is what the server shows of our connections.
const application = "mpr"

func isPostgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// openPostgres opens a pool with the limits of the options. What the DSN says itself wins.
func (o Options) openPostgres(ctx context.Context, dsn string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("open PostgreSQL: the DSN is malformed, or a file that it names can't be read") // the driver's text may show the password
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = o.ConnectTimeout
	}
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return watchedConn{conn}, nil
	}
	say := func(parameter, value string) {
		if _, said := cfg.RuntimeParams[parameter]; !said {
			cfg.RuntimeParams[parameter] = value
		}
	}
	say("application_name", application)
	for parameter, limit := range map[string]time.Duration{
		statementTimeout: o.StatementTimeout, "lock_timeout": o.LockTimeout, idleTimeout: o.IdleTransaction,
	} {
		if limit > 0 {
			say(parameter, milliseconds(limit))
		}
	}
	pool := spans(stdlib.GetConnector(*cfg), "postgresql")
	pool.SetMaxOpenConns(o.MaxConns)
	pool.SetMaxIdleConns(o.IdleConns)
	pool.SetConnMaxIdleTime(o.IdleTime)
	pool.SetConnMaxLifetime(o.Lifetime)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open PostgreSQL at %s: %w", describe(cfg), err), pool.Close())
	}
	return pool, nil
}

const (
	statementTimeout = "statement_timeout"
	idleTimeout      = "idle_in_transaction_session_timeout"
)

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

// describe names a database without its user's password.
func describe(cfg *pgx.ConnConfig) string {
	return net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))) + "/" + cfg.Database
}

// longReads lets the statements of a transaction take as long as a snapshot may.
func (db *DB) longReads(ctx context.Context, tx *sql.Tx) error {
	o := db.options
	if !db.postgres || o.StatementTimeout == 0 && o.IdleTransaction == 0 {
		return nil
	}
	limit := "0"
	if o.LongTimeout > 0 {
		limit = milliseconds(o.LongTimeout)
	}
	if _, err := tx.ExecContext(ctx, `SELECT set_config($1, $3, true), set_config($2, $3, true)`, statementTimeout, idleTimeout, limit); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	return nil
}

// The ways in which a PostgreSQL server says that it can't answer now.
var awayCodes = []string{
	"57P01", // admin_shutdown
	"57P02", // crash_shutdown
	"57P03", // cannot_connect_now: it starts, or it ends
	"53300", // too_many_connections
}

// watchedConn is a connection to a server whose loss can be told from other errors.
type watchedConn struct{ net.Conn }

func (c watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, lost(err)
}

func (c watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, lost(err)
}

// lostError says that a connection to a database has gone.
type lostError struct{ error }

func (l lostError) Unwrap() error { return l.error }

func lost(err error) error {
	var slow net.Error
	if err == nil || errors.As(err, &slow) && slow.Timeout() { // the end of a context
		return err
	}
	return lostError{err}
}

// IsAway says whether err is that of a database that can't be reached just now, or that went
// away in between. Whether a commit that ended so has happened isn't known.
func IsAway(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if pg, is := errors.AsType[*pgconn.PgError](err); is {
		return slices.Contains(awayCodes, pg.Code) || strings.HasPrefix(pg.Code, "08") // connection_exception
	}
	if _, is := errors.AsType[*pgconn.ConnectError](err); is {
		return true
	}
	_, is := errors.AsType[lostError](err)
	return is || pgconn.SafeToRetry(err)
}

// isTooSlow says whether err is that of a statement which took longer than it may, or waited
// longer for a lock.
func isTooSlow(err error) bool {
	pg, is := errors.AsType[*pgconn.PgError](err)
	return is && (pg.Code == "57014" || pg.Code == "55P03" || pg.Code == "25P03") // query_canceled, lock_not_available, idle_in_transaction_session_timeout
}
