package http1

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// answerBuffer is what a connection to an upstream reads with: the head of an answer and the body
// of a small one come in one piece.
const answerBuffer = 4 << 10

// ClientConn is a connection to an upstream. One goroutine sends the request and reads the answer;
// only a body is sent by another one.
type ClientConn struct {
	guarded
	client *Client
	in     reader
	out    []byte
	raw    syscall.RawConn // nil over TLS
	// What [ClientConn.sendAndWait] works with.
	onReadable func(fd uintptr) bool
	sent       bool
	failed     error

	resp      Response
	sender    sender
	aborted   atomic.Bool
	idleSince int64
	inBody    bool // what is read is the body of an answer
	ending    sync.Once
}

func newClientConn(client *Client, nc net.Conn) *ClientConn {
	c := &ClientConn{client: client, out: make([]byte, 0, writeBuffer)}
	c.Conn = nc
	c.in = reader{from: c, buf: make([]byte, answerBuffer)}
	c.resp.conn = c
	if tcp, ok := nc.(syscall.Conn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.raw, c.onReadable = raw, c.tryRead
		}
	}
	return c
}

// Read reads the connection. The upstream may take so long as a body may make no progress.
func (c *ClientConn) Read(p []byte) (int, error) {
	if !c.inBody {
		return c.Conn.Read(p)
	}
	c.readBy(c.client.Watch.in(c.client.StallTimeout))
	n, err := c.Conn.Read(p)
	c.readBy(0)
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.aborted.Load() {
		err = ErrStalled
	}
	return n, err
}

// abort breaks off what is under way.
func (c *ClientConn) abort() {
	c.aborted.Store(true)
	c.deadline(&c.reading, past, c.SetReadDeadline)
	c.deadline(&c.writing, past, c.SetWriteDeadline)
}

// readBy and writeBy set deadlines, but for a call that was broken off.
func (c *ClientConn) readBy(due int64) {
	c.guarded.readBy(due)
	if c.aborted.Load() { // perhaps just before, and then that would have been undone
		c.deadline(&c.reading, past, c.SetReadDeadline)
	}
}

func (c *ClientConn) writeBy(due int64) {
	c.guarded.writeBy(due)
	if c.aborted.Load() {
		c.deadline(&c.writing, past, c.SetWriteDeadline)
	}
}

// end ends the connection.
func (c *ClientConn) end() {
	c.ending.Do(func() {
		c.client.Watch.remove(c)
		_ = c.Close()
	})
}

// exchange sends a request and reads the head of the answer. The connection has ended where there
// is an error.
func (c *ClientConn) exchange(ctx *Context, q *Request) (*Response, error) {
	resp, err := c.try(ctx, q)
	if err == nil {
		return resp, nil
	}
	if e := c.sender.failed(); e != nil && !errors.Is(err, errStale) {
		err = e // the answer didn't come because the request didn't go
	}
	ctx.attach(nil)
	c.end()
	if c.sender.stop() && q.Sender != nil {
		q.Sender.Broken()
	}
	return nil, err
}

func (c *ClientConn) try(ctx *Context, q *Request) (*Response, error) {
	c.aborted.Store(false)
	c.inBody = false
	c.sender.reset(c, q)
	var err error
	if c.out, err = appendRequest(c.out[:0], q); err != nil {
		return nil, err
	}
	if !ctx.attach(c) {
		return nil, errAborted
	}
	c.resp.begin(ctx, q)
	if q.Body == nil || q.Length == 0 {
		c.readBy(c.client.Watch.in(c.client.AnswerTimeout))
		err = c.sendAndWait()
	} else if err = c.check(); err == nil {
		c.readBy(0)
		if _, err = c.Write(c.out); err == nil {
			go c.sender.run() // the client may be in no hurry
		}
	}
	if err != nil {
		return nil, err
	}
	return &c.resp, c.readHead(q)
}

// sendAndWait sends the head and reads the first bytes of the answer. Ahead of that it looks
// whether the connection has ended or something has come that nobody asked for. That costs
// nothing: to read before one waits is due anyhow, and the runtime only wakes up who has done so.
func (c *ClientConn) sendAndWait() error {
	if c.raw == nil {
		if err := c.check(); err != nil {
			return err
		}
		_, err := c.Write(c.out)
		return err
	}
	c.sent, c.failed = false, nil
	err := c.raw.Read(c.onReadable)
	switch {
	case !c.sent:
		return errStale
	case err != nil:
		return err
	case c.failed == nil && c.in.empty(), errors.Is(c.failed, syscall.ECONNRESET), errors.Is(c.failed, syscall.EPIPE):
		return errUnanswered
	}
	return c.failed
}

// tryRead is called until it says true: first at once, and then when there is something to read.
func (c *ClientConn) tryRead(fd uintptr) bool {
	n, err := readFD(fd, c.in.buf)
	if err == syscall.EAGAIN { //nolint:errorlint // as the kernel answers
		if c.sent {
			return false
		}
		c.sent = true
		_, c.failed = c.Write(c.out)
		return c.failed != nil
	}
	c.in.r, c.in.w, c.failed = 0, max(n, 0), err
	return true
}

func readFD(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// check looks whether a connection that was kept has ended, or something has come that nobody
// asked for: it would be taken for the answer.
func (c *ClientConn) check() error {
	if c.idleSince == 0 { // the first request: a server of TLS may have sent tickets
		return nil
	}
	raw := c.raw
	if t, ok := c.Conn.(*tls.Conn); ok {
		if err := c.checkRecords(); err != nil {
			return err
		}
		if tcp, ok := t.NetConn().(syscall.Conn); ok {
			raw, _ = tcp.SyscallConn() // nil where it fails
		}
	}
	if raw == nil {
		return nil
	}
	quiet := false
	err := raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
		return true
	})
	if err != nil || !quiet {
		return errStale
	}
	return nil
}

// checkRecords looks whether TLS has read more than the answer, which came along with it: in a
// record of its own that is still there.
func (c *ClientConn) checkRecords() error {
	var one [1]byte
	c.deadline(&c.reading, past, c.SetReadDeadline) // what has been read is answered all the same
	_, err := c.Conn.Read(one[:])
	c.readBy(0)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return errStale
	}
	return nil
}

// readHead reads the head of the answer, and informational ones before it.
func (c *ClientConn) readHead(q *Request) error {
	for informed := 0; ; {
		head, err := c.in.head(c.client.MaxHeader, nil)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				err = errUnanswered
			}
			return err
		}
		r := &c.resp
		if err := r.read(string(head), q); err != nil {
			return err
		}
		switch {
		case r.StatusCode == http.StatusContinue:
			c.sender.ask(true)
		case r.StatusCode == http.StatusSwitchingProtocols || r.StatusCode >= 200:
			c.sender.ask(false)
			c.readBy(0)
			r.frame(q)
			return nil
		case q.Sender != nil:
			q.Sender.Inform(r.StatusCode, r.Header)
		}
		if informed++; informed > maxInformational {
			return malformed("there are too many informational answers")
		}
	}
}

// maxInformational bounds the informational answers that come before the answer.
const maxInformational = 64

// sender sends the body of a request, in a goroutine of its own.
type sender struct {
	conn *ClientConn
	q    *Request

	asked chan bool // whether to send a body that the client keeps back
	mu    sync.Mutex
	runs  bool  // until the body is sent, or can't be
	err   error // why it can't be
	off   bool  // nobody wants it any more
}

func (s *sender) reset(c *ClientConn, q *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.q, s.runs, s.err, s.off, s.asked = c, q, q.Body != nil && q.Length != 0, nil, false, nil
	if s.runs && q.Expects {
		s.asked = make(chan bool, 1)
	}
}

// ask tells a sender that waits whether the upstream wants the body.
func (s *sender) ask(wanted bool) {
	if s.asked != nil {
		select {
		case s.asked <- wanted:
		default: // it has been told already
		}
	}
}

// stop has the sender end as soon as the body lets it. It says whether it was still at work.
func (s *sender) stop() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	if s.runs {
		s.ask(false)
	}
	return s.runs
}

func (s *sender) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// sent says whether all was sent, so that the connection can be used again.
func (s *sender) sent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.runs && s.err == nil
}

// run sends the body.
func (s *sender) run() {
	c := s.conn
	err := s.send(c, s.q)
	s.mu.Lock()
	off := s.off
	s.runs, s.err = false, err
	if !off && err == nil {
		c.readBy(c.client.Watch.in(c.client.AnswerTimeout))
	}
	s.mu.Unlock()
	// What the upstream says is worth more than that it didn't listen; a body that can't be
	// completed must end the call.
	var broken *unwritten
	if err != nil && !off && err != errNotWanted && !errors.As(err, &broken) { //nolint:errorlint // our own, never wrapped
		c.abort()
	}
}

func (s *sender) send(c *ClientConn, q *Request) error {
	if s.asked != nil {
		timer := time.NewTimer(c.client.ContinueTimeout)
		defer timer.Stop()
		select {
		case wanted := <-s.asked:
			if !wanted {
				return errNotWanted
			}
		case <-timer.C:
		}
	}
	pooled, _ := pieces.Get().(*[]byte)
	defer pieces.Put(pooled)
	if q.Length < 0 {
		return s.sendChunks(c, q, *pooled)
	}
	for left := q.Length; left > 0; {
		n, err := q.Body.Read((*pooled)[:min(pieceSize, left)])
		left -= int64(n)
		if n > 0 {
			if err := s.write(c, (*pooled)[:n]); err != nil {
				return err
			}
		}
		if err != nil && left > 0 {
			return unexpected(err)
		}
	}
	return s.drained(q)
}

var errNotWanted = errors.New("the upstream doesn't want the body")

// drained reads the end of the body, so that it knows that it was read.
func (s *sender) drained(q *Request) error {
	var one [1]byte
	switch n, err := q.Body.Read(one[:]); {
	case n > 0:
		return errors.New("the body is longer than it says")
	case err != nil && !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// pieces are buffers that bodies pass through.
var pieces = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}

const pieceSize = 32 << 10

// sendChunks sends a body of unknown length. Each piece goes as soon as it is there.
func (s *sender) sendChunks(c *ClientConn, q *Request, buf []byte) error {
	const sizeLine = 6 // four hexadecimal digits and a line end
	for {
		n, err := q.Body.Read(buf[sizeLine : len(buf)-len("0\r\n\r\n")-len(crlf)])
		b := buf[:0]
		if n > 0 {
			b = append(fmt.Appendf(b, "%04x\r\n", n), buf[sizeLine:sizeLine+n]...) // where it is
			b = append(b, "\r\n"...)
		}
		switch {
		case errors.Is(err, io.EOF):
			b = append(b, "0\r\n"...)
			for name, values := range q.Trailer {
				for _, v := range values {
					b = AppendField(b, name, v)
				}
			}
			return s.write(c, append(b, "\r\n"...))
		case err != nil:
			return err
		case n > 0:
			if err := s.write(c, b); err != nil {
				return err
			}
		}
	}
}

// write writes within the time that the upstream has.
func (s *sender) write(c *ClientConn, p []byte) error {
	c.writeBy(c.client.Watch.in(c.client.StallTimeout))
	_, err := c.Write(p)
	switch {
	case err == nil:
		c.writeBy(0)
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrStalled
	}
	return &unwritten{err}
}

// unwritten says that the upstream can't be sent any more: it may have answered all the same.
type unwritten struct{ error }

func (u *unwritten) Unwrap() error { return u.error }

// appendRequestFraming says how long the body is, and ends the head.
func appendRequestFraming(b []byte, q *Request) []byte {
	switch {
	case q.Body != nil && q.Length >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, q.Length, 10)
		b = append(b, "\r\n"...)
	case q.Body != nil:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if len(q.Trailer) > 0 {
			names := make([]string, 0, len(q.Trailer))
			for name := range q.Trailer {
				names = append(names, name)
			}
			b = AppendField(b, "Trailer", strings.Join(names, ", "))
		}
	case q.Method == http.MethodPost, q.Method == http.MethodPut, q.Method == http.MethodPatch:
		b = append(b, "Content-Length: 0\r\n"...)
	}
	return append(b, "\r\n"...)
}
