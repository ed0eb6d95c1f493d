package http1

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Watch looks after deadlines of connections, and some other things that are due now and then, so
// that a call needs no timers: a deadline costs a store. They are met up to three beats late.
type Watch struct {
	mu   sync.Mutex
	all  []swept
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
	date atomic.Pointer[string]
	now  atomic.Int64 // the clock at the last beat
}

// beat is how often a [Watch] looks.
const beat = 25 * time.Millisecond

// swept is what a watch looks after.
type swept interface {
	sweep(now int64)
	place() *listed
}

// listed is where in the list of a watch something stands: connections come and go in numbers.
type listed struct{ at int }

func (l *listed) place() *listed { return l }

// NewWatch starts a watch, which must be closed.
func NewWatch() *Watch {
	w := &Watch{stop: make(chan struct{})}
	w.now.Store(clock())
	w.tell(time.Now())
	w.done.Go(w.run)
	return w
}

// Close ends the watch. Deadlines are no longer met. It may be called more than once.
func (w *Watch) Close() {
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
}

func (w *Watch) run() {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var all []swept
	for {
		select {
		case <-w.stop:
			return
		case now := <-tick.C:
			w.tell(now)
		}
		w.mu.Lock()
		all = append(all[:0], w.all...)
		w.mu.Unlock()
		now := clock()
		w.now.Store(now)
		for _, s := range all {
			s.sweep(now)
		}
		clear(all)
	}
}

// tell notes the time as the Date header has it.
func (w *Watch) tell(now time.Time) {
	text := now.UTC().Format(http.TimeFormat)
	if before := w.date.Load(); before == nil || *before != text {
		w.date.Store(&text)
	}
}

// in is when so much time has passed, by clock, or up to a beat later: to look at the clock itself
// would cost a call as much as some of what it does.
func (w *Watch) in(d time.Duration) int64 { return w.now.Load() + int64(d+beat) }

func (w *Watch) add(s swept) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.place().at = len(w.all)
	w.all = append(w.all, s)
}

func (w *Watch) remove(s swept) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, last := s.place().at, len(w.all)-1
	if i > last || w.all[i] != s {
		return // it isn't there any more
	}
	w.all[i] = w.all[last]
	w.all[i].place().at = i
	w.all[last] = nil
	w.all = w.all[:last]
}

var began = time.Now()

// clock is the time that deadlines are counted in; never 0.
func clock() int64 { return int64(time.Since(began)) + 1 }

// hit stands for a deadline that was met.
const hit = -1

// guarded is a connection whose deadlines cost a store.
type guarded struct {
	net.Conn
	listed
	reading, writing atomic.Int64 // deadlines by clock; 0 for none
	mu               sync.Mutex   // held while a deadline of the connection itself is set
}

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

func (g *guarded) sweep(now int64) {
	g.meet(&g.reading, now, g.SetReadDeadline)
	g.meet(&g.writing, now, g.SetWriteDeadline)
}

func (g *guarded) meet(at *atomic.Int64, now int64, set func(time.Time) error) {
	due := at.Load()
	if due <= 0 || now < due {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if at.CompareAndSwap(due, hit) {
		_ = set(past) // fails on a closed connection, where nobody waits
	}
}

func (g *guarded) readBy(due int64)  { g.by(&g.reading, due, g.SetReadDeadline) }
func (g *guarded) writeBy(due int64) { g.by(&g.writing, due, g.SetWriteDeadline) }

// by sets a deadline by clock; 0 for none.
func (g *guarded) by(at *atomic.Int64, due int64, set func(time.Time) error) {
	if at.Swap(due) != hit {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = set(time.Time{})
}

// deadline sets a deadline as [net.Conn] has it. One that is over is met at once.
func (g *guarded) deadline(at *atomic.Int64, t time.Time, set func(time.Time) error) {
	left := time.Until(t)
	switch {
	case t.IsZero():
		g.by(at, 0, set)
	case left > 0:
		g.by(at, int64(t.Sub(began))+1, set)
	default:
		g.mu.Lock()
		defer g.mu.Unlock()
		at.Store(hit)
		_ = set(past)
	}
}
