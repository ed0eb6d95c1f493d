package http1

import (
	"context"
	"sync"
	"time"
)

// Context is a context that costs next to nothing until somebody waits for it. Its zero value
// isn't one: see [Context.Begin].
type Context struct {
	parent context.Context //nolint:containedctx // of values

	mu    sync.Mutex
	cause error
	done  chan struct{}
	after map[*func()]struct{}
	conn  *ClientConn // that the call is sent on
	// bound ends with it, for a cause of its own.
	bound *Context
	why   error
}

// Begin makes it a context that lives until [Context.End]. It has the values of its parent, and
// doesn't end with it.
func (c *Context) Begin(parent context.Context) {
	c.parent, c.cause, c.done, c.after, c.conn, c.bound, c.why = parent, nil, nil, nil, nil, nil, nil
}

// End ends the context: whoever waits for it goes on, and what is sent with it is broken off. The
// first cause counts.
func (c *Context) End(cause error) {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return
	}
	c.cause = cause
	if c.done != nil {
		close(c.done)
	}
	if c.conn != nil {
		c.conn.abort()
	}
	after, bound, why := c.after, c.bound, c.why
	c.after, c.bound = nil, nil
	c.mu.Unlock()
	if bound != nil {
		bound.End(why)
	}
	for f := range after {
		(*f)()
	}
}

// Cause is why it has ended; nil while it hasn't.
func (c *Context) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Deadline is that of no context of this kind.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value is that of the parent.
func (c *Context) Value(key any) any { return c.parent.Value(key) }

// Err is [context.Canceled] once it has ended.
func (c *Context) Err() error {
	if c.Cause() != nil {
		return context.Canceled
	}
	return nil
}

// Done is closed when it ends.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.cause != nil {
			close(c.done)
		}
	}
	return c.done
}

// AfterFunc calls f once it has ended; which [context.AfterFunc] and contexts made of it use.
// Unlike theirs, f is called by whoever ends the context: it must not wait.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = map[*func()]struct{}{}
	}
	key := &f
	c.after[key] = struct{}{}
	c.mu.Unlock()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.after[key]
		delete(c.after, key)
		return there
	}
}

// Bind has another context end with this one, for a cause; nil: none any more. It is for one at a
// time, and costs less than [Context.AfterFunc].
func (c *Context) Bind(other *Context, why error) {
	c.mu.Lock()
	over := c.cause != nil
	if !over {
		c.bound, c.why = other, why
	}
	c.mu.Unlock()
	if over && other != nil {
		other.End(why)
	}
}

// attach has the end of the context break off what is sent on a connection; nil: no longer. It
// answers false where it has ended.
func (c *Context) attach(conn *ClientConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	return c.cause == nil
}
