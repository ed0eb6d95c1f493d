package region_test

import (
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"mpr/company"
	"mpr/problem"
)

// misdirected wants a 421 that names a placement; "" for none.
func (a answer) misdirected(region, epoch string) {
	a.t.Helper()
	a.refused(421, problem.WrongRegion)
	if a.header.Get("Mpr-Region") != region || a.header.Get("Mpr-Epoch") != epoch {
		a.t.Errorf("%s: points to %q at epoch %q, want %q at %q", a.asked, a.header.Get("Mpr-Region"), a.header.Get("Mpr-Epoch"), region, epoch)
	}
}

func TestFence(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	w.exec(`UPDATE fence SET epoch = 3 WHERE company_id = $1`, int64(id))
	c := w.as(w.user(alice), id)
	at := func(epoch company.Epoch) caller { c.epoch = epoch; return c }
	all := func(c caller, want func(answer)) {
		t.Helper()
		want(c.get("/rest/v1.0/projects"))
		want(c.post("/rest/v1.0/projects", `{"project":{"name":"x"}}`))
		want(c.patch("/rest/v1.0/projects/sync", `{"updates":[{"name":"x"}]}`))
		want(c.delete(fmt.Sprintf("/rest/v1.0/companies/%d/users/%d", id, alice)))
		want(c.get("/rest/v1.0/of/a/newer/version"))
		want(c.send("PUT", "/rest/v1.0/projects", `{}`))
	}
	at(3).get("/rest/v1.0/projects").want(200)
	for name, try := range map[string]struct {
		statement     string
		epoch         company.Epoch
		region, where string
	}{
		"an older epoch":       {``, 2, "EU01", "3"},
		"a newer epoch":        {``, 4, "EU01", "3"},
		"a much newer epoch":   {``, 1<<63 - 1, "EU01", "3"},
		"frozen":               {`UPDATE fence SET state = 'frozen' WHERE company_id = $1`, 3, "EU01", "3"},
		"gone, and where to":   {`UPDATE fence SET state = 'gone', gone_region = 'US02', gone_epoch = 4 WHERE company_id = $1`, 3, "US02", "4"},
		"gone, called there":   {`UPDATE fence SET state = 'gone', gone_region = 'US02', gone_epoch = 4 WHERE company_id = $1`, 4, "US02", "4"},
		"gone without a trace": {`UPDATE fence SET state = 'gone', gone_region = '', gone_epoch = 0 WHERE company_id = $1`, 3, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.exec(`UPDATE fence SET state = 'owned', gone_region = '', gone_epoch = 0 WHERE company_id = $1`, int64(id))
			if try.statement != "" {
				w.exec(try.statement, int64(id))
			}
			all(at(try.epoch).in(t), func(a answer) { t.Helper(); a.misdirected(try.region, try.where) })
			// What control wants of a company that isn't owned goes elsewhere, too.
			if try.statement != "" {
				in := at(try.epoch).in(t).w
				in.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/5", id), `{"login":"x@example.com","name":"X"}`).misdirected(try.region, try.where)
			}
		})
	}
	unknown := w.as(w.user(alice), 4711)
	all(unknown, func(a answer) { t.Helper(); a.misdirected("", "") })
	w.admin("DELETE", "/internal/companies/4711/users/5", "").misdirected("", "")

	w.exec(`UPDATE fence SET state = 'owned' WHERE company_id = $1`, int64(id))
	if got := at(3).get("/rest/v1.0/projects").ids(); len(got) != 0 {
		t.Errorf("refused calls had effects: %v", got)
	}
}

// "Writes check the fence again inside their transaction, so that none can slip past a
// freeze": writers whose calls were admitted while the freeze was under way must all be
// refused, and the last version before the freeze stays the last one.
func TestNoWriteLandsAfterAFreeze(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	const writers = 8
	var started, done, refused atomic.Int64
	var stop atomic.Bool
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			for n := 0; !stop.Load(); n++ {
				started.Add(1)
				switch got := c.post("/rest/v1.0/projects", fmt.Sprintf(`{"project":{"name":"%d of %d"}}`, n, i)); got.status {
				case 201:
					done.Add(1)
				case 421:
					refused.Add(1)
				default:
					t.Errorf("%v", got)
					return
				}
			}
		})
	}
	until(t, "writes under way", func() bool { return done.Load() > writers })

	mover := w.open() // another process on the same database
	var last int64
	check(t, mover.Write(t.Context(), func(tx *sql.Tx) error {
		err := tx.QueryRowContext(t.Context(), `UPDATE fence SET state = 'frozen' WHERE company_id = $1 RETURNING version`, int64(id)).Scan(&last)
		if err != nil {
			return err
		}
		// From here on nobody gets past the fence. Let calls pile up that were admitted
		// before.
		before := started.Load()
		until(t, "calls waiting", func() bool { return started.Load() > before || started.Load() >= done.Load()+writers })
		return nil
	}))
	atFreeze := w.count(`SELECT COUNT(*) FROM projects WHERE company_id = $1`, int64(id))
	until(t, "refused calls", func() bool { return refused.Load() > 2*writers })
	stop.Store(true)
	writing.Wait()
	check(t, mover.Close())

	if got := w.count(`SELECT MAX(version) FROM change_log WHERE company_id = $1`, int64(id)); got != last {
		t.Errorf("version %d was written after the freeze at version %d", got, last)
	}
	if got := w.count(`SELECT COUNT(*) FROM projects WHERE company_id = $1`, int64(id)); got != atFreeze || got != done.Load() {
		t.Errorf("%d projects, %d at the freeze, %d were answered 201", got, atFreeze, done.Load())
	}
}

// "Version counts the changes of the company's data, from 1": one for each change, with no
// gaps, whoever writes at the same time.
func TestConcurrentWritersTakeGaplessVersions(t *testing.T) {
	w := newWorld(t)
	ids := []company.ID{w.newCompany("one"), w.newCompany("two")}
	var writing sync.WaitGroup
	const writers, each = 6, 8
	for i := range writers {
		c := w.as(w.user(alice), ids[i%len(ids)])
		project := c.newProject(fmt.Sprint(i))
		writing.Go(func() {
			for n := range each {
				switch n % 3 {
				case 0:
					c.post(fmt.Sprintf("/rest/v1.0/projects/%d/rfis", project), `{"rfi":{"subject":"s"}}`).expect(201)
				case 1:
					c.patch("/rest/v1.0/projects/sync", fmt.Sprintf(`{"updates":[{"id":%d,"name":"n"},{"name":""},{"name":"new"}]}`, project)).expect(200)
				case 2:
					w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/%d", c.id, 100+n), fmt.Sprintf(`{"login":"%d@example.com","name":"N"}`, n)).expect(200)
				}
			}
		})
	}
	writing.Wait()
	for _, id := range ids {
		n, last := w.count(`SELECT COUNT(*) FROM change_log WHERE company_id = $1`, int64(id)), w.count(`SELECT MAX(version) FROM change_log WHERE company_id = $1`, int64(id))
		at := w.count(`SELECT version FROM fence WHERE company_id = $1`, int64(id))
		if n != last || at != last || n < writers/2*each {
			t.Errorf("company %d: %d changes, the last is %d, the fence stands at %d", id, n, last, at)
		}
	}
	// Each project counted its RFIs on its own, without gaps or doubles.
	if got := w.count(`SELECT COUNT(*) FROM (SELECT project_id FROM rfis GROUP BY project_id HAVING COUNT(*) <> MAX(number) OR MIN(number) <> 1) AS odd`); got != 0 {
		t.Errorf("%d projects miscounted their RFIs", got)
	}
}
