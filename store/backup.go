package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrNoFile says that a database is none that is kept in a file.
var ErrNoFile = errors.New("it is no file: PostgreSQL has backups of its own")

// Backup copies a generation of a SQLite database to a file that isn't there yet, as it is at
// one moment, while others write to it; and looks the copy over.
func Backup(ctx context.Context, dsn string, generation int, to string) error {
	at, err := generationDSN(dsn, generation)
	if err != nil {
		return err
	}
	path, ok := strings.CutPrefix(at, "sqlite:")
	if !ok {
		return ErrNoFile
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // what matters is the sync
	from, err := sqlitePool(ctx, path, 1, "deferred")
	if err != nil {
		return err
	}
	_, err = from.ExecContext(ctx, `VACUUM INTO $1`, to) // into a file that is empty
	if err := errors.Join(err, from.Close()); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	if err := intact(ctx, to); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}

// intact looks a copy over.
func intact(ctx context.Context, path string) error {
	db, err := sqlitePool(ctx, path, 1, "deferred", "query_only(ON)")
	if err != nil {
		return err
	}
	var said string
	err = db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&said)
	if errors.Is(err, sql.ErrNoRows) || err == nil && said != "ok" {
		err = fmt.Errorf("the copy is damaged: %s", said)
	}
	return errors.Join(err, db.Close())
}

// Beside are the files that SQLite keeps beside a database while it is used, and after a crash. They
// belong to that database: to another one in its place they would be ruin.
func Beside(path string) []string { return []string{path + "-wal", path + "-shm", path + "-journal"} }

// Path is the file of a generation of a SQLite database; "" of another one.
func Path(dsn string, generation int) string {
	at, err := generationDSN(dsn, generation)
	if err != nil {
		return ""
	}
	path, ok := strings.CutPrefix(at, "sqlite:")
	if !ok {
		return ""
	}
	return path
}
