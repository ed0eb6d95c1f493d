package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Request is what is sent to an upstream.
type Request struct {
	Method, Target, Host string
	// Header are lines as [AppendField] makes them, without Host and what is about the framing:
	// that is made of the rest. Expects says that they hold an Expect of 100-continue.
	Header  []byte
	Expects bool
	// Body has Length bytes, or any number where that is -1; nil: there is none. It is read by
	// another goroutine, which may go on when the answer is over, until the body says that it has
	// ended. It isn't closed.
	Body   io.Reader
	Length int64
	// Trailer is sent behind a body of unknown length, with what is there by then.
	Trailer http.Header
	// Again says that the request may be sent once more where a connection that was kept has
	// turned out to have ended.
	Again bool
	// Sender is told what happens meanwhile; nil: nobody is.
	Sender Sender
}

// Sender is whose request it is.
type Sender interface {
	// Inform tells of an informational answer, but for 100.
	Inform(status int, h http.Header)
	// Broken tells that the upstream is gone before it has got the body, which may still be waited
	// for.
	Broken()
}

// Errors of an exchange with an upstream.
var (
	// ErrStalled says that the upstream took no more of the body, or sent no more of the answer's.
	ErrStalled = errors.New("the upstream made no progress")
	// errStale says that a connection that was kept has ended, and nothing was sent.
	errStale = errors.New("the connection had ended")
	// errUnanswered says that a connection that was kept ended before there was a byte of an answer.
	errUnanswered = errors.New("the connection ended before an answer")
	errAborted    = errors.New("the call was broken off")
)

// Client sends requests to one upstream, over connections that are kept. It follows nothing,
// opens nothing that is compressed, and knows no proxies.
type Client struct {
	// Dial makes a connection.
	Dial func(context.Context) (net.Conn, error)
	// Watch looks after deadlines.
	Watch *Watch
	// MaxIdle is how many connections are kept, IdleTime for how long.
	MaxIdle  int
	IdleTime time.Duration
	// AnswerTimeout bounds the wait for an answer's head, from when the request was sent.
	// StallTimeout is how long a body may make no progress where that is up to the upstream.
	// ContinueTimeout is how long the body is kept back where the client waits to be asked for it.
	AnswerTimeout, StallTimeout, ContinueTimeout time.Duration
	// MaxHeader is the largest head of an answer in bytes.
	MaxHeader int

	listed
	mu     sync.Mutex // guards the rest
	idle   []*ClientConn
	closed bool
}

// Send sends a request and answers the beginning of what comes back, whose body must be closed.
// connected says whether there was a connection where it failed. The context breaks it off.
func (c *Client) Send(ctx *Context, q *Request) (resp *Response, connected bool, err error) {
	for {
		conn := c.take()
		kept := conn != nil
		if conn == nil {
			if conn, err = c.dial(ctx); err != nil {
				return nil, false, err
			}
		}
		resp, err = conn.exchange(ctx, q)
		switch {
		case err == nil:
			return resp, true, nil
		case ctx.Err() != nil:
			return nil, true, err
		case kept && (errors.Is(err, errStale) || q.Again && q.Body == nil && errors.Is(err, errUnanswered)):
			continue // there are only so many that are kept
		}
		return nil, true, err
	}
}

func (c *Client) dial(ctx *Context) (*ClientConn, error) {
	nc, err := c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := newClientConn(c, nc)
	c.Watch.add(conn)
	return conn, nil
}

// take takes the connection that was used last: the others may then end in peace.
func (c *Client) take() *ClientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.idle) - 1
	if last < 0 {
		return nil
	}
	conn := c.idle[last]
	c.idle[last] = nil
	c.idle = c.idle[:last]
	return conn
}

// keep takes a connection back; false where it isn't wanted.
func (c *Client) keep(conn *ClientConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= c.MaxIdle {
		return false
	}
	conn.idleSince = c.Watch.now.Load()
	c.idle = append(c.idle, conn)
	return true
}

// Begin has connections that are kept for too long ended. Close must follow.
func (c *Client) Begin() { c.Watch.add(c) }

// sweep ends connections that have been kept for too long.
func (c *Client) sweep(now int64) {
	c.mu.Lock()
	old, before := 0, now-int64(c.IdleTime)
	for old < len(c.idle) && c.idle[old].idleSince < before {
		old++
	}
	ended := append([]*ClientConn(nil), c.idle[:old]...)
	c.idle = slices.Delete(c.idle, 0, old)
	c.mu.Unlock()
	for _, conn := range ended {
		conn.end()
	}
}

// Close ends the connections that are kept, and keeps none any more.
func (c *Client) Close() {
	c.Watch.remove(c)
	c.mu.Lock()
	ended := c.idle
	c.idle, c.closed = nil, true
	c.mu.Unlock()
	for _, conn := range ended {
		conn.end()
	}
}

// appendRequest appends the head of a request.
func appendRequest(b []byte, q *Request) ([]byte, error) {
	if !isTarget(q.Target) || !isMethod(q.Method) || !isHost(q.Host) {
		return b, fmt.Errorf("a request that can't be sent: %s %q to %q", q.Method, q.Target, q.Host)
	}
	b = append(b, q.Method...)
	b = append(b, ' ')
	b = append(b, q.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, q.Host...)
	b = append(b, "\r\n"...)
	b = append(b, q.Header...)
	return appendRequestFraming(b, q), nil
}
