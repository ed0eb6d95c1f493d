package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readBuffer and writeBuffer are what a connection holds at the least. A request's header that
	// is larger makes the first one grow.
	readBuffer, writeBuffer = 4 << 10, 4 << 10
	// manyBytes is how large a buffer may be to be used again.
	manyBytes = 16 << 10
	// lingerTime is how long a connection that ends is read on, so that its client can read the
	// answer: unread bytes would have the kernel reset it (RFC 9112 section 9.6).
	lingerTime = 500 * time.Millisecond
	// watchAfter is how long a call takes before somebody looks whether its client is still there.
	watchAfter = 2 * beat
)

// ErrClientGone is why the context of a request has ended.
var ErrClientGone = errors.New("the client has gone")

// The states of a connection. One that rests may be closed.
const (
	resting int32 = iota
	working
	closed
)

// conn is a connection of a client. One goroutine serves it: it reads a request, has it handled,
// and sends the answer, one after another. What a request needs is used again for the next one.
type conn struct {
	guarded
	server *Server
	state  atomic.Int32
	in     reader
	head   requestHead
	body   body
	res    response
	ctx    Context
	base   http.Request // with the context of the connection
	req    http.Request

	// Watching a client that waits for its answer: another goroutine reads the next byte.
	since    atomic.Int64 // when the request began, by clock; 0 where there is none
	watching sync.Mutex   // guards watched
	watched  chan struct{}
	ahead    [1]byte
	isAhead  bool
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s}
	c.Conn = nc
	c.in = reader{from: c, buf: make([]byte, readBuffer)}
	c.body.conn, c.res.conn = c, c
	c.res.out = make([]byte, 0, writeBuffer)
	ctx := context.Background()
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx, nc)
	}
	c.ctx.Begin(ctx)
	c.base = *new(http.Request).WithContext(&c.ctx)
	c.base.ProtoMajor, c.base.RemoteAddr = 1, nc.RemoteAddr().String()
	return c
}

// Read reads the connection, with what the watch has read ahead first.
func (c *conn) Read(p []byte) (int, error) {
	if c.isAhead {
		c.isAhead = false
		return copy(p, c.ahead[:]), nil
	}
	return c.Conn.Read(p)
}

// write writes, within the time that a client may take where the handler hasn't set another.
func (c *conn) write(p []byte) error {
	if c.writing.Load() == 0 {
		c.writeBy(c.server.watch.in(c.server.StallTimeout))
		defer c.writeBy(0)
	}
	_, err := c.Write(p)
	return err
}

// writeAll writes several pieces at once. Over TLS each would be a record, and a system call.
func (c *conn) writeAll(parts *net.Buffers) error {
	if c.base.TLS != nil {
		pooled, _ := pieces.Get().(*[]byte)
		defer pieces.Put(pooled)
		whole, length := (*pooled)[:0], 0
		for _, p := range *parts {
			length += len(p)
		}
		if length <= cap(whole) {
			for _, p := range *parts {
				whole = append(whole, p...)
			}
			return c.write(whole)
		}
	}
	if c.writing.Load() == 0 {
		c.writeBy(c.server.watch.in(c.server.StallTimeout))
		defer c.writeBy(0)
	}
	_, err := parts.WriteTo(c.Conn)
	return err
}

// serve serves the connection until it ends.
func (c *conn) serve() {
	s := c.server
	defer s.forget(c)
	c.readBy(s.watch.in(s.HeaderTimeout))
	if c.isHTTP2() {
		return
	}
	for c.next() {
		c.readBy(s.watch.in(s.IdleTimeout))
		c.state.Store(resting)
		if s.closing.Load() && c.state.CompareAndSwap(resting, closed) {
			return
		}
	}
}

// handshake makes the handshake of TLS. It answers false where no call may follow.
func (c *conn) handshake() bool {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return false
	}
	c.readBy(c.server.watch.in(c.server.HeaderTimeout))
	c.writeBy(c.server.watch.in(c.server.HeaderTimeout))
	err := t.HandshakeContext(context.Background())
	if err != nil {
		var notTLS tls.RecordHeaderError
		if errors.As(err, &notTLS) && notTLS.Conn != nil && isMethod(strings.TrimRight(string(notTLS.RecordHeader[:]), " /")) {
			_, _ = io.WriteString(notTLS.Conn, "HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis is HTTP, and TLS is spoken here: the URL begins with https.\n")
		}
		slog.Debug("no handshake of TLS", "from", c.base.RemoteAddr, "error", err)
		return false
	}
	c.writeBy(0)
	state := t.ConnectionState()
	c.base.TLS = &state
	switch state.NegotiatedProtocol {
	case "h2":
		return c.server.HTTP2 != nil
	case "", "http/1.1", "http/1.0":
		return true
	}
	return false // a CA's look at a certificate, which is over (RFC 8737)
}

// isHTTP2 says whether the client has agreed to speak HTTP/2.
func (c *conn) isHTTP2() bool { return c.base.TLS != nil && c.base.TLS.NegotiatedProtocol == "h2" }

// next serves the next request; false where there is none after it.
func (c *conn) next() bool {
	head, err := c.in.head(c.server.MaxHeader, c.arrives)
	if c.state.Load() != working {
		return false // the client left, or we did
	}
	if err == nil {
		err = c.head.read(string(head))
	}
	if err != nil {
		c.refuse(err)
		return false
	}
	c.readBy(0)
	c.begin()
	kept := c.handle()
	c.since.Store(0)
	c.unwatch()
	if c.res.hijacked {
		return false
	}
	if !kept || !c.body.whole.Load() {
		c.linger()
		return false
	}
	c.writeBy(0)
	c.in.shrink(readBuffer)
	return c.ctx.Cause() == nil
}

// arrives notes that a request's first byte is there.
func (c *conn) arrives() {
	if c.state.CompareAndSwap(resting, working) {
		c.readBy(c.server.watch.in(c.server.HeaderTimeout))
	}
}

// begin makes a request of the head.
func (c *conn) begin() {
	q := &c.head
	c.req = c.base
	r := &c.req
	r.Method, r.URL, r.RequestURI, r.Host = q.method, &q.url, q.target, q.host
	r.Proto, r.ProtoMinor = "HTTP/1.1", q.minor
	if q.minor == 0 {
		r.Proto = "HTTP/1.0"
	}
	r.Header, r.Trailer, r.Close = q.header, q.trailer, !q.keepAlive
	c.body.begin(q)
	switch {
	case c.body.whole.Load():
		r.Body = http.NoBody
	case q.chunked:
		r.Body, r.ContentLength, r.TransferEncoding = &c.body, -1, chunkedCoding
	default:
		r.Body, r.ContentLength = &c.body, q.length
	}
	c.res.begin()
	c.since.Store(c.server.watch.now.Load())
}

var chunkedCoding = []string{"chunked"}

// handle has the request handled and answered; false where the connection ends after it.
func (c *conn) handle() (kept bool) {
	defer func() {
		if v := recover(); v != nil {
			kept = false
			c.res.out, c.res.begun = nil, true // what was begun can't be completed
			if v != http.ErrAbortHandler {     //nolint:errorlint // net/http compares the panic value the same way
				slog.Error("panic", "value", v, "stack", string(debug.Stack()))
			}
			_ = c.Close()
		}
	}()
	c.server.Handler.ServeHTTP(&c.res, &c.req)
	return c.res.hijacked || c.res.end()
}

// refuse answers what isn't a request, where somebody is there to read that.
func (c *conn) refuse(err error) {
	var e *Error
	if !errors.As(err, &e) {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return // too slow, or the connection broke
		}
		e = &Error{http.StatusBadRequest, "the header was cut off"}
	}
	c.head = requestHead{fields: c.head.fields, method: http.MethodGet, minor: 1, target: "/"}
	c.head.reset()
	c.head.url.Path = "/"
	c.begin()
	c.since.Store(0)
	c.res.close = true
	c.server.Refused(&c.res, &c.req, e)
	c.res.end()
	c.linger()
}

// linger reads on for a moment after the last answer.
func (c *conn) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	c.deadline(&c.reading, time.Now().Add(lingerTime), c.SetReadDeadline)
	_, _ = io.Copy(io.Discard, c.Conn)
}

// sweep meets deadlines, and has a client watched that waits for its answer.
func (c *conn) sweep(now int64) {
	c.guarded.sweep(now)
	if since := c.since.Load(); since == 0 || now-since < int64(watchAfter) {
		return
	}
	c.watching.Lock()
	defer c.watching.Unlock()
	// In this order: while there is a request whose body has been read, nobody else reads.
	if c.watched != nil || c.since.Load() == 0 || !c.body.whole.Load() || !c.in.empty() || c.isAhead {
		return
	}
	c.watched = make(chan struct{})
	go c.watch(c.watched)
}

// watch reads one byte ahead, to see whether the client leaves. It ends with the request.
func (c *conn) watch(done chan struct{}) {
	defer close(done)
	n, err := c.Conn.Read(c.ahead[:])
	c.isAhead = n == 1
	if err != nil && c.reading.Load() != hit {
		c.ctx.End(ErrClientGone)
	}
}

// unwatch ends the watch of the client.
func (c *conn) unwatch() {
	c.watching.Lock()
	done := c.watched
	c.watching.Unlock()
	c.since.Store(0)
	if done == nil {
		return
	}
	c.deadline(&c.reading, past, c.SetReadDeadline)
	<-done
	c.readBy(0)
	c.watching.Lock()
	c.watched = nil
	c.watching.Unlock()
}
