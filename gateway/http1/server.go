package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server answers HTTP/1.1 and HTTP/1.0, by the same handlers as net/http's server. Over TLS,
// connections whose clients want HTTP/2 go to that one.
//
// What differs for a handler: the context of a request ends when the client has gone, and not with
// the request; request and headers belong to the connection and must not be kept; no Content-Type
// is guessed; and an answer may begin before the request's body was read.
type Server struct {
	Handler http.Handler
	// MaxHeader is the largest head of a request in bytes.
	MaxHeader int
	// HeaderTimeout bounds a request's head and the handshake of TLS, IdleTimeout the wait for
	// the next request, StallTimeout a write to a client, unless the handler sets deadlines.
	HeaderTimeout, IdleTimeout, StallTimeout time.Duration
	// Refused answers what isn't a request; the request is made up.
	Refused func(http.ResponseWriter, *http.Request, *Error)
	// ConnContext makes the context of a connection's requests; nil for none of its own.
	ConnContext func(context.Context, net.Conn) context.Context
	// TLS is the configuration where the server speaks TLS, and HTTP2 the server of connections
	// that have agreed on it.
	TLS   *tls.Config
	HTTP2 *http.Server

	watch   *Watch
	closing atomic.Bool

	mu        sync.Mutex // guards the rest
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	serving   sync.WaitGroup
	h2        *handed
	ended     chan struct{} // closed when all connections have, after the end has begun
}

// Serve takes connections until the server is shut down. It answers http.ErrServerClosed then.
func (s *Server) Serve(l net.Listener) error {
	if err := s.open(l); err != nil {
		return err
	}
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if s.closing.Load() {
			if err == nil {
				_ = nc.Close()
			}
			return http.ErrServerClosed
		}
		if err != nil {
			var temporary interface{ Temporary() bool }
			if !errors.As(err, &temporary) || !temporary.Temporary() {
				return err
			}
			// Too many open files, most likely.
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			slog.Warn("a connection can't be taken", "error", err, "again_in", wait)
			time.Sleep(wait)
			continue
		}
		wait = 0
		if s.TLS != nil {
			nc = tls.Server(nc, s.TLS)
		}
		s.take(nc)
	}
}

func (s *Server) open(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return http.ErrServerClosed
	}
	if s.watch == nil {
		s.watch = NewWatch()
		s.listeners, s.conns = map[net.Listener]struct{}{}, map[*conn]struct{}{}
		if s.HTTP2 != nil {
			s.HTTP2.TLSConfig = s.TLS.Clone() // which net/http changes
			s.h2 = newHanded(l.Addr())
			h2 := s.h2
			s.serving.Go(func() { _ = s.HTTP2.Serve(h2) }) // until it is closed
		}
	}
	s.listeners[l] = struct{}{}
	return nil
}

// take serves a connection.
func (s *Server) take(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.watch.add(c)
	if s.TLS != nil {
		go s.secure(c)
		return
	}
	s.serving.Go(c.serve)
}

// secure serves a connection once its handshake is made. Shutdown doesn't wait for that: a
// configuration may ask somebody else for a certificate. It ends the connection, and with it this.
func (s *Server) secure(c *conn) {
	secured := c.handshake()
	s.mu.Lock()
	if secured = secured && !s.closing.Load(); secured {
		s.serving.Add(1)
		defer s.serving.Done()
	}
	s.mu.Unlock()
	if !secured {
		_ = c.Close()
		s.drop(c)
		return
	}
	c.serve()
}

// drop looks after a connection no more.
func (s *Server) drop(c *conn) {
	s.watch.remove(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// forget forgets a connection, and closes it unless it was given away.
func (s *Server) forget(c *conn) {
	s.drop(c)
	switch {
	case c.res.hijacked:
	case c.isHTTP2() && s.h2 != nil:
		c.readBy(0)
		s.h2.hand(c.Conn)
	default:
		_ = c.Close()
	}
	c.ctx.End(ErrClientGone)
}

// Shutdown takes no more connections, ends those that rest, and waits for the others.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close(false)
	if s.watch == nil {
		return nil
	}
	var err error
	if s.HTTP2 != nil {
		err = s.HTTP2.Shutdown(ctx)
	}
	select {
	case <-s.ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends everything at once. It doesn't wait for handlers, whose contexts end.
func (s *Server) Close() error {
	s.close(true)
	if s.HTTP2 == nil {
		return nil
	}
	return s.HTTP2.Close()
}

func (s *Server) close(all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing.Swap(true) && s.watch != nil {
		s.ended = make(chan struct{})
		go func() {
			defer close(s.ended)
			s.serving.Wait()
			s.watch.Close()
		}()
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	if s.h2 != nil {
		_ = s.h2.Close()
	}
	for c := range s.conns {
		if all || c.state.CompareAndSwap(resting, closed) {
			_ = c.Close()
		}
		if all {
			c.ctx.End(ErrClientGone)
		}
	}
}

// handed is a listener of connections that another server has taken.
type handed struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newHanded(address net.Addr) *handed {
	return &handed{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handed) hand(nc net.Conn) {
	select {
	case h.conns <- nc:
	case <-h.closed:
		_ = nc.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case nc := <-h.conns:
		return nc, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.address }
