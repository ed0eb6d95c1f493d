package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// DB is an open database. Reads run side by side; on SQLite writes run one at a time
// over a single connection, since the engine allows one writer and would otherwise
// answer "busy".
type DB struct {
	read, write *sql.DB
	postgres    bool
	folder      string // of a SQLite file
}

// Pool limits of a database. PostgreSQL's default of 100 connections is shared by all
// processes.
const (
	readConns     = 8
	postgresConns = 16
	busyTimeout   = 10 * time.Second
	maxAttempts   = 10
	// migrationWait is how many seconds a start waits for another process's migrations.
	migrationWait = 300
)

// Open opens the database that the DSN names and brings its schema up to date with
// the migrations (goose files, in the root of the file system).
//
// A DSN is "postgres://..." or "sqlite:PATH". SQLite runs in WAL mode with
// synchronous=FULL: what was committed survives a loss of power.
func Open(ctx context.Context, dsn string, migrations fs.FS) (*DB, error) {
	db, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, goose.DefaultTablename, migrations); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func connect(ctx context.Context, dsn string) (*DB, error) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		pool, err := openPool("pgx", dsn)
		if err != nil {
			return nil, errors.New("open PostgreSQL: the DSN is malformed") // the driver's text may show the password
		}
		pool.SetMaxOpenConns(postgresConns)
		pool.SetConnMaxIdleTime(5 * time.Minute)
		if err := pool.PingContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open PostgreSQL: %w", err), pool.Close())
		}
		return &DB{read: pool, write: pool, postgres: true}, nil
	}
	path, ok := strings.CutPrefix(dsn, "sqlite:")
	if !ok || path == "" {
		return nil, errors.New(`open database: the DSN must start with "postgres://" or be "sqlite:PATH"`)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	// A new file becomes one with a write-ahead log only while nobody else has it open.
	release, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	defer release()
	write, err := openSQLite(ctx, path, 1, "immediate")
	if err != nil {
		return nil, err
	}
	read, err := openSQLite(ctx, path, readConns, "deferred")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &DB{read: read, write: write, folder: filepath.Dir(path)}, nil
}

func openSQLite(ctx context.Context, path string, conns int, txlock string) (*sql.DB, error) {
	q := url.Values{"_txlock": {txlock}}
	for _, p := range []string{
		"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
	} {
		q.Add("_pragma", p)
	}
	// The file is made here, so that its mode doesn't depend on the umask.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	pool, err := openPool("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open SQLite %s: %w", path, err), pool.Close())
	}
	return pool, nil
}

// Schema is the folder "migrations" of the files that a package is compiled with.
func Schema(files embed.FS) fs.FS {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the name is a valid path
	}
	return sub
}

// Also brings another part of the database's schema up to date, whose versions are counted
// by themselves, in a table of this name.
func (db *DB) Also(ctx context.Context, versions string, migrations fs.FS) error {
	return db.migrate(ctx, versions, migrations)
}

func (db *DB) migrate(ctx context.Context, versions string, migrations fs.FS) error {
	dialect, options := goose.DialectSQLite3, []goose.ProviderOption(nil)
	if db.postgres {
		// Of those that open it at the same time one migrates, and the others wait.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, migrationWait))
		if err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		dialect, options = goose.DialectPostgres, []goose.ProviderOption{goose.WithSessionLocker(locker)}
	}
	if !db.postgres {
		release, err := lockFolder(db.folder)
		if err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		defer release()
	}
	provider, err := goose.NewProvider(dialect, db.write, migrations, append(options, goose.WithTableName(versions))...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// lockFolder keeps others from making and migrating SQLite files in the folder until release
// is called. The lock is on the folder itself, so that it leaves nothing behind.
func lockFolder(path string) (release func(), err error) {
	folder, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	if err := lockFile(folder); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return func() { _ = folder.Close() }, nil // which ends the lock
}

// Close ends all connections. On SQLite it also folds the write-ahead log into the file.
func (db *DB) Close() error {
	if db.postgres {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close())
}

// Read is for queries that change nothing.
func (db *DB) Read() *sql.DB { return db.read }

// Write runs f in one transaction. It commits where f returns nil and rolls back
// otherwise. Where the engine reports a serialization failure, a deadlock or a busy
// file, f runs again in a new transaction, ten times at the most: f must have no
// effect outside the transaction.
func (db *DB) Write(ctx context.Context, f func(*sql.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.writeOnce(ctx, f)
		if err == nil || attempt == maxAttempts || !repeatable(err) {
			return err
		}
		// Spread those that collided.
		wait := time.NewTimer(rand.N(time.Duration(attempt) * 5 * time.Millisecond))
		select {
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-wait.C:
		}
	}
}

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
	panicking = false
	if err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Snapshot runs f in a transaction that reads one state of the database, whatever is
// written meanwhile. It holds up no writer, and takes one of the connections for reads.
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
	return f(tx)
}

// ignoreDone drops what Rollback answers where the engine or the context has ended the
// transaction already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

func repeatable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01"
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code()&0xff == sqlite3.SQLITE_BUSY || lite.Code()&0xff == sqlite3.SQLITE_LOCKED
	}
	return false
}

// IsDuplicate says whether err is the violation of a primary key or of a unique index.
func IsDuplicate(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	return false
}

// Time turns a stored time, Unix microseconds, into a UTC time; 0 into the zero time.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// Micros is how times are stored: Unix microseconds, the zero time as 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
