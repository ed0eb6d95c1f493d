package login

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter limits attempts by key: an account, or a peer's address. It remembers a
// bounded number of keys and forgets those that have their full allowance again.
type limiter struct {
	perMinute int
	now       func() time.Time
	mu        sync.Mutex
	keys      map[string]*limited
}

const (
	// limitedKeys bounds what a limiter remembers.
	limitedKeys = 100_000
	// peerFactor is how many more failures an address may have than an account: many
	// people sit behind one address.
	peerFactor = 10
)

func newLimiter(perMinute int, now func() time.Time) *limiter {
	return &limiter{perMinute: perMinute, now: now, keys: map[string]*limited{}}
}

// limited is the allowance of a key, and the attempts that are under way.
type limited struct {
	*rate.Limiter
	pending int
}

// take takes an attempt of the key's allowance, before the attempt is made, so that many
// at once can't slip through. Where none is left it answers how long to wait. done tells
// how the attempt ended: one that has succeeded costs nothing.
func (l *limiter) take(key string) (wait time.Duration, done func(failed bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		if len(l.keys) >= limitedKeys {
			l.forget()
		}
		k = &limited{Limiter: rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)}
		l.keys[key] = k
	}
	if missing := 1 + float64(k.pending) - k.TokensAt(l.now()); missing > 0 {
		return time.Duration(missing * float64(time.Minute) / float64(l.perMinute)), func(bool) {}
	}
	k.pending++
	return 0, func(failed bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		k.pending--
		if failed {
			k.AllowN(l.now(), 1)
		}
	}
}

// forget drops the keys that are as good as new, or any, where all of them are in use.
func (l *limiter) forget() {
	for key, k := range l.keys {
		if k.pending == 0 && k.TokensAt(l.now()) >= float64(l.perMinute) {
			delete(l.keys, key)
		}
	}
	for key := range l.keys {
		if len(l.keys) < limitedKeys {
			return
		}
		delete(l.keys, key)
	}
}
