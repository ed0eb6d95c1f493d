package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mpr/company"
)

const (
	// upstreamIdle is how long an unused connection to an upstream is kept: less than the
	// servers' usual 60 s and more, since a call that meets a connection at its end can
	// only be repeated if it has no effect.
	upstreamIdle = 50 * time.Second
	// continueTimeout is how long an upstream may take to ask for the body of a request
	// with "Expect: 100-continue" before it gets the body unasked (RFC 9110 section
	// 10.1.1: "SHOULD NOT wait for an indefinite period").
	continueTimeout = time.Second
	// maxAnswerHeader is the largest header of an answer in bytes.
	maxAnswerHeader = 256 << 10
	// avoidTime is how long an upstream that couldn't be reached is the last choice.
	avoidTime = time.Second
)

var (
	errBusy        = errors.New("no connection to the upstream became free")
	errUnreachable = errors.New("no upstream could be reached")
)

// pool holds the upstreams of each region. Regions share nothing: one whose connections
// are all in use can't hold up another.
type pool struct {
	limits Limits
	mu     sync.Mutex // for changes
	groups atomic.Pointer[map[company.Region]*group]
}

func newPool(limits Limits) *pool {
	p := &pool{limits: limits}
	p.groups.Store(&map[company.Region]*group{})
	return p
}

// of returns the upstreams of a region, built anew where they have changed.
func (p *pool) of(info company.RegionInfo) (*group, error) {
	if g := (*p.groups.Load())[info.Code]; g != nil && slices.Equal(g.urls, info.Upstreams) {
		return g, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.groups.Load()
	before := old[info.Code]
	if before != nil && slices.Equal(before.urls, info.Upstreams) {
		return before, nil // somebody else was quicker
	}
	g, err := newGroup(info.Upstreams, p.limits)
	if err != nil {
		return nil, err
	}
	groups := make(map[company.Region]*group, len(old)+1)
	for code, g := range old {
		groups[code] = g
	}
	groups[info.Code] = g
	p.groups.Store(&groups)
	if before != nil {
		before.close()
	}
	return g, nil
}

func (p *pool) close() {
	for _, g := range *p.groups.Load() {
		g.close()
	}
}

// group is a set of upstreams that are as good as one another.
type group struct {
	urls      []string
	upstreams []*upstream
	next      atomic.Uint32
	transport *http.Transport
	patience  time.Duration
	// slots bounds the calls in flight, and with it the connections; queue bounds the
	// calls that wait for one of them.
	slots, queue chan struct{}
}

// upstream is one base URL of a group.
type upstream struct {
	scheme, host string
	prefix       string // of every path, without a slash at its end
	avoidUntil   atomic.Int64
}

func newGroup(urls []string, limits Limits) (*group, error) {
	g := &group{
		urls:     slices.Clone(urls),
		patience: limits.ConnectTimeout,
		slots:    make(chan struct{}, limits.UpstreamConns),
		queue:    make(chan struct{}, limits.UpstreamConns),
	}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
			return nil, fmt.Errorf("%q is not a base URL: expected http or https, a host, and perhaps a path", raw)
		}
		g.upstreams = append(g.upstreams, &upstream{scheme: u.Scheme, host: u.Host, prefix: strings.TrimRight(u.EscapedPath(), "/")})
	}
	dialer := &net.Dialer{Timeout: limits.ConnectTimeout, KeepAlive: 15 * time.Second}
	g.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, dialer, network, address)
		},
		TLSHandshakeTimeout:    limits.ConnectTimeout,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
		DisableCompression:     true,                                                   // bodies pass as they are
		MaxIdleConnsPerHost:    limits.UpstreamConns,
		IdleConnTimeout:        upstreamIdle,
		ResponseHeaderTimeout:  limits.AnswerTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	return g, nil
}

func (g *group) close() { g.transport.CloseIdleConnections() }

// acquire takes one of the group's slots. It waits as long as connecting may take, in a
// queue that is bounded too: beyond that the call is better refused.
func (g *group) acquire(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case g.queue <- struct{}{}:
	default:
		return errBusy
	}
	defer func() { <-g.queue }()
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *group) release() { <-g.slots }

// order yields the upstreams in the order in which to try them: in turn, those that
// couldn't be reached a moment ago last.
func (g *group) order(yield func(*upstream) bool) {
	n := len(g.upstreams)
	first, now := int(g.next.Add(1)), time.Now().UnixNano()
	var avoided []*upstream
	for i := range n {
		u := g.upstreams[(first+i)%n]
		if u.avoidUntil.Load() > now {
			avoided = append(avoided, u)
		} else if !yield(u) {
			return
		}
	}
	for _, u := range avoided {
		if !yield(u) {
			return
		}
	}
}

func (u *upstream) avoid() { u.avoidUntil.Store(time.Now().Add(avoidTime).UnixNano()) }

func dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	return &upstreamConn{TCPConn: tcp}, nil
}

// upstreamConn tells the call that uses a connection when it ends. http.Transport waits
// for the request's body before it reports a connection that has broken, and the client
// may be in no hurry to send it.
type upstreamConn struct {
	*net.TCPConn
	onClose atomic.Pointer[func()]
}

func (c *upstreamConn) Close() error {
	if f := c.onClose.Swap(nil); f != nil {
		(*f)()
	}
	return c.TCPConn.Close()
}

// connOf finds our connection below TLS.
func connOf(conn net.Conn) *upstreamConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*upstreamConn)
	return c
}
