package directory

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/problem"
	"mpr/test/await"
)

// freeRoutes finds addresses for the servers of a cluster: each must know the others'
// before it starts.
func freeRoutes(t *testing.T, n int) []*url.URL {
	t.Helper()
	routes := make([]*url.URL, n)
	for i := range routes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // not sooner, or the next could get the same port
		routes[i] = &url.URL{Scheme: "nats", Host: l.Addr().String()}
	}
	return routes
}

// startCluster runs three NATS servers that replicate, as an external cluster does.
func startCluster(t *testing.T) (servers []*natsserver.Server, urls []string) {
	t.Helper()
	routes := freeRoutes(t, 3)
	for i, route := range routes {
		port, err := strconv.Atoi(route.Port())
		if err != nil {
			t.Fatal(err)
		}
		s, err := natsserver.NewServer(&natsserver.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
			Cluster: natsserver.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		s.Start()
		servers = append(servers, s)
	}
	for _, s := range servers {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("a server of the cluster doesn't start")
		}
		urls = append(urls, s.ClientURL())
	}
	return servers, urls
}

func TestClusterOfThree(t *testing.T) {
	servers, urls := startCluster(t)
	nc, err := Connect(urls, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var d *Directory
	await.That(t, "the cluster has a leader", func() bool { d, err = Open(t.Context(), nc, "production", 3); return err == nil })
	conflict := problem.New(problem.Conflict, "")

	t.Run("one of many creates wins", func(t *testing.T) {
		if won := race(t, func(region company.Region) error { return d.Create(t.Context(), place(7, region, 1)) }); won != 1 {
			t.Errorf("%d creates won", won)
		}
	})
	t.Run("one of many updates wins", func(t *testing.T) {
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
	})
	t.Run("one number is that of one region", func(t *testing.T) { oneNumberOneCode(t, d) })
	// A mover changes what it has changed a moment ago; a follower of the cluster may not
	// have it yet.
	t.Run("what was written is there to be changed", func(t *testing.T) {
		for id := company.ID(20); id < 40; id++ {
			if err := d.Create(t.Context(), place(id, "US01", 1)); err != nil {
				t.Fatal(err)
			}
			_, revision, err := d.Get(t.Context(), id)
			for epoch := company.Epoch(2); err == nil && epoch < 6; epoch++ {
				revision, err = d.Update(t.Context(), place(id, "EU01", epoch), revision)
			}
			if err != nil {
				t.Fatalf("company %d: %v", id, err)
			}
		}
	})
	t.Run("load", func(t *testing.T) {
		if n, err := d.Load(t.Context(), consecutive(100, 1300)); n != 1200 || err != nil {
			t.Errorf("Load: %d, %v", n, err)
		}
		if n, err := d.Load(t.Context(), consecutive(1299, 1310)); n != 0 || !errors.Is(err, conflict) {
			t.Errorf("a batch with a company that is there: %d, %v", n, err)
		}
	})
	t.Run("the copy on disk serves without a quorum", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "copy")
		if err := openReplica(t, nc, file).Close(); err != nil {
			t.Fatal(err)
		}
		for _, s := range servers[1:] {
			s.Shutdown()
			s.WaitForShutdown()
		}
		lonely, err := nats.Connect(urls[0])
		if err != nil {
			t.Fatal(err)
		}
		defer lonely.Close()
		r := openReplica(t, lonely, file) // it answers, but it has no leader
		defer r.Close()                   //nolint:errcheck // nothing has changed
		if p, ok := r.Placement(7); !ok || p.Epoch != 2 {
			t.Errorf("from the file: %v, %v", p, ok)
		}
		if err := d.Create(t.Context(), place(8, "US01", 1)); !errors.Is(err, problem.New(problem.DirectoryUnavailable, "")) {
			t.Errorf("a write without a quorum: %v", err)
		}
	})
}

// race lets sixteen try at once, each with a region of its own, and answers how many had
// their way. The others must hear of a conflict.
func race(t *testing.T, try func(company.Region) error) int32 {
	t.Helper()
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch err := try(company.Region(fmt.Sprintf("R%d", i))); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, problem.New(problem.Conflict, "")):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return won.Load()
}
