package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/problem"
	"mpr/test/loopback"
	"mpr/test/nodes"
)

func TestMain(m *testing.M) {
	nodes.Serve()
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, urls ...string) *nats.Conn {
	t.Helper()
	nc, err := Connect(urls, "", "test")
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// openOn opens the directory as soon as the servers have elected leaders.
func openOn(t *testing.T, nc *nats.Conn, replicas int) (d *Directory) {
	t.Helper()
	var err error
	within(t, "the servers have leaders", func() bool { d, err = Open(t.Context(), nc, "production", replicas); return err == nil })
	return d
}

// within is eventually, for what takes an election.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if Pause(ctx, 20*time.Millisecond) != nil {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// movers place companies again and again, and note what was acknowledged.
type movers struct {
	d        *Directory
	stop     atomic.Bool
	work     sync.WaitGroup
	mu       sync.Mutex
	acked    map[company.ID]company.Epoch
	writes   int
	last     time.Time
	longest  time.Duration
	problems []error
}

func startMovers(t *testing.T, d *Directory) *movers {
	t.Helper()
	m := &movers{d: d, acked: map[company.ID]company.Epoch{}, last: time.Now()}
	for n := range 4 {
		m.work.Go(func() {
			for id := company.ID(1000 * (n + 1)); !m.stop.Load(); id++ {
				m.place(t.Context(), id)
			}
		})
	}
	t.Cleanup(m.end)
	return m
}

func (m *movers) end() { m.stop.Store(true); m.work.Wait() }

// place makes a company and moves it once; each until it is acknowledged.
func (m *movers) place(ctx context.Context, id company.ID) {
	m.until(ctx, id, 1, func() error { return m.d.Create(ctx, place(id, "US01", 1)) })
	m.until(ctx, id, 2, func() error {
		p, revision, err := m.d.Get(ctx, id)
		if err == nil && p.Epoch < 2 {
			_, err = m.d.Update(ctx, place(id, "EU01", 2), revision)
		}
		return err
	})
}

func (m *movers) until(ctx context.Context, id company.ID, epoch company.Epoch, write func() error) {
	for !m.stop.Load() {
		err := write()
		m.mu.Lock()
		if err == nil {
			m.acked[id] = epoch
			m.writes++
			m.longest, m.last = max(m.longest, time.Since(m.last)), time.Now()
		} else if !errors.Is(err, problem.New(problem.DirectoryUnavailable, "")) && !errors.Is(err, problem.New(problem.Conflict, "")) {
			m.problems = append(m.problems, err)
		}
		m.mu.Unlock()
		if err == nil || Pause(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}

func (m *movers) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// kept wants all that was acknowledged to be in the directory and in the replica.
func (m *movers) kept(t *testing.T, d *Directory, r *Replica) {
	t.Helper()
	for id, epoch := range m.acked {
		p, _, err := d.Get(t.Context(), id)
		if err != nil || p.Epoch < epoch {
			t.Errorf("company %d, acknowledged at epoch %d: %+v, %v", id, epoch, p, err)
		}
		within(t, "the replica has caught up", func() bool {
			here, ok := r.Placement(id)
			return ok && here.Epoch == p.Epoch && here.Region == p.Region
		})
	}
	for _, err := range m.problems {
		t.Errorf("a write was refused: %v", err)
	}
}

// leader is the node that leads the placements' bucket.
func leader(t *testing.T, nc *nats.Conn, of []*nodes.Node) (leads *nodes.Node) {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	within(t, "the bucket has a leader", func() bool {
		s, err := js.Stream(t.Context(), "KV_placements_production")
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		for _, n := range of {
			if n.Name == s.CachedInfo().Cluster.Leader && n.Runs() {
				leads = n
			}
		}
		return leads != nil
	})
	return leads
}

// The node that leads the bucket dies under writes, again and again: nothing that was
// acknowledged is lost, writes go on as soon as another node leads, and watchers catch up.
func TestANodeIsKilledUnderWrites(t *testing.T) {
	hub, urls, _ := nodes.Cluster(t)
	nc := dial(t, urls...)
	d := openOn(t, nc, 3)
	r := openReplica(t, dial(t, urls...), "")
	defer r.Close() //nolint:errcheck // it has no file
	m := startMovers(t, d)
	for range 3 {
		before := m.count()
		within(t, "writes go on", func() bool { return m.count() > before+20 })
		n := leader(t, nc, hub)
		n.Kill()
		leader(t, nc, hub) // another one: the election is over
		before = m.count()
		within(t, "writes go on after the election", func() bool { return m.count() > before+20 })
		n.Run()
	}
	m.end()
	m.kept(t, d, r)
	t.Logf("%d writes were acknowledged; the longest time without one was %v", m.writes, m.longest)
}

func TestReplicasAreRaised(t *testing.T) {
	hub, urls, _ := nodes.Cluster(t)
	nc := dial(t, urls...)
	d := openOn(t, nc, 1)
	must(t, d.Create(t.Context(), place(7, "US01", 1)))
	stream, err := OpenStream(t.Context(), nc, "changes", "production", 1)
	must(t, err)
	must(t, stream.Publish(t.Context(), Message{ID: "1", Data: []byte("1")}))
	openOn(t, nc, 3)
	_, err = OpenStream(t.Context(), nc, "changes", "production", 3)
	must(t, err)
	js, err := jetstream.New(nc)
	must(t, err)
	for _, name := range []string{"KV_placements_production", "KV_regions_production", "KV_policy_production", "KV_holds_production", "changes_production"} {
		within(t, name+" has three copies, all current", func() bool {
			s, err := js.Stream(t.Context(), name)
			if err != nil || s.CachedInfo().Config.Replicas != 3 || s.CachedInfo().Cluster == nil {
				return false
			}
			current := 0
			for _, peer := range s.CachedInfo().Cluster.Replicas {
				if peer.Current {
					current++
				}
			}
			return current == 2
		})
	}
	openOn(t, nc, 1) // an older process: it takes nothing back
	s, err := js.Stream(t.Context(), "KV_placements_production")
	must(t, err)
	if s.CachedInfo().Config.Replicas != 3 {
		t.Error("a process with an older configuration lowered the copies")
	}
	leader(t, nc, hub).Kill()
	within(t, "the directory answers without the node that had it first", func() bool { p, _, err := d.Get(t.Context(), 7); return err == nil && p.Epoch == 1 })
}

// startNear runs a leaf node that is near some process, by ways that lead to the cluster.
func startNear(t *testing.T, leafs ...string) *nodes.Node {
	t.Helper()
	return nodes.Start(t, "near", loopback.FreeAddresses(t, 1)[0], fmt.Sprintf(`
jetstream { store_dir: "STORE", domain: near }
leafnodes { reconnect: 1, remotes: [ { urls: ["nats-leaf://%s"] } ] }
`, strings.Join(leafs, `", "nats-leaf://`)))
}

// A replica far away follows mirrors near it: from there alone where the directory is away,
// from the directory where the mirrors are.
func TestAReplicaFollowsMirrors(t *testing.T) {
	cluster, urls, leafs := nodes.Cluster(t)
	hub := dial(t, urls...)
	d := openOn(t, hub, 3)
	for id := range company.ID(100) {
		must(t, d.Create(t.Context(), place(id+1, "US01", 1)))
	}
	leaf := startNear(t, leafs...)
	near := &Near{Conn: dial(t, leaf.URL), Domain: "hub"}
	file := filepath.Join(t.TempDir(), "copy")
	open := func() *Replica {
		t.Helper()
		r, err := OpenReplicaNear(hub, near, "production", file)
		must(t, err)
		t.Cleanup(func() { must(t, r.Close()) })
		must(t, r.Ready(t.Context()))
		return r
	}
	r := open()
	if r.Len() != 100 {
		t.Errorf("the replica began with %d companies", r.Len())
	}
	followsMirror := func() bool { return consumers(t, near.Conn, "KV_placements_production") == 1 }
	within(t, "the mirror is followed", followsMirror)
	has := func(id company.ID, epoch company.Epoch) func() bool {
		return func() bool { p, ok := r.Placement(id); return ok && p.Epoch == epoch }
	}
	move := func(id company.ID, epoch company.Epoch) {
		t.Helper()
		within(t, "a placement is changed", func() bool {
			_, revision, err := d.Get(t.Context(), id)
			if err == nil {
				_, err = d.Update(t.Context(), place(id, "EU01", epoch), revision)
			}
			return err == nil
		})
	}
	move(1, 2)
	within(t, "a change comes by the mirror", has(1, 2))
	within(t, "the replica knows that it is in step", func() bool { return r.Age() < 4*stepCheck })

	leaf.Kill()
	move(2, 2)
	within(t, "a change comes without the mirror", has(2, 2))
	leaf.Run()
	within(t, "the mirror is followed again", followsMirror)
	move(3, 2)
	within(t, "a change comes by the mirror again", has(3, 2))

	for _, n := range cluster {
		n.Kill()
	}
	alone, err := OpenReplicaNear(hub, near, "production", "")
	must(t, err)
	defer alone.Close() //nolint:errcheck // it has no file
	within(t, "a replica begins by the mirror alone", func() bool { p, ok := alone.Placement(3); return ok && p.Epoch == 2 && alone.Len() == 100 })
}

// A directory that was lost and made anew begins its revisions anew: a mirror of the one
// before would wait for ever.
func TestMirrorsOfALostDirectoryAreMadeAnew(t *testing.T) {
	_, urls, leafs := nodes.Cluster(t)
	hub := dial(t, urls...)
	d := openOn(t, hub, 1)
	for id := range company.ID(20) {
		must(t, d.Create(t.Context(), place(id+1, "US01", 1)))
	}
	near := &Near{Conn: dial(t, startNear(t, leafs...).URL), Domain: "hub"}
	r, err := OpenReplicaNear(hub, near, "production", "")
	must(t, err)
	defer r.Close() //nolint:errcheck // it has no file
	must(t, r.Ready(t.Context()))
	within(t, "the mirror is followed", func() bool { return consumers(t, near.Conn, "KV_placements_production") == 1 })
	js, err := jetstream.New(hub)
	must(t, err)
	must(t, js.DeleteStream(t.Context(), "KV_placements_production"))
	d = openOn(t, hub, 1)
	must(t, d.Create(t.Context(), place(500, "EU01", 3)))
	within(t, "the mirror has what is new", func() bool {
		s, err := jetstream.New(near.Conn)
		must(t, err)
		kv, err := s.KeyValue(t.Context(), "placements_production")
		if err != nil {
			return false
		}
		_, err = kv.Get(t.Context(), "500")
		_, ok := r.Placement(500)
		return err == nil && ok
	})
}

// consumers counts those of a stream where a connection leads.
func consumers(t *testing.T, nc *nats.Conn, stream string) int {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.Consumers
}
