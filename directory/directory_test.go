package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/problem"
	"mpr/test/await"
)

var onboarded = time.Date(2016, time.March, 1, 0, 0, 0, 0, time.UTC)

func place(id company.ID, region company.Region, epoch company.Epoch) company.Placement {
	return company.Placement{Company: id, Region: region, Epoch: epoch, Onboarded: onboarded}
}

// start runs a server on the folder and connects to it in the process.
func start(t *testing.T, dir string) (*Server, *nats.Conn) {
	t.Helper()
	s, err := StartServer(ServerOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	nc, err := s.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return s, nc
}

func openDirectory(t *testing.T, nc *nats.Conn) *Directory {
	t.Helper()
	d, err := Open(t.Context(), nc, "production", 1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openReplica(t *testing.T, nc *nats.Conn, file string) *Replica {
	t.Helper()
	r, err := OpenReplica(nc, "production", file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlacementsChangeByCompareAndSet(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	if err := d.Create(t.Context(), place(7, "US01", 1)); err != nil {
		t.Fatal(err)
	}
	if err := d.Create(t.Context(), place(7, "US01", 1)); err != nil {
		t.Errorf("repeated: %v", err)
	}
	conflict, notFound := problem.New(problem.Conflict, ""), problem.New(problem.NotFound, "")
	if err := d.Create(t.Context(), place(7, "EU01", 1)); !errors.Is(err, conflict) {
		t.Errorf("created twice: %v", err)
	}
	if _, _, err := d.Get(t.Context(), 8); !errors.Is(err, notFound) {
		t.Errorf("unknown company: %v", err)
	}
	p, revision, err := d.Get(t.Context(), 7)
	if err != nil || p.Region != "US01" || p.Epoch != 1 || !p.Onboarded.Equal(onboarded) {
		t.Fatalf("Get: %v, %v", p, err)
	}
	if _, err := d.Update(t.Context(), place(7, "EU01", 1), revision); !errors.Is(err, conflict) {
		t.Errorf("an epoch that doesn't grow: %v", err)
	}
	updated, err := d.Update(t.Context(), place(7, "EU01", 2), revision)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Update(t.Context(), place(7, "US02", 3), revision); !errors.Is(err, conflict) {
		t.Errorf("an old revision: %v", err)
	}
	// A mover that was asleep changes nothing, not even at the revision that it has just read.
	late := place(7, "EU01", 3)
	late.Turn = 2
	turned, err := d.Update(t.Context(), late, updated)
	if err != nil {
		t.Fatal(err)
	}
	late.Turn, late.Epoch = 1, 4
	if _, err := d.Update(t.Context(), late, turned); !errors.Is(err, problem.New(problem.MoverReplaced, "")) {
		t.Errorf("an old turn: %v", err)
	}
	if _, err := d.Update(t.Context(), place(9, "US02", 3), 1<<40); !errors.Is(err, conflict) {
		t.Errorf("a revision that never was: %v", err)
	}
}

func TestOneOfManyWins(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	if err := d.Create(t.Context(), place(7, "US01", 1)); err != nil {
		t.Fatal(err)
	}
	_, revision, err := d.Get(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	if won := race(t, func(region company.Region) error {
		_, err := d.Update(t.Context(), place(7, region, 2), revision)
		return err
	}); won != 1 {
		t.Errorf("%d updates won", won)
	}
	if won := race(t, func(region company.Region) error { return d.Create(t.Context(), place(8, region, 1)) }); won != 1 {
		t.Errorf("%d creates won", won)
	}
}

func TestManyOpenANewEnvironmentAtOnce(t *testing.T) {
	s, _ := start(t, t.TempDir())
	for round := range 5 {
		var openers sync.WaitGroup
		for range 4 {
			nc, err := s.Connect("test")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			openers.Go(func() {
				if _, err := Open(t.Context(), nc, fmt.Sprintf("round-%d", round), 1); err != nil {
					t.Error(err)
				}
			})
		}
		openers.Wait()
	}
}

func TestReplicaFollowsAndOldEpochsNeverWin(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	r := openReplica(t, nc, "")
	defer r.Close() //nolint:errcheck // there is no file
	eu := company.RegionInfo{Code: "EU01", Number: 17, Upstreams: []string{"http://127.0.0.1:1"}}
	if err := d.PutRegion(t.Context(), eu); err != nil {
		t.Fatal(err)
	}
	if err := d.Create(t.Context(), place(7, "EU01", 1)); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the replica hears of the company", func() bool {
		p, ok := r.Placement(7)
		_, known := r.Region("EU01")
		return ok && known && p == place(7, "EU01", 1)
	})
	r.Learn(company.Placement{Company: 7, Region: "US02", Epoch: 3}) // a region told, ahead of the watch
	if p, _ := r.Placement(7); p != place(7, "US02", 3) {
		t.Errorf("learned: %v", p)
	}
	if _, known := r.Region("US02"); known || len(r.Regions()) != 1 {
		t.Error("a region without a record is listed")
	}
	r.Learn(company.Placement{Company: 7, Region: "US01", Epoch: 2})
	if p, _ := r.Placement(7); p.Epoch != 3 {
		t.Errorf("an old epoch won: %v", p)
	}
	if _, ok := r.Placement(8); ok {
		t.Error("an unknown company has a placement")
	}
}

func TestReplicaStartsFromItsFileWithoutTheDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "copy")
	s, err := StartServer(ServerOptions{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", Secret: "a long enough secret"})
	if err != nil {
		t.Fatal(err)
	}
	address := s.Addr()
	connect := func() *nats.Conn {
		nc, err := Connect([]string{"nats://" + address}, "a long enough secret", "test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	nc := connect()
	await.That(t, "connected", nc.IsConnected)
	d := openDirectory(t, nc)
	if err := errors.Join(d.PutRegion(t.Context(), company.RegionInfo{Code: "EU01", Number: 17, Upstreams: []string{"http://x"}}),
		d.Create(t.Context(), place(7, "EU01", 4))); err != nil {
		t.Fatal(err)
	}
	if err := openReplica(t, nc, file).Close(); err != nil {
		t.Fatal(err)
	}
	s.Close()

	again := openReplica(t, connect(), file)
	if p, ok := again.Placement(7); !ok || p != place(7, "EU01", 4) {
		t.Errorf("from the file: %v, %v", p, ok)
	}
	if err := d.Create(t.Context(), place(8, "EU01", 1)); !errors.Is(err, problem.New(problem.DirectoryUnavailable, "")) {
		t.Errorf("a write without the directory: %v", err)
	}
	// The directory comes back, and the replica catches up.
	s, err = StartServer(ServerOptions{Dir: filepath.Join(dir, "nats"), Listen: address, Secret: "a long enough secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	await.That(t, "the directory takes writes again", func() bool { return d.Create(t.Context(), place(8, "EU01", 1)) == nil })
	await.That(t, "the replica catches up", func() bool { _, ok := again.Placement(8); return ok })
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestStrangersCantConnect(t *testing.T) {
	s, err := StartServer(ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0", Secret: "a long enough secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if nc, err := nats.Connect("nats://" + s.Addr()); err == nil {
		nc.Close()
		t.Error("connected without the secret")
	}
	if _, err := StartServer(ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"}); err == nil {
		t.Error("a server listens without a secret")
	}
}

func TestDamagedCopyIsLeftOut(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	file := filepath.Join(t.TempDir(), "copy")
	if err := d.Create(t.Context(), place(7, "EU01", 4)); err != nil {
		t.Fatal(err)
	}
	if err := openReplica(t, nc, file).Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"cut":      whole[:len(whole)-9],
		"empty":    {},
		"flipped":  append(slices.Clone(whole[:len(whole)-6]), whole[len(whole)-6]^1, whole[len(whole)-5], whole[len(whole)-4], whole[len(whole)-3], whole[len(whole)-2], whole[len(whole)-1]),
		"nonsense": []byte("hello"),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r := &Replica{environment: "production", file: file}
		if err := r.load(); err == nil {
			t.Errorf("%s: a damaged copy was loaded", name)
		}
	}
	r := &Replica{environment: "sandbox", file: file}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.load(); err == nil {
		t.Error("the copy of another environment was loaded")
	}
}

func TestReplicaOfAMillionIsSmallAndReadsAllocateNothing(t *testing.T) {
	_, nc := start(t, t.TempDir())
	r := openUnfollowed(nc)
	before := heap()
	const companies = 1_000_000
	for i := range companies {
		r.Learn(place(company.ID(17<<45+i+1), "EU01", company.Epoch(i%100+1)))
	}
	if used := heap() - before; used > 64<<20 {
		t.Errorf("a million companies take %d MB", used>>20)
	}
	for _, i := range []int{0, 1, 4711, companies - 1} {
		if p, ok := r.Placement(company.ID(17<<45 + i + 1)); !ok || p.Epoch != company.Epoch(i%100+1) || p.Region != "EU01" || !p.Onboarded.Equal(onboarded) {
			t.Errorf("company %d: %v, %v", i, p, ok)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { r.Placement(17<<45 + 4711); r.Placement(12) }); n != 0 {
		t.Errorf("reading allocates %v times", n)
	}
	if got := r.Page(17<<45+10, 3, "EU01"); len(got) != 3 || got[0].Company != 17<<45+11 || got[2].Company != 17<<45+13 {
		t.Errorf("Page: %v", got)
	}
}

func openUnfollowed(nc *nats.Conn) *Replica {
	r := &Replica{nc: nc}
	r.placements.Store(newTable(0))
	r.regions.Store(&regionList{})
	return r
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestReadersSeeWholePlacementsWhileTheTableGrows(t *testing.T) {
	_, nc := start(t, t.TempDir())
	r := openUnfollowed(nc)
	const last = 50_000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for id := company.ID(1); id <= last; {
				p, ok := r.Placement(id)
				if !ok {
					runtime.Gosched()
					continue
				}
				if p.Epoch != company.Epoch(id) || p.Region != company.Region(fmt.Sprintf("R%d", id%5)) {
					t.Errorf("company %d: %v", id, p)
				}
				id += 997
			}
		})
	}
	for id := company.ID(1); id <= last; id++ {
		r.Learn(place(id, company.Region(fmt.Sprintf("R%d", id%5)), company.Epoch(id)))
	}
	wg.Wait()
}

// consecutive yields new companies with the ids from the first to the one before the last.
func consecutive(from, to company.ID) iter.Seq[company.Placement] {
	return func(yield func(company.Placement) bool) {
		for id := from; id < to && yield(place(id, "US01", 1)); id++ {
		}
	}
}

func TestLoadIsAtomicPerBatch(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	if n, err := d.Load(t.Context(), consecutive(1, 1201)); n != 1200 || err != nil {
		t.Fatalf("Load: %d, %v", n, err)
	}
	if n, err := d.Load(t.Context(), consecutive(1200, 1300)); n != 0 || !errors.Is(err, problem.New(problem.Conflict, "")) {
		t.Errorf("a batch with a company that is there: %d, %v", n, err)
	}
	if _, _, err := d.Get(t.Context(), 1250); !errors.Is(err, problem.New(problem.NotFound, "")) {
		t.Errorf("a part of a refused batch is there: %v", err)
	}
	r := openReplica(t, nc, "")
	defer r.Close() //nolint:errcheck // there is no file
	if r.Len() != 1200 {
		t.Errorf("the replica has %d placements", r.Len())
	}
}

func TestChangesComeUntilTheyAreTaken(t *testing.T) {
	dir := t.TempDir()
	s, nc := start(t, dir)
	d := OpenChanges(nc, "production", 1)
	for version := range int64(3) {
		c := Change{Company: 7, Version: version + 1, Kind: ChangeMembership, Key: 5}
		for range 2 { // a pump that died before it noted what it had published
			if err := d.Publish(t.Context(), []Change{c}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Close() // what was acknowledged survives the server
	_, nc = start(t, dir)
	d = OpenChanges(nc, "production", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	refused := false
	var got []int64
	err := d.Consume(ctx, "index", func(_ context.Context, changes []Change) error {
		if !refused {
			refused = true
			return errors.New("the database is away")
		}
		for _, c := range changes {
			got = append(got, c.Version)
		}
		if len(got) >= 3 {
			cancel()
		}
		return nil
	})
	slices.Sort(got)
	if !errors.Is(err, context.Canceled) || !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("got versions %v, %v", got, err)
	}
}
