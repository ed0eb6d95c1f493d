package stack

import (
	lists "container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// connections is a listener that bounds the connections of its clients: in all, and of each
// address. Whoever only opens connections and says nothing, or says it a byte at a time, is
// no client yet: where room is needed, the connection that has been in no call for longest is
// closed. So a flood closes its own connections, and those that rest between two calls, but
// none with a call on it. Where all are in calls, the new one is closed.
type connections struct {
	net.Listener
	most, share int
	// shared are networks of proxies, each address of which stands for many clients.
	shared []netip.Prefix

	mu      sync.Mutex
	open    int
	all     ranks // of all connections
	clients map[netip.Addr]*client
	refused uint64
	told    time.Time
}

// client is an address with connections.
type client struct {
	open int
	all  ranks // of its connections
}

// ranks are connections in the order in which they were last in a call, the longest ago first.
// Those with a call on them may stand anywhere: whoever looks for one without passes them by, and
// puts them at the end, where their call would have left them. So a call moves nothing when it
// begins, and no list has to be searched twice.
type ranks struct {
	lists.List
	quiet int // that are in no call
}

// idlest is the connection that has been in no call for longest; nil where all are in calls.
func (r *ranks) idlest() *clientConn {
	for r.quiet > 0 {
		first := r.Front()
		c, ok := first.Value.(*clientConn)
		if !ok || c.calls == 0 {
			return c
		}
		r.MoveToBack(first)
	}
	return nil
}

// clientConn is a connection of a client. It embeds a *net.TCPConn to be able to do all that
// one can.
type clientConn struct {
	*net.TCPConn
	of      *connections
	address netip.Addr
	client  *client
	// Guarded by of.mu:
	calls         int
	closed        bool
	inAll, inOwns *lists.Element
}

func newConnections(l net.Listener, most, share int, shared []netip.Prefix) *connections {
	return &connections{Listener: l, most: most, share: share, shared: shared, clients: map[netip.Addr]*client{}}
}

// tellEvery is how often the log tells of connections that were closed for others.
const tellEvery = 10 * time.Second

func (l *connections) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return conn, nil
		}
		c, instead := l.admit(tcp)
		if instead != nil {
			_ = instead.Close()
		}
		if c != nil {
			return c, nil
		}
	}
}

// admit takes a connection in, if need be in place of another one, which must be closed.
// Where there is no room it answers nil and the new connection itself.
func (l *connections) admit(tcp *net.TCPConn) (c *clientConn, instead net.Conn) {
	c = &clientConn{TCPConn: tcp, of: l, address: addressOf(tcp)}
	l.mu.Lock()
	defer l.mu.Unlock()
	owner := l.clients[c.address]
	if owner == nil {
		owner = &client{}
	}
	from := (*ranks)(nil)
	switch {
	case owner.open >= l.share && !l.isShared(c.address):
		from = &owner.all
	case l.open >= l.most:
		from = &l.all
	}
	if from != nil {
		l.tell()
		victim := from.idlest()
		if victim == nil {
			return nil, tcp
		}
		l.forget(victim)
		instead = victim.TCPConn
	}
	l.clients[c.address], c.client = owner, owner // forget may have dropped it
	l.open++
	owner.open++
	c.inAll, c.inOwns = l.all.PushBack(c), owner.all.PushBack(c)
	l.all.quiet++
	owner.all.quiet++
	return c, instead
}

func (l *connections) isShared(a netip.Addr) bool {
	for _, p := range l.shared {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func addressOf(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	address := a.Addr().Unmap().WithZone("")
	if address.Is6() { // whoever has one address of IPv6 has 2^64 of them
		if p, err := address.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return address
}

// forget no longer counts a connection.
func (l *connections) forget(c *clientConn) {
	if c.closed {
		return
	}
	c.closed = true
	l.all.Remove(c.inAll)
	c.client.all.Remove(c.inOwns)
	if c.calls == 0 {
		l.all.quiet--
		c.client.all.quiet--
	}
	l.open--
	if c.client.open--; c.client.open == 0 {
		delete(l.clients, c.address)
	}
}

func (l *connections) tell() {
	l.refused++
	if now := time.Now(); now.Sub(l.told) >= tellEvery {
		l.told = now
		slog.Warn("too many connections: those that are in no call are closed, or else the new ones; see gateway.max_connections",
			"listener", l.Addr().String(), "open", l.open, "clients", len(l.clients), "closed_so_far", l.refused)
	}
}

// Close closes the connection, which counts no longer.
func (c *clientConn) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}

// enter notes that a call has come in by the connection, and leave that it is over. A call
// on a connection that was just closed for another one isn't carried out: its client would
// never hear of it.
func (c *clientConn) enter() bool {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.closed {
		return false
	}
	if c.calls++; c.calls == 1 {
		c.of.all.quiet--
		c.client.all.quiet--
	}
	return true
}

func (c *clientConn) leave() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.calls--; c.calls > 0 || c.closed {
		return
	}
	c.of.all.MoveToBack(c.inAll)
	c.client.all.MoveToBack(c.inOwns)
	c.of.all.quiet++
	c.client.all.quiet++
}

type connKey struct{}

// withConn lets handlers know the connection of a call.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*clientConn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// counted keeps the connection of a call from being closed for others.
func counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*clientConn); ok {
			if !c.enter() {
				panic(http.ErrAbortHandler)
			}
			defer c.leave()
		}
		h.ServeHTTP(w, r)
	})
}

// filesForListener is the part of the files that a process may open that the connections of
// one listener may take: there are other listeners, upstreams and databases.
const filesForListener = 4

// connectionLimit is how many connections a listener takes.
func connectionLimit(most int) int {
	files, known := maxFiles()
	if !known || uint64(most) <= files/filesForListener { //nolint:gosec // never negative
		return most
	}
	fewer := max(int(files/filesForListener), 1) //nolint:gosec // less than most
	slog.Info("a listener takes fewer connections than gateway.max_connections says: the process may not open more files (ulimit -n)",
		"connections", fewer, "files", files)
	return fewer
}
