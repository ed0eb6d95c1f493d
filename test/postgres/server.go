package postgres

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Server is a PostgreSQL server of a test.
type Server struct {
	t      *testing.T
	folder string
	cmd    *exec.Cmd
	ended  <-chan error
	log    *os.File
	small  int64 // bytes of the file system of the tablespace "small"; 0: there is none
}

// within is how long a server may take to start.
const within = time.Minute

// Start makes a cluster and starts its server. What a commit has answered survives a crash.
func Start(t *testing.T) *Server {
	t.Helper()
	return start(t, 0)
}

func start(t *testing.T, small int64) *Server {
	t.Helper()
	if program("initdb") == "" {
		t.Skip("PostgreSQL is missing: install Debian's package postgresql")
	}
	folder, err := os.MkdirTemp("", "mpr-postgres") // one that its user may enter, which t.TempDir needn't be
	must(t, err)
	s := &Server{t: t, folder: folder, small: small}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.Kill()
		}
		if t.Failed() {
			text, _ := os.ReadFile(s.file("log"))
			t.Logf("the log of PostgreSQL:\n%s", text[max(0, len(text)-4000):])
		}
		must(t, errors.Join(s.log.Close(), os.RemoveAll(folder)))
	})
	s.log, err = os.Create(s.file("log"))
	must(t, err)
	if os.Geteuid() == 0 {
		uid, gid := ids(t)
		must(t, os.Chown(folder, uid, gid))
	}
	must(t, s.command("initdb", "-D", s.file("data"), "-U", "mpr", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").Run())
	s.Run()
	return s
}

func (s *Server) file(name string) string { return filepath.Join(s.folder, name) }

// DSN names a database of the server.
func (s *Server) DSN() string { return "postgres://mpr@/postgres?host=" + s.folder }

// Run starts the server again, and waits until it answers.
func (s *Server) Run() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	for s.runOnce(ctx) != nil {
		if ctx.Err() != nil {
			s.t.Fatal("PostgreSQL doesn't start")
		}
	}
}

// runOnce starts the server; an error where it ends at once. One that was killed leaves
// processes behind, which end by themselves and hold its memory for as long as they don't.
func (s *Server) runOnce(ctx context.Context) error {
	cmd := s.command("postgres", "-D", s.file("data"), "-k", s.folder, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60")
	if s.small > 0 {
		s.onSmall(cmd)
	}
	must(s.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	db, err := sql.Open("pgx", s.DSN())
	must(s.t, err)
	defer db.Close() //nolint:errcheck // it has only been asked whether it is there
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return errors.Join(errors.New("it has ended"), err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), cmd.Process.Kill())
		case <-tick.C:
			if db.PingContext(ctx) == nil {
				s.cmd = cmd
				s.ended = ended
				return nil
			}
		}
	}
}

// Kill ends the server as the loss of its machine would.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server and its connections in order ("fast").
func (s *Server) Stop() { s.end(syscall.SIGINT) }

func (s *Server) end(sig os.Signal) {
	s.t.Helper()
	must(s.t, s.cmd.Process.Signal(sig))
	s.t.Log("PostgreSQL has ended:", <-s.ended)
	s.cmd = nil
}

// command is a program of PostgreSQL. It refuses to run as root, and runs as Debian's user
// postgres there.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(program(name), args...) //nolint:noctx,gosec // it is ended by the test
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.folder, s.log, s.log
	if os.Geteuid() == 0 {
		uid, gid := ids(s.t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}} //nolint:gosec // ids of a user
	}
	return cmd
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run runs a client program of PostgreSQL, such as pg_dump, which must do well.
func Run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program(name), args...).CombinedOutput(); err != nil { //nolint:noctx,gosec // it ends by itself
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}
