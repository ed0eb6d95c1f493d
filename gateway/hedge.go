package gateway

import (
	"errors"
	"math/bits"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"mpr/gateway/http1"
)

const (
	// hedgeFloor is before when no call is thought to be late.
	hedgeFloor = 10 * time.Millisecond
	// hedgeSample is how many answers must be known before it is said what late is.
	hedgeSample = 100
	// hedgeBurst is how many hedges may be saved up.
	hedgeBurst = 10
)

var errBeaten = errors.New("another upstream was quicker")

// hedges decides when a call without effect and without a body is sent to a second upstream
// as well: when it has waited for longer than 95 of 100 calls to its region have to, and only
// for a small share of all calls, so that a region that is slow as a whole gets hardly more
// of them. Calls that may have an effect are never sent twice.
type hedges struct {
	percent int

	mu    sync.Mutex
	saved int // in hundredths of a hedge
	seen  int
	// took counts answers by how long they took, four steps to each doubling of microseconds.
	took [128]int
	late time.Duration
}

// counts says that a call without effect goes out, and answers after how long it is late;
// false where that isn't known.
func (h *hedges) counts() (late time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = min(h.saved+h.percent, 100*hedgeBurst)
	return h.late, h.late > 0
}

// spend takes one hedge where there is one.
func (h *hedges) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saved < 100 {
		return false
	}
	h.saved -= 100
	return true
}

// answered notes how long a call waited for its answer.
func (h *hedges) answered(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.took[step(took)]++
	if h.seen++; h.seen%hedgeSample != 0 {
		return
	}
	all, slower, at := 0, 0, len(h.took)-1
	for _, n := range h.took {
		all += n
	}
	for ; at > 0; at-- {
		if slower += h.took[at]; slower*20 > all {
			break
		}
	}
	h.late = max(duration(at+1), hedgeFloor)
	if h.seen >= 10*hedgeSample { // what was long ago counts less
		h.seen = 0
		for i := range h.took {
			h.took[i] /= 2
		}
	}
}

// step and duration go to and fro between durations and their steps.
func step(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 4)) //nolint:gosec // not negative
	n := bits.Len64(us) - 3                // the two bits below the first one say which quarter
	return min(n<<2|int(us>>n&3), 127)     //nolint:gosec // two bits
}

func duration(step int) time.Duration {
	return time.Duration(uint64(4|step&3)<<(step>>2)) * time.Microsecond //nolint:gosec // at most 7<<32
}

// finish is how one of the upstreams that a call was sent to has answered.
type finish struct {
	resp      *http1.Response
	ticket    ticket
	connected bool
	err       error
}

// try sends the call to the upstream of a ticket, and to another one as well where that is
// late and such calls are hedged. The answer comes with the ticket that it came by.
func (c *call) try(to *destination, t ticket, not *tried, header []byte) (*http1.Response, ticket, bool, error) {
	if to.group.hedges.percent == 0 || c.body != nil || c.upgrade != "" || c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		resp, connected, err := c.once(&c.ctx, to, &t, header)
		return resp, t, connected, err
	}
	late, known := to.group.hedges.counts()
	if !known || len(to.group.upstreams) < 2 {
		began := time.Now()
		resp, connected, err := c.once(&c.ctx, to, &t, header)
		if err == nil {
			to.group.hedges.answered(time.Since(began))
		}
		return resp, t, connected, err
	}
	f := c.race(to, t, not, header, late)
	return f.resp, f.ticket, f.connected, f.err
}

// race sends the call to a second upstream if the first is late. The answer that comes first
// counts; the other call is called off.
func (c *call) race(to *destination, t ticket, not *tried, header []byte, late time.Duration) finish {
	var won atomic.Bool
	finishes := make(chan finish, 2)
	var release sync.Once // the slot of the second one, by who is of no use
	give := func() { to.group.slots.give(c.app()) }
	hedged := make(chan struct{})
	run := func(t ticket) (callOff func(error)) {
		ctx := new(http1.Context)
		ctx.Begin(&c.ctx)
		c.ctx.AfterFunc(func() { ctx.End(errEnded) })
		c.races.Go(func() {
			began := time.Now()
			f := finish{ticket: t}
			f.resp, f.connected, f.err = c.once(ctx, to, &f.ticket, header) // closed by whom it goes to
			if f.err == nil {
				to.group.hedges.answered(time.Since(began))
				if !won.CompareAndSwap(false, true) {
					f.resp.Close()
					f.ticket.end()
					f.err = errBeaten
				}
			}
			if f.err != nil {
				select {
				case <-hedged:
					release.Do(give)
				default:
				}
			}
			finishes <- f
		})
		return ctx.End
	}
	first := run(t)
	timer := time.NewTimer(late)
	defer timer.Stop()
	select {
	case f := <-finishes:
		return f
	case <-timer.C:
	}
	second, ok := c.second(to, *not)
	if !ok {
		return <-finishes
	}
	not.add(second.index)
	close(hedged)
	other := run(second)
	f := <-finishes
	if f.err != nil {
		release.Do(give) // it may have failed just before there was a second one
		f2 := <-finishes
		if f2.err != nil {
			f.connected = f.connected || f2.connected
			return f
		}
		return f2
	}
	if f.ticket.index == t.index {
		other(errBeaten)
	} else {
		first(errBeaten)
	}
	return f
}

// second is another upstream for a call that is late, and a slot, if there is all of that.
func (c *call) second(to *destination, not tried) (ticket, bool) {
	if !to.group.slots.try(c.app()) {
		return ticket{}, false
	}
	t, err := to.group.fleet.pick(to.group.now(), not, true)
	if err == nil {
		if to.group.hedges.spend() {
			return t, true
		}
		t.failed(to.group.now(), blameless)
		t.end()
	}
	to.group.slots.give(c.app())
	return ticket{}, false
}
