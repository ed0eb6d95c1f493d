package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"mpr/company"
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
	errStalled = errors.New("the upstream made no progress")
	errEnded   = errors.New("the call has ended")
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
func (c *call) exchange(to *destination, h http.Header) (misdirected http.Header, err error) {
	if err := to.group.acquire(c.ctx); err != nil {
		return nil, c.fail(to, err)
	}
	defer to.group.release()
	if c.body != nil && !c.duplex {
		// Without this, net/http's server reads the whole body before it sends the first
		// byte of an answer. HTTP/2 needs no such thing.
		c.duplex = c.deadlines.control.EnableFullDuplex() == nil
	}
	resp, t, err := c.send(to, h)
	if err != nil {
		return nil, c.fail(to, err)
	}
	defer t.end()
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusMisdirectedRequest && to.region != "" {
		if c.reader != nil {
			_ = c.reader.Close() // never fails
		}
		c.discard(resp)
		return resp.Header, nil
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, c.tunnel(to, resp)
	}
	err = c.answer(resp)
	if err != nil && !errors.Is(err, errClientGone) && context.Cause(c.ctx) != errClientGone { //nolint:errorlint // our own, never wrapped
		t.brokeOff(to.group.now())
	}
	return nil, err
}

// discard reads an unwanted answer if it is a small one, so that its connection is kept.
func (c *call) discard(resp *http.Response) {
	if c.body != nil && !c.body.complete.Load() || resp.ContentLength < 0 || resp.ContentLength > discardAtMost {
		return // closing it is cheaper
	}
	c.watch.begin(&c.watch.sending)
	defer c.watch.end(&c.watch.sending)
	_, _ = io.Copy(io.Discard, resp.Body) // what is wrong with it shows when the connection is used again
}

// send tries the upstreams until one takes the call. Once there was a connection, the
// call may have had an effect and is not sent again; one that can't have any is, once.
// The caller closes the answer's body, and ends the ticket.
func (c *call) send(to *destination, h http.Header) (*http.Response, ticket, error) {
	var last error
	var not tried
	again := c.body == nil && !c.mayHaveEffect()
	for range to.group.upstreams {
		t, err := to.group.choose(c.ctx, not, c.body == nil)
		if err != nil {
			if last == nil {
				last = err
			}
			break
		}
		not.add(t.index)
		resp, t, connected, err := c.try(to, t, &not, h)
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
func (c *call) once(ctx context.Context, to *destination, t *ticket, h http.Header) (resp *http.Response, connected bool, err error) {
	resp, connected, err = c.attempt(ctx, to, to.group.upstreams[t.index], h)
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
	return resp, connected, nil
}

// outcome says what the failure of a call means for its upstream.
func (c *call) outcome(to *destination, t *ticket, connected bool, err error) outcome {
	cause := context.Cause(c.ctx)
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
	case errors.Is(cause, errStalled): // by a body that the upstream doesn't take: not by silence
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
func (c *call) attempt(parent context.Context, to *destination, u *upstream, h http.Header) (resp *http.Response, connected bool, err error) {
	out := &http.Request{
		Method: c.r.Method,
		// Opaque goes into the request line as it is.
		URL:    &url.URL{Scheme: u.scheme, Host: u.host, Opaque: u.prefix + c.target.raw},
		Host:   u.host,
		Header: h,
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if to.keepHost {
		out.Host = c.r.Host
	}
	var reader *bodyReader
	if c.body != nil {
		out.Trailer = c.trailers()
		reader = c.body.open(out.Trailer)
		out.Body, out.ContentLength = reader, c.r.ContentLength
		c.reader = reader
	}
	var got atomic.Bool
	ctx := httptrace.WithClientTrace(parent, &httptrace.ClientTrace{
		// The transport may try more than one connection: one that was kept can turn out to
		// have ended.
		GetConn: func(string) { got.Store(false) },
		GotConn: func(info httptrace.GotConnInfo) {
			got.Store(true)
			if reader != nil {
				reader.attach(connOf(info.Conn))
			}
		},
		Got1xxResponse: c.inform,
	})
	resp, err = to.group.transport.RoundTrip(out.WithContext(ctx))
	return resp, got.Load(), err
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

// inform passes an informational answer on, such as 103 (RFC 8297). The transport's
// goroutine calls it.
func (c *call) inform(code int, header textproto.MIMEHeader) error {
	// 100 is about the body between us and the upstream; our server sends its own when the
	// body is first read. RFC 9110 section 15.2: "A server MUST NOT send a 1xx response to
	// an HTTP/1.0 client."
	if code == http.StatusContinue || !c.r.ProtoAtLeast(1, 1) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answering || c.informed == maxInformational {
		return nil
	}
	c.informed++
	h := c.w.Header()
	before := h.Clone()
	copyAnswerHeader(h, http.Header(header))
	_ = c.deadlines.control.SetWriteDeadline(time.Now().Add(c.deadlines.stall))
	c.w.WriteHeader(code)
	_ = c.deadlines.control.SetWriteDeadline(time.Time{})
	for name := range h {
		if _, ok := before[name]; !ok {
			delete(h, name)
		}
	}
	return nil
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
		slog.WarnContext(c.ctx, "a region names a region that the directory doesn't know",
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
	case errors.Is(fromClient, errClientGone), errors.Is(context.Cause(c.ctx), errClientGone):
		return errClientGone
	case fromClient != nil:
		return c.refuse(fromClient)
	case errors.Is(err, errBusy), errors.Is(err, errReturning):
		p = problem.New(to.unavailable, "%s has too many calls at the moment. Nothing was changed. Try again in a moment.", to.name).After(movingRetry)
	case errors.Is(err, errAway):
		// Rounded up to whole seconds, and spread over two: those who are told now had better
		// not come back at the same moment.
		p = unreachable(to.name, to.unavailable).After(to.group.fleet.soonest(to.group.now()) + rand.N(2*time.Second)) //nolint:gosec // a lot is no secret
		return c.refuse(p.In(string(to.region)))                                                                       // told when the upstream was left out
	case errors.Is(err, errUnreachable):
		p = unreachable(to.name, to.unavailable)
	case errors.Is(context.Cause(c.ctx), errStalled), errors.As(err, &network) && network.Timeout():
		p = problem.New(to.late, "%s didn't answer in time. %s", to.name, c.whatNow())
	default:
		p = problem.New(to.broken, "%s gave no complete answer. %s", to.name, c.whatNow())
	}
	slog.WarnContext(c.ctx, "an upstream failed", "request_id", c.w.Header().Get(problem.RequestIDHeader),
		"upstream", to.name, "code", p.Code, "error", err)
	return c.refuse(p.In(string(to.region))) // its cause is in the log
}

func (c *call) whatNow() string {
	if c.mayHaveEffect() {
		return "The call may have been carried out: check before you repeat it."
	}
	return "Try again."
}
