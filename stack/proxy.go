package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"mpr/problem"
)

// proxy is a forward proxy for programs with hard-coded host names: CONNECT (RFC 9110
// section 9.3.6) to one of our hosts leads to the TLS listener; every other target is
// refused, so that it can't be used to reach anything else.
type proxy struct {
	hosts  map[string]bool
	target string // address of the TLS listener

	tunnels sync.WaitGroup
	mu      sync.Mutex
	open    map[net.Conn]struct{}
	closed  bool
}

func newProxy(hosts []string, target string) *proxy {
	p := &proxy{hosts: map[string]bool{}, target: target, open: map[net.Conn]struct{}{}}
	for _, h := range hosts {
		p.hosts[h] = true
	}
	return p
}

const dialTimeout = 5 * time.Second

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect || err != nil || port != "443" || !p.hosts[strings.ToLower(host)] {
		problem.Write(w, r, problem.New(problem.Forbidden,
			"This proxy takes CONNECT to port 443 of the hosts of this system and nothing else."))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	defer cancel()
	upstream, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		problem.Write(w, r, problem.New(problem.NotReady, "The TLS listener can't be reached. Is the system stopping?").Because(err))
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		problem.Write(w, r, errors.Join(fmt.Errorf("take over the connection: %w", err), upstream.Close()))
		return
	}
	if !p.track(client, upstream) {
		return
	}
	defer p.untrack(client, upstream)
	// A client may have sent the first bytes of its handshake along with CONNECT.
	early := make([]byte, buffered.Reader.Buffered())
	if _, err := io.ReadFull(buffered, early); err != nil {
		return
	}
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	if _, err := upstream.Write(early); err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { relay(upstream, client) })
	wg.Go(func() { relay(client, upstream) })
	wg.Wait()
}

// relay copies one direction and passes the end on, so that the other direction can
// still finish.
func relay(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		slog.Debug("tunnel", "error", err)
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func (p *proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if err := c.SetDeadline(time.Time{}); err != nil || p.closed {
			for _, c := range conns {
				_ = c.Close()
			}
			return false
		}
	}
	for _, c := range conns {
		p.open[c] = struct{}{}
	}
	p.tunnels.Add(1)
	return true
}

func (p *proxy) untrack(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
		_ = c.Close()
	}
	p.tunnels.Done()
}

// Close ends all tunnels; the http.Server doesn't know of hijacked connections.
func (p *proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.tunnels.Wait()
	return nil
}
