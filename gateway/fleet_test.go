package gateway

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// arena is a fleet with a clock of the test.
type arena struct {
	t *testing.T
	*fleet
	now time.Duration
}

func newArena(t *testing.T, n int) *arena {
	return &arena{t, newFleet(n, 64, func(int, *member) {}), time.Hour}
}

// call picks an upstream for a call without a body.
func (a *arena) call() ticket {
	a.t.Helper()
	t, err := a.pick(a.now, 0, true)
	must(a.t, err)
	return t
}

// to has a call go to one upstream.
func (a *arena) to(i int) ticket {
	a.t.Helper()
	var not tried
	for j := range a.members {
		if j != i {
			not.add(j)
		}
	}
	t, err := a.pick(a.now, not, true)
	must(a.t, err)
	return t
}

func (a *arena) answer(t ticket, status int) {
	t.answered(a.now, status)
	t.end()
}

func (a *arena) fail(t ticket, o outcome) {
	t.failed(a.now, o)
	t.end()
}

// refused wants no upstream to be chosen, for a reason.
func (a *arena) refused(why error) {
	a.t.Helper()
	if t, err := a.pick(a.now, 0, true); !errors.Is(err, why) {
		a.t.Fatalf("upstream %d, %v; want %v", t.index, err, why)
	}
}

// looked has a check of an upstream that is left out come when it is due.
func (a *arena) looked(i int, o outcome) {
	a.t.Helper()
	wait, due := a.nextCheck(a.now, i, 0)
	if !due {
		a.now += wait
	}
	if _, due := a.nextCheck(a.now, i, 0); !due {
		a.t.Fatal("the check isn't due when its time has come")
	}
	a.checked(a.now, i, o)
}

// outs wants just these upstreams to be left out.
func (a *arena) left(want ...int) {
	a.t.Helper()
	out := map[int]bool{}
	for _, i := range want {
		out[i] = true
	}
	for i := range a.members {
		if m := &a.members[i]; m.out != out[i] {
			a.t.Fatalf("upstream %d is left out: %v (%v)", i, m.out, m.reason)
		}
	}
}

func TestLeastOutstanding(t *testing.T) {
	a := newArena(t, 3)
	for n := range 30 {
		a.call()
		least, most := a.members[0].outstanding, 0
		for i := range a.members {
			least, most = min(least, a.members[i].outstanding), max(most, a.members[i].outstanding)
		}
		if most-least > 1 {
			t.Fatalf("after %d calls one upstream has %d and another %d", n+1, most, least)
		}
	}
	// Calls one after another go to all of them.
	a = newArena(t, 3)
	var got [3]int
	for range 300 {
		c := a.call()
		got[c.index]++
		a.now += time.Millisecond
		a.answer(c, 200)
	}
	for i, n := range got {
		if n < 50 {
			t.Errorf("upstream %d got %d of 300 calls", i, n)
		}
	}
}

// A slow upstream gets less than its share, and is tried again when it may have recovered.
func TestSlowUpstreamsGetLess(t *testing.T) {
	a := newArena(t, 3)
	took := [3]time.Duration{time.Second, 10 * time.Millisecond, 10 * time.Millisecond}
	var got [3]int
	run := func(calls int) {
		got = [3]int{}
		type flight struct {
			ticket
			ends time.Duration
		}
		var flying []flight
		for range calls {
			a.now += 2 * time.Millisecond
			for i := 0; i < len(flying); {
				if f := flying[i]; f.ends <= a.now {
					a.answer(f.ticket, 200)
					flying = append(flying[:i], flying[i+1:]...)
				} else {
					i++
				}
			}
			c := a.call()
			got[c.index]++
			flying = append(flying, flight{c, a.now + took[c.index]})
		}
		for _, f := range flying {
			a.answer(f.ticket, 200)
		}
	}
	run(2000)
	if got[0] > 60 || got[1] < 700 || got[2] < 700 {
		t.Errorf("the slow one got %d calls, the others %d and %d", got[0], got[1], got[2])
	}
	took[0] = 10 * time.Millisecond
	run(100_000)
	if got[0] < 20_000 {
		t.Errorf("the slow one has become quick, and got %d of 100000 calls", got[0])
	}
}

// One that is silent is seen to be slow before any timeout says so.
func TestSilenceIsSlowness(t *testing.T) {
	a := newArena(t, 2)
	silent := a.to(0)
	a.now += time.Second
	for range 7 { // with none in flight there the quick one would get the eighth too
		if c := a.call(); c.index != 1 {
			t.Fatal("a call went to the silent one")
		}
	}
	a.answer(silent, 200)
}

func TestFailedConnects(t *testing.T) {
	a := newArena(t, 3)
	a.fail(a.to(0), unreached)
	a.left(0)
	a.fail(a.to(1), unreached)
	a.left(0, 1)
	// The last one is all there is: one failure may be chance.
	a.fail(a.to(2), unreached)
	a.fail(a.to(2), unreached)
	a.answer(a.to(2), 200)
	a.fail(a.to(2), unreached)
	a.fail(a.to(2), unreached)
	a.left(0, 1)
	a.fail(a.to(2), unreached)
	a.left(0, 1, 2)
	a.refused(errAway)
	// Each is looked for, more and more seldom, but never more seldom than about each second.
	for range 20 {
		before := a.now
		a.looked(0, unreached)
		if waited := a.now - before; waited > lastLook*9/8 {
			t.Fatalf("it was looked for after %v", waited)
		}
	}
	a.refused(errAway)
}

// "It comes back without a stampede": one call at a time, then more with each answer.
func TestComingBack(t *testing.T) {
	a := newArena(t, 1)
	for range manyFailures {
		a.fail(a.to(0), unreached)
	}
	a.refused(errAway)
	a.looked(0, blameless)
	var flying []ticket
	for atOnce := 1; atOnce < a.full; atOnce *= 2 {
		for range atOnce {
			flying = append(flying, a.call())
		}
		a.refused(errReturning)
		a.now += 10 * time.Millisecond
		for _, c := range flying {
			a.answer(c, 200)
		}
		flying = flying[:0]
	}
	for range 10 * a.full {
		a.call()
	}
	// Bad answers earn no trust, and a failure ends it.
	a = newArena(t, 1)
	for range manyFailures {
		a.fail(a.to(0), unreached)
	}
	a.looked(0, blameless)
	a.answer(a.call(), 503)
	c := a.call()
	a.refused(errReturning)
	a.fail(c, unreached)
	a.refused(errAway)
}

// One call that takes its time doesn't keep all others from an upstream that is back: not by a
// body that arrives slowly, not by a slow answer, and not by a report that takes a minute.
func TestSlowCallsDontHoldUpAReturn(t *testing.T) {
	a := newArena(t, 1)
	for range manyFailures {
		a.fail(a.to(0), unreached)
	}
	a.looked(0, blameless)
	var uploads []ticket
	for range 10 {
		upload, err := a.pick(a.now, 0, false)
		must(t, err)
		uploads = append(uploads, upload)
	}
	report := a.call()
	a.refused(errReturning)
	// No answer, but time passes: one more with each step, no stampede into one that may be silent.
	a.now += warmStep
	c := a.call()
	a.refused(errReturning)
	c.answered(a.now, 200) // it streams from here on
	a.call()
	a.call()
	a.refused(errReturning)
	a.now += 2 * warmStep
	a.call()
	a.call()
	a.refused(errReturning)
	c.end()
	a.answer(report, 200)
	for _, u := range uploads {
		a.answer(u, 200)
	}
	for range 12 {
		a.call()
	}
}

// What becomes of calls from before an upstream was left out neither helps nor harms it
// when it is back, and doesn't take the place of new ones.
func TestOldCallsAreOldNews(t *testing.T) {
	a := newArena(t, 1)
	var old []ticket
	for range 40 {
		old = append(old, a.to(0))
	}
	for range manyFailures {
		a.fail(a.to(0), unreached)
	}
	a.looked(0, blameless)
	c := a.call()
	for i, o := range old {
		if i%2 == 0 {
			a.fail(o, silent)
		} else {
			a.answer(o, 200)
		}
	}
	a.refused(errReturning)
	a.left()
	a.answer(c, 200)
	a.call()
	a.call()
	a.refused(errReturning)
}

func TestSilentUpstreams(t *testing.T) {
	a := newArena(t, 1)
	var slow []ticket
	for range 2 * manySilences {
		slow = append(slow, a.call())
	}
	// While it answers others, calls that it is slow with say nothing of it.
	a.now += 30 * time.Second
	a.answer(a.call(), 200)
	a.now += 30 * time.Second
	for _, c := range slow {
		a.fail(c, silent)
	}
	a.left()
	slow = slow[:0]
	for range manySilences {
		slow = append(slow, a.call())
	}
	a.now += time.Minute
	for _, c := range slow {
		a.fail(c, silent)
	}
	a.refused(errAway)
	// It takes connections but no calls: each time that it is tried by one call, it is left
	// out for longer, up to a bound.
	last := time.Duration(0)
	for range 12 {
		before := a.now
		a.looked(0, blameless)
		if waited := a.now - before; waited < last*3/4 || waited > longestTime*9/8 {
			t.Fatalf("%v after %v", waited, last)
		} else {
			last = waited
		}
		c := a.call()
		a.refused(errReturning)
		a.now += time.Minute - time.Second
		a.fail(c, silent)
		a.refused(errAway)
	}
	if last < longestTime*7/8 {
		t.Errorf("it was tried again after %v", last)
	}
}

// Nobody has a region's last upstream left out by asking what takes long, while its path of health
// answers: neither one that is well nor one that is just back.
func TestSilenceAndChecks(t *testing.T) {
	a := newArena(t, 2)
	slowly := func(i int, check outcome) {
		for range manySilences {
			c := a.to(i)
			a.now += 15 * time.Second
			for j := range a.members {
				if !a.members[j].out {
					a.checked(a.now, j, check)
				}
			}
			a.now += time.Second
			a.fail(c, silent)
		}
	}
	slowly(0, well) // the other one does its work
	a.left(0)
	slowly(1, well)
	a.left(0)
	// The one that was left out comes back, and it is the last one that is there.
	for range manyFailures {
		a.fail(a.to(1), unreached)
	}
	a.looked(0, well)
	a.left(1)
	slowly(0, well)
	a.left(1)
	// A check from before the call says nothing, and neither does one that only connects.
	a.checked(a.now, 0, well)
	a.now++
	c := a.to(0)
	a.checked(a.now, 0, blameless)
	a.now += 15 * time.Second
	a.fail(c, silent)
	a.left(0, 1)
}

// Nobody has an upstream left out by bodies that it doesn't want to read.
func TestStalledBodies(t *testing.T) {
	a := newArena(t, 1)
	for range 100 {
		a.fail(a.call(), stalled)
	}
	a.left()
}

// Answers that are bad are held against an upstream where the others' are better.
func TestOutliers(t *testing.T) {
	a := newArena(t, 3)
	for range 40 {
		if !a.members[0].out {
			a.answer(a.to(0), 503)
		}
		a.answer(a.to(1), 200)
		a.answer(a.to(2), 200)
	}
	a.left(0)
	// Bad answers everywhere are the API's.
	a = newArena(t, 3)
	for range 200 {
		for i := range 3 {
			a.answer(a.to(i), 500)
		}
	}
	a.left()
	// Never more than half of them, whatever they do.
	a = newArena(t, 5)
	for range 100 {
		for i := range 4 {
			if !a.members[i].out {
				a.fail(a.to(i), broken)
			}
		}
		a.answer(a.to(4), 200)
	}
	if n := a.outs(); n != 2 {
		t.Errorf("%d of 5 are left out", n)
	}
	// One alone isn't left out for what it answers.
	a = newArena(t, 1)
	for range 100 {
		a.fail(a.call(), broken)
	}
	a.left()
}

// Where so few are left that half are gone, those that are only worse than others serve too.
func TestAllAreNeeded(t *testing.T) {
	a := newArena(t, 3)
	for range manyFailures {
		a.fail(a.to(0), broken)
	}
	a.left(0)
	for range 20 {
		if c := a.call(); c.index == 0 {
			t.Fatal("one that is left out got a call")
		}
	}
	a.fail(a.to(1), unreached)
	for range manyFailures {
		a.fail(a.to(2), unreached)
	}
	a.left(0, 1, 2)
	if c := a.call(); c.index != 0 {
		t.Fatal("a call went to one that is gone")
	}
}

// Checks: one that says no twice is left out, all that do are needed, and one that was gone
// serves as it can when it is there again.
func TestChecks(t *testing.T) {
	a := newArena(t, 3)
	a.call()
	if _, due := a.nextCheck(a.now, 0, time.Second); !due {
		t.Fatal("an upstream of which nothing was heard isn't checked")
	}
	a.answer(a.to(0), 200)
	if wait, due := a.nextCheck(a.now, 0, time.Second); due || wait != time.Second {
		t.Fatal("one that has just answered is checked", wait)
	}
	if _, due := a.nextCheck(a.now+dormantAfter+time.Second, 0, time.Second); due {
		t.Fatal("one that nobody calls is checked")
	}
	for range manyUnwell {
		for i := range 3 {
			a.checked(a.now, i, unwell)
		}
	}
	if n := a.outs(); n != 1 {
		t.Fatalf("%d of 3 are left out because all are unwell", n)
	}
	a = newArena(t, 1)
	for range manyFailures {
		a.checked(a.now, 0, unreached)
	}
	a.refused(errAway)
	a.looked(0, unwell)
	a.call() // better than nothing
	a.looked(0, blameless)
	a.call()
	a.refused(errReturning)
}

// Whatever happens in whatever order: nothing is counted wrong, and no upstream is lost for
// ever.
func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test
		a := newArena(t, 1+rng.IntN(4))
		var flying []ticket
		for range 2000 {
			a.now += time.Duration(rng.Int64N(int64(300 * time.Millisecond)))
			switch n := rng.IntN(10); {
			case n < 5:
				if c, err := a.pick(a.now, tried(rng.IntN(4)), n < 4); err == nil {
					flying = append(flying, c)
				}
			case n < 9 && len(flying) > 0:
				i := rng.IntN(len(flying))
				c := flying[i]
				flying = append(flying[:i], flying[i+1:]...)
				if rng.IntN(3) > 0 {
					a.answer(c, []int{200, 404, 500, 503}[rng.IntN(4)])
				} else {
					a.fail(c, []outcome{blameless, unreached, silent, broken, stalled, beaten}[rng.IntN(6)])
				}
			default:
				i := rng.IntN(len(a.members))
				if _, due := a.nextCheck(a.now, i, 5*time.Second); due {
					a.checked(a.now, i, []outcome{blameless, unreached, unwell}[rng.IntN(3)])
				}
			}
		}
		for _, c := range flying {
			a.answer(c, 200)
		}
		for i := range a.members {
			m := &a.members[i]
			if m.outstanding != 0 || m.waiting != 0 || m.recent < 0 {
				t.Fatalf("seed %d: upstream %d has %d calls in flight, %d waiting, %d recent", seed, i, m.outstanding, m.waiting, m.recent)
			}
			if m.out {
				a.now += longestTime * 2
				a.looked(i, blameless)
			}
			for range a.full {
				a.answer(a.to(i), 200)
			}
			if m.out || m.allowance != 0 {
				t.Fatalf("seed %d: upstream %d doesn't come back", seed, i)
			}
		}
	}
}

// The choice costs no memory.
func BenchmarkChoice(b *testing.B) {
	f := newFleet(5, 512, func(int, *member) {})
	start := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			t, err := f.pick(time.Since(start), 0, true)
			if err != nil {
				b.Fatal(err)
			}
			t.answered(time.Since(start), 200)
			t.end()
		}
	})
	if allocs := testing.AllocsPerRun(100, func() {
		t, _ := f.pick(time.Since(start), 0, true)
		t.answered(time.Since(start), 200)
		t.end()
	}); allocs != 0 {
		b.Errorf("%v allocations", allocs)
	}
}

// An upstream that says that it is about to stop gets no more calls while there is another one, and gets them again once a
// check finds the process that has taken its place. What the old one says late doesn't count.
func TestLeavingUpstreams(t *testing.T) {
	a := newArena(t, 2)
	late, last := a.to(0), a.to(0)
	last.leaves(a.now)
	a.answer(last, 200)
	a.left(0)
	for range 10 {
		if c := a.call(); c.index != 1 {
			t.Fatal("it still gets calls")
		} else {
			c.leaves(a.now) // somebody has to stay
			a.answer(c, 200)
		}
	}
	a.left(0)
	a.looked(0, leaving)
	a.left(0)
	a.looked(0, blameless)
	a.left()
	late.leaves(a.now)
	a.answer(late, 200)
	a.left()
	a.checked(a.now, 1, leaving) // it needn't be called to say so
	a.left(1)
	// Where nobody answers any more it is gone, and calls are refused at once.
	a.looked(1, unreached)
	a.fail(a.to(0), unreached)
	a.refused(errAway)
}
