package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

// callKey is where a call stands in the context of the request to its upstream.
type callKey struct{}

func callOf(ctx context.Context) *call { c, _ := ctx.Value(callKey{}).(*call); return c }

// forward sends the call to its upstream and streams the answer back.
func (c *call) forward() {
	limits := c.service.limits
	control := http.NewResponseController(c.w)
	body := c.r.Body
	if body != nil && body != http.NoBody && c.upgrade == "" {
		if limits.MaxBody > 0 {
			body = http.MaxBytesReader(c.w, body, limits.MaxBody)
		}
		c.body = &stallReader{ReadCloser: body, control: control, limit: limits.StallTimeout}
		body = c.body
	}
	r := c.r.WithContext(context.WithValue(c.r.Context(), callKey{}, c))
	r.Body = body
	c.service.proxy.ServeHTTP(&stallWriter{c.w, control, limits.StallTimeout}, r)
}

// rewrite makes the request to the upstream.
func rewrite(p *httputil.ProxyRequest) {
	c := callOf(p.In.Context())
	u := *p.In.URL
	u.RawQuery = c.target.query
	p.Out.URL = &u
	c.aim(p.Out, c.base)
	p.Out.Header = c.forwardedHeader(c.decision)
	// The server in front of us says "100 Continue" itself when the body is read.
	delete(p.Out.Header, "Expect")
	for name := range p.Out.Trailer {
		if dropped(name, c.policy.CompanyHeader) {
			delete(p.Out.Trailer, name)
		}
	}
}

// aim points a request at an upstream, below the path of its base URL.
func (c *call) aim(out *http.Request, base *url.URL) {
	u := *out.URL
	u.Scheme, u.Host = base.Scheme, base.Host
	if prefix := strings.TrimSuffix(base.Path, "/"); prefix != "" {
		raw := prefix + c.target.path
		u.Path, u.RawPath = prefix+c.r.URL.Path, raw
	}
	out.URL, out.Host = &u, base.Host
}

// replayable is the largest body that is kept, so that the call can be sent to another
// region.
const replayable = 64 << 10

// roundTripper sends a call, and once more where a region says that the company lives
// elsewhere: steps 4 to 6 of the way of a call.
type roundTripper struct{}

func (roundTripper) RoundTrip(out *http.Request) (*http.Response, error) {
	c := callOf(out.Context())
	if c.decision == nil || c.decision.Action != rules.Forward {
		return c.service.upstreams.transport(c.base).RoundTrip(out)
	}
	again, err := keepBody(out)
	if err != nil {
		return nil, err
	}
	answer, err := c.service.upstreams.transport(c.base).RoundTrip(out)
	if err != nil || answer.StatusCode != http.StatusMisdirectedRequest {
		return answer, err
	}
	placement, newer := c.told(answer)
	_ = answer.Body.Close()
	if !newer {
		return nil, regionUnavailable(c.decision.Placement.Region)
	}
	c.service.options.Placements.Learn(placement)
	if again == nil {
		return nil, problem.New(problem.CompanyMoving, "The company has just changed its region, and the body was too large to be kept. Send the call again.").After(time.Second)
	}
	if c.base, err = c.service.upstream(placement.Region); err != nil {
		return nil, err
	}
	retry := out.Clone(out.Context())
	retry.Body = again()
	c.aim(retry, c.base)
	retry.Header.Set(epochHeader, strconv.FormatInt(int64(placement.Epoch), 10))
	answer, err = c.service.upstreams.transport(c.base).RoundTrip(retry)
	if err == nil && answer.StatusCode == http.StatusMisdirectedRequest {
		_ = answer.Body.Close()
		return nil, regionUnavailable(placement.Region)
	}
	return answer, err
}

// told reads where a region says that the company lives, and whether that is news.
func (c *call) told(answer *http.Response) (company.Placement, bool) {
	region, err := company.ParseRegion(answer.Header.Get(regionHeader))
	epoch, err2 := strconv.ParseInt(answer.Header.Get(epochHeader), 10, 64)
	placement := c.decision.Placement
	newer := err == nil && err2 == nil && company.Epoch(epoch) > placement.Epoch
	placement.Region, placement.Epoch = region, company.Epoch(epoch)
	return placement, newer
}

// keepBody reads a small body of known length, so that it can be sent a second time. It
// answers nil where the body is too large for that, or of unknown length.
func keepBody(out *http.Request) (again func() io.ReadCloser, err error) {
	if out.Body == nil || out.Body == http.NoBody || out.ContentLength == 0 {
		return func() io.ReadCloser { return http.NoBody }, nil
	}
	if out.ContentLength < 0 || out.ContentLength > replayable || len(out.Trailer) > 0 {
		return nil, nil //nolint:nilnil // it can be sent once only
	}
	data := make([]byte, out.ContentLength)
	if _, err := io.ReadFull(out.Body, data); err != nil {
		return nil, err
	}
	again = func() io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }
	out.Body = again()
	return again, nil
}

// cleanAnswer takes out of an answer what isn't the upstream's to say.
func cleanAnswer(answer *http.Response) error {
	for name := range answer.Header {
		if ourAnswerHeader(name) {
			delete(answer.Header, name)
		}
	}
	return nil
}

// failed answers a call whose upstream could not answer it.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r.Context())
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	problem.Write(w, r, c.explain(err))
}

// explain turns a failure into what a client can act on.
func (c *call) explain(err error) error {
	var p *problem.Problem
	var tooLarge *http.MaxBytesError
	var dial *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return bodyTooLarge(tooLarge.Limit)
	case errors.Is(err, errStalled):
		return problem.New(problem.BodyTimeout, "The body stopped arriving. Send the call again.").Because(err)
	case c.body != nil && c.body.failed.Load():
		return problem.New(problem.BadRequest, "The body is malformed, or was cut off.").Because(err)
	}
	if c.decision == nil || c.decision.Action != rules.Forward {
		return problem.New(problem.IdentityUnavailable, "The login service can't be reached. Try again.").After(time.Second).Because(err)
	}
	region := c.decision.Placement.Region
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return regionUnavailable(region).Because(err)
	case errors.As(err, &timeout) && timeout.Timeout():
		p = problem.New(problem.RegionTimeout, "Region %s took too long to answer. Whether the call had an effect isn't known: look before you repeat it.", region)
	default:
		p = problem.New(problem.BadUpstreamAnswer, "Region %s broke off its answer. Whether the call had an effect isn't known: look before you repeat it.", region)
	}
	p.Region = string(region)
	return p.Because(err)
}

// stallReader ends a body that makes no progress. The deadline is taken back after each
// read: it must not end the wait for the answer.
type stallReader struct {
	io.ReadCloser
	control *http.ResponseController
	limit   time.Duration
	failed  atomic.Bool // the body could not be read to its end
}

var errStalled = errors.New("the client's body made no progress")

func (s *stallReader) Read(b []byte) (int, error) {
	_ = s.control.SetReadDeadline(time.Now().Add(s.limit)) // not every connection has one
	n, err := s.ReadCloser.Read(b)
	_ = s.control.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errStalled
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed.Store(true)
	}
	return n, err
}

// stallWriter ends an answer that the client doesn't take.
type stallWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

func (s *stallWriter) Write(b []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.limit)) // not every connection has one
	return s.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find what is below.
func (s *stallWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
