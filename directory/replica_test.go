package directory

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/problem"
	"mpr/test/await"
)

// A region that answers 421 tells where a company went, not since when it is a customer;
// the rules of the legacy door need the day.
func TestDirectoryCompletesWhatWasLearned(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	r := openReplica(t, nc, "")
	defer r.Close() //nolint:errcheck // there is no file
	r.Learn(company.Placement{Company: 7, Region: "EU01", Epoch: 2})
	if p, ok := r.Placement(7); !ok || p.Epoch != 2 {
		t.Fatalf("learned: %v, %v", p, ok)
	}
	if err := d.Create(t.Context(), place(7, "EU01", 2)); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the record arrives", func() bool { p, _ := r.Placement(7); return p == place(7, "EU01", 2) })
	r.Learn(company.Placement{Company: 7, Region: "US01", Epoch: 2})
	if p, _ := r.Placement(7); p != place(7, "EU01", 2) {
		t.Errorf("what a region told replaced the directory's record: %v", p)
	}
}

func TestCopyOfAChangingReplicaIsWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "copy")
	_, nc := start(t, t.TempDir())
	r := openUnfollowed(nc)
	r.environment, r.file = "production", file
	const companies = 20_000
	for id := company.ID(1); id <= companies; id++ {
		r.Learn(place(id, "US01", 1))
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() { // companies move into regions that weren't there when the writing began
		defer close(done)
		for epoch := company.Epoch(2); !stop.Load(); epoch++ {
			for id := company.ID(1); id <= 200; id++ {
				r.Learn(place(companies-id, company.Region(fmt.Sprintf("R%d", epoch%200)), epoch))
			}
			runtime.Gosched()
		}
	}()
	for range 20 {
		if err := r.save(); err != nil {
			t.Fatal(err)
		}
		again := openUnfollowed(nc)
		again.environment, again.file = "production", file
		if err := again.load(); err != nil {
			t.Fatalf("the copy can't be read: %v", err)
		}
		if again.Len() != companies {
			t.Fatalf("the copy holds %d companies", again.Len())
		}
		again.placements.Load().each(func(id company.ID, v uint64) bool { // every region has its code
			return again.unpack(id, v).Region != ""
		})
	}
	stop.Store(true)
	<-done
}

func TestOpenMendsABucketWhoseMakerDied(t *testing.T) {
	_, nc := start(t, t.TempDir())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: BucketName("placements", "production"), Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	if n, err := openDirectory(t, nc).Load(t.Context(), consecutive(1, 10)); n != 9 || err != nil {
		t.Errorf("Load: %d, %v", n, err)
	}
}

func TestLoadTellsConflictsFromOtherRefusals(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	s, err := d.js.Stream(t.Context(), "KV_"+d.placements.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.AllowAtomicPublish = false
	if _, err := d.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Load(t.Context(), consecutive(1, 10)); n != 0 || err == nil || errors.Is(err, problem.New(problem.Conflict, "")) {
		t.Errorf("Load without batches: %d, %v", n, err)
	}
}

// The watch is given up in the middle of its first records: nothing may be left waiting to
// deliver the rest.
func TestCloseWhileLoadingLeavesNothingBehind(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	if _, err := d.Load(t.Context(), consecutive(1, 20_001)); err != nil {
		t.Fatal(err)
	}
	goroutines := runtime.NumGoroutine()
	for range 5 {
		before := nc.Stats().InMsgs
		heard, release := make(chan struct{}, 1), make(chan struct{})
		f := Follow(nc, BucketName("placements", "production"), func(Entry) {
			select {
			case heard <- struct{}{}:
			default:
			}
			<-release // a slow reader: all room for what is delivered fills up
		})
		<-heard
		await.That(t, "the rest waits", func() bool { return nc.Stats().InMsgs > before+1000 })
		f.cancel()
		close(release)
		f.Close()
	}
	await.That(t, "the watches' goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

func TestErrorsOfConnectHoldNoPassword(t *testing.T) {
	for _, address := range []string{"nats://user:hunter2@[broken", "nats://user:hunter2@host:notaport"} {
		nc, err := Connect([]string{address}, "hunter2", "test")
		if err == nil {
			nc.Close()
			t.Errorf("connected to %s", address)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is in the error: %v", err)
		}
	}
}

// heardAgain counts the records that a replica hears from when it starts until it is in step.
func heardAgain(t *testing.T, nc *nats.Conn, file string) (heard int, r *Replica) {
	t.Helper()
	before := nc.Stats().InMsgs
	r = openReplica(t, nc, file)
	await.That(t, "the replica is in step", func() bool { return r.Age() < time.Hour })
	return int(nc.Stats().InMsgs - before), r //nolint:gosec // few
}

// To read ten million placements takes minutes, and a change comes after all of them: a start
// with a copy on disk must hear only what it hasn't heard.
func TestAStartWithACopyHearsOnlyWhatIsNew(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	const companies = 3000
	if _, err := d.Load(t.Context(), consecutive(1, companies+1)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "copy")
	heard, r := heardAgain(t, nc, file)
	if heard < companies || r.Len() != companies {
		t.Fatalf("a start without a copy heard %d messages and knows %d companies", heard, r.Len())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	move := func(id company.ID) {
		t.Helper()
		_, revision, err := d.Get(t.Context(), id)
		if err == nil {
			_, err = d.Update(t.Context(), place(id, "EU01", 9), revision)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	move(7) // while nobody follows
	heard, r = heardAgain(t, nc, file)
	if heard > companies/2 {
		t.Errorf("a start with a copy heard %d messages", heard)
	}
	if p, _ := r.Placement(7); p.Region != "EU01" || p.Epoch != 9 || r.Len() != companies {
		t.Errorf("the change meanwhile: %v of %d companies", p, r.Len())
	}
	move(8)
	await.That(t, "the next change arrives", func() bool { p, _ := r.Placement(8); return p.Epoch == 9 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// What the copy has heard says nothing of a bucket that was made anew since.
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), BucketName("placements", "production")); err != nil {
		t.Fatal(err)
	}
	if _, err := openDirectory(t, nc).Load(t.Context(), consecutive(companies+1, 2*companies+11)); err != nil {
		t.Fatal(err)
	}
	heard, r = heardAgain(t, nc, file)
	if heard < companies || r.Len() != 2*companies+10 {
		t.Errorf("of a bucket made anew %d messages were heard, and %d companies are known", heard, r.Len())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
