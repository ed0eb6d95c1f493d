package gateway

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"
)

// outcome is what became of a call that got no answer, or of a check.
type outcome int8

const (
	// blameless: the client went away, or something of ours failed.
	blameless outcome = iota
	// unreached: no connection.
	unreached
	// silent: no answer in time.
	silent
	// broken: the connection broke, or the answer was none.
	broken
	// stalled: it took no more of the call's body. It may well do so with what a client sends
	// without end, and be well.
	stalled
	// failing: more bad answers than the other upstreams give.
	failing
	// unwell: the check of health says so.
	unwell
	// leaving: it says that it is about to stop.
	leaving
	// beaten: another upstream was quicker, and the call was called off.
	beaten
	// well: the check of health says so. Of one that only connects, blameless is all there is to say.
	well
)

func (o outcome) String() string {
	return [...]string{"", "unreachable", "silent", "broken", "stalled", "failing", "unwell", "leaving", "", ""}[o]
}

// gone says that an upstream does nothing at all for anybody: where all are gone, calls are
// refused at once. What is not gone may still be better than nothing.
func (o outcome) gone() bool { return o == unreached || o == silent }

const (
	// manyFailures in a row, without an answer in between, have an upstream left out. A
	// connection that fails has it left out at once where there are others: the call that
	// met it loses nothing.
	manyFailures = 3
	// manySilences: it takes more of them, since a call may be slow for what it asks.
	manySilences = 5
	// manyUnwell is how many checks in a row must say so.
	manyUnwell = 2
	// firstTime is for how long an upstream is left out; each time that follows within
	// calmTime is twice as long, up to longestTime.
	firstTime   = time.Second
	longestTime = 30 * time.Second
	calmTime    = time.Minute
	// warmStep is how long it takes until one that is back gets another call at a time, where
	// it answers nothing: the call that it works on may be a long one.
	warmStep = time.Second
	// An upstream that can't be reached is looked for after firstLook, then less often, down
	// to every lastLook.
	firstLook = 100 * time.Millisecond
	lastLook  = time.Second
	// An upstream whose answers are bad is left out where it has given badAnswers, they are
	// one in badShare, and that is badRatio times what the others give, of whom at least
	// fewAnswers are known.
	badAnswers, badShare, badRatio, fewAnswers = 5, 5, 4, 10
)

// health is what keeps an upstream from getting calls.
type health struct {
	out       bool
	reason    outcome
	until     time.Duration // not to be looked for before
	times     int           // that it was left out lately, but for the first one
	misses    int           // checks that it failed while it was left out
	ejections uint64
	// era counts the times that it came back, and recent the measured calls that began since
	// and wait for their answers to begin: what becomes of the older ones is old news, and
	// what takes its time by its client's doing is no load.
	era, recent int
	// allowance is how many of them at a time an upstream gets that has come back: one at
	// first, one more with each answer, and one more with each warmStep since allowedAt. 0: as
	// many as there are.
	allowance             int
	allowedAt, returnedAt time.Duration
	// Failures in a row, by kind.
	unreached, silent, broken, unwell int
	checkedAt                         time.Duration
	window                            window
}

// there says whether calls may go to the upstream; all is set where every one is needed
// that isn't gone.
func (h *health) there(all bool) bool { return !h.out || all && !h.reason.gone() }

// full says that an upstream has just come back, and has all the calls that it may get.
func (h *health) full(now time.Duration) bool { return h.allowance > 0 && h.recent >= h.allowed(now) }

func (h *health) allowed(now time.Duration) int {
	return h.allowance + int((now-h.allowedAt)/warmStep)
}

// allNeeded says that so many are left out that they can't be done without: never more than
// half of the upstreams are, but for those that are gone. Where answers are bad everywhere,
// the others would only break down under the load.
func (f *fleet) allNeeded() bool { return f.outs()*2 > len(f.members) }

func (f *fleet) outs() (n int) {
	for i := range f.members {
		if f.members[i].out {
			n++
		}
	}
	return n
}

// failed notes that a call got no answer.
func (t *ticket) failed(now time.Duration, o outcome) {
	f := t.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &f.members[t.index]
	if t.measured {
		t.settle(m)
		if took := now - t.began; took > m.latency && o != unreached {
			m.sample(now, took) // that long it would have taken at the least
		}
	}
	if t.era == m.era {
		f.blame(now, t.index, o, t.began)
	}
}

// leaves notes that the upstream has answered that it is about to stop.
func (t *ticket) leaves(now time.Duration) {
	t.fleet.mu.Lock()
	defer t.fleet.mu.Unlock()
	if t.era == t.fleet.members[t.index].era { // else it has come back since
		t.fleet.leaveOut(now, t.index, leaving)
	}
}

// brokeOff notes that an answer which had begun wasn't completed.
func (t *ticket) brokeOff(now time.Duration) {
	t.fleet.mu.Lock()
	defer t.fleet.mu.Unlock()
	t.fleet.members[t.index].window.add(now, true)
	t.fleet.compare(now, t.index)
}

// blame draws the conclusions from a failure of a call that began at a time.
func (f *fleet) blame(now time.Duration, i int, o outcome, began time.Duration) {
	m := &f.members[i]
	if m.out {
		return
	}
	returning := m.allowance > 0
	switch o {
	case unreached:
		if m.unreached++; m.unreached >= manyFailures || f.outs() < len(f.members)-1 || returning {
			f.leaveOut(now, i, o)
		}
	case silent:
		m.window.add(now, true)
		if f.heard(i) > began {
			f.compare(now, i) // it has answered others meanwhile: it was the call that was slow
		} else if m.silent++; m.silent >= manySilences || returning {
			f.leaveOut(now, i, o)
		}
	case broken:
		m.window.add(now, true)
		if m.broken++; m.broken >= manyFailures || returning {
			f.leaveOut(now, i, o)
		} else {
			f.compare(now, i)
		}
	case stalled:
		m.window.add(now, true)
		f.compare(now, i)
	default:
	}
}

// heard is when an upstream last gave a sign that it isn't silent. Of the last one that is there
// an answer to a check is one too: whoever alone calls a quiet region, and asks what takes
// long, would have all of it left out. Of others it isn't: one whose calls all hang may well
// answer its checks, and they do what it doesn't.
func (f *fleet) heard(i int) time.Duration {
	m := &f.members[i]
	if f.outs() < len(f.members)-1 {
		return m.answeredAt
	}
	return max(m.answeredAt, m.wellAt)
}

// checked notes the outcome of a check; blameless and well are good ones.
func (f *fleet) checked(now time.Duration, i int, o outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &f.members[i]
	m.checkedAt = now
	if o == well {
		m.wellAt, o = now, blameless
	}
	switch {
	case m.out && o == blameless:
		f.comeBack(now, i)
	case m.out:
		if o == unreached || m.reason.gone() && (o == unwell || o == leaving) {
			m.reason = o // it is gone meanwhile, or there again
		}
		m.misses++
		m.until = now + looks(m.misses)
	case o == blameless:
		m.unreached, m.unwell = 0, 0
	case o == unreached:
		f.blame(now, i, unreached, now)
	case o == unwell:
		if m.unwell++; m.unwell >= manyUnwell {
			f.leaveOut(now, i, unwell)
		}
	case o == leaving:
		f.leaveOut(now, i, leaving)
	}
}

// leaveOut has an upstream get no calls for a time.
func (f *fleet) leaveOut(now time.Duration, i int, o outcome) {
	m := &f.members[i]
	if m.out || !o.gone() && (f.outs()+1)*2 > len(f.members) {
		return
	}
	if now-m.returnedAt > calmTime {
		m.times = 0
	} else {
		m.times++
	}
	wait := min(firstTime<<min(m.times, 10), longestTime)
	if o == unreached || o == leaving { // another process may take its place at any time
		wait = looks(m.times)
	}
	was := m.health
	m.health = health{
		out: true, reason: o, until: now + jitter(wait), times: was.times, ejections: was.ejections + 1,
		era: was.era + 1, returnedAt: was.returnedAt, checkedAt: was.checkedAt,
	}
	f.changed(i, m)
	f.signal()
}

// looks is how long to wait before an upstream is looked for once more.
func looks(misses int) time.Duration { return min(firstLook<<min(misses, 10), lastLook) }

// jitter keeps gateways from acting in step.
func jitter(d time.Duration) time.Duration {
	return d - d/8 + rand.N(d/4+1) //nolint:gosec // a lot is no secret
}

// comeBack lets an upstream have one call at a time.
func (f *fleet) comeBack(now time.Duration, i int) {
	m := &f.members[i]
	m.health = health{
		allowance: 1, allowedAt: now, returnedAt: now, times: m.times, ejections: m.ejections, era: m.era + 1, checkedAt: m.checkedAt,
	}
	f.changed(i, m)
}

// trust lets an upstream that has answered have more calls at a time: twice as many with
// each round, so that it warms up as quickly as it answers.
func (f *fleet) trust(now time.Duration, m *member) {
	if m.out || m.allowance == 0 {
		return
	}
	if m.allowance++; m.allowed(now) >= f.full {
		m.allowance = 0
	}
	f.signal()
}

// suspicious are the answers that may say more of the upstream than of the call. An API may
// well answer so on purpose: that is why it is held against an upstream only where the
// others don't.
func suspicious(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// compare leaves an upstream out whose answers are worse than those of the others.
func (f *fleet) compare(now time.Duration, i int) {
	calls, bad := f.members[i].window.sum(now)
	if bad < badAnswers || bad*badShare < calls {
		return
	}
	otherCalls, otherBad := 0, 0
	for j := range f.members {
		if m := &f.members[j]; j != i && !m.out {
			c, b := m.window.sum(now)
			otherCalls, otherBad = otherCalls+c, otherBad+b
		}
	}
	if otherCalls >= fewAnswers && bad*otherCalls >= badRatio*otherBad*calls {
		f.leaveOut(now, i, failing)
	}
}

// window counts answers of the last ten seconds.
type window struct {
	parts [windowParts]struct {
		at         time.Duration
		calls, bad int32
	}
}

const (
	windowParts = 5
	windowPart  = 2 * time.Second
)

func (w *window) add(now time.Duration, bad bool) {
	at := now / windowPart
	p := &w.parts[at%windowParts]
	if p.at != at {
		p.at, p.calls, p.bad = at, 0, 0
	}
	p.calls++
	if bad {
		p.bad++
	}
}

func (w *window) sum(now time.Duration) (calls, bad int) {
	at := now / windowPart
	for i := range w.parts {
		if p := &w.parts[i]; at-p.at < windowParts {
			calls, bad = calls+int(p.calls), bad+int(p.bad)
		}
	}
	return calls, bad
}

const (
	// dormantAfter is how long after its latest call a region is no longer looked at, as it
	// is not before the first: nobody wants to know.
	dormantAfter = 5 * time.Minute
	forever      = time.Duration(math.MaxInt64)
)

// nextCheck is how long to wait until an upstream is to be looked at, and whether it is. One
// that is left out is as soon as its time is over; the others where nothing was heard of
// them for an interval (0: never).
func (f *fleet) nextCheck(now time.Duration, i int, interval time.Duration) (wait time.Duration, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &f.members[i]
	at := m.until
	if !m.out {
		if interval == 0 {
			return forever, false
		}
		if now-f.calledAt > dormantAfter {
			return interval, false
		}
		at = max(m.answeredAt, m.checkedAt) + interval
	}
	return at - now, at <= now
}

// soonest is how long it takes until an upstream that is left out is looked for.
func (f *fleet) soonest(now time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := longestTime
	for i := range f.members {
		if m := &f.members[i]; m.out {
			wait = min(wait, m.until-now)
		}
	}
	return max(wait, 0)
}
