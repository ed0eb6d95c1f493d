package http1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
)

// Response is what an upstream answers. It belongs to its connection: once it is closed it must
// not be looked at.
type Response struct {
	StatusCode int
	Header     http.Header
	// Length is that of the body; -1: it isn't known.
	Length int64
	// Trailer has the names that were announced, and their values once the body has ended.
	Trailer http.Header

	conn   *ClientConn
	ctx    *Context
	fields fields
	minor  int
	chunks chunked
	left   int64 // of a length that is known
	err    error // why there is no more; io.EOF
	keep   bool  // the connection, where all was read
	taken  bool  // it is a tunnel
	closed bool
}

func (r *Response) begin(ctx *Context, _ *Request) {
	*r = Response{conn: r.conn, ctx: ctx, fields: r.fields}
}

// read reads the head of an answer (RFC 9112 section 4).
func (r *Response) read(head string, _ *Request) error {
	r.fields.reset()
	end := strings.IndexByte(head, '\n')
	line := head[:max(end-1, 0)]
	version, rest, _ := strings.Cut(line, " ")
	status, reason, _ := strings.Cut(rest, " ")
	switch version {
	case "HTTP/1.1":
		r.minor = 1
	case "HTTP/1.0":
		r.minor = 0
	default:
		return malformed("the answer's version isn't HTTP/1.1")
	}
	code, ok := contentLength(status)
	if !ok || len(status) != 3 || code < 100 || code > 999 || !isValue(reason) {
		return malformed("the answer's status isn't one")
	}
	r.StatusCode = int(code)
	if err := r.fields.read(head[end+1:]); err != nil {
		return err
	}
	if r.fields.differentSizes {
		return malformed("Content-Length comes more than once, and differs")
	}
	r.Header = r.fields.header
	if r.fields.lengths > 1 {
		r.Header["Content-Length"] = r.Header["Content-Length"][:1]
	}
	if err := r.fields.coding(r.minor); err != nil {
		return err
	}
	var err error
	r.Trailer, err = r.fields.announced()
	return err
}

// frame finds out where the body ends.
func (r *Response) frame(q *Request) {
	f := &r.fields
	connection := r.Header["Connection"]
	r.conn.inBody = true
	r.keep = r.minor == 1 && !hasOption(connection, "close") || r.minor == 0 && hasOption(connection, "keep-alive")
	delete(r.Header, "Transfer-Encoding")
	switch {
	case r.StatusCode == http.StatusSwitchingProtocols:
		r.Length, r.err, r.keep = 0, io.EOF, false
	case q.Method == http.MethodHead, r.StatusCode == http.StatusNoContent, r.StatusCode == http.StatusNotModified:
		r.Length, r.err = f.length, io.EOF
	case f.chunked:
		r.Length = -1
		if r.Trailer == nil {
			r.Trailer = http.Header{}
		}
		r.chunks.reset(&r.conn.in, r.Trailer, true)
	case f.length >= 0:
		r.Length, r.left = f.length, f.length
		if r.left == 0 {
			r.err = io.EOF
		}
	default: // all until the connection ends
		r.Length, r.left, r.keep = -1, -1, false
	}
}

// Read reads the body.
func (r *Response) Read(p []byte) (n int, err error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	c := r.conn
	switch {
	case r.fields.chunked:
		n, err = r.chunks.Read(p)
		if err == nil && errors.Is(r.chunks.err, io.EOF) {
			err = io.EOF
		}
	case r.left < 0:
		n, err = c.in.Read(p)
	default:
		n, err = c.in.Read(p[:min(int64(len(p)), r.left)])
		r.left -= int64(n)
		switch {
		case err != nil:
			err = unexpected(err)
		case r.left == 0:
			err = io.EOF
		}
	}
	r.err = err
	return n, err
}

// Close ends the answer. Its connection is kept where all of it was read, and all of the request
// was sent.
func (r *Response) Close() {
	if r.closed {
		return
	}
	r.closed = true
	c := r.conn
	r.ctx.attach(nil)
	if r.taken {
		return
	}
	sent := c.sender.sent()
	if !errors.Is(r.err, io.EOF) || !r.keep || !sent || !c.in.empty() || c.aborted.Load() || !c.rest() {
		c.sender.stop()
		c.end()
	}
}

// rest keeps the connection for another request; false where it isn't kept.
func (c *ClientConn) rest() bool {
	c.readBy(0)
	c.writeBy(0)
	c.in.shrink(answerBuffer)
	if cap(c.out) > manyBytes {
		c.out = make([]byte, 0, writeBuffer)
	}
	return c.client.keep(c)
}

// Tunnel gives the connection away, after the protocol has changed.
func (r *Response) Tunnel() io.ReadWriteCloser {
	r.taken = true
	r.conn.inBody = false
	r.ctx.attach(nil)
	r.conn.client.Watch.remove(r.conn)
	return &Tunnel{Conn: r.conn.Conn, in: &r.conn.in}
}

// Tunnel is a connection to an upstream that has changed its protocol.
type Tunnel struct {
	net.Conn
	in *reader
}

// Read reads what came behind the answer first.
func (t *Tunnel) Read(p []byte) (int, error) { return t.in.Read(p) }

// CloseWrite ends one direction.
func (t *Tunnel) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
