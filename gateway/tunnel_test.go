package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"mpr/problem"
)

// chat is an upstream that changes to WebSocket and then repeats what it gets, in capitals.
// When the client has ended its side it says goodbye.
func chat(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
		http.Error(w, "no upgrade", http.StatusUpgradeRequired)
		return
	}
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Sec-WebSocket-Accept", "key of "+r.Header.Get("Sec-WebSocket-Key"))
	w.Header().Set("Mpr-Secret", "x")
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, rw, err := http.NewResponseController(w).Hijack()
	must2(err)
	defer conn.Close()
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			must2(io.WriteString(conn, "goodbye\n"))
			return
		}
		must2(io.WriteString(conn, strings.ToUpper(line)))
	}
}

var askForWebSocket = []string{"Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: 123", "Procore-Company-Id: " + inEU01.String()}

// RFC 6455: a WebSocket goes through to the region that holds the company's data.
func TestWebSocket(t *testing.T) {
	g := start(t, handlers{"EU01": chat})
	c := g.dial()
	c.head(g, "GET /live", askForWebSocket...)
	c.write("early\n") // right behind the request
	resp := c.answer("GET")
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("Sec-WebSocket-Accept") != "key of 123" {
		t.Fatal(resp.Status, resp.Header)
	}
	if resp.Header.Get("Mpr-Secret") != "" || resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("the client got %v", resp.Header)
	}
	c.reads("EARLY\n")
	c.write("hello\n")
	c.reads("HELLO\n")
	// One side's end is passed on, and the other side goes on.
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		t.Fatal("not TCP")
	}
	must(t, tcp.CloseWrite())
	c.reads("goodbye\n")
	c.ends()
}

// reads expects what comes next.
func (w *wire) reads(want string) {
	w.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(w.r, got); err != nil || string(got) != want {
		w.t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

// Only WebSocket passes: a change to HTTP/2 would let calls by that nobody has checked.
func TestOtherUpgrades(t *testing.T) {
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" || r.Header.Get("Http2-Settings") != "" {
			t.Errorf("the upstream got %v", r.Header)
		}
		echo(w, r)
	}})
	for name, headers := range map[string][]string{
		"h2c":                         {"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		"TLS":                         {"Connection: Upgrade", "Upgrade: TLS/1.0"},
		"WebSocket not in Connection": {"Upgrade: websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			c := g.dial()
			c.head(g, "GET /x", append(headers, "Procore-Company-Id: "+inEU01.String())...)
			if resp := c.answer("GET"); resp.StatusCode != 200 {
				t.Error(resp.Status)
			}
		})
	}
}

// Before the upgrade the rules are the same as for any call.
func TestUpgradesAreCalls(t *testing.T) {
	g := start(t, handlers{"EU01": chat, "US01": gone("EU01", 4)})
	c := g.dial()
	c.head(g, "GET /live", askForWebSocket[:3]...)
	if resp := c.answer("GET"); resp.StatusCode != 400 {
		t.Errorf("no company: %s", resp.Status)
	}
	// A company that has moved is found in its new region.
	moved := g.dial()
	moved.head(g, "GET /live", append(askForWebSocket[:3:3], "Procore-Company-Id: "+inUS01.String())...)
	if resp := moved.answer("GET"); resp.StatusCode != 101 {
		t.Fatalf("a company that moved: %s", resp.Status)
	}
	moved.write("hello\n")
	moved.reads("HELLO\n")
	// An upstream may decline.
	got := g.send("GET", "/live", g.header(inEU01), nil)
	got.want(t, http.StatusUpgradeRequired, "")
}

func TestTunnelEnds(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		g := start(t, handlers{"EU01": chat}, impatient)
		c := g.dial()
		c.head(g, "GET /live", askForWebSocket...)
		if resp := c.answer("GET"); resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		c.ends()
	})
	t.Run("used for longer than the idle time", func(t *testing.T) {
		g := start(t, handlers{"EU01": chat}, impatient)
		c := g.dial()
		c.head(g, "GET /live", askForWebSocket...)
		if resp := c.answer("GET"); resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		for range 10 {
			c.write("hello\n")
			c.reads("HELLO\n")
			<-time.After(100 * time.Millisecond)
		}
	})
	t.Run("the gateway is closed", func(t *testing.T) {
		g := start(t, handlers{"EU01": chat})
		c := g.dial()
		c.head(g, "GET /live", askForWebSocket...)
		if resp := c.answer("GET"); resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		must(t, g.service.Close())
		c.ends()
	})
	t.Run("the client goes away", func(t *testing.T) {
		ended := make(chan bool, 1)
		g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
			defer func() { _ = recover(); ended <- true }() // it can't say goodbye to a client that is gone
			chat(w, r)
		}})
		c := g.dial()
		c.head(g, "GET /live", askForWebSocket...)
		if resp := c.answer("GET"); resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		must(t, c.Close())
		arrives(t, ended, "the end of the upstream's side")
	})
}

// An upstream that changes to another protocol than the one that was asked for is broken.
func TestForeignProtocol(t *testing.T) {
	g := start(t, handlers{"EU01": echo})
	g.in(rawUpstream(t, func(conn net.Conn) {
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	}))
	c := g.dial()
	c.head(g, "GET /live", askForWebSocket...)
	resp := c.answer("GET")
	content, err := io.ReadAll(resp.Body)
	must(t, err)
	reply{resp, string(content)}.want(t, 502, problem.BadUpstreamAnswer)
}
