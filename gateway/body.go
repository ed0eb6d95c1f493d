package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"mpr/problem"
)

// keepBody is how much of a request's body is kept so that it can be sent again.
const keepBody = 64 << 10

var (
	errClientGone   = errors.New("the client has gone")
	errUpstreamGone = errors.New("the upstream ended the connection")
	errReaderClosed = errors.New("the call no longer sends its body there")
)

// body is the body of a client's request. It is read through readers: one for each time
// that the call is sent. A new reader starts with what the ones before it have read, as
// long as that was no more than keepBody.
type body struct {
	request   *http.Request
	deadlines *deadlines
	max       int64 // 0 for no limit
	trailer   http.Header

	// complete says that the last byte has arrived.
	complete atomic.Bool
	// abandoned says that the upstream went away while it was sent the body.
	abandoned atomic.Bool

	// reading is held while the source is read. The reader of an earlier attempt may still
	// wait for the client when the next one starts; what it gets is kept for the next one.
	reading sync.Mutex

	mu     sync.Mutex // guards what follows, never held for long
	kept   []byte
	lost   bool // more than keepBody was read: what was kept is gone
	pinned bool // the body is being sent again: nothing may be lost
	total  int64
	err    error // io.EOF or why there is no more
}

// bodyReader is the body as one attempt to send the call sees it.
type bodyReader struct {
	body   *body
	at     int // in what is kept
	closed atomic.Bool
	// trailer is filled in when the body is complete.
	trailer http.Header
}

// open returns a reader at the start of the body, which must not be lost.
func (b *body) open(trailer http.Header) *bodyReader {
	return &bodyReader{body: b, trailer: trailer}
}

// canReopen says whether the body can be sent again, and makes sure that this stays so.
// The reader must have been closed; it may still wait for the client.
func (b *body) canReopen() bool {
	if b.abandoned.Load() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pinned = !b.lost && (b.err == nil || errors.Is(b.err, io.EOF))
	return b.pinned
}

// settle returns when nobody reads the source any more. All readers must be closed.
func (b *body) settle() {
	b.reading.Lock()
	defer b.reading.Unlock()
}

// failure is why the client's body could not be read; nil if it could, or if it was us
// who stopped.
func (b *body) failure() error {
	if b.abandoned.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.err, io.EOF) {
		return nil
	}
	return b.err
}

// abandon wakes up a reader that waits for the client, because the upstream has gone:
// nobody wants more of the body.
func (r *bodyReader) abandon() {
	if b := r.body; !r.closed.Load() && !b.complete.Load() {
		b.abandoned.Store(true)
		b.deadlines.freezeRead(0)
	}
}

// Close keeps the reader from touching the body again. The source stays open: it belongs
// to the server.
func (r *bodyReader) Close() error {
	r.closed.Store(true)
	return nil
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.body
	n, err, ok := r.replay(p)
	if !ok {
		b.reading.Lock()
		// Somebody else may have read meanwhile.
		if n, err, ok = r.replay(p); !ok {
			n, err = b.fill(p, r)
		}
		b.reading.Unlock()
	}
	switch {
	case errors.Is(err, io.EOF):
		for name := range r.trailer {
			r.trailer[name] = b.trailer[name]
		}
	case b.abandoned.Load():
		err = errUpstreamGone
	}
	return n, err
}

// replay reads what is there without reading the source; ok is false if that is nothing.
func (r *bodyReader) replay(p []byte) (n int, err error, ok bool) { //nolint:revive // Read's results come first
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.closed.Load():
		return 0, errReaderClosed, true
	case r.at < len(b.kept):
		n = copy(p, b.kept[r.at:])
		r.at += n
		return n, nil, true
	}
	return 0, b.err, b.err != nil
}

// fill reads the source once for a reader (nil: for nobody yet), keeps what it got where
// that may be needed again, and notes how the body ended. b.reading must be held.
func (b *body) fill(p []byte, r *bodyReader) (int, error) {
	b.deadlines.extendRead()
	n, err := b.request.Body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += int64(n)
	if b.max > 0 && b.total > b.max {
		n, err = 0, bodyTooLarge(b.max)
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF): // as net/http's bodies return it
		b.deadlines.clearRead()
		b.complete.Store(true)
		b.err = io.EOF
	default:
		b.err = bodyProblem(b.request, err)
	}
	late := r != nil && r.closed.Load()
	switch {
	case b.lost:
	case b.pinned:
		if late {
			b.kept = append(b.kept, p[:n]...)
		}
	case b.total > keepBody:
		b.kept, b.lost = nil, true
	default:
		if b.kept == nil && b.request.ContentLength > 0 && b.request.ContentLength <= keepBody {
			b.kept = make([]byte, 0, b.request.ContentLength)
		}
		b.kept = append(b.kept, p[:n]...)
	}
	if late {
		return 0, errReaderClosed
	}
	if r != nil {
		r.at += n
	}
	return n, b.err
}

// readAhead reads a body that says it is small, before the call takes up anything of an
// upstream: a client that dribbles it takes up nothing but his connection. Others stream, and
// so does one whose client asks first whether it is wanted. What comes with no token is read
// in any case, since everybody may send it.
func (c *call) readAhead() error {
	b := c.body
	small := c.r.ContentLength > 0 && c.r.ContentLength <= keepBody && c.r.Header["Expect"] == nil
	if b.complete.Load() || !small && c.claims != nil {
		return nil
	}
	_, _, err := b.peek()
	return err
}

// app is whose share of the slots a call takes up.
func (c *call) app() string {
	if c.claims == nil {
		return ""
	}
	return c.claims.ClientID
}

// peek reads the body ahead, and returns it or, where it is larger than what is kept, its
// beginning; whole says which.
func (b *body) peek() (content []byte, whole bool, err error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	size := int64(4 << 10)
	if n := b.request.ContentLength; n > 0 {
		size = min(size, n)
	}
	buf := make([]byte, size)
	for b.total < keepBody {
		// Never more than is kept, so that the body can be sent from its start.
		_, err := b.fill(buf[:min(len(buf), keepBody-int(b.total))], nil)
		if errors.Is(err, io.EOF) {
			return b.kept, true, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	return b.kept, false, nil
}

func bodyTooLarge(limit int64) *problem.Problem {
	return problem.New(problem.BodyTooLarge, "The request body is larger than %d bytes, the most that is accepted. Send less at a time.", limit)
}

// bodyProblem says why a body could not be read.
func bodyProblem(r *http.Request, err error) error {
	var known *problem.Problem
	var network net.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New(problem.BodyTimeout, "The request body stopped arriving. Send it again, without long pauses.").Because(err)
	case r.ProtoMajor != 1, errors.As(err, &network), r.Context().Err() != nil:
		return errClientGone
	}
	// A client that was cut off may still listen (RFC 9112 section 8).
	return problem.New(problem.BadRequest, "The request body is malformed or was cut off. Check how it is framed (Content-Length, Transfer-Encoding).").Because(err)
}
