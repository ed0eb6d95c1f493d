package gateway

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// latencyMemory is how long the time that calls took until their answer began is
	// remembered: an upstream that hasn't been asked for so long counts as twice as quick.
	// So one that was slow is tried again now and then.
	latencyMemory = 10 * time.Second
	// latencyFloor is below what a difference says nothing.
	latencyFloor = 5 * time.Millisecond
	// latencyRatio is how many calls in flight a slow upstream's call may weigh, at the most:
	// calls of an API differ by more than upstreams do, and a slow report must not keep
	// everything else away from the upstream that makes it.
	latencyRatio = 8
)

var (
	// errAway says that no upstream is believed to be there. No call is spent on finding out.
	errAway = errors.New("no upstream is there: all were found unreachable or silent")
	// errReturning says that an upstream has just come back and takes few calls yet.
	errReturning = errors.New("the upstreams have just come back and take few calls yet")
	// errTried says that a call has been to all upstreams that take calls.
	errTried = errors.New("all upstreams have been tried")
)

// fleet decides which upstream of a region gets a call, by what became of the calls before.
// It deals in indexes, times (since the fleet began) and outcomes, and knows nothing of how
// calls are sent.
//
// The upstream with the fewest calls in flight gets the next one, where a call weighs the
// more the longer the upstream takes until it answers. How upstreams are left out and come
// back stands in health.go.
//
// One lock guards all: it is held for some tens of nanoseconds, twice a call, and what an
// upstream is at any moment stays one consistent thing.
type fleet struct {
	mu      sync.Mutex
	members []member
	// full is how many calls at a time are more than any upstream gets.
	full     int
	calledAt time.Duration // the latest call
	// room has something to take where an upstream may have room for a call that waits.
	room chan struct{}
	// changed is told, under the lock, that a member has been left out or has come back.
	changed func(index int, m *member)
}

// member is one upstream.
type member struct {
	outstanding int // calls in flight, until the end of their answers
	waiting     int // those of them that tell how quick it is, and whose answer hasn't begun

	latency    time.Duration // until an answer begins, averaged over latencyMemory
	sampledAt  time.Duration
	answeredAt time.Duration // the latest answer
	wellAt     time.Duration // the latest check that its path of health has answered well
	owesSince  time.Duration // since when it owes an answer and has given none

	health
}

func newFleet(n, full int, changed func(int, *member)) *fleet {
	f := &fleet{members: make([]member, n), full: full, room: make(chan struct{}, 1), changed: changed}
	for i := range f.members {
		m := &f.members[i]
		m.answeredAt, m.wellAt, m.returnedAt = -1, -1, -2*calmTime
	}
	return f
}

// ticket is a call's claim on an upstream. It must be ended.
type ticket struct {
	fleet    *fleet
	index    int
	era      int // of the upstream
	began    time.Duration
	measured bool
}

// tried is a set of upstreams. It can tell 64 of them.
type tried uint64

func (t tried) has(i int) bool { return i < 64 && t&(1<<i) != 0 }

func (t *tried) add(i int) {
	if i < 64 {
		*t |= 1 << i
	}
}

// pick chooses an upstream for a call. measured says that the call tells how quick the
// upstream is: not so where that is up to the client, who takes his time to send a body.
func (f *fleet) pick(now time.Duration, not tried, measured bool) (ticket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calledAt = now
	needed := f.allNeeded()
	best := f.quickest(now, needed)
	chosen, lowest, ties, full := -1, math.MaxInt, uint32(0), false
	for i := range f.members {
		m := &f.members[i]
		switch {
		case not.has(i), !m.there(needed):
			continue
		case m.full(now):
			full = true
			continue
		}
		score := (m.outstanding + 1) * int(min(m.quickness(now)/best, latencyRatio))
		switch {
		case score < lowest:
			chosen, lowest, ties = i, score, 1
		case score == lowest: // each of them with the same chance
			if ties++; rand.Uint32N(ties) == 0 { //nolint:gosec // a lot is no secret
				chosen = i
			}
		}
	}
	if chosen < 0 {
		return ticket{}, why(full, not)
	}
	m := &f.members[chosen]
	m.outstanding++
	if measured {
		m.recent++
		if m.waiting++; m.waiting == 1 {
			m.owesSince = now
		}
	}
	return ticket{f, chosen, m.era, now, measured}, nil
}

func why(full bool, not tried) error {
	switch {
	case full:
		return errReturning
	case not != 0:
		return errTried
	}
	return errAway
}

// quickest is the shortest time until an answer begins among those that may be chosen.
func (f *fleet) quickest(now time.Duration, needed bool) time.Duration {
	best := time.Duration(math.MaxInt64)
	for i := range f.members {
		if m := &f.members[i]; m.there(needed) {
			best = min(best, m.quickness(now))
		}
	}
	return best
}

// quickness is how long a call may expect to wait for its answer. An upstream that is silent
// is at least as slow as that: nobody has to wait for a timeout to see it.
func (m *member) quickness(now time.Duration) time.Duration {
	q := m.remembered(now)
	if m.waiting > 0 {
		q = max(q, now-m.owesSince)
	}
	return max(q, latencyFloor)
}

// remembered is the average, which fades.
func (m *member) remembered(now time.Duration) time.Duration {
	return m.latency >> min(uint64(max(now-m.sampledAt, 0)/latencyMemory), 62) //nolint:gosec // not negative
}

// sample takes one more duration into the average: with the more weight the longer ago the
// one before.
func (m *member) sample(now, took time.Duration) {
	if m.sampledAt == 0 && m.latency == 0 {
		m.latency = took
	} else {
		age := float64(max(now-m.sampledAt, time.Microsecond))
		m.latency = m.remembered(now)
		m.latency += time.Duration(float64(took-m.latency) * age / (age + float64(latencyMemory)))
	}
	m.sampledAt = now
}

// answered notes that the header of an answer has arrived.
func (t *ticket) answered(now time.Duration, status int) {
	f := t.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &f.members[t.index]
	if t.measured {
		t.settle(m)
		m.owesSince = now
	}
	m.answeredAt = now
	m.unreached, m.silent, m.broken = 0, 0, 0
	bad := suspicious(status)
	m.window.add(now, bad)
	if bad { // it says nothing of how quick the upstream is when it does its work
		f.compare(now, t.index)
		return
	}
	if t.measured {
		m.sample(now, now-t.began)
	}
	if t.era == m.era {
		f.trust(now, m)
	}
}

// settle notes that a measured call waits for the upstream no longer.
func (t *ticket) settle(m *member) {
	m.waiting--
	if t.era == m.era {
		m.recent--
		t.fleet.signal()
	}
}

// end ends the claim: the call is over.
func (t *ticket) end() {
	t.fleet.mu.Lock()
	defer t.fleet.mu.Unlock()
	t.fleet.members[t.index].outstanding--
}

// signal wakes one of the calls that wait for room; one that finds some, or that there is
// none to wait for, wakes the next.
func (f *fleet) signal() {
	select {
	case f.room <- struct{}{}:
	default:
	}
}
