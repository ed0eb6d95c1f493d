package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mpr/company"
	"mpr/gateway/http1"
	"mpr/limit"
	"mpr/observe"
	"mpr/rules"
	"mpr/token"
)

// Verifier checks an access token. Its errors are problems of code invalid_token,
// or wrong_environment.
type Verifier interface {
	Verify(raw string) (*token.Claims, error)
}

// Placements is the replica of the directory.
type Placements interface {
	Placement(company.ID) (company.Placement, bool)
	Region(company.Region) (company.RegionInfo, bool)
	// Regions lists the regions by number.
	Regions() []company.RegionInfo
	// Learn takes over a placement that a region told us of, if it is newer.
	Learn(company.Placement)
	// Held answers a channel that is closed once the company, which is changing over to
	// another region, may be called again; nil where nothing holds its calls.
	Held(company.ID) <-chan struct{}
}

// Limiter counts the calls of apps, by client id, and says which are too many. It may wait
// for a moment; the context ends that.
type Limiter interface {
	Take(ctx context.Context, client string) limit.Verdict
}

// Options are what a gateway needs. All fields must be set.
type Options struct {
	// Policy returns the rules; it is asked for each call, so that they can change while
	// the gateway runs.
	Policy     func() *rules.Policy
	Placements Placements
	Verifier   Verifier
	// IdentityURL is the base URL of the login service's internal listener, which answers
	// the calls that have no company.
	IdentityURL string
	// LoginURL is the base URL of what answers as the login door, for authentication requests of clients
	// that know only one host.
	LoginURL string
	// Secure makes connections to processes of ours secure; nil where those are plain HTTP.
	Secure Secure
	// Own are regions that are processes of ours, whatever the directory says of them.
	Own    []company.Region
	Limits Limits
	// Now is the clock of the rules.
	Now func() time.Time
	// Ledger may be nil: then nothing is counted.
	Ledger Ledger
	// Doors see the calls, each door its own; calls of a door that isn't there are seen by nobody.
	Doors map[rules.Door]*observe.Door
	// Limiter may be nil: then no app has a limit.
	Limiter Limiter
}

// Secure makes a connection to an address one to a process of ours with this role. It closes
// the connection where it fails.
type Secure func(ctx context.Context, conn net.Conn, address, role string) (net.Conn, error)

// Limits bound what a call may cost.
type Limits struct {
	// MaxBody is the largest request body in bytes; 0 for no limit.
	MaxBody int64
	// IdleTimeout is how long a tunnel (WebSocket) may stay idle.
	IdleTimeout time.Duration
	// StallTimeout is how long a body may make no progress, in either direction.
	StallTimeout time.Duration
	// ConnectTimeout is how long connecting to an upstream may take, the wait for a free
	// connection included.
	ConnectTimeout time.Duration
	// AnswerTimeout is how long an upstream may take until its answer's header is there.
	AnswerTimeout time.Duration
	// HoldTimeout is how long a call waits for a company that is changing over to another
	// region, and HoldCalls how many calls wait at the same time.
	HoldTimeout time.Duration
	HoldCalls   int
	// UpstreamConns is the largest number of connections to one region. While half of them are
	// taken, no app gets one beyond a quarter of them.
	UpstreamConns int
	// HealthInterval is how long nothing may be heard of an upstream before it is looked at;
	// 0: only those are that are left out.
	HealthInterval time.Duration
	// HedgePercent is how many of 100 calls may be sent to a second upstream as well, because
	// the first is late; 0 for none.
	HedgePercent int
	// ForwardedFrom are the networks of proxies ahead of us whose X-Forwarded-For and
	// X-Forwarded-Proto are believed.
	ForwardedFrom []netip.Prefix
}

func (l Limits) check() error {
	if l.MaxBody < 0 || l.UpstreamConns <= 0 || l.HoldTimeout < 0 || l.HoldCalls < 0 || l.HealthInterval < 0 || l.HedgePercent < 0 ||
		l.IdleTimeout <= 0 || l.StallTimeout <= 0 || l.ConnectTimeout <= 0 || l.AnswerTimeout <= 0 {
		return errors.New("start the gateway: every limit must be positive, but for the largest body, checks, hedges and holds, which may be 0")
	}
	return nil
}

// Service is the gateway of one environment.
type Service struct {
	policy     func() *rules.Policy
	placements Placements
	verifier   Verifier
	limits     Limits
	now        func() time.Time
	ledger     Ledger
	doors      map[rules.Door]*observe.Door
	limiter    Limiter

	regions  *pool
	identity *group
	login    *group
	clock    *http1.Watch // of the connections to them

	held    atomic.Int64 // calls that wait for companies that change over
	buffers sync.Pool    // *[]byte of copyBuffer bytes
	tunnels tunnels
	// projects are the companies of projects, for the legacy door.
	projects projects
}

// New makes a gateway. It connects to nothing until the first call.
func New(o Options) (*Service, error) {
	if err := o.Limits.check(); err != nil {
		return nil, err
	}
	clock := http1.NewWatch()
	identity, login, err := loginGroups(&o, clock)
	if err != nil {
		clock.Close()
		return nil, err
	}
	s := &Service{
		policy:     o.Policy,
		placements: o.Placements,
		verifier:   o.Verifier,
		limits:     o.Limits,
		now:        o.Now,
		ledger:     o.Ledger,
		doors:      o.Doors,
		limiter:    o.Limiter,
		regions:    newPool(o.Limits, o.Secure, o.Own, clock),
		identity:   identity,
		login:      login,
		clock:      clock,
	}
	identity.begin()
	login.begin()
	s.buffers.New = func() any {
		b := make([]byte, copyBuffer)
		return &b
	}
	return s, nil
}

// loginGroups are what stands for the login service: its internal listener, and its door.
func loginGroups(o *Options, clock *http1.Watch) (identity, login *group, err error) {
	if identity, err = newGroup("identity", []string{o.IdentityURL}, "", o.Limits, clock); err != nil {
		return nil, nil, fmt.Errorf("start the gateway: identity: %w", err)
	}
	if login, err = newGroup("login", []string{o.LoginURL}, "", o.Limits, clock); err != nil {
		return nil, nil, fmt.Errorf("start the gateway: login: %w", err)
	}
	if o.Secure != nil {
		err = errors.Join(identity.require(o.Secure, loginRole), login.require(o.Secure, loginRole))
	}
	return identity, login, err
}

// Handler answers a door, [rules.DoorAPI] or [rules.DoorLegacy].
func (s *Service) Handler(door rules.Door) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := newCall(s, door, w, r)
		err := errEnded // if serve panics
		defer func() { c.end(err) }()
		if err = c.serve(); err != nil {
			// The answer has begun and can't be completed. Ending it in the regular way
			// would make it look complete; this ends the connection (HTTP/2: the stream).
			panic(http.ErrAbortHandler)
		}
	})
}

// Close ends the tunnels, the checks of upstreams and the idle connections to them. Calls in flight belong
// to the servers, which must be shut down before.
func (s *Service) Close() error {
	s.tunnels.close()
	s.regions.close()
	s.identity.close()
	s.login.close()
	s.clock.Close()
	return nil
}
