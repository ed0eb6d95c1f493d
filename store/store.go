package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"mpr/lockfile"
)

// DB is an open database. Reads run side by side; on SQLite writes run one at a time
// over a single connection, since the engine allows one writer and would otherwise
// answer "busy".
type DB struct {
	read, write *sql.DB
	postgres    bool
	dsn         string
	options     Options
	folder      string // of a SQLite file
	// fresh says that it is a generation that our own processes make and fill.
	fresh bool
}

const (
	// readConns is how many reads of a SQLite file run side by side.
	readConns   = 8
	busyTimeout = 10 * time.Second
	maxAttempts = 10
)

// Open opens the database that the DSN names and brings its schema up to date with
// the migrations (goose files, in the root of the file system).
//
// A DSN is "postgres://..." or "sqlite:PATH". SQLite runs in WAL mode with
// synchronous=FULL: what was committed survives a loss of power.
func Open(ctx context.Context, dsn string, migrations fs.FS) (*DB, error) {
	return Defaults().Open(ctx, dsn, migrations)
}

// Open is [Open] with these options.
func (o Options) Open(ctx context.Context, dsn string, migrations fs.FS) (*DB, error) {
	db, err := o.connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := db.bring(ctx, Schema{Migrations: migrations}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (o Options) connect(ctx context.Context, dsn string) (*DB, error) {
	if isPostgres(dsn) {
		pool, err := o.openPostgres(ctx, dsn)
		if err != nil {
			return nil, err
		}
		return &DB{read: pool, write: pool, postgres: true, dsn: dsn, options: o}, nil
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
	return &DB{read: read, write: write, dsn: dsn, options: o, folder: filepath.Dir(path)}, nil
}

func openSQLite(ctx context.Context, path string, conns int, txlock string) (*sql.DB, error) {
	// The file is made here, so that its mode doesn't depend on the umask.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	return sqlitePool(ctx, path, conns, txlock, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)")
}

func sqlitePool(ctx context.Context, path string, conns int, txlock string, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {txlock}, "_pragma": append(pragmas, fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))}
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

// lockFolder keeps others from making and migrating SQLite files in the folder until release
// is called. The lock is on the folder itself, so that it leaves nothing behind.
func lockFolder(path string) (release func(), err error) {
	folder, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	if err := lockfile.Wait(folder); err != nil {
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
