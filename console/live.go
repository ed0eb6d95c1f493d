package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"mpr/control"
	"mpr/problem"
)

const (
	// lookEvery is how often a page that somebody looks at is looked at for changes.
	lookEvery = time.Second
	// sayEvery is how often something is said where nothing changes: or nobody would notice that
	// the other one is gone.
	sayEvery = 15 * time.Second
	// takeWithin is how long a browser may take to take what it is sent.
	takeWithin = 10 * time.Second
	// maxStreams bounds the pages that are updated at a time, and maxOwnStreams those of a session.
	maxStreams    = 400
	maxOwnStreams = 20
)

// streams counts the live updates under way.
type streams struct {
	mu   sync.Mutex
	all  int
	of   map[string]int // by the id of the session
	over chan struct{}
	once sync.Once
}

func (s *streams) close() { s.once.Do(func() { close(s.over) }) }

// enter admits one more.
func (s *streams) enter(session string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxStreams || s.of[session] >= maxOwnStreams {
		return nil, false
	}
	s.all++
	s.of[session]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.of[session]--; s.of[session] == 0 {
			delete(s.of, session)
		}
	}, true
}

// wantsStream says whether it is a page's script that asks, for what changes.
func (q *request) wantsStream() bool {
	return q.r.Method == http.MethodGet && slices.Contains(q.r.Header["Accept"], "text/event-stream")
}

func (q *request) beginStream() {
	control.SecurePage(q.w.Header(), pagePolicy)
	q.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	q.w.Header().Set("X-Accel-Buffering", "no")
}

// sessionOver has the page loaded again, which leads to where people sign in.
const sessionOver = "event: over\ndata: session\n\n"

// stream sends the parts of a page that change, for as long as the browser looks and the session
// lasts.
func (q *request) stream(p page) error {
	leave, ok := q.service.streams.enter(q.session.ID)
	if !ok {
		return problem.New(problem.NotReady, "Too many pages are being updated at a time. Close some of them, or reload this one when you want to see it.")
	}
	defer leave()
	q.beginStream()
	out := &streamWriter{q: q, control: http.NewResponseController(q.w), sent: map[string]string{}}
	if err := out.write(": live\n\n"); err != nil {
		return nil //nolint:nilerr // the browser has gone
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if err := out.look(p); err != nil {
			if q.ctx().Err() == nil {
				slog.DebugContext(q.ctx(), "live updates end", "path", q.r.URL.Path, "error", err)
			}
			return nil
		}
		select {
		case <-q.ctx().Done():
			return nil
		case <-q.service.streams.over:
			return nil
		case <-look.C:
		}
	}
}

// streamWriter sends what has changed.
type streamWriter struct {
	q       *request
	control *http.ResponseController
	sent    map[string]string
	said    time.Time
}

var errSessionOver = errors.New("the session is over")

// look loads the page's data anew, and sends the parts that have changed.
func (s *streamWriter) look(p page) error {
	again := *s.q
	err := again.enter()
	if err == nil && (again.session == nil || again.session.ID != s.q.session.ID) {
		_ = s.write(sessionOver)
		return errSessionOver
	}
	var what shown
	if err == nil {
		what, err = p.load(&again)
	}
	if err != nil {
		// What is shown stays, marked as old, until it can be loaded again.
		return s.say("event: away\ndata: " + string(problem.From(err).Code) + "\n\n")
	}
	v := again.view(p, what)
	changed := map[string]string{}
	for _, name := range p.live {
		var b bytes.Buffer
		if err := s.q.service.templates[p.template].ExecuteTemplate(&b, name, v); err != nil {
			return err
		}
		if html := b.String(); s.sent[name] != html {
			s.sent[name], changed[name] = html, html
		}
	}
	if len(changed) == 0 {
		if time.Since(s.said) < sayEvery {
			return nil
		}
		return s.say(": nothing new\n\n")
	}
	data, err := json.Marshal(changed)
	if err != nil {
		return err
	}
	return s.say(fmt.Sprintf("event: parts\ndata: %s\n\n", data))
}

func (s *streamWriter) say(text string) error {
	s.said = time.Now()
	return s.write(text)
}

func (s *streamWriter) write(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(takeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.q.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
