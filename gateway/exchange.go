package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"syscall"
	"time"

	"mpr/company"
	"mpr/gateway/http1"
	"mpr/problem"
)

const (
	// maxInformational is how many informational answers (1xx) a call passes on.
	maxInformational = 16
	// discardAtMost is the largest unwanted answer that is read to keep its connection.
	discardAtMost = 4 << 10
	// movingRetry is when a call that a move has refused may be tried again.
	movingRetry = time.Second
)

var (
	errEnded = errors.New("the call has ended")
	errLate  = errors.New("no answer came in time")
)

// destination is where a call is sent, and what is said when that fails.
type destination struct {
	group  *group
	name   string
	region company.Region // empty for our own services
	// keepHost sends the Host that the client called, instead of the upstream's.
	keepHost                  bool
	unavailable, late, broken problem.Code
}

// exchange sends the call to a destination and passes the answer on. A region's 421 is
// not passed on: its header is returned.
func (c *call) exchange(to *destination, header []byte) (misdirected http.Header, err error) {
	if c.body != nil {
		if err := c.readAhead(); err != nil {
			return nil, c.fail(to, err)
		}
	}
	if err := to.group.slots.take(&c.ctx, c.app(), to.group.patience); err != nil {
		return nil, c.fail(to, err)
	}
	defer to.group.slots.give(c.app())
	if c.body != nil && !c.duplex {
		// Without this, net/http's server reads the whole body before it sends the first
		// byte of an answer. HTTP/2 needs no such thing.
		c.duplex = c.deadlines.control.EnableFullDuplex() == nil
	}
	resp, t, err := c.send(to, header)
	if err != nil {
		return nil, c.fail(to, err)
	}
	defer t.end()
	defer resp.Close()
	if resp.StatusCode == http.StatusMisdirectedRequest && to.region != "" {
		if c.reader != nil {
			_ = c.reader.Close() // never fails
		}
		c.discard(resp)
		return resp.Header.Clone(), nil
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, c.tunnel(to, resp)
	}
	err = c.answer(resp)
	if err != nil && !errors.Is(err, errClientGone) && c.ctx.Cause() != errClientGone { //nolint:errorlint // our own, never wrapped
		t.brokeOff(to.group.now())
	}
	return nil, err
}

// discard reads an unwanted answer if it is a small one, so that its connection is kept.
func (c *call) discard(resp *http1.Response) {
	if c.body != nil && !c.body.complete.Load() || resp.Length < 0 || resp.Length > discardAtMost {
		return // closing it is cheaper
	}
	_, _ = io.Copy(io.Discard, resp) // what is wrong with it shows when the connection is used again
}

// send tries the upstreams until one takes the call. Once there was a connection, the
// call may have had an effect and is not sent again; one that can't have any is, once.
// The caller closes the answer's body, and ends the ticket.
func (c *call) send(to *destination, header []byte) (*http1.Response, ticket, error) {
	var last error
	var not tried
	again := c.body == nil && !c.mayHaveEffect()
	for range to.group.upstreams {
		t, err := to.group.choose(&c.ctx, not, c.body == nil || c.body.complete.Load())
		if err != nil {
			if last == nil {
				last = err
			}
			break
		}
		not.add(t.index)
		resp, t, connected, err := c.try(to, t, &not, header)
		if err == nil {
			return resp, t, nil
		}
		if c.ctx.Err() != nil || connected && (!again || c.outcome(to, &t, true, err) != broken) {
			return nil, ticket{}, err
		}
		if connected {
			again, last = false, err
		} else {
			last = fmt.Errorf("%w: %w", errUnreachable, err)
		}
	}
	if last == nil {
		last = errAway // a region without upstreams
	}
	return nil, ticket{}, last
}

// once sends the call to the upstream of a ticket and tells its fleet what became of it. The
// ticket has ended where there is an error.
func (c *call) once(ctx *http1.Context, to *destination, t *ticket, header []byte) (resp *http1.Response, connected bool, err error) {
	resp, connected, err = c.attempt(ctx, to, to.group.upstreams[t.index], header)
	if err != nil {
		o := c.outcome(to, t, connected, err)
		if c.ctx.Err() == nil && ctx.Err() != nil { // the race is over
			o = beaten
		}
		t.failed(to.group.now(), o)
		t.end()
		return nil, connected, err
	}
	t.answered(to.group.now(), resp.StatusCode)
	if resp.Header[LeavingHeader] != nil {
		t.leaves(to.group.now())
	}
	return resp, connected, nil
}

// outcome says what the failure of a call means for its upstream.
func (c *call) outcome(to *destination, t *ticket, connected bool, err error) outcome {
	cause := c.ctx.Cause()
	var network net.Error
	switch {
	case errors.Is(cause, errClientGone):
		// A client that leaves after a while tells of an upstream that is silent; most of
		// them wait for less time than we do.
		if t.measured && connected && to.group.now()-t.began >= c.service.limits.AnswerTimeout/4 {
			return silent
		}
		return blameless
	case ours(err), c.body != nil && c.body.failure() != nil:
		return blameless
	case !connected:
		return unreached
	case errors.Is(err, http1.ErrStalled): // by a body that the upstream doesn't take: not by silence
		return stalled
	case errors.As(err, &network) && network.Timeout():
		return silent
	}
	return broken
}

// ours says whether an error is that of a machine which has run out of something, ours: no
// upstream is to blame for it.
func ours(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EADDRNOTAVAIL) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// attempt sends the call to one upstream. connected says whether there was a connection
// to it when that failed.
func (c *call) attempt(ctx *http1.Context, to *destination, u *upstream, header []byte) (resp *http1.Response, connected bool, err error) {
	q := &http1.Request{
		Method: c.r.Method, Target: u.prefix + c.target.raw, Host: u.host, Header: header, Expects: c.r.Header["Expect"] != nil,
		Again: !c.mayHaveEffect(), Sender: c,
	}
	if to.keepHost {
		q.Host = c.r.Host
	}
	if c.body != nil {
		q.Trailer = c.trailers()
		c.reader = c.body.open(q.Trailer)
		q.Body, q.Length = c.reader, c.r.ContentLength
	}
	return u.client.Send(ctx, q)
}

// trailers are the names of the trailers that may go upstream, without values yet.
func (c *call) trailers() http.Header {
	if len(c.announced) == 0 {
		return nil
	}
	t := make(http.Header, len(c.announced))
	for _, name := range c.announced {
		t[name] = nil
	}
	return t
}

// announcedTrailers are the names of the trailers that the client has announced and that
// may go upstream. They are read before the body is: at its end the values are written
// among them, by whoever reads it for an attempt that may be over by then.
func (c *call) announcedTrailers() []string {
	companyHeader := textproto.CanonicalMIMEHeaderKey(c.policy.CompanyHeader)
	var names []string
	for name := range c.r.Trailer {
		// RFC 9110 section 6.5.1: nothing that is needed for routing or authentication may
		// come as a trailer.
		if name != "Authorization" && !dropped(name, companyHeader) {
			names = append(names, name)
		}
	}
	return names
}

// Broken tells that the upstream is gone while it is sent the body.
func (c *call) Broken() { c.reader.abandon() }

// Inform passes an informational answer on, such as 103 (RFC 8297). Where two upstreams race,
// either may have one.
func (c *call) Inform(code int, header http.Header) {
	// RFC 9110 section 15.2: "A server MUST NOT send a 1xx response to an HTTP/1.0 client."
	if !c.r.ProtoAtLeast(1, 1) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answering || c.informed == maxInformational {
		return
	}
	c.informed++
	h := c.w.Header()
	before := h.Clone()
	copyAnswerHeader(h, header)
	_ = c.deadlines.control.SetWriteDeadline(time.Now().Add(c.deadlines.stall))
	c.w.WriteHeader(code)
	_ = c.deadlines.control.SetWriteDeadline(time.Time{})
	for name := range h {
		if _, ok := before[name]; !ok {
			delete(h, name)
		}
	}
}

// learn takes over the placement that a region's 421 names.
func (c *call) learn(header http.Header, refused company.Placement) {
	region, err := company.ParseRegion(header.Get(regionHeader))
	if err != nil {
		return // it knows of none
	}
	epoch, err := strconv.ParseInt(header.Get(epochHeader), 10, 64)
	if err != nil || epoch <= int64(refused.Epoch) {
		return
	}
	if _, ok := c.service.placements.Region(region); !ok {
		slog.WarnContext(&c.ctx, "a region names a region that the directory doesn't know",
			"region", refused.Region, "names", region, "company", refused.Company)
		return
	}
	refused.Region, refused.Epoch = region, company.Epoch(epoch)
	c.service.placements.Learn(refused)
}

// behind says whether a region that refuses a call owns the company under an earlier epoch: it
// will hear of the later one in a moment.
func behind(header http.Header, refused company.Placement) bool {
	epoch, err := strconv.ParseInt(header.Get(epochHeader), 10, 64)
	return err == nil && epoch > 0 && epoch < int64(refused.Epoch) && header.Get(regionHeader) == string(refused.Region)
}

func moving(p company.Placement) *problem.Problem {
	return problem.New(problem.CompanyMoving, "The company is moving to another region. Nothing was changed. Try again in a moment.").
		In(string(p.Region)).After(movingRetry)
}

func unreachable(name string, code problem.Code) *problem.Problem {
	return problem.New(code, "%s can't be reached at the moment. Nothing was changed. Try again in a moment.", name).After(movingRetry)
}

// fail answers a call that got no answer from its destination.
func (c *call) fail(to *destination, err error) error {
	var p *problem.Problem
	var network net.Error
	fromClient := error(nil)
	if c.body != nil {
		fromClient = c.body.failure()
	}
	switch {
	case errors.Is(fromClient, errClientGone), errors.Is(c.ctx.Cause(), errClientGone):
		return errClientGone
	case fromClient != nil:
		return c.refuse(fromClient)
	case errors.Is(err, errShare):
		p = problem.New(to.unavailable, "%s has too many calls of this app at the moment. Nothing was changed. Send fewer at a time.", to.name).After(movingRetry)
	case errors.Is(err, errBusy), errors.Is(err, errReturning):
		p = problem.New(to.unavailable, "%s has too many calls at the moment. Nothing was changed. Try again in a moment.", to.name).After(movingRetry)
	case errors.Is(err, errAway):
		// Rounded up to whole seconds, and spread over two: those who are told now had better
		// not come back at the same moment.
		p = unreachable(to.name, to.unavailable).After(to.group.fleet.soonest(to.group.now()) + rand.N(2*time.Second)) //nolint:gosec // a lot is no secret
		return c.refuse(p.In(string(to.region)))                                                                       // told when the upstream was left out
	case errors.Is(err, errUnreachable):
		p = unreachable(to.name, to.unavailable)
	case errors.Is(err, http1.ErrStalled), errors.As(err, &network) && network.Timeout():
		p = problem.New(to.late, "%s didn't answer in time. %s", to.name, c.whatNow())
	default:
		p = problem.New(to.broken, "%s gave no complete answer. %s", to.name, c.whatNow())
	}
	slog.WarnContext(&c.ctx, "an upstream failed", "request_id", c.w.Header().Get(problem.RequestIDHeader),
		"upstream", to.name, "code", p.Code, "error", err)
	return c.refuse(p.In(string(to.region))) // its cause is in the log
}

func (c *call) whatNow() string {
	if c.mayHaveEffect() {
		return "The call may have been carried out: check before you repeat it."
	}
	return "Try again."
}
