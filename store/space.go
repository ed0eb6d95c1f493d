package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Used is how many bytes the rows and indexes of the database take. On PostgreSQL they are those of
// its schema, beside which others may have theirs; the server looks at all of their files to tell.
func (db *DB) Used(ctx context.Context) (bytes int64, err error) {
	ask := `SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`
	if db.postgres {
		ask = `SELECT COALESCE(SUM(pg_total_relation_size(oid)), 0) FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace`
	}
	if err := db.read.QueryRowContext(ctx, ask).Scan(&bytes); err != nil {
		return 0, fmt.Errorf("measure the database: %w", err)
	}
	return bytes, nil
}

// Free is how many more bytes the disk has room for, those of deleted rows included; -1 where
// that isn't known: PostgreSQL doesn't tell.
func (db *DB) Free(ctx context.Context) (bytes int64, err error) {
	if db.postgres {
		return -1, nil
	}
	var unused int64
	if err := db.read.QueryRowContext(ctx, `SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size`).Scan(&unused); err != nil {
		return 0, fmt.Errorf("measure the database: %w", err)
	}
	if bytes, err = freeBytes(db.folder); err != nil {
		return 0, fmt.Errorf("measure the disk: %w", err)
	}
	if bytes >= 0 {
		bytes += unused
	}
	return bytes, nil
}

// IsFull says whether err is that of a write for which there is no room: the disk, a quota or
// a limit of the database is used up. Nothing of its transaction was kept. SQLite reports what
// the system refuses for another reason than a full disk, a limit of the file's size among
// them, as a failed write.
func IsFull(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "53100" // disk_full
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMSIZE:
			return true
		}
	}
	return false
}
