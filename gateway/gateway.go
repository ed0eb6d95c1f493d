package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/textproto"
	"net/url"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// Verifier checks an access token. Its errors are problems of code invalid_token.
type Verifier interface {
	Verify(raw string) (*token.Claims, error)
}

// Placements is the replica of the directory.
type Placements interface {
	Placement(company.ID) (company.Placement, bool)
	Region(company.Region) (company.RegionInfo, bool)
	// Learn takes over a placement that a region told us of, if it is newer.
	Learn(company.Placement)
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
	// LoginURL is the base URL of the login door, for authentication requests of clients
	// that know only one host.
	LoginURL string
	Limits   Limits
	// Now is the clock of the rules.
	Now func() time.Time
}

// Limits bound what a call may cost.
type Limits struct {
	// MaxHeader is the largest request header in bytes.
	MaxHeader int
	// MaxBody is the largest request body in bytes; 0 for no limit.
	MaxBody int64
	// StallTimeout is how long a body may make no progress, in either direction.
	StallTimeout time.Duration
	// ConnectTimeout is how long connecting to an upstream may take.
	ConnectTimeout time.Duration
	// AnswerTimeout is how long an upstream may take until its answer's header is there.
	AnswerTimeout time.Duration
	// UpstreamConns is the largest number of connections to one upstream.
	UpstreamConns int
	// ForwardedFrom are the networks of proxies ahead of us whose X-Forwarded-For and
	// X-Forwarded-Proto are believed.
	ForwardedFrom []netip.Prefix
}

// Service is the gateway of one environment.
type Service struct {
	options         Options
	limits          Limits
	identity, login *url.URL
	upstreams       upstreams
	proxy           *httputil.ReverseProxy
}

// New makes a gateway. It connects to nothing until the first call.
func New(o Options) (*Service, error) {
	s := &Service{options: o, limits: o.Limits, upstreams: upstreams{limits: o.Limits}}
	var err, err2 error
	s.identity, err = parseUpstream(o.IdentityURL)
	s.login, err2 = parseUpstream(o.LoginURL)
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	s.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{},
		FlushInterval:  -1, // what the region has sent reaches the client at once
		ModifyResponse: cleanAnswer,
		ErrorHandler:   failed,
		ErrorLog:       slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Close ends the idle connections to upstreams. Calls in flight belong to the servers,
// which must be shut down before.
func (s *Service) Close() error {
	s.upstreams.close()
	return nil
}

// call is one API call on its way.
type call struct {
	service *Service
	policy  *rules.Policy
	w       http.ResponseWriter
	r       *http.Request
	target  target
	upgrade string
	// body is the request's body on its way; nil where there is none.
	body *stallReader
	// base is where the call goes.
	base *url.URL
	// decision is nil for requests that the rules have nothing to do with.
	decision *rules.Decision
}

// Handler answers a door, [rules.DoorAPI] or [rules.DoorLegacy].
func (s *Service) Handler(door rules.Door) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{service: s, policy: s.options.Policy(), w: w, r: r, upgrade: upgradeTo(r)}
		if err := c.route(door); err != nil {
			var p *problem.Problem
			if errors.As(err, &p) && p.Code.Status() == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", challenge(p)) // RFC 6750 section 3
			}
			problem.Write(w, r, err)
			return
		}
		c.forward()
	})
}

// challenge names the error only where a token was sent (RFC 6750 section 3.1).
func challenge(p *problem.Problem) string {
	if p.Code == problem.MissingToken {
		return `Bearer realm="api"`
	}
	return `Bearer realm="api", error="invalid_token"`
}

// route decides where the call goes, or why it goes nowhere: steps 1 to 3 of the way of a
// call.
func (c *call) route(door rules.Door) error {
	var refusal *problem.Problem
	if c.target, refusal = readTarget(c.r); refusal != nil {
		return refusal
	}
	if headerSize(c.r) > c.service.limits.MaxHeader {
		return problem.New(problem.HeaderTooLarge, "The request's header is larger than %d bytes.", c.service.limits.MaxHeader)
	}
	if limit := c.service.limits.MaxBody; limit > 0 && c.r.ContentLength > limit {
		return bodyTooLarge(limit)
	}
	if isAuthentication(c.target.path) {
		c.base = c.service.login
		return nil
	}
	raw, err := token.Bearer(c.r.Header.Values("Authorization"))
	if err != nil {
		return err
	}
	claims, err := c.service.options.Verifier.Verify(raw)
	if err != nil {
		return err
	}
	decision := c.policy.Decide(rules.Call{
		Door:         door,
		Method:       c.r.Method,
		Path:         c.target.path,
		Header:       c.r.Header[textproto.CanonicalMIMEHeaderKey(c.policy.CompanyHeader)],
		Hinted:       hinted(c.r),
		Token:        claims.Kind,
		TokenCompany: claims.Company,
		Now:          c.service.options.Now(),
	}, c.service.options.Placements)
	c.decision = &decision
	switch decision.Action {
	case rules.Identity:
		c.base = c.service.identity
		return nil
	case rules.Forward:
		c.base, err = c.service.upstream(decision.Placement.Region)
		return err
	}
	return decision.Problem
}

// hinted is the company that the query names, for the legacy door; 0 where it names none,
// or more than one.
func hinted(r *http.Request) company.ID {
	named := r.URL.Query()["company_id"]
	if len(named) != 1 {
		return 0
	}
	id, err := company.ParseID(named[0])
	if err != nil {
		return 0
	}
	return id
}

// mayHaveEffect says whether the method may change something (RFC 9110 section 9.2.1).
func (c *call) mayHaveEffect() bool {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

func bodyTooLarge(limit int64) *problem.Problem {
	return problem.New(problem.BodyTooLarge, "The body is larger than %d bytes.", limit)
}
