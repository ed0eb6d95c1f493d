package acceptance

import (
	"bufio"
	"context"
	"crypto/tls"
	"debug/buildinfo"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// floodConns is how many connections the door takes, far fewer than the attackers open.
	floodConns = 300
	// floodMemory is by how much the process may grow under attacks that send many times as much, and
	// racingMemory the same for one with the race detector, which takes ten times as much for what is
	// written by many.
	floodMemory, racingMemory = 100 << 20, 600 << 20
)

// mayGrow is by how much the process that is tested may grow.
func mayGrow(t *testing.T) int64 {
	t.Helper()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return racingMemory
	}
	return floodMemory
}

// memory is the resident memory of a process, and the most that it ever was.
func memory(t *testing.T, pid int) (now, most int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "VmRSS:" && f[0] != "VmHWM:" {
			continue
		}
		kb, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if f[0] == "VmRSS:" {
			now = kb << 10
		} else {
			most = kb << 10
		}
	}
	return now, most
}

// attack runs attackers, each on connections of its own from another address, until the
// bystanders have been served.
type attack struct {
	t       *testing.T
	address string
	stop    context.Context
	sent    atomic.Int64
	closed  atomic.Int64 // connections that the process has closed
}

// connect opens a connection from 127.0.0.9, without waiting for ever.
func (a *attack) connect() net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, Timeout: 10 * time.Second}
	conn, err := d.DialContext(a.stop, "tcp", a.address)
	if err != nil {
		return nil
	}
	context.AfterFunc(a.stop, func() { conn.Close() })
	return conn
}

// write sends until the connection ends, and says whether it did not.
func (a *attack) write(conn net.Conn, s string) bool {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := io.WriteString(conn, s)
	a.sent.Add(int64(n))
	if err != nil && a.stop.Err() == nil {
		a.closed.Add(1)
	}
	return err == nil
}

// Attackers of all kinds: other clients are served, and memory stays bounded.
func TestHostileClients(t *testing.T) {
	d := startWith(t, fmt.Sprintf("gateway:\n  max_connections: %d\n  max_connections_per_client: %d\n  header_timeout: 2s\n  stall_timeout: 2s\n  upstream_connections: 64\n",
		floodConns, floodConns))
	token := d.userTokens(t).Access
	other, theirs := d.machine(t)
	otherToken := d.machineToken(t, other)
	const abroad = 18<<45 + 1
	release := make(chan bool)
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			<-release // it never reads the body
			return
		}
		if r.URL.Path == "/well" {
			return
		}
		for block := make([]byte, 64<<10); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	t.Cleanup(endless.CloseClientConnections)
	t.Cleanup(func() { close(release) })
	d.admin(t, "POST", "/regions", map[string]any{"code": foreignRegion, "number": 18, "upstreams": []string{endless.URL}}).want(t, 201)
	d.admin(t, "POST", "/companies", map[string]any{"name": "Abroad", "region": foreignRegion, "id": abroad}).want(t, 201)
	// Who has a token may use up his app's share of the region that he attacks. Other apps are
	// served there, and his own in the others.
	home, attacked := d.in(t, "EU01").ID, d.in(t, "US01").ID
	to := func(line string, company int64, headers ...string) string {
		return strings.Join(append([]string{line + " HTTP/1.1", "Host: api.procore.com", "Authorization: Bearer " + token, fmt.Sprintf("Procore-Company-Id: %d", company)}, headers...), "\r\n") + "\r\n"
	}
	bystanders := func(t *testing.T) {
		for range 10 { // each on a connection of its own
			raw(t, d.apiAddr(), lines("GET /rest/v1.0/projects?company_id="+strconv.FormatInt(home, 10), token, fmt.Sprintf("Procore-Company-Id: %d", home))).want(t, 200)
		}
		call{URL: d.apiURL("/rest/v1.0/me"), Token: token}.send(t).want(t, 200)
		d.userTokens(t)
		for range 5 {
			raw(t, d.apiAddr(), lines("GET /rest/v1.0/projects", otherToken, fmt.Sprintf("Procore-Company-Id: %d", theirs.ID))).want(t, 200)
			raw(t, d.apiAddr(), lines("GET /well", otherToken, fmt.Sprintf("Procore-Company-Id: %d", abroad))).want(t, 200)
		}
	}
	bystanders(t)
	before, _ := memory(t, d.cmd.Process.Pid)
	limit := mayGrow(t)
	block := strings.Repeat("x", 32<<10)
	for _, c := range []struct {
		name      string
		attackers int
		conns     int // of each attacker, one after another
		do        func(*attack, net.Conn)
	}{
		{"connections that say nothing", 600, 1, func(a *attack, conn net.Conn) {
			if _, err := conn.Read(make([]byte, 1)); err != nil && a.stop.Err() == nil {
				a.closed.Add(1)
			}
		}},
		{"slowloris", 400, 1, func(a *attack, conn net.Conn) {
			if !a.write(conn, to("GET /rest/v1.0/me", home)+"X-Slow: ") {
				return
			}
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for a.write(conn, "x") {
				select {
				case <-tick.C:
				case <-a.stop.Done():
					return
				}
			}
		}},
		{"huge headers", 200, 2, func(a *attack, conn net.Conn) {
			for ok := a.write(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Huge: "); ok; ok = a.write(conn, block) {
			}
		}},
		{"endless bodies", 100, 1, func(a *attack, conn net.Conn) {
			chunk := fmt.Sprintf("%x\r\n%s\r\n", len(block), block)
			for ok := a.write(conn, to("POST /rest/v1.0/projects", attacked, "Content-Type: application/json", "Transfer-Encoding: chunked", "")); ok; ok = a.write(conn, chunk) {
			}
		}},
		{"slow bodies", 200, 1, func(a *attack, conn net.Conn) {
			if !a.write(conn, to("POST /rest/v1.0/projects", attacked, "Content-Type: application/json", "Transfer-Encoding: chunked", "")) {
				return
			}
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for a.write(conn, "1\r\n \r\n") {
				select {
				case <-tick.C:
				case <-a.stop.Done():
					return
				}
			}
		}},
		{"endless bodies that nobody reads", 100, 1, func(a *attack, conn net.Conn) {
			chunk := fmt.Sprintf("%x\r\n%s\r\n", len(block), block)
			for ok := a.write(conn, to("POST /x", abroad, "Transfer-Encoding: chunked", "")); ok; ok = a.write(conn, chunk) {
			}
		}},
		{"endless answers that nobody reads", 100, 1, func(a *attack, conn net.Conn) {
			if a.write(conn, to("GET /x", abroad, "")) {
				tick := time.NewTicker(200 * time.Millisecond)
				defer tick.Stop()
				for a.write(conn, "x") { // until it is closed
					select {
					case <-tick.C:
					case <-a.stop.Done():
						return
					}
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stop, cancel := context.WithCancel(t.Context())
			a := &attack{t: t, address: d.apiAddr(), stop: stop}
			var attackers sync.WaitGroup
			var opened atomic.Int64
			for range c.attackers {
				attackers.Go(func() {
					for range c.conns {
						if conn := a.connect(); conn != nil {
							opened.Add(1)
							c.do(a, conn)
							conn.Close()
						}
					}
				})
			}
			eventually(t, time.Minute, func() (bool, string) {
				return opened.Load() >= int64(c.attackers), fmt.Sprintf("%d connections were opened", opened.Load())
			})
			bystanders(t)
			// The process defends itself: what is more than it takes is closed.
			eventually(t, time.Minute, func() (bool, string) {
				return a.closed.Load() > 0, fmt.Sprintf("of %d connections none was closed", opened.Load())
			})
			cancel()
			attackers.Wait()
			now, most := memory(t, d.cmd.Process.Pid)
			t.Logf("%d connections, %d closed by it, %d MB sent; memory %d MB, %d MB before, %d MB at most", opened.Load(), a.closed.Load(), a.sent.Load()>>20, now>>20, before>>20, most>>20)
			if most-before > limit {
				t.Errorf("the process took %d MB more", (most-before)>>20)
			}
		})
	}
	t.Run("HTTP/2 streams that are reset at once", func(t *testing.T) {
		for range 4 {
			resetStreams(t, d)
		}
		bystanders(t)
		if _, most := memory(t, d.cmd.Process.Pid); most-before > limit {
			t.Errorf("the process took %d MB more", (most-before)>>20)
		}
	})
}

// resetStreams opens streams and resets them at once, until it has done so many times or the
// connection is closed (CVE-2023-44487).
func resetStreams(t *testing.T, d *dev) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, ServerName: "api.procore.com"}}). //nolint:gosec // not what is tested
																		DialContext(t.Context(), "tcp", d.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	w := bufio.NewWriterSize(conn, 64<<10)
	if _, err := w.WriteString(http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(w, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var head strings.Builder
	encoder := hpack.NewEncoder(&head)
	for id := uint32(1); id < 40_000; id += 2 {
		head.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "api.procore.com"}, {Name: ":path", Value: "/rest/v1.0/me"}} {
			if err := encoder.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(head.String()), EndStream: true, EndHeaders: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			t.Logf("the connection was closed after %d streams", id/2)
			return
		}
	}
	_ = w.Flush() // it may have been closed by now
}
