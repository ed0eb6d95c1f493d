package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"

	"mpr/company"
)

// weather is what becomes of messages.
type weather int

const (
	fine weather = iota
	// requestsLost and answersLost let nothing through, in one direction or the other, and
	// leave those who wait for an answer without any.
	requestsLost
	answersLost
	// repeating has each request arrive twice at once, and once more some time later.
	repeating
)

// latest is how late a request may come once more.
const latest = 3 * time.Second

// channel is the way from the mover to a region's internal address.
type channel struct {
	server *httptest.Server
	to     string
	http   http.Client

	ctx  context.Context // of what comes late
	work sync.WaitGroup

	mu      sync.Mutex
	weather weather
	better  chan struct{}   // closed when the weather changes
	met     map[string]bool // paths of companies whose messages have met this weather
}

func newChannel(t *testing.T, to string) *channel {
	t.Helper()
	c := &channel{to: to, better: make(chan struct{}), met: map[string]bool{}, ctx: t.Context()}
	c.http.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	c.server = httptest.NewServer(c)
	t.Cleanup(func() {
		c.turn(fine)
		c.work.Wait()
		c.server.Close()
		c.http.CloseIdleConnections()
	})
	return c
}

func (c *channel) turn(w weather) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weather, c.met = w, map[string]bool{}
	close(c.better)
	c.better = make(chan struct{})
}

// companyPath is what the paths of a company's operations begin with.
func companyPath(id company.ID) string { return fmt.Sprintf("/contract/v1/companies/%d/", id) }

// stopped waits until a message of each of these companies has met the weather that there is.
func (c *channel) stopped(s *system, ids []company.ID) {
	s.t.Helper()
	for _, id := range ids {
		s.eventually(fmt.Sprintf("stop a message about company %d", id), func(context.Context) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.met[companyPath(id)] {
				return errors.New("none has come")
			}
			return nil
		})
	}
}

func (c *channel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	now, better := c.weather, c.better
	if now != fine {
		c.met[path.Dir(r.URL.Path)+"/"] = true
	}
	c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if now == repeating && r.Method == http.MethodPost {
		_, _, _ = c.send(c.ctx, r, body)
		c.work.Go(func() {
			select {
			case <-time.After(rand.N(latest)):
				_, _, _ = c.send(c.ctx, r, body)
			case <-c.ctx.Done():
			}
		})
	}
	if now == requestsLost {
		await(r.Context(), better)
		panic(http.ErrAbortHandler)
	}
	resp, answer, err := c.send(context.WithoutCancel(r.Context()), r, body)
	if now == answersLost {
		await(r.Context(), better)
	}
	if err != nil || now == answersLost {
		panic(http.ErrAbortHandler)
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

func await(ctx context.Context, done <-chan struct{}) {
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// send has a request arrive once.
func (c *channel) send(ctx context.Context, r *http.Request, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, c.to+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = r.Header.Clone()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

// wire is the way from a process to the directory's server, which can be cut.
type wire struct {
	listener net.Listener
	to       string
	work     sync.WaitGroup

	mu    sync.Mutex
	isCut bool
	conns map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to, conns: map[net.Conn]bool{}}
	w.work.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.cut(true)
		w.work.Wait()
	})
	return w
}

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil || !w.keep(near, far) {
			_ = near.Close()
			if far != nil {
				_ = far.Close()
			}
			continue
		}
		w.work.Go(func() { w.pass(near, far) })
		w.work.Go(func() { w.pass(far, near) })
	}
}

// keep says whether the wire is whole.
func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.conns[c] = true
	}
	return !w.isCut
}

func (w *wire) pass(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range []net.Conn{from, to} {
		_ = c.Close()
		delete(w.conns, c)
	}
}

func (w *wire) cut(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isCut = is; is {
		for c := range w.conns {
			_ = c.Close()
		}
	}
}
