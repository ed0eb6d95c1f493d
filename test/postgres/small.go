package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Disk is the file system of some tables of a server, which can be filled.
type Disk struct {
	s  *Server
	db *sql.DB
}

// StartOnDisk starts a server, and answers the DSN of a database whose tables are on a file system of
// that many bytes, which only the server sees. Its log and what it writes ahead are elsewhere: a
// server that has no room for these stops. Nobody but root may mount; ok is false where we mayn't.
func StartOnDisk(t *testing.T, bytes int64) (dsn string, disk *Disk, ok bool) {
	t.Helper()
	if os.Geteuid() != 0 || exec.Command("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", t.TempDir()).Run() != nil { //nolint:noctx,gosec // it ends by itself
		return "", nil, false
	}
	s := start(t, bytes)
	db, err := sql.Open("pgx", s.DSN())
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	_, err = db.ExecContext(t.Context(), `CREATE TABLESPACE small LOCATION '`+s.file("small")+`'`)
	must(t, err)
	return s.DSN() + "&default_tablespace=small", &Disk{s, db}, true
}

// onSmall has a server run with the file system of its tablespace mounted.
func (s *Server) onSmall(cmd *exec.Cmd) {
	must(s.t, errors.Join(os.MkdirAll(s.file("small"), 0o700)))
	uid, gid := ids(s.t)
	mount := fmt.Sprintf(`mount -t tmpfs -o size=%d,mode=0700,uid=%d,gid=%d tmpfs '%s' && exec setpriv --reuid=%d --regid=%d --clear-groups "$@"`,
		s.small, uid, gid, s.file("small"), uid, gid)
	unshare, err := exec.LookPath("unshare")
	must(s.t, err)
	cmd.Path, cmd.Args, cmd.SysProcAttr = unshare, append([]string{"unshare", "--mount", "sh", "-c", mount, "sh", cmd.Path}, cmd.Args[1:]...), nil
}

// Fill leaves no room for another page of any table.
func (d *Disk) Fill(ctx context.Context) error {
	if _, err := d.db.ExecContext(ctx, `CREATE TABLE ballast (text TEXT) TABLESPACE small`); err != nil {
		return err
	}
	// The pages of a statement that fails stay with the table.
	_, err := d.db.ExecContext(ctx, `INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, $1)`, d.s.small/1000)
	var full *pgconn.PgError
	if !errors.As(err, &full) || full.Code != "53100" {
		return fmt.Errorf("the disk isn't full: %w", err)
	}
	return nil
}

// Free makes room again.
func (d *Disk) Free(ctx context.Context) error {
	_, err := d.db.ExecContext(ctx, `DROP TABLE ballast`)
	return err
}
