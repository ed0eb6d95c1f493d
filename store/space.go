package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Space is what a database takes, in bytes.
type Space struct {
	// Used is what its rows and indexes take.
	Used int64
	// Free is how much more the disk has room for, that of deleted rows included; -1 where that
	// isn't known: PostgreSQL doesn't tell.
	Free int64
}

// Space measures the database, the whole of it on PostgreSQL.
func (db *DB) Space(ctx context.Context) (s Space, err error) {
	if db.postgres {
		s.Free = -1
		err = db.read.QueryRowContext(ctx, `SELECT pg_database_size(current_database())`).Scan(&s.Used)
	} else {
		var pages, unused, size int64
		err = db.read.QueryRowContext(ctx, `SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`).Scan(&pages, &unused, &size)
		s.Used = (pages - unused) * size
		if err == nil {
			if s.Free, err = freeBytes(db.folder); s.Free >= 0 {
				s.Free += unused * size
			}
		}
	}
	if err != nil {
		return s, fmt.Errorf("measure the database: %w", err)
	}
	return s, nil
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
