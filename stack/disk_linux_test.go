package stack

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/move"
	"mpr/problem"
	"mpr/region"
	"mpr/store"
	"mpr/test/engine"
	"mpr/test/postgres"
	"mpr/token"
)

// A region in a process of its own whose disk can be filled: the test binary, started anew.

// diskVariable tells such a process what to be.
const diskVariable = "MPR_TEST_DISK"

func TestMain(m *testing.M) {
	if text := os.Getenv(diskVariable); text != "" {
		if err := runOnDisk(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type diskOptions struct {
	Code      company.Region
	Directory string // its address
	Dir       string // of its files, the database among them
	Store     string // the DSN of another database
	// Mount puts a file system of this many bytes there, which nobody else sees.
	Mount int64
}

// diskFacts are what the process says of itself.
type diskFacts struct{ Door, Internal string }

func runOnDisk(ctx context.Context, text string) error {
	var o diskOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	if o.Mount > 0 {
		if err := errors.Join(
			syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
			syscall.Mount("tmpfs", o.Dir, "tmpfs", 0, fmt.Sprintf("size=%d", o.Mount)),
		); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
	}
	nc, err := directory.Connect([]string{"nats://" + o.Directory}, siteSecret, "disk")
	if err != nil {
		return err
	}
	defer nc.Close()
	follower, err := token.Follow(ctx, nc, "site", filepath.Join(o.Dir, "keys"))
	if err != nil {
		return err
	}
	if err := follower.Ready(ctx); err != nil {
		return err
	}
	db, err := store.Open(ctx, cmp.Or(o.Store, "sqlite:"+filepath.Join(o.Dir, "region.db")), region.Migrations())
	if err != nil {
		return err
	}
	r, err := siteRegion(ctx, o.Code, db, token.NewVerifier(siteIssuer, follower, 100, time.Now), directory.OpenChanges(nc, "site", 1), 0)
	if err != nil {
		return err
	}
	door, internal := httptest.NewServer(problem.Handler(r.Handler())), httptest.NewServer(problem.Handler(r.Internal()))
	if err := json.NewEncoder(os.Stdout).Encode(diskFacts{door.URL, internal.URL}); err != nil {
		return err
	}
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		var err error
		if o.Mount > 0 {
			err = fillMount(o.Dir, orders.Text() == "fill")
		} else {
			err = limitFiles(filepath.Join(o.Dir, "region.db"), orders.Text() == "fill")
		}
		fmt.Println(orders.Text(), "done:", err)
	}
	door.Close()
	internal.Close()
	return errors.Join(r.Close(), db.Close(), follower.Close())
}

// fillMount writes a file until there is no room, or deletes it.
func fillMount(dir string, full bool) error {
	name := filepath.Join(dir, "ballast")
	if !full {
		return os.Remove(name)
	}
	f, err := os.Create(name) //nolint:gosec // in a folder of the test
	if err != nil {
		return err
	}
	for block := 1 << 20; block > 0; {
		if _, err := f.Write(make([]byte, block)); err != nil {
			block /= 2
		}
	}
	return f.Close()
}

// limitFiles keeps files from becoming larger than the database is, or doesn't any more.
func limitFiles(path string, full bool) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	if full {
		limit.Cur = 4096
		for _, name := range []string{path, path + "-wal"} {
			if _, err := os.Stat(name); err != nil {
				return err
			}
		}
	}
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

// disk is such a process.
type disk struct {
	t      *testing.T
	orders io.WriteCloser
	said   *bufio.Scanner
	mu     sync.Mutex
	kill   func()
	pid    int
}

// startDisk starts a region on a disk of its own, or says that this machine lets nobody mount
// one.
func startDisk(t *testing.T, o diskOptions) (d *disk, facts diskFacts, ok bool) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0]) //nolint:gosec // the test itself
	cmd.Env = append(os.Environ(), diskVariable+"="+string(text))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if o.Mount > 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
	}
	d = &disk{t: t}
	if d.orders, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if o.Mount > 0 {
			return nil, facts, false
		}
		t.Fatal(err)
	}
	d.pid = cmd.Process.Pid
	var once sync.Once
	d.kill = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	t.Cleanup(d.kill)
	if d.said = bufio.NewScanner(out); !d.said.Scan() || json.Unmarshal(d.said.Bytes(), &facts) != nil {
		d.kill()
		if o.Mount > 0 && strings.HasPrefix(complaints.String(), "mount: ") {
			return nil, facts, false
		}
		t.Fatalf("the region doesn't start: %s", complaints.String())
	}
	return d, facts, true
}

// order has the disk filled ("fill") or freed ("free").
func (d *disk) order(text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintln(d.orders, text); err != nil {
		return err
	}
	if !d.said.Scan() || d.said.Text() != text+" done: <nil>" {
		return fmt.Errorf("%s: %s", text, d.said.Text())
	}
	return nil
}

// newDiskSite is a site whose EU01 is on a disk of its own.
func newDiskSite(t *testing.T, mount int64) (*site, *disk) {
	t.Helper()
	var d *disk
	dir := t.TempDir()
	s := newSiteOf(t, siteOptions{apart: map[company.Region]func(string) (string, string){"EU01": func(address string) (string, string) {
		var facts diskFacts
		var ok bool
		if d, facts, ok = startDisk(t, diskOptions{Code: "EU01", Directory: address, Dir: dir, Mount: mount}); !ok {
			t.Log("this machine lets nobody mount: a limit of the file's size stands in for the full disk")
			d, facts, _ = startDisk(t, diskOptions{Code: "EU01", Directory: address, Dir: dir})
		}
		return facts.Door, facts.Internal
	}}})
	return s, d
}

// "A full disk at the destination: exactly one owner, every write answered 2xx present exactly
// once, the move finished or cleanly aborted": the disk is full at each step at which the
// destination writes, by a file system without a free block and by a limit of the files' size.
func TestFullDisk(t *testing.T) {
	engine.Only(t)
	for _, kind := range []string{"mounted", "limited"} {
		for _, step := range []string{"arrive", "rows", "changes", "hold", "last changes", "activate"} {
			for _, abort := range []bool{false, true} {
				if abort && step != "rows" && step != "last changes" {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, abort %v", kind, step, abort), func(t *testing.T) {
					t.Parallel()
					fillAt(t, map[string]int64{"mounted": 48 << 20}[kind], step, abort)
				})
			}
		}
	}
}

func fillAt(t *testing.T, mount int64, step string, abort bool) {
	s, d := newDiskSite(t, mount)
	fullAt(s, d.order, step, abort)
}

// fullAt has the disk of EU01 filled at a step of a move there, and freed again. It is told by order.
func fullAt(s *site, order func(string) error, step string, abort bool) {
	t := s.t
	x := s.write()
	x.atLeast(20)
	var once sync.Once
	mover := s.mover(0, func(_ context.Context, _ *move.Move, name string) (err error) {
		if name == "rows" && step == "changes" { // or there might be none
			if err := x.past(s); err != nil {
				return err
			}
		}
		if name == step {
			once.Do(func() { err = order("fill") })
		}
		return err
	})
	m := s.request("EU01")
	mover.Wake()
	// It says why it doesn't go on. On a busy machine it may say before that that a request took
	// too long, at any step, and goes on.
	stuck := s.until(m.ID, "stuck", func(m *move.Move) bool {
		return m.Problem != "" && !strings.HasSuffix(m.Problem, context.DeadlineExceeded.Error())
	})
	if !strings.Contains(stuck.Problem, "EU01") || !strings.Contains(stuck.Problem, string(problem.InsufficientStorage)) && !strings.Contains(stuck.Problem, "has no room") {
		t.Errorf("the problem is %q", stuck.Problem)
	}
	if owners := s.owners(); step == "activate" && owners != 0 || step != "activate" && owners != 1 {
		t.Errorf("%d regions own the company", owners)
	}
	if step != "activate" {
		x.atLeast(x.count() + 20) // the source goes on to serve
	}
	if abort {
		q := &move.Queue{DB: s.queue, Now: time.Now}
		s.check(q.Abort(t.Context(), m, false, "the test"))
		mover.Wake()
		x.atLeast(x.count() + 20)
	}
	s.check(order("free"))
	ended := s.over(m.ID)
	s.check(mover.Close())
	x.end()
	if want := map[bool]move.Phase{false: move.Retained, true: move.Aborted}[abort]; ended.Phase != want {
		t.Errorf("ended as %+v", ended)
	}
	s.one(x)
	if abort {
		var left struct{ Rows map[string]int64 }
		s.put("GET", fmt.Sprintf("%s/contract/v1/companies/%d/state?rows=1", s.internal["EU01"], s.company), "", &left)
		for table, n := range left.Rows {
			if n != 0 {
				t.Errorf("%d rows of %s are left at the destination", n, table)
			}
		}
	}
}

// A region whose disk is full refuses what is to be written with a code of its own, keeps
// nothing of it, and goes on to answer what is only read.
func TestFullDiskRefusesWrites(t *testing.T) {
	engine.Only(t)
	for _, kind := range []string{"mounted", "limited"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, d := newDiskSite(t, map[string]int64{"mounted": 48 << 20}[kind])
			mover := s.mover(0, nil)
			s.over(s.request("EU01").ID)
			s.check(mover.Close())
			projects := s.api + "/rest/v1.0/projects"
			sync := `{"updates":[{"name":"a"},{"name":"b"}]}`
			if status, body, err := send("PATCH", projects+"/sync", s.token, s.company, sync); err != nil || status != 200 {
				t.Fatalf("%d %s %v", status, body, err)
			}
			s.check(d.order("fill"))
			for range 20 {
				status, body, err := send("PATCH", projects+"/sync", s.token, s.company, sync)
				if err != nil || status != 507 || !strings.Contains(string(body), `"code":"insufficient_storage"`) {
					t.Fatalf("%d %s %v", status, body, err)
				}
				var list []json.RawMessage
				if status, body, err := send("GET", projects, s.token, s.company, ""); err != nil || status != 200 || json.Unmarshal(body, &list) != nil || len(list) != 2 {
					t.Fatalf("%d %s %v", status, body, err)
				}
			}
			s.check(d.order("free"))
			if status, body, err := send("PATCH", projects+"/sync", s.token, s.company, sync); err != nil || status != 200 {
				t.Errorf("%d %s %v", status, body, err)
			}
		})
	}
}

// newPostgresDisk is a site whose EU01 is in a PostgreSQL database on a disk of its own; order fills
// and frees it.
func newPostgresDisk(t *testing.T, code company.Region) (s *site, order func(string) error) {
	t.Helper()
	dsn, disk, ok := postgres.StartOnDisk(t, 48<<20)
	if !ok {
		t.Skip("only root may mount the disk of a PostgreSQL server: run make test as root")
	}
	return newSiteOf(t, siteOptions{stores: map[company.Region]string{code: dsn}}), func(text string) error {
		if text == "fill" {
			return disk.Fill(context.Background())
		}
		return disk.Free(context.Background())
	}
}

// The same with PostgreSQL, at the steps at which tables get their first pages. Other than SQLite it
// goes on to write where pages have room, as those that later steps write to do.
func TestFullDiskOfPostgres(t *testing.T) {
	engine.Only(t)
	for _, step := range []string{"arrive", "rows"} {
		for _, abort := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, abort %v", step, abort), func(t *testing.T) {
				t.Parallel()
				s, order := newPostgresDisk(t, "EU01")
				fullAt(s, order, step, abort)
			})
		}
	}
}

func TestFullDiskOfPostgresRefusesWrites(t *testing.T) {
	engine.Only(t)
	t.Parallel()
	s, order := newPostgresDisk(t, "US02")
	var project struct{ ID int64 }
	status, body, err := send("POST", s.api+"/rest/v1.0/projects", s.token, s.company, `{"project":{"name":"p"}}`)
	if err != nil || status != 201 || json.Unmarshal(body, &project) != nil {
		t.Fatalf("%d %s %v", status, body, err)
	}
	rfis := fmt.Sprintf("%s/rest/v1.0/projects/%d/rfis", s.api, project.ID)
	var long strings.Builder // what no page has room for, however it is compressed
	for long.Len() < 30_000 {
		long.WriteString(rand.Text())
	}
	ask := fmt.Sprintf(`{"rfi":{"subject":"s","question":%q}}`, &long)
	write := func(want int, says string) {
		t.Helper()
		if status, body, err := send("POST", rfis, s.token, s.company, ask); err != nil || status != want || !strings.Contains(string(body), says) {
			t.Errorf("%d %s %v, want %d", status, body, err, want)
		}
	}
	s.check(order("fill"))
	for range 5 {
		write(507, `"code":"insufficient_storage"`)
		if status, body, err := send("GET", rfis, s.token, s.company, ""); err != nil || status != 200 || strings.TrimSpace(string(body)) != "[]" {
			t.Errorf("%d %s %v", status, body, err)
		}
	}
	s.check(order("free"))
	write(201, "")
}
