package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

var (
	errBusy = errors.New("no connection to the upstream became free")
	// errShare says that the app has its share, and others would be left without.
	errShare = errors.New("the app has as many calls there as it may have while others need room")
)

// slots bound the calls of a region that are in flight, and with them its connections, and the
// calls that wait for one of those. A slot is held for as long as a client takes to send a body
// and to read an answer. So there is a rule that keeps them from being one app's: while half of
// them are taken, no app gets one beyond a quarter of them. The same goes for the places of those
// that wait.
type slots struct {
	size int

	mu      sync.Mutex
	taken   int
	apps    map[string]share // those that have some
	waiting []*waiter        // the first one came first; none of them may have a slot yet
}

// share is what an app has. The app without a name, that of calls which name none, may have all.
type share struct{ taken, waiting int }

type waiter struct {
	app string
	// granted is closed, under the lock, once the slot is the waiter's.
	granted chan struct{}
}

func newSlots(size int) *slots { return &slots{size: size, apps: map[string]share{}} }

// more says whether an app that has some of the slots, or of the places in the queue, may have
// one more.
func (s *slots) more(app string, taken, has int) bool {
	return taken < s.size && (app == "" || 2*taken < s.size || has < max(s.size/4, 1))
}

// take takes a slot for a call of an app. It waits for one at most as long as patience: beyond
// that, and where too many wait, the call is better refused.
func (s *slots) take(ctx context.Context, app string, patience time.Duration) error {
	s.mu.Lock()
	has := s.apps[app]
	if s.more(app, s.taken, has.taken) {
		s.grant(app, has)
		s.mu.Unlock()
		return nil
	}
	if !s.more(app, len(s.waiting), has.waiting) {
		defer s.mu.Unlock()
		return s.why()
	}
	w := &waiter{app, make(chan struct{})}
	s.waiting = append(s.waiting, w)
	has.waiting++
	s.apps[app] = has
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.granted:
		return nil
	case <-timer.C:
		return s.leave(w, nil)
	case <-ctx.Done():
		return s.leave(w, context.Cause(ctx))
	}
}

// try takes a slot if there is one.
func (s *slots) try(app string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := s.apps[app]
	if !s.more(app, s.taken, has.taken) {
		return false
	}
	s.grant(app, has)
	return true
}

func (s *slots) grant(app string, has share) {
	s.taken++
	has.taken++
	s.apps[app] = has
}

// leave ends a wait, for a reason or because it was too long; it may have just been granted.
func (s *slots) leave(w *waiter, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, w)
	switch {
	case i >= 0:
		s.waiting = slices.Delete(s.waiting, i, i+1)
		has := s.apps[w.app]
		has.waiting--
		s.put(w.app, has)
		if err == nil {
			err = s.why()
		}
	case err != nil:
		s.free(w.app)
	}
	return err
}

// why says what an app that gets no slot is told.
func (s *slots) why() error {
	if s.taken < s.size {
		return errShare
	}
	return errBusy
}

// give gives a slot back.
func (s *slots) give(app string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(app)
}

func (s *slots) free(app string) {
	s.taken--
	has := s.apps[app]
	has.taken--
	s.put(app, has)
	for i := 0; i < len(s.waiting) && s.taken < s.size; {
		w := s.waiting[i]
		has := s.apps[w.app]
		if !s.more(w.app, s.taken, has.taken) {
			i++
			continue
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
		has.waiting--
		s.grant(w.app, has)
		close(w.granted)
	}
}

func (s *slots) put(app string, has share) {
	if has == (share{}) {
		delete(s.apps, app)
	} else {
		s.apps[app] = has
	}
}

// inUse is how many slots are taken.
func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
