package stack

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"mpr/config"
	"mpr/gateway/http1"
	"mpr/observe"
	"mpr/problem"
)

// maxStreams is how many calls a client may make at a time on one connection of HTTP/2.
const maxStreams = 128

// process is what the roles that run in one process share: listeners that are opened
// before anything is built (so that every address is known), servers, and what has to
// be closed, in reverse order, at the end.
type process struct {
	gateway  config.Gateway // limits that every listener has
	stop     config.Operations
	observe  *observe.Process
	maxConns int
	serving  sync.WaitGroup
	failed   chan error

	mu      sync.Mutex // guards the rest: environments start side by side
	servers []server
	closers []func() error
	stops   []func()
}

// server answers a listener, by net/http or by package http1.
type server interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

func newProcess(limits config.Gateway, stop config.Operations) *process {
	return &process{gateway: limits, maxConns: connectionLimit(limits.MaxConns), stop: stop, failed: make(chan error, 1)}
}

// onClose adds something to close when the process ends, before all that was added
// earlier.
func (p *process) onClose(f func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closers = append(p.closers, f)
}

// onStop adds something to do before listeners are closed: to end calls that would never end by
// themselves.
func (p *process) onStop(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stops = append(p.stops, f)
}

// listen opens an address. The listener is closed with the process even when nothing
// serves it.
func (p *process) listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; choose other addresses with --port or in mpr.yaml", address, err)
	}
	p.onClose(func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return l, nil
}

// serve answers a listener with a handler, over TLS where a configuration is given.
func (p *process) serve(l net.Listener, h http.Handler, t *tls.Config) {
	p.answer(newConnections(l, p.maxConns, math.MaxInt, nil), h, t)
}

// serveDoor answers the listener of a door: its clients are strangers, of whom none may take
// all connections. It speaks TLS where a configuration is given.
func (p *process) serveDoor(l net.Listener, h http.Handler, t *tls.Config) {
	var shared []netip.Prefix
	for _, s := range p.gateway.ForwardedFrom {
		if network, err := netip.ParsePrefix(s); err == nil { // package config has checked it
			shared = append(shared, network)
		}
	}
	p.answerDoor(newConnections(l, p.maxConns, p.gateway.MaxConnsPerClient, shared), h, t)
}

// answer answers a listener of ours by net/http.
func (p *process) answer(l net.Listener, h http.Handler, t *tls.Config) {
	s := p.standard(counted(problem.Handler(p.leaving(h))), t)
	if t != nil {
		p.run(l, s, func() error { return s.ServeTLS(l, "", "") })
		return
	}
	p.run(l, s, func() error { return s.Serve(l) })
}

// answerDoor answers the listener of a door: HTTP/1.1 by package http1, and HTTP/2 by net/http.
func (p *process) answerDoor(l net.Listener, h http.Handler, t *tls.Config) {
	h = counted(problem.Handler(p.leaving(h)))
	s := &http1.Server{
		Handler: h, Refused: refused, ConnContext: withConn, MaxHeader: 4 * p.gateway.MaxHeader,
		HeaderTimeout: p.gateway.HeaderTimeout, IdleTimeout: p.gateway.IdleTimeout, StallTimeout: p.gateway.StallTimeout,
	}
	if t != nil {
		s.TLS, s.HTTP2 = t, p.standard(h, t)
	}
	p.run(l, s, func() error { return s.Serve(l) })
}

// refused answers what isn't a request.
func refused(w http.ResponseWriter, r *http.Request, e *http1.Error) {
	code := problem.BadRequest
	switch e.Status {
	case http.StatusRequestHeaderFieldsTooLarge:
		code = problem.HeaderTooLarge
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusExpectationFailed:
		code = problem.NotSupported
	}
	w.Header().Set(problem.RequestIDHeader, problem.NewRequestID())
	problem.Write(w, r, problem.New(code, "The request can't be read: %s. Check what sends it; RFC 9112 says how a request looks.", e.Reason))
}

// standard is a server of net/http.
func (p *process) standard(h http.Handler, t *tls.Config) *http.Server {
	return &http.Server{
		Handler: h, ConnContext: withConn,
		// One connection may ask for much at the same time, and send much that nobody reads.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 16 << 10, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10},
		// "OPTIONS *" is answered as everything else.
		DisableGeneralOptionsHandler: true,
		TLSConfig:                    t,
		ReadHeaderTimeout:            p.gateway.HeaderTimeout,
		IdleTimeout:                  p.gateway.IdleTimeout,
		// The doors' limit lies below, and has a better answer; what stands behind them gets
		// headers of ours on top.
		MaxHeaderBytes: 4 * p.gateway.MaxHeader,
		ErrorLog:       errorLog(t),
	}
}

// run has a server serve until the process ends.
func (p *process) run(l net.Listener, s server, serve func() error) {
	p.mu.Lock()
	p.servers = append(p.servers, s)
	p.mu.Unlock()
	p.serving.Go(func() {
		err := serve()
		if !errors.Is(err, http.ErrServerClosed) {
			select {
			case p.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err):
			default:
			}
		}
	})
}

// errorLog is where a server says what became of connections. Of strangers operators hear nothing;
// of a process of ours that is refused they do.
func errorLog(t *tls.Config) *log.Logger {
	if t == nil || t.GetConfigForClient == nil {
		return slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)
	}
	return log.New(&refusals{limit: rate.NewLimiter(1, 20)}, "", 0)
}

// refusals logs handshakes that have failed, a few each second.
type refusals struct{ limit *rate.Limiter }

func (r *refusals) Write(line []byte) (int, error) {
	failed, of := bytes.CutPrefix(bytes.TrimSpace(line), []byte("http: TLS handshake error from "))
	from, why, _ := bytes.Cut(failed, []byte(": "))
	// Whoever only looks whether somebody listens, as balancers do, ends without a word.
	if of && !bytes.HasSuffix(why, []byte("EOF")) && r.limit.Allow() {
		slog.Warn("a connection to an internal listener is refused", "from", string(from), "reason", string(why))
	} else {
		slog.Debug(string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}

// leaving has clients end their connections while the process is about to stop, so that none of
// them sends a call on one that is being closed. Nor does a connection outlive the certificate that
// it was begun with for longer than a call.
func (p *process) leaving(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended := r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && time.Now().After(r.TLS.PeerCertificates[0].NotAfter)
		if (ended || p.observe.Draining()) && r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// within ends a call whose body takes longer to arrive: whoever sends a byte now and then
// would hold a connection, and what reads from it, for ever. The gateway has an eye on this
// itself, since it passes bodies on of any size.
func (p *process) within(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(p.gateway.StallTimeout)); err != nil {
				slog.DebugContext(r.Context(), "a body without a time limit", "error", err)
			}
		}
		h.ServeHTTP(w, r)
	})
}

// wait returns when the context ends or a listener fails.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.failed:
		return err
	}
}

// drain says that the process is about to stop, and goes on serving for a while: whoever sends
// it calls turns to others first.
func (p *process) drain() {
	p.observe.Drain()
	if p.stop.DrainDelay > 0 {
		slog.Info("not ready any more, and about to stop", "after", p.stop.DrainDelay)
		_ = p.wait(contextFor(p.stop.DrainDelay)) // a listener that fails needs no more time
	}
}

// close drains the servers, the ones that were added last first (doors before what
// stands behind them), and then closes all the rest in reverse order.
func (p *process) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.stop.DrainTime)
	defer cancel()
	for _, stop := range p.stops {
		stop()
	}
	var errs []error
	for i := len(p.servers) - 1; i >= 0; i-- {
		if err := p.servers[i].Shutdown(ctx); err != nil {
			// Clients that don't come to an end are no fault of ours.
			slog.Warn("calls were still running and are cut off", "after", p.stop.DrainTime, "reason", err)
			errs = append(errs, p.servers[i].Close())
		}
	}
	p.serving.Wait()
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	return errors.Join(errs...)
}

// closing is something that is closed by calling it.
type closing func() error

func (f closing) Close() error { return f() }

// add closes c with the process.
func (p *process) add(c io.Closer) { p.onClose(c.Close) }
