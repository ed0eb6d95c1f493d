package login

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter limits attempts by key: an account, or a peer's address. It remembers a
// bounded number of keys and forgets those that have their full allowance again.
type limiter struct {
	perMinute int
	most      int // keys that are remembered
	now       func() time.Time
	mu        sync.Mutex
	keys      map[string]*limited
}

// limited is the allowance of a key, and the attempts that are under way.
type limited struct {
	*rate.Limiter
	pending int
}

const (
	// limitedKeys bounds what a limiter remembers.
	limitedKeys = 100_000
	// peerFactor is how many more failures an address may have than an account: many
	// people sit behind one address.
	peerFactor = 10
)

func newLimiter(perMinute, most int, now func() time.Time) *limiter {
	return &limiter{perMinute: perMinute, most: most, now: now, keys: map[string]*limited{}}
}

// take takes an attempt of the key's allowance, before the attempt is made, so that many
// at once can't slip through. Where none is left it answers how long to wait. done tells
// how the attempt ended: one that has succeeded costs nothing.
func (l *limiter) take(key string) (wait time.Duration, done func(failed bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		if len(l.keys) >= l.most {
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

// forget drops the keys that are as good as new. Where that isn't enough it drops a tenth
// of the others, so that it isn't called again for each new key.
func (l *limiter) forget() {
	now := l.now()
	for key, k := range l.keys {
		if k.pending == 0 && k.TokensAt(now) >= float64(l.perMinute) {
			delete(l.keys, key)
		}
	}
	for key := range l.keys {
		if len(l.keys) < l.most*9/10 {
			return
		}
		delete(l.keys, key)
	}
}

// peer names whom a request counts for: the network address that it came from. Of IPv6 it
// is the /64, since whoever has one address there has all of them.
func (s *Service) peer(r *http.Request) string {
	addr, ok := address(r.RemoteAddr)
	if !ok {
		return r.RemoteAddr
	}
	// Proxies append to the header, so it is read from its end; what stands left of the
	// first address that isn't a proxy of ours may be a client's invention.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.believed(addr); i-- {
		hop, ok := address(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		addr = hop
	}
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}

// believed says whether the address is a proxy of ours.
func (s *Service) believed(addr netip.Addr) bool {
	for _, network := range s.ForwardedFrom {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// address reads an address with or without a port.
func address(text string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}
