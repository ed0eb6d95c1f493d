package directory

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"mpr/test/await"
)

// book is what was logged.
type book struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *book) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), what)
}

// logged has the log of the test be written down.
func logged(t *testing.T) *book {
	t.Helper()
	b, before := &book{}, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(b, nil)))
	t.Cleanup(func() {
		slog.SetDefault(before)
		if t.Failed() {
			t.Log(b.text.String())
		}
	})
	return b
}

// asked counts how often somebody connects to an address, and has others answer.
func asked(t *testing.T, answer func(net.Conn)) (address string, connections func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var mu sync.Mutex
	var work sync.WaitGroup
	n := 0
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			work.Go(func() { answer(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	return l.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// Why the directory can't be reached is told once, with its cause, whatever is tried meanwhile.
func TestWhyTheDirectoryIsAwayIsToldOnce(t *testing.T) {
	log := logged(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close()) // nobody is there

	connection := &link{name: "gateway", servers: address}
	for range 100 {
		connection.failed(&net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed})
	}
	if n := log.count("closed network connection"); n != 1 {
		t.Errorf("one cause was told %d times", n)
	}

	nc, err := Servers{URLs: []string{"nats://" + address}, Secret: "s"}.Connect("gateway")
	must(t, err)
	defer nc.Close()
	f := Follow(nc, "placements_production", func(Entry) {})
	defer f.Close()
	await.That(t, "the cause is told", func() bool { return log.count("connection refused") > 0 })
	if n := log.count("dial tcp " + address + ": connect: connection refused"); n != 1 {
		t.Errorf("a refused connection was told %d times", n)
	}
	if _, err := Open(t.Context(), nc, "production", 1); err == nil || strings.Contains(err.Error(), "buffer") || !strings.Contains(err.Error(), "there is no connection") {
		t.Errorf("what needs the directory fails with %v", err)
	}

	o := natsserver.Options{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Authorization: "s", NoSigs: true, NoLog: true} //nolint:errcheck // it listens on TCP
	server, err := natsserver.NewServer(&o)
	must(t, err)
	defer func() { server.Shutdown(); server.WaitForShutdown() }()
	server.Start()
	await.That(t, "it is told that the directory is there", func() bool { return log.count("the directory can be reached now") == 1 })
}

// A server that refuses us is asked ever more rarely, and the log says what it refuses.
func TestRefusalsAreToldAndNotRepeatedEachMoment(t *testing.T) {
	log := logged(t)
	url := guarded(t, natsserver.Options{Authorization: "another secret"})
	nc, err := Servers{URLs: []string{url}, Secret: "wrong"}.Connect("gateway")
	must(t, err)
	defer nc.Close()
	await.That(t, "the refusal is told", func() bool {
		return log.count("must have the same secret") > 0 && log.count("Authorization Violation") > 0
	})
	if n := log.count("must have the same secret"); n != 1 {
		t.Errorf("it was told %d times", n)
	}
	if n := log.count("wrong"); n != 0 {
		t.Error("the log shows the secret")
	}
	connection := &link{refused: true}
	var all time.Duration
	for round := 1; round <= 20; round++ {
		all += connection.delay(round)
	}
	if all < 40*time.Second {
		t.Errorf("twenty rounds of refusals take %s", all)
	}
	for round := 1; round <= roundsSoon; round++ {
		if d := (&link{}).delay(round); d < soonest/2 || d > 2*soonest {
			t.Errorf("where nobody answers, round %d comes after %s", round, d)
		}
	}
	if d := (&link{}).delay(1 << 20); d < latest/2 || d > 2*latest {
		t.Errorf("after very long: %s", d)
	}
}

// Who isn't trusted hears why, also where the server speaks no TLS at all.
func TestNoTLSIsTold(t *testing.T) {
	ca, pool, sign := authority(t)
	certificate, key := sign("server")
	pair, err := tls.LoadX509KeyPair(certificate, key)
	must(t, err)
	strict := guarded(t, natsserver.Options{TLS: true, TLSVerify: true, TLSTimeout: 5, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	otherCA, _, _ := authority(t)
	for name, s := range map[string]Servers{
		"another CA":            {URLs: []string{strict}, CA: otherCA},
		"no certificate of own": {URLs: []string{strict}, CA: ca},
		"a server without TLS":  {URLs: []string{guarded(t, natsserver.Options{})}, CA: ca},
	} {
		t.Run(name, func(t *testing.T) {
			log := logged(t)
			nc, err := s.Connect("gateway")
			must(t, err)
			defer nc.Close()
			await.That(t, "it is told", func() bool { return log.count("no TLS with the directory") == 1 })
		})
	}
}

// A server that drops connections at once isn't asked in a loop without a pause.
func TestDroppedConnectionsAreMadeAgainAfterAWhile(t *testing.T) {
	log := logged(t)
	address, connections := asked(t, func(c net.Conn) { _ = c.Close() })
	nc, err := Servers{URLs: []string{"nats://" + address}, Secret: "s"}.Connect("gateway")
	must(t, err)
	defer nc.Close()
	began := time.Now()
	await.That(t, "it is tried again", func() bool { return connections() >= 4 })
	if took := time.Since(began); took < 2*soonest/2 {
		t.Errorf("four connections within %s", took)
	}
	await.That(t, "it is told", func() bool { return log.count("the directory can't be reached; trying until it can") > 0 })
}
