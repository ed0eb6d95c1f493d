package http1

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// body is the body of a request. Whoever reads it for an upstream may do so while the handler
// answers.
type body struct {
	conn *conn
	// whole says that the last byte was read, or that there is no body: until the request is over
	// nobody else reads the connection.
	whole atomic.Bool

	mu      sync.Mutex // guards the rest
	left    int64      // of a length that is known; -1: it is chunked
	chunks  chunked
	err     error
	expects bool // the client waits for 100 Continue
}

const (
	// drainAtMost is how much of a body that nobody wants is read, so that the connection can be
	// kept.
	drainAtMost = 256 << 10
	// drainWithin is how long that may take where nobody has said it: an answer waits.
	drainWithin = time.Second
)

func (b *body) begin(q *requestHead) {
	b.err, b.left = nil, 0
	switch {
	case q.chunked:
		b.left = -1
		b.chunks.reset(&b.conn.in, q.trailer, false)
	case q.length > 0:
		b.left = q.length
	}
	b.expects = q.expects
	b.whole.Store(b.left == 0)
}

func (b *body) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.expects {
		b.expects = false
		b.conn.res.goOn()
	}
	return b.read(p)
}

func (b *body) read(p []byte) (n int, err error) {
	if b.left < 0 {
		n, err = b.chunks.Read(p)
		if err == nil && errors.Is(b.chunks.err, io.EOF) {
			err = io.EOF
		}
	} else {
		n, err = b.conn.in.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		switch {
		case err != nil:
			err = unexpected(err)
		case b.left == 0:
			err = io.EOF
		}
	}
	if b.err = err; errors.Is(err, io.EOF) {
		b.err = io.EOF
		b.whole.Store(true)
	}
	return n, b.err
}

// Close changes nothing: what is left is read, or isn't, when the answer begins.
func (b *body) Close() error { return nil }

// drain reads what is left of a body that nobody wants; false where that is too much, or can't be
// had.
func (b *body) drain() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole.Load() {
		return true
	}
	if b.expects || b.err != nil || b.left > drainAtMost {
		return false // a client that waits to be asked may never send it
	}
	if c := b.conn; c.reading.Load() == 0 {
		c.readBy(c.server.watch.in(drainWithin))
		defer c.readBy(0)
	}
	buf := make([]byte, 4<<10)
	for total := 0; total < drainAtMost; {
		n, err := b.read(buf)
		total += n
		if err != nil {
			break
		}
	}
	if !b.whole.Load() {
		return false
	}
	b.err = http.ErrBodyReadAfterClose
	return true
}
