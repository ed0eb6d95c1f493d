package region_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/store"
)

// restored starts the region again as after a restore: the stream that it finds isn't the one that
// it has fed. It answers the version that everything is raised to.
func (w *world) restored() (floor int64) {
	w.t.Helper()
	until(w.t, "the region has noted which stream it feeds", func() bool { return w.count(`SELECT COUNT(*) FROM index_feed`) == 1 })
	w.stop()
	made := time.Now().Add(time.Hour)
	w.publisher.made.Store(&made)
	w.start()
	return store.Micros(made)
}

func (w *world) publishedAgain() {
	w.t.Helper()
	until(w.t, "all companies are published again", func() bool { return w.count(`SELECT after_company FROM index_feed`) > 1<<62 })
}

// A region whose database is from a backup tells the index all that there is, under versions that are
// later than any that it has heard, and that what it knew before is over.
func TestARestoredRegionTellsAll(t *testing.T) {
	w := newWorld(t)
	var ids []company.ID
	for i := range 130 { // more than a step
		ids = append(ids, w.newCompany(fmt.Sprint(i)))
	}
	many := w.as(w.user(alice), ids[3])
	for i := range 230 { // more than a page
		w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/%d", ids[3], 1000+i), fmt.Sprintf(`{"login":"%d@example.com","name":"N"}`, i)).want(200)
	}
	many.newProject("not for the index")
	before := w.count(`SELECT version FROM fence WHERE company_id = $1`, int64(ids[3]))
	until(t, "all is published", func() bool { return w.count(`SELECT COUNT(*) FROM change_log WHERE published = 0`) == 0 })
	heard := w.follow()
	floor := w.restored()
	last := heard.until("the last company", func(c directory.Change) bool { return c.Company == ids[129] && c.Since > 0 })
	if last.Version != floor || last.Since != floor {
		t.Errorf("the last company is told as %+v, the floor is %d", last, floor)
	}
	w.publishedAgain()
	lost := slices.IndexFunc(heard.seen, func(c directory.Change) bool { return c.Kind == directory.ChangeLost })
	if lost < 0 || heard.seen[lost].Company < ids[129] || heard.seen[lost].Key != int64(company.FirstID(number+1))-1 || heard.seen[lost].Version != floor {
		t.Errorf("what isn't there any more was told as number %d of the changes", lost)
	}
	members := map[int64]bool{}
	for _, c := range heard.seen {
		if c.Company == ids[3] && c.Kind == directory.ChangeMembership && c.Version == floor {
			members[c.Key] = true
		}
	}
	if len(members) != 231 {
		t.Errorf("%d members of %d were told again", len(members), 231)
	}
	// It goes on from there, and a company that is made now says so as well.
	many.patch("/rest/v1.0/companies/"+ids[3].String(), `{"company":{"name":"Renamed"}}`).want(200)
	heard.until("a change", func(c directory.Change) bool { return c.Company == ids[3] && c.Version == floor+1 && c.Since == floor })
	id := w.newCompany("new")
	heard.until("a new company", func(c directory.Change) bool { return c.Company == id && c.Version == floor+1 && c.Since == floor })
	if before >= floor {
		t.Errorf("version %d was counted before, %d is the floor", before, floor)
	}
	// Nothing is told again by a start alone.
	w.stop()
	w.start()
	id = w.newCompany("newer")
	seen := len(heard.seen)
	heard.until("the newer company", func(c directory.Change) bool { return c.Company == id && c.Kind == directory.ChangeInstallation })
	if n := len(heard.seen) - seen; n > 8 {
		t.Errorf("%d changes came after a start", n)
	}
}

// What was about to move when all were told again is told once it is owned again, here or there.
func TestARestoredRegionTellsWhatMoves(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	stays, leaves := us.newCompany("stays"), us.newCompany("leaves")
	back := &journey{t: t, from: us, to: eu, id: stays, move: "move-1", turn: 1}
	away := &journey{t: t, from: us, to: eu, id: leaves, move: "move-2", turn: 2}
	for _, j := range []*journey{back, away} {
		j.copy(j.begin(1, 0))
		j.follow()
		j.post(us, "freeze", map[string]any{"epoch": 1}).want(200)
	}
	here, there := us.follow(), eu.follow()
	floor := us.restored()
	us.publishedAgain()
	eu.restored()
	eu.publishedAgain()
	if n := us.count(`SELECT COUNT(*) FROM fence WHERE version >= $1`, floor); n != 0 {
		t.Errorf("%d frozen fences have changed", n)
	}
	back.post(us, "thaw", map[string]any{"epoch": 2}).want(200)
	here.until("the one that stays", func(c directory.Change) bool { return c.Company == stays && c.Since > 0 })
	away.finish(1, away.follow())
	there.until("the one that has left", func(c directory.Change) bool { return c.Company == leaves && c.Since > 0 })
	us.publishedAgain()
	eu.publishedAgain()
}
