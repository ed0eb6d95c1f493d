package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mpr/gateway/http1"
	"mpr/problem"
)

// tunnel connects client and upstream after both have agreed to change the protocol. It
// returns when the tunnel has ended.
func (c *call) tunnel(to *destination, resp *http1.Response) error {
	if c.upgrade == "" || !strings.EqualFold(resp.Header.Get("Upgrade"), c.upgrade) {
		return c.fail(to, errors.New("the upstream changed to a protocol that nobody asked for"))
	}
	c.startAnswer()
	c.status, c.seen.Upgraded = resp.StatusCode, true
	h := c.w.Header()
	copyAnswerHeader(h, resp.Header)
	c.deprecate(h)
	c.rate(h)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", c.upgrade)
	conn, rw, err := c.deadlines.control.Hijack()
	if err != nil {
		return c.refuse(problem.From(err))
	}
	t := &tunnel{client: conn, fromClient: rw.Reader, upstream: resp.Tunnel(), idle: c.service.limits.IdleTimeout}
	if !c.service.tunnels.add(t) {
		t.close()
		return nil // the gateway is being closed
	}
	defer c.service.tunnels.remove(t)
	defer t.close()
	if err := t.greet(h); err != nil {
		return nil //nolint:nilerr // the client has gone: there is nobody to tell
	}
	t.run()
	return nil
}

// tunnel is a connection of a client that goes through to an upstream.
type tunnel struct {
	client     net.Conn
	fromClient *bufio.Reader // may hold bytes that came right behind the request
	upstream   io.ReadWriteCloser
	idle       time.Duration
	moved      atomic.Int64 // bytes, in both directions
}

// greet sends the answer that changes the protocol.
func (t *tunnel) greet(h http.Header) error {
	_ = t.client.SetDeadline(time.Now().Add(t.idle))
	w := bufio.NewWriter(t.client)
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n", http.StatusSwitchingProtocols, http.StatusText(http.StatusSwitchingProtocols))
	if err := h.Write(w); err != nil {
		return err
	}
	if _, err := w.WriteString("\r\n"); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return t.client.SetDeadline(time.Time{})
}

// run copies both ways until both have ended, or one has failed, or nothing has moved for
// the idle time. An end in one direction is passed on, and the other goes on.
func (t *tunnel) run() {
	last := int64(-1)
	var timer *time.Timer
	var mu sync.Mutex // the timer may fire before it is assigned
	mu.Lock()
	timer = time.AfterFunc(t.idle, func() {
		mu.Lock()
		defer mu.Unlock()
		if moved := t.moved.Load(); moved != last {
			last = moved
			timer.Reset(t.idle)
			return
		}
		t.close()
	})
	mu.Unlock()
	defer timer.Stop()
	var back sync.WaitGroup
	back.Go(func() { t.copy(t.client, t.upstream) })
	t.copy(t.upstream, t.fromClient)
	back.Wait()
}

// copy moves bytes in one direction until they end.
func (t *tunnel) copy(dst io.Writer, src io.Reader) {
	_, err := io.Copy(&counter{dst, &t.moved}, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		return
	}
	t.close()
}

// close ends both connections, and with them run. It may be called more than once.
func (t *tunnel) close() {
	_ = t.client.Close()
	_ = t.upstream.Close()
}

// counter counts the bytes that go to w.
type counter struct {
	w io.Writer
	n *atomic.Int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// tunnels are the tunnels of a gateway. A server forgets connections that have changed
// their protocol, so they are ended here.
type tunnels struct {
	mu     sync.Mutex
	closed bool
	open   map[*tunnel]struct{}
	ended  sync.WaitGroup
}

func (ts *tunnels) add(t *tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return false
	}
	if ts.open == nil {
		ts.open = map[*tunnel]struct{}{}
	}
	ts.open[t] = struct{}{}
	ts.ended.Add(1)
	return true
}

func (ts *tunnels) remove(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, t)
	ts.ended.Done()
}

func (ts *tunnels) close() {
	ts.mu.Lock()
	ts.closed = true
	for t := range ts.open {
		t.close()
	}
	ts.mu.Unlock()
	ts.ended.Wait()
}
