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
	"mpr/gateway/http1"
	"mpr/problem"
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
)

var errUnreachable = errors.New("no upstream could be reached")

// pool holds the upstreams of each region. Regions share nothing: one whose connections
// are all in use can't hold up another.
type pool struct {
	limits Limits
	secure Secure
	own    []company.Region // always secure where secure isn't nil
	clock  *http1.Watch
	mu     sync.Mutex // for changes
	groups atomic.Pointer[map[company.Region]*group]
}

func newPool(limits Limits, secure Secure, own []company.Region, clock *http1.Watch) *pool {
	p := &pool{limits: limits, secure: secure, own: own, clock: clock}
	p.groups.Store(&map[company.Region]*group{})
	return p
}

// of returns the upstreams of a region, built anew where they have changed. What is known
// of those that stay is kept.
func (p *pool) of(info company.RegionInfo) (*group, error) {
	info.Ours = info.Ours || p.secure != nil && slices.Contains(p.own, info.Code)
	if g := (*p.groups.Load())[info.Code]; g != nil && g.serves(&info) {
		return g, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.groups.Load()
	before := old[info.Code]
	if before != nil && before.serves(&info) {
		return before, nil // somebody else was quicker
	}
	g, err := newGroup(string(info.Code), info.Upstreams, info.HealthPath, p.limits, p.clock)
	if err == nil && info.Ours {
		err = g.require(p.secure, regionRole)
	}
	if err != nil {
		return nil, err
	}
	if before != nil {
		g.inherit(before)
	}
	g.region = destination{
		group: g, name: "The region " + string(info.Code), region: info.Code,
		unavailable: problem.RegionUnavailable, late: problem.RegionTimeout, broken: problem.BadUpstreamAnswer,
	}
	g.begin()
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
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range *p.groups.Load() {
		g.close()
	}
}

// group is a set of upstreams that are as good as one another.
type group struct {
	name       string
	urls       []string
	healthPath string
	upstreams  []*upstream
	fleet      *fleet
	region     destination // where it is that of a region
	born       time.Time
	dialer     *net.Dialer
	patience   time.Duration
	secure     Secure // where they are processes of ours, of this role
	role       string
	slots      *slots
	hedges     hedges

	// A goroutine looks after each upstream, until stop is called.
	interval time.Duration
	checks   *http.Transport // has no connections to keep
	wake     []chan struct{}
	stop     context.CancelFunc
	watches  sync.WaitGroup
}

// upstream is one base URL of a group.
type upstream struct {
	scheme, host string
	prefix       string // of every path, without a slash at its end
	client       http1.Client
}

// newGroup makes a group, which must begin before it is used.
func newGroup(name string, urls []string, healthPath string, limits Limits, clock *http1.Watch) (*group, error) {
	g := &group{
		name: name, urls: slices.Clone(urls), healthPath: healthPath, born: time.Now(),
		dialer:   &net.Dialer{Timeout: limits.ConnectTimeout, KeepAlive: 15 * time.Second},
		patience: limits.ConnectTimeout, interval: limits.HealthInterval,
		slots: newSlots(limits.UpstreamConns), hedges: hedges{percent: limits.HedgePercent},
	}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
			return nil, fmt.Errorf("%q is not a base URL: expected http or https, a host, and perhaps a path", raw)
		}
		g.upstreams = append(g.upstreams, g.newUpstream(u, limits, clock))
		g.wake = append(g.wake, make(chan struct{}, 1))
	}
	g.fleet = newFleet(len(urls), limits.UpstreamConns, g.report)
	g.checks = &http.Transport{
		DialContext: g.dialer.DialContext, DialTLSContext: g.dialTLS, DisableKeepAlives: true, DisableCompression: true,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, MaxResponseHeaderBytes: maxCheckHeader,
	}
	return g, nil
}

func (g *group) newUpstream(base *url.URL, limits Limits, clock *http1.Watch) *upstream {
	u := &upstream{scheme: base.Scheme, host: base.Host, prefix: strings.TrimRight(base.EscapedPath(), "/")}
	dial, address := g.dialer.DialContext, u.address()
	if u.scheme == "https" {
		dial = g.dialTLS
	}
	u.client = http1.Client{
		Dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", address) }, Watch: clock,
		MaxIdle: limits.UpstreamConns, IdleTime: upstreamIdle, MaxHeader: maxAnswerHeader,
		AnswerTimeout: limits.AnswerTimeout, StallTimeout: limits.StallTimeout, ContinueTimeout: continueTimeout,
	}
	return u
}

// dialTLS connects to an upstream over TLS: to a process of ours by our CA, to any other as the
// system trusts it.
func (g *group) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := g.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	if g.secure != nil {
		return g.secure(ctx, conn, address, g.role)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	secure := tls.Client(conn, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// The roles of our processes behind a gateway.
const (
	regionRole = "region"
	loginRole  = "login"
)

// require has the upstreams be processes of ours with a role. None is spoken to in the clear.
func (g *group) require(secure Secure, role string) error {
	if secure == nil {
		return fmt.Errorf("the upstreams of %s want certificates of our processes: set internal_tls for this gateway", g.name)
	}
	for _, u := range g.upstreams {
		if u.scheme != "https" {
			return fmt.Errorf("%s is a process of ours on plain HTTP, and this gateway has internal_tls: set it for the control role, and start that again", u.host)
		}
	}
	g.secure, g.role = secure, role
	return nil
}

func (g *group) serves(info *company.RegionInfo) bool {
	return (g.secure != nil) == info.Ours && g.healthPath == info.HealthPath && slices.Equal(g.urls, info.Upstreams)
}

// inherit takes over what a group before knows of the upstreams that both have. The other
// ones are new beside those: they begin with few calls.
func (g *group) inherit(before *group) {
	before.fleet.mu.Lock()
	defer before.fleet.mu.Unlock()
	g.born = before.born // times are counted from there
	stay := slices.ContainsFunc(g.urls, func(u string) bool { return slices.Contains(before.urls, u) })
	for i, u := range g.urls {
		m := &g.fleet.members[i]
		if j := slices.Index(before.urls, u); j >= 0 {
			known := &before.fleet.members[j]
			m.health, m.latency, m.sampledAt, m.answeredAt, m.wellAt = known.health, known.latency, known.sampledAt, known.answeredAt, known.wellAt
			m.recent = 0
		} else if stay { // or there is nobody else
			m.allowance, m.allowedAt = 1, g.now()
		}
	}
}

// begin looks after the upstreams from here on.
func (g *group) begin() {
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	for i, u := range g.upstreams {
		u.client.Begin()
		g.watches.Go(func() { g.watch(ctx, i) })
	}
}

func (g *group) close() {
	g.stop()
	g.watches.Wait()
	for _, u := range g.upstreams {
		u.client.Close()
	}
}

func (g *group) now() time.Duration { return time.Since(g.born) }

// choose picks an upstream for a call. Where those that are there have just come back and
// take few calls yet, it waits, as long as connecting may take.
func (g *group) choose(ctx context.Context, not tried, measured bool) (ticket, error) {
	t, err := g.fleet.pick(g.now(), not, measured)
	if !errors.Is(err, errReturning) {
		return t, err
	}
	timer, more := time.NewTimer(g.patience), time.NewTicker(warmStep)
	defer timer.Stop()
	defer more.Stop()
	for {
		select {
		case <-g.fleet.room:
		case <-more.C:
		case <-timer.C:
			return ticket{}, errReturning
		case <-ctx.Done():
			return ticket{}, context.Cause(ctx)
		}
		if t, err = g.fleet.pick(g.now(), not, measured); !errors.Is(err, errReturning) {
			g.fleet.signal()
			return t, err
		}
	}
}
