package limit

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Verdict is what becomes of a call, and what its answer says of the app's limits.
type Verdict struct {
	// Limited says whether the app has a limit at all; without one all else is zero.
	Limited bool
	// Refused says that the call is too much.
	Refused bool
	// Span is the length of the window that is nearest to its limit, Limit and Remaining
	// say how many calls the app may make in it and how many of them it still has, and Reset
	// is the Unix second in which the window ends.
	Span                    time.Duration
	Limit, Remaining, Reset int64
	// RetryAfter is when a refused call may be made again.
	RetryAfter time.Duration
}

const (
	shards = 64
	// DefaultMaxApps is how many apps are counted at the same time. An app is forgotten when
	// its hour is over.
	DefaultMaxApps = 100_000
	// idle is how long a gateway without calls of an app keeps its share when others ask.
	idle = 100 * time.Millisecond
	// soon is when a call may be made again that is refused although the app has calls left:
	// other gateways have them.
	soon = time.Second
)

// Limiter counts the calls that reach one gateway. It is safe for concurrent use.
type Limiter struct {
	name  string
	table *Table
	now   func() time.Time
	bus   bus

	seed    maphash.Seed
	shards  [shards]shard
	tracked atomic.Int64
	maxApps int64
	full    rate.Sometimes // says that there are more

	exchange
}

// shard is a part of the apps.
type shard struct {
	mu   sync.RWMutex
	apps map[string]*app

	dirty sync.Mutex // guards the apps that others must be told of
	tell  []*app
}

// app finds an app, or begins to count it; nil where there is no room.
func (l *Limiter) app(client string) *app {
	s := l.shardOf(client)
	s.mu.RLock()
	a := s.apps[client]
	s.mu.RUnlock()
	if a != nil {
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.apps[client]; a != nil {
		return a
	}
	if l.tracked.Add(1) > l.maxApps {
		l.tracked.Add(-1)
		l.full.Do(func() {
			slog.Warn("there are more apps than can be counted; calls of further ones aren't limited", "counted", l.maxApps)
		})
		return nil
	}
	a = &app{client: client, shift: shiftOf(client), limits: l.table.Of(client), version: l.table.version.Load()}
	s.apps[client] = a
	return a
}

// lock finds an app and locks it; nil where there is no room to count it.
func (l *Limiter) lock(client string) *app {
	for {
		a := l.app(client)
		if a == nil {
			return nil
		}
		a.mu.Lock()
		if !a.evicted {
			return a
		}
		a.mu.Unlock()
	}
}

func (l *Limiter) shardOf(client string) *shard {
	return &l.shards[maphash.String(l.seed, client)%shards]
}

// Take counts a call of an app, or refuses it. Where the share of this gateway is used up
// and others may have some left, it waits for a moment, or until the context ends.
func (l *Limiter) Take(ctx context.Context, client string) Verdict {
	for {
		v, wait := l.try(client)
		if wait == nil {
			return v
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return v
		}
	}
}

// try decides on a call or answers what to wait for before it is decided.
func (l *Limiter) try(client string) (Verdict, <-chan struct{}) {
	a := l.lock(client)
	if a == nil {
		return Verdict{}, nil
	}
	defer a.mu.Unlock()
	now := l.now()
	with, mode := l.known()
	if v := l.table.version.Load(); a.version != v {
		a.limits, a.version = l.table.Of(a.client), v
	}
	if a.limits == (Limits{}) {
		return Verdict{}, nil
	}
	a.called = time.Now()
	w := windowsOf(a, now)
	if v, full := w.full(a); full {
		return v, nil
	}
	settled := with.live() == 0 || a.wants && a.term == l.term.Load()
	switch {
	case mode == cutOff:
		if k, fits := w.fit(a, with, true); !fits {
			return w.refusal(k, w.untilReset(k)), nil
		}
	case mode == joining:
		return w.refusal(spike, soon), l.joined()
	case settled:
		if k, fits := w.fit(a, with, false); !fits {
			return l.askFor(a, &w, k, with)
		}
	case a.unanswered:
		k, fits := w.fit(a, with, true)
		v, wait := l.askFor(a, &w, k, with)
		if !fits {
			return v, wait
		}
	default:
		return l.askFor(a, &w, spike, with)
	}
	return l.count(a, &w, with, mode), nil
}

// count counts a call. a.mu is held.
func (l *Limiter) count(a *app, w *windows, with *known, mode mode) Verdict {
	for k := range kinds {
		a.own[k].add(w.number[k])
	}
	if !a.changed {
		a.changed = true
		s := l.shardOf(a.client)
		s.dirty.Lock()
		s.tell = append(s.tell, a)
		s.dirty.Unlock()
	}
	var nearest Verdict
	for k := range kinds {
		limit := a.limits.of(k)
		if limit == 0 {
			continue
		}
		left := limit - a.used(k, w.number[k])
		if mode == cutOff {
			left = min(left, a.ceiling(k, w.number[k], limit, with, true)-a.own[k].in(w.number[k]))
		}
		if left = max(left, 0); !nearest.Limited || left < nearest.Remaining {
			nearest = Verdict{Limited: true, Span: k.span(), Limit: limit, Remaining: left, Reset: w.reset[k]}
		}
	}
	return nearest
}

// askFor asks the others for a share, where that makes sense now, and answers what to wait
// for; otherwise the refusal. a.mu is held.
func (l *Limiter) askFor(a *app, w *windows, k kind, with *known) (Verdict, <-chan struct{}) {
	v := w.refusal(k, soon)
	if a.asking != nil {
		return v, a.asking.over
	}
	if with.live() == 0 || a.called.Before(a.notBefore) && (a.unanswered || a.barren == w.number) {
		return v, nil
	}
	return v, l.ask(a, w.number, with)
}

// windows are those in which a call is counted.
type windows struct {
	now           time.Time
	limits        Limits
	number, reset [kinds]int64
}

func windowsOf(a *app, now time.Time) windows {
	w := windows{now: now, limits: a.limits}
	for k := range kinds {
		w.number[k], w.reset[k] = k.at(now.Unix(), a.shift)
	}
	return w
}

// full refuses where all gateways together have counted as many calls as the app may make:
// until the window that ends last. a.mu is held.
func (w *windows) full(a *app) (v Verdict, full bool) {
	for k := range kinds {
		limit := w.limits.of(k)
		if limit > 0 && a.used(k, w.number[k]) >= limit && (!full || w.reset[k] > v.Reset) {
			v, full = w.refusal(k, w.untilReset(k)), true
		}
	}
	return v, full
}

// fit says whether one more call fits this gateway's share, or in which window it doesn't.
// a.mu is held.
func (w *windows) fit(a *app, with *known, alone bool) (kind, bool) {
	for k := range kinds {
		limit := w.limits.of(k)
		if limit > 0 && a.own[k].in(w.number[k]) >= a.ceiling(k, w.number[k], limit, with, alone) {
			return k, false
		}
	}
	return spike, true
}

func (w *windows) untilReset(k kind) time.Duration {
	return max(time.Unix(w.reset[k], 0).Sub(w.now), time.Second)
}

// refusal refuses for one window, or for the other where that one has no limit.
func (w *windows) refusal(k kind, after time.Duration) Verdict {
	if w.limits.of(k) == 0 {
		k = 1 - k
	}
	return Verdict{Limited: true, Refused: true, Span: k.span(), Limit: w.limits.of(k), Reset: w.reset[k], RetryAfter: after}
}
