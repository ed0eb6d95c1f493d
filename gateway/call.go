package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"mpr/company"
	"mpr/gateway/http1"
	"mpr/limit"
	"mpr/observe"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// call is one request on its way through the gateway.
type call struct {
	service *Service
	door    rules.Door
	w       http.ResponseWriter
	r       *http.Request
	policy  *rules.Policy
	target  target
	// What the ledger wants to know: claims is nil without a valid token, client the app that
	// a request for authentication names, refusal the code of a refusal, ours or the region's.
	claims  *token.Claims
	client  string
	verdict limit.Verdict // what the limits of the app say; zero without a valid token
	rates   [3]string     // the same, as the answer says it
	company company.ID
	filled  bool
	bare    bool // it came through the legacy door without the company header
	status  int
	refusal problem.Code

	seen    observe.Call
	endSpan func(*observe.Call)

	upgrade string // the protocol that the client wants to change to, if we let it
	oauth   bool   // refusals take the form of RFC 6749

	// ctx ends when the client goes away.
	ctx http1.Context
	// What ends the watch for a client that goes away: the context of its connection, or a
	// function where that isn't one of ours.
	whose     *http1.Context
	unfollow  func() bool
	deadlines deadlines
	body      *body       // nil if the request has none
	announced []string    // the trailers that may go upstream
	reader    *bodyReader // of the latest attempt
	duplex    bool        // the body may be read while the answer is written
	races     sync.WaitGroup
	pooled    *[]byte // what the header that goes upstream was made in

	mu        sync.Mutex // guards w against informational answers that come late
	answering bool
	informed  int
}

func newCall(s *Service, door rules.Door, w http.ResponseWriter, r *http.Request) *call {
	c := &call{service: s, door: door, w: w, r: r, policy: s.policy()}
	c.seen.Began = time.Now()
	c.observed().Begin()
	ctx, endSpan := c.observed().Span(r.Context(), r)
	c.endSpan = endSpan
	c.ctx.Begin(ctx)
	c.deadlines = deadlines{control: *http.NewResponseController(w), stall: s.limits.StallTimeout}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 { // HTTP/2 has a body where there is none
		c.body = &body{request: r, deadlines: &c.deadlines, max: s.limits.MaxBody, trailer: r.Trailer}
		c.announced = c.announcedTrailers()
	} else {
		c.upgrade = upgradeTo(r)
	}
	c.follow(r.Context())
	return c
}

// follow has the call end when its client goes away, which may be at once.
func (c *call) follow(client context.Context) {
	if own, ok := client.(*http1.Context); ok {
		own.Bind(&c.ctx, errClientGone)
		c.whose = own
		return
	}
	c.unfollow = context.AfterFunc(client, c.clientLeft)
}

func (c *call) leaveClient() {
	if c.whose != nil {
		c.whose.Bind(nil, nil)
	} else {
		c.unfollow()
	}
}

// clientLeft ends the call when the server says that the client has gone. It says so too
// when a deadline of ours ended the reading of the body; then the client still listens.
func (c *call) clientLeft() {
	if !c.deadlines.readExpired() {
		c.ctx.End(errClientGone)
	}
}

// end leaves nothing behind that touches the connection. err is what cut the answer off.
func (c *call) end(err error) {
	c.account()
	defer c.witness()
	c.leaveClient()
	c.ctx.End(errEnded)
	c.races.Wait()
	if c.pooled != nil {
		headerRoom.Put(c.pooled) // as long as it was: a larger one isn't kept
	}
	if c.body == nil {
		return
	}
	if c.reader != nil {
		_ = c.reader.Close() // never fails
	}
	if !c.body.complete.Load() {
		// A reader of ours that still waits for the client would keep the server from
		// ending the request, and make it forget the deadline that follows.
		c.deadlines.freezeRead(0)
		c.body.settle()
		if err == nil {
			c.deadlines.linger()
		}
	}
}

// observed is what sees the calls of the door.
func (c *call) observed() *observe.Door { return c.service.doors[c.door] }

// witness tells what became of the call.
func (c *call) witness() {
	s := &c.seen
	s.Method, s.Path, s.RequestID, s.Remote = c.r.Method, c.r.URL.Path, c.w.Header().Get(problem.RequestIDHeader), observe.Address(c.r.RemoteAddr)
	s.Status, s.Reason, s.Company = c.status, c.refusal, c.company
	if s.Status == 0 {
		s.Status = statusClientGone
	}
	if c.claims != nil {
		s.ClientID = c.claims.ClientID
	}
	c.endSpan(s)
	c.observed().Done(s)
}

// statusClientGone stands for a call whose client left before there was an answer. It is never
// sent; nginx made the number known.
const statusClientGone = 499

// serve answers the call. An error says that the answer could not be completed.
func (c *call) serve() error {
	limits := &c.service.limits
	var refusal *problem.Problem
	if c.target, refusal = readTarget(c.r); refusal != nil {
		return c.refuse(refusal)
	}
	if isAuthentication(c.target.path) {
		return c.authenticate()
	}
	raw, err := token.Bearer(c.r.Header["Authorization"])
	if err != nil {
		return c.refuseToken(err)
	}
	claims, err := c.service.verifier.Verify(raw)
	if err != nil {
		return c.refuseToken(err)
	}
	c.claims = claims
	if c.service.limiter != nil {
		c.verdict = c.service.limiter.Take(&c.ctx, claims.ClientID)
	}
	if c.verdict.Refused {
		return c.refuse(c.tooMany())
	}
	if limits.MaxBody > 0 && c.r.ContentLength > limits.MaxBody {
		return c.refuse(bodyTooLarge(limits.MaxBody))
	}
	facts := rules.Call{
		Door:         c.door,
		Method:       c.r.Method,
		Path:         c.target.path,
		Header:       c.r.Header.Values(c.policy.CompanyHeader),
		Token:        claims.Kind,
		TokenCompany: claims.Company,
		Now:          c.service.now(),
	}
	if c.door == rules.DoorLegacy {
		facts.ClientID, facts.Lot = claims.ClientID, rand.Float64() //nolint:gosec // a lot is no secret
		if c.bare = len(facts.Header) == 0; c.bare {
			if facts.Hinted, err = c.hint(); err != nil {
				return c.refuse(err)
			}
		}
	}
	return c.route(facts)
}

// authenticate passes an authentication request on to the login service.
func (c *call) authenticate() error {
	c.oauth = strings.HasPrefix(c.target.path, "/oauth")
	if err := c.authentication(); err != nil {
		return c.refuse(err)
	}
	_, err := c.exchange(&destination{
		group: c.service.login, name: "The login service", keepHost: true,
		unavailable: problem.TemporarilyUnavailable, late: problem.TemporarilyUnavailable, broken: problem.TemporarilyUnavailable,
	}, c.forwardedHeader(nil))
	return err
}

// maxResent is how often a call follows its company to a newer placement. More than one is due
// where a change-over is undone and tried again.
const maxResent = 8

// route does what the rules say. A region that doesn't own the company may know better
// than the replica where it lives; the rules then decide once more, with that placement.
func (c *call) route(facts rules.Call) error {
	decision, err := c.decide(&facts)
	if err != nil {
		return c.refuse(err)
	}
	var waiting patience
	defer waiting.end(c.service)
	resent := 0
	for {
		c.company, c.filled = decision.Company, decision.Filled
		switch decision.Action {
		case rules.Identity:
			_, err := c.exchange(&destination{
				group: c.service.identity, name: "The identity service",
				unavailable: problem.IdentityUnavailable, late: problem.IdentityUnavailable, broken: problem.IdentityUnavailable,
			}, c.forwardedHeader(&decision))
			return err
		case rules.Forward:
		default:
			return c.refuse(decision.Problem)
		}
		if over := c.service.placements.Held(decision.Company); over != nil {
			if !waiting.wait(c, over) {
				return c.leave(decision.Placement)
			}
			if decision, err = c.decide(&facts); err != nil {
				return c.refuse(err)
			}
			if decision.Action != rules.Forward {
				continue
			}
		}
		c.seen.Region = decision.Placement.Region
		to, refusal := c.region(decision.Placement.Region)
		if refusal != nil {
			return c.refuse(refusal)
		}
		misdirected, err := c.exchange(to, c.forwardedHeader(&decision))
		if misdirected == nil || err != nil {
			return err
		}
		refused := decision.Placement
		c.learn(misdirected, refused)
		if c.body != nil && !c.body.canReopen() {
			return c.leave(refused)
		}
		if decision, err = c.decide(&facts); err != nil {
			return c.refuse(err)
		}
		newer := decision.Action == rules.Refuse || decision.Placement.Epoch > refused.Epoch
		if newer && resent < maxResent {
			resent++
			continue
		}
		// The region says that the company is about to change over, or it has come to where it
		// will live before that knows: the gateway hasn't heard of the hold, or not in time. Or a
		// change-over was undone, and the gateway has heard of the new epoch before the region.
		if misdirected.Get(movingHeader) == "" && !behind(misdirected, refused) || !waiting.wait(c, nil) {
			return c.leave(refused)
		}
		if decision, err = c.decide(&facts); err != nil {
			return c.refuse(err)
		}
	}
}

// leave refuses a call whose company moves.
func (c *call) leave(p company.Placement) error {
	if c.ctx.Err() != nil {
		return errClientGone
	}
	return c.refuse(moving(p))
}

// region finds the upstreams of a region.
func (c *call) region(code company.Region) (*destination, *problem.Problem) {
	info, ok := c.service.placements.Region(code)
	if !ok {
		return nil, unreachable("The region "+string(code), problem.RegionUnavailable).In(string(code))
	}
	group, err := c.service.regions.of(info)
	if err != nil {
		return nil, unreachable("The region "+string(code), problem.RegionUnavailable).In(string(code)).Because(err)
	}
	return &group.region, nil
}

// mayHaveEffect says whether the call may change anything (RFC 9110 section 9.2.1).
func (c *call) mayHaveEffect() bool {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

// startAnswer ends the time of informational answers: from here on w belongs to the
// goroutine of the call.
func (c *call) startAnswer() {
	c.mu.Lock()
	c.answering = true
	c.mu.Unlock()
	c.deadlines.extendWrite()
	// With the body still coming in, the connection can't serve another request: it would
	// be read from the middle of the body.
	if c.duplex && !c.body.complete.Load() && c.r.ProtoMajor == 1 {
		c.w.Header()["Connection"] = []string{"close"}
	}
}

// refuse answers the call with err.
func (c *call) refuse(err error) error {
	c.startAnswer()
	c.refusal = problem.From(err).Code
	c.status = c.refusal.Status()
	if c.body != nil && !c.body.complete.Load() {
		c.deadlines.linger()
	}
	c.deprecate(c.w.Header())
	c.rate(c.w.Header())
	if c.oauth {
		problem.WriteOAuth(c.w, c.r, err)
	} else {
		problem.Write(c.w, c.r, err)
	}
	return nil
}

// refuseToken answers a call without a valid access token, with the challenge that RFC
// 6750 section 3 asks for.
func (c *call) refuseToken(err error) error {
	if c.door == rules.DoorLegacy {
		// A token wouldn't help.
		if closed := c.policy.ClosedToAll(c.service.now()); closed != nil {
			return c.refuse(closed)
		}
	}
	switch p := problem.From(err); p.Code {
	case problem.MissingToken:
		// "If the request lacks any authentication information [...], the resource server
		// SHOULD NOT include an error code or other error information."
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="api"`)
	case problem.InvalidToken, problem.WrongEnvironment:
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="api", error="invalid_token", error_description="The access token is invalid"`)
	default:
	}
	return c.refuse(err)
}
