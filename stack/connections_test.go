package stack

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"mpr/config"
)

// floodgate is a door with few connections, and the calls that stay until they are let go.
type floodgate struct {
	t       *testing.T
	address string
	conns   *connections
	staying chan bool
	release chan bool
}

func openFloodgate(t *testing.T, most, share int, shared ...string) *floodgate {
	t.Helper()
	p := newObserved(t, config.Default(0, t.TempDir()))
	l, err := p.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &floodgate{t: t, address: l.Addr().String(), staying: make(chan bool, 100), release: make(chan bool)}
	var networks []netip.Prefix
	for _, s := range shared {
		networks = append(networks, netip.MustParsePrefix(s))
	}
	f.conns = newConnections(l, most, share, networks)
	p.answer(f.conns, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stay" {
			f.staying <- true
			<-f.release
		}
	}), nil)
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// dial connects from an address of this machine.
func (f *floodgate) dial(from string) net.Conn {
	f.t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(f.t.Context(), "tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// get makes a call on a connection, and says whether it was answered.
func (f *floodgate) get(conn net.Conn, path string) bool {
	f.t.Helper()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == 200
}

// until waits for a number of open connections.
func (f *floodgate) until(n int) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		f.conns.mu.Lock()
		open := f.conns.open
		f.conns.mu.Unlock()
		if open == n {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d connections are open, want %d", open, n)
		}
	}
}

func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	var network net.Error
	if _, err := io.Copy(io.Discard, conn); errors.As(err, &network) && network.Timeout() {
		t.Fatal("the connection stays open")
	}
}

// A flood of connections that say nothing, or say it slowly, closes its own, and none with
// a call on it. Whoever comes to make a call is served.
func TestConnectionFlood(t *testing.T) {
	f := openFloodgate(t, 20, 20)
	busy := f.dial("127.0.0.1")
	answered := make(chan bool, 1)
	go func() { answered <- f.get(busy, "/stay") }()
	<-f.staying
	var flood []net.Conn
	for i := range 200 {
		conn := f.dial("127.0.0.2")
		flood = append(flood, conn)
		if i%2 == 0 {
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow"); err != nil && i < 20 {
				t.Fatal(err)
			}
		}
		if i%20 == 0 && !f.get(f.dial("127.0.0.3"), "/") {
			t.Fatalf("after %d connections a client isn't served", i)
		}
	}
	f.until(20)
	closed(t, flood[0])
	close(f.release)
	if !<-answered {
		t.Error("the connection with a call on it was closed")
	}
	if !f.get(busy, "/") {
		t.Error("it can't be used again")
	}
	for _, conn := range flood {
		conn.Close()
	}
}

// Where all connections are in calls, new ones are closed, and room is made by the end of a call.
func TestAllConnectionsAreBusy(t *testing.T) {
	f := openFloodgate(t, 3, 3)
	answered := make(chan bool, 3)
	var busy []net.Conn
	for range 3 {
		conn := f.dial("127.0.0.1")
		busy = append(busy, conn)
		go func() { answered <- f.get(conn, "/stay") }()
		<-f.staying
	}
	closed(t, f.dial("127.0.0.2"))
	f.release <- true
	if !<-answered {
		t.Error("a call on a full listener wasn't answered")
	}
	if !f.get(f.dial("127.0.0.2"), "/") {
		t.Error("there is room, and the client isn't served")
	}
	close(f.release)
	for range 2 {
		if !<-answered {
			t.Error("a call on a full listener wasn't answered")
		}
	}
	for _, conn := range busy {
		conn.Close()
	}
	f.until(1)
}

// No address takes more than its share; proxies may.
func TestShareOfAnAddress(t *testing.T) {
	f := openFloodgate(t, 100, 5, "127.0.0.8/32")
	quiet := f.dial("127.0.0.3")
	for range 50 {
		f.dial("127.0.0.2")
	}
	f.until(6)
	if !f.get(quiet, "/") || !f.get(f.dial("127.0.0.2"), "/") {
		t.Error("a client isn't served")
	}
	for range 50 {
		f.dial("127.0.0.8")
	}
	f.until(56)
}

// A call that arrives on a connection just as it is closed for another one isn't carried out.
func TestNoCallOnAClosedConnection(t *testing.T) {
	f := openFloodgate(t, 2, 2)
	f.dial("127.0.0.1")
	f.until(1)
	f.conns.mu.Lock()
	c, ok := f.conns.all.Front().Value.(*clientConn)
	if !ok {
		t.Fatal("no connection")
	}
	f.conns.forget(c)
	f.conns.mu.Unlock()
	if c.enter() {
		t.Error("the call is carried out")
	}
	f.until(0)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	f.until(0)
}

// Over TLS and HTTP/2 connections are the same ones: calls keep theirs.
func TestConnectionFloodOverTLS(t *testing.T) {
	ca, err := developmentCA(t.TempDir(), seedHosts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig, err := developmentTLS(ca, seedHosts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := newObserved(t, config.Default(0, t.TempDir()))
	p.maxConns = 5
	l, err := p.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	staying, release := make(chan string, 10), make(chan bool)
	p.serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		staying <- r.Proto
		<-release
	}), tlsConfig)
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // not what is tested
	defer client.CloseIdleConnections()
	statuses := make(chan int, 2)
	for range 2 {
		go func() {
			r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), "GET", "https://"+l.Addr().String(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Error(err)
				statuses <- 0
				return
			}
			resp.Body.Close()
			statuses <- resp.StatusCode
		}()
	}
	for range 2 {
		if proto := <-staying; proto != "HTTP/2.0" {
			t.Fatal(proto)
		}
	}
	f := &floodgate{t: t, address: l.Addr().String()}
	var flood []net.Conn
	for range 30 {
		flood = append(flood, f.dial("127.0.0.2"))
	}
	closed(t, flood[0])
	close(release)
	for range 2 {
		if status := <-statuses; status != 200 {
			t.Errorf("status %d", status)
		}
	}
}
