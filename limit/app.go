package limit

import (
	"sync"
	"time"
)

// app is what a gateway knows of the calls of an app.
type app struct {
	client string
	shift  uint32

	mu sync.Mutex // guards the rest
	// limits are those of the table's version.
	limits  Limits
	version uint64
	// own is what this gateway has counted, and acked what it had counted when all others
	// last said that they know.
	own   [kinds]pair
	acked [kinds]tally
	// wants says that this gateway owns a share of what is left, in a term of the limiter.
	// Others know of it. Without a share nothing may be counted.
	wants bool
	term  uint64
	// others is what was heard of other gateways.
	others []other

	asking *question
	// notBefore is when the others may be asked again; unanswered says that they didn't
	// answer the last time, barren in which windows they had nothing to give.
	notBefore  time.Time
	unanswered bool
	barren     [kinds]int64

	called  time.Time // the last call
	changed bool      // since the others were told
	evicted bool
}

// other is what was heard of another gateway's counts.
type other struct {
	peer   *peer
	counts [kinds]pair
	wants  bool
}

// of is what was heard of a gateway. a.mu is held.
func (a *app) of(p *peer) *other {
	for i := range a.others {
		if a.others[i].peer == p {
			return &a.others[i]
		}
	}
	a.others = append(a.others, other{peer: p})
	return &a.others[len(a.others)-1]
}

// used is what all gateways together are known to have counted. a.mu is held.
func (a *app) used(k kind, window int64) int64 {
	n := a.own[k].in(window)
	for i := range a.others {
		n += a.others[i].counts[k].in(window)
	}
	return n
}

// ahead is how many windows another gateway's clock may be away from ours.
const ahead = 1

// hear takes what a gateway has counted. Numbers of windows that aren't near are left out:
// they are over, or nobody's. a.mu is held.
func (a *app) hear(p *peer, e *entry, unix int64) *other {
	o := a.of(p)
	for k := range kinds {
		window, _ := k.at(unix, a.shift)
		if t := e.tally(k); t.Window >= window-ahead && t.Window <= window+ahead {
			o.counts[k].raise(t)
		}
	}
	return o
}

// entry is what others are told of the app: the counts of the windows that they ask for.
// a.mu is held.
func (a *app) entry(windows [kinds]int64) entry {
	return entry{
		Client: a.client,
		Hour:   [2]int64{windows[hourly], a.own[hourly].in(windows[hourly])},
		Spike:  [2]int64{windows[spike], a.own[spike].in(windows[spike])},
		Wants:  a.wants || a.asking != nil,
	}
}

// newest are the windows that were counted in last. a.mu is held.
func (a *app) newest() [kinds]int64 {
	return [kinds]int64{a.own[hourly].last().Window, a.own[spike].last().Window}
}

// over says whether nothing that is known of the app matters any more, and forgets those
// gateways of which that is so. a.mu is held.
func (a *app) over(unix int64) bool {
	if a.asking != nil {
		return false
	}
	hour, _ := hourly.at(unix, a.shift)
	kept := a.others[:0]
	for _, o := range a.others {
		if o.counts[hourly].last().Window >= hour-ahead {
			kept = append(kept, o)
		}
	}
	clear(a.others[len(kept):])
	a.others = kept
	return len(kept) == 0 && a.own[hourly].last().Window < hour
}

// known is what a gateway knows of the others when it decides.
type known struct {
	// gateways is how many there are, this one included; unseen are those among them that
	// were never heard of.
	gateways, unseen int64
	peers            []*peer
	// name is that of this gateway.
	name string
}

// live is how many others can be asked.
func (k *known) live() int {
	n := 0
	for _, p := range k.peers {
		if p.state.Load() == live {
			n++
		}
	}
	return n
}

// ceiling is how many calls this gateway may have counted in a window: what all others know
// that it has, and its share of what is left. Those that can't be heard are thought to use
// an even part of the limit, or what they were known to have used. alone treats all others
// so. a.mu is held.
func (a *app) ceiling(k kind, window, limit int64, with *known, alone bool) int64 {
	base := int64(0)
	if t := a.acked[k]; t.Window == window {
		base = t.N
	}
	// In parts of a call, so that the even part is exact.
	left := (limit-base)*with.gateways - with.unseen*limit
	sharing, before := int64(1), int64(0)
	silent := 0
	for _, p := range with.peers {
		if alone || p.state.Load() == quiet {
			silent++
		}
	}
	for i := range a.others {
		o := &a.others[i]
		n := o.counts[k].in(window) * with.gateways
		switch state := o.peer.state.Load(); {
		case state == gone:
		case alone || state == quiet:
			silent--
			n = max(n, limit)
		case o.wants:
			sharing++
			if o.peer.name < with.name {
				before++
			}
		}
		left -= n
	}
	left = max(left-int64(max(silent, 0))*limit, 0) / with.gateways
	share := left / sharing
	if before < left%sharing {
		share++ // the calls that can't be divided
	}
	if alone && share == 0 && base == 0 && a.used(k, window) < limit {
		share = 1 // never nothing
	}
	return base + share
}
