package region_test

import (
	"testing"
	"time"

	"mpr/problem"
	"mpr/region"
)

// A move may wait for its time, or be paused, for longer than the change log is kept: both sides
// still know which rows were changed since they were compared.
func TestLongWaitsLoseNoLog(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	id := us.newCompany("one")
	a := us.callerAt(id, 1)
	a.newProject("before")
	j := &journey{t: t, from: us, to: eu, id: id, move: "move-1", turn: 1}
	j.copy(j.begin(1, 0))
	verified := j.follow()
	a.newProject("soon after")
	j.follow()
	for _, w := range []*world{us, eu} {
		until(t, "all is published", func() bool { return w.count(`SELECT COUNT(*) FROM change_log WHERE published = 0`) == 0 })
		w.exec(`UPDATE change_log SET at = at - $1`, (8 * 24 * time.Hour).Microseconds())
		check(t, region.ForgetOld(w.service, t.Context()))
	}
	a.newProject("in the end")
	j.finish(1, verified)
	// Given up, nobody needs it any more.
	back := &journey{t: t, from: eu, to: us, id: id, move: "move-2", turn: 2}
	back.begin(2, 0)
	back.post(us, "abandon", nil).want(200)
	us.exec(`UPDATE change_log SET at = at - $1`, (8 * 24 * time.Hour).Microseconds())
	check(t, region.ForgetOld(us.service, t.Context()))
	if n := us.count(`SELECT COUNT(*) FROM change_log`); n != 0 {
		t.Errorf("%d changes are kept", n)
	}
}

// Where another move takes an arrival's place, what that one has brought or deleted is no start: the
// rows aren't those of the version any more.
func TestArrivalsThatAreReplaced(t *testing.T) {
	for name, first := range map[string]bool{"changes were applied": true, "rows were deleted": false} {
		t.Run(name, func(t *testing.T) {
			us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
			id := us.newCompany("one")
			a := us.callerAt(id, 1)
			a.newProject("before")
			there := &journey{t: t, from: us, to: eu, id: id, move: "move-1", turn: 1}
			there.copy(there.begin(1, 0))
			there.finish(1, there.follow())
			base := there.state(us).Fence.Version
			b := eu.callerAt(id, 2)
			b.newProject("after")

			back := &journey{t: t, from: eu, to: us, id: id, move: "move-2", turn: 2}
			if first {
				if begun := back.begin(2, base); !begun.Copied {
					t.Fatalf("going back begins at %+v", begun)
				}
				back.follow()
			} else if begun := back.begin(2, 0); begun.Copied {
				t.Fatalf("going back begins at %+v", begun)
			}
			again := &journey{t: t, from: eu, to: us, id: id, move: "move-3", turn: 3}
			begun := again.begin(2, base)
			if begun.Copied || begun.Move != "move-3" {
				t.Errorf("begins with what another move has left: %+v", begun)
			}
			again.copy(begun)
			again.finish(2, again.follow())
		})
	}
}

// "A version below 0 is answered 422 with invalid", by each operation.
func TestVersionsBelowZero(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	id := us.newCompany("one")
	j := &journey{t: t, from: us, to: eu, id: id, move: "move-1", turn: 1}
	j.begin(1, 0)
	j.post(eu, "rows", map[string]any{"table": "companies", "last": true, "version": -1}).refused(422, problem.Invalid)
}
