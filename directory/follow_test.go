package directory

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/test/await"
)

const secret = "a long enough secret"

func listen(t *testing.T, dir, address string) *Server {
	t.Helper()
	s, err := StartServer(ServerOptions{Dir: dir, Listen: address, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t *testing.T, address string) *nats.Conn {
	t.Helper()
	nc, err := Connect([]string{"nats://" + address}, secret, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// A move must reach gateways soon after the directory is back, too: NATS' own watch notices
// after ten seconds that its server has forgotten it.
func TestReplicaCatchesUpSoonAfterARestartOfTheServer(t *testing.T) {
	dir := t.TempDir()
	s := listen(t, dir, "127.0.0.1:0")
	address := s.Addr()
	writer, reader := connect(t, address), connect(t, address)
	await.That(t, "connected", writer.IsConnected)
	d := openDirectory(t, writer)
	r := openReplica(t, reader, filepath.Join(t.TempDir(), "copy"))
	defer r.Close() //nolint:errcheck // the test is over
	s.Close()
	await.That(t, "the loss is noticed", func() bool { return r.Age() > 2*time.Second })
	listen(t, dir, address)
	await.That(t, "the directory takes writes again", func() bool { return d.Create(t.Context(), place(8, "EU01", 1)) == nil })
	back := time.Now()
	await.That(t, "the replica catches up", func() bool { _, ok := r.Placement(8); return ok })
	if took := time.Since(back); took > 4*time.Second {
		t.Errorf("catching up took %s", took)
	}
}

func TestReplicaFollowsABucketThatWasMadeAnew(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	for id := company.ID(1); id <= 5; id++ {
		if err := d.Create(t.Context(), place(id, "US01", 1)); err != nil {
			t.Fatal(err)
		}
	}
	r := openReplica(t, nc, "")
	defer r.Close() //nolint:errcheck // there is no file
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), BucketName("placements", "production")); err != nil {
		t.Fatal(err)
	}
	if err := openDirectory(t, nc).Create(t.Context(), place(9, "EU01", 1)); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the replica hears of the company", func() bool { _, ok := r.Placement(9); return ok })
}

// A process may be asked to stop in the very moment in which a watch begins.
func TestAFollowerCanBeClosedAtAnyMoment(t *testing.T) {
	server, nc := start(t, t.TempDir())
	openDirectory(t, nc)
	listener, err := server.Connect("listener")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	began := make(chan struct{}, 64)
	_, err = listener.Subscribe("_INBOX.>", func(m *nats.Msg) {
		if bytes.Contains(m.Data, []byte("consumer_create_response")) {
			began <- struct{}{}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Flush(); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for range 200 {
			f := Follow(nc, BucketName("placements", "production"), func(Entry) {})
			<-began // its watch is being made
			f.Close()
		}
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("a follower doesn't end")
	}
}
