package region_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mpr/company"
	"mpr/problem"
	"mpr/test/engine"
)

// noise is text that no engine can make smaller.
func noise(bytes int) string {
	raw := make([]byte, bytes/2+1)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)[:bytes]
}

// fill writes rows of RFIs with a question of that many bytes straight into the store.
func (w *world) fill(id company.ID, from, rows, bytes int) {
	w.t.Helper()
	check(w.t, w.db.Write(w.t.Context(), func(tx *sql.Tx) error {
		for i := from; i < from+rows; i += 100 {
			var values []string
			for k := i; k < min(i+100, from+rows); k++ {
				values = append(values, fmt.Sprintf("(%d,%d,%d,%d,'Subject %d','%s','open',1700000000000000,1700000000000000)", id, 1+k/100, 1000+k, k, k, noise(bytes)))
			}
			if _, err := tx.ExecContext(w.t.Context(), `INSERT INTO rfis VALUES `+strings.Join(values, ",")); err != nil {
				return err
			}
		}
		return nil
	}))
}

// "Row counts, estimated time, destination healthy and with room": what a company is said to
// take is what its rows take on either engine, and not more than twice that.
func TestWhatACompanyTakes(t *testing.T) {
	for _, bytes := range []int{10, 300, 3000, 20_000} {
		t.Run(fmt.Sprint(bytes), func(t *testing.T) {
			w := newWorld(t)
			used := func() int64 {
				if engine.Server() != "" {
					return w.count(`SELECT pg_total_relation_size('rfis')`)
				}
				used, err := w.db.Used(t.Context())
				check(t, err)
				return used
			}
			j := &journey{t: t, from: w, id: w.newCompany("one")}
			before := used()
			w.fill(j.id, 0, min(3000, 8_000_000/bytes), bytes)
			took := used() - before
			var said struct{ Bytes int64 }
			w.admin("GET", j.path("state?rows=1"), "").want(200).into(&said)
			if said.Bytes < took || said.Bytes > 2*took+10_000 {
				t.Errorf("it is said to take %d bytes, and takes %d", said.Bytes, took)
			}
		})
	}
}

// roomOf is what a region says of its room.
func (j *journey) roomOf(w *world) *int64 {
	j.t.Helper()
	var said struct{ Room *int64 }
	w.admin("GET", j.path("state"), "").want(200).into(&said)
	return said.Room
}

func TestRoom(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	j := &journey{t: t, from: us, to: eu, id: us.newCompany("one"), move: "move-1", turn: 1}
	// Nothing is set: SQLite knows the room on its disk.
	if room := j.roomOf(eu); (room == nil) != (engine.Server() != "") {
		t.Errorf("the region says %v", room)
	}
	used, err := eu.db.Used(t.Context())
	check(t, err)
	const megabyte = 1 << 20
	eu.service.MaxStore, eu.service.Reserve = used+30*megabyte, 10*megabyte
	if room := j.roomOf(eu); room == nil || *room > 20*megabyte || *room < 19*megabyte {
		t.Errorf("30 MB are left, 10 of them in reserve: the region says %v", *room)
	}
	a := j.begin(1, 0)
	// Where it is used up nothing more arrives, and nobody else is the worse for it.
	other := eu.newCompany("lives here")
	eu.service.MaxStore = used + 5*megabyte
	if room := j.roomOf(eu); room == nil || *room != 0 {
		t.Errorf("the reserve is used: the region says %v", room)
	}
	page := map[string]any{"table": "companies", "after": "", "last": true, "rows": []any{}, "version": 0}
	j.post(eu, "rows", page).refused(507, problem.InsufficientStorage)
	eu.as(eu.user(alice), other).newProject("there is room for those who live here")
	eu.service.MaxStore = 0
	j.copy(a)
	eu.service.MaxStore = 1
	j.post(eu, "changes", map[string]any{"changes": []any{}}).refused(507, problem.InsufficientStorage)
	j.post(eu, "abandon", nil).want(200) // which makes room
	eu.service.MaxStore = 0
}

// full lets the database take no more RFIs, as a full disk would, or takes that back.
func (w *world) full(is bool) {
	w.t.Helper()
	switch {
	case engine.Server() == "":
		limit := int64(1) // SQLite makes that as many pages as there are
		if !is {
			limit = 1 << 30
		}
		check(w.t, w.db.Write(w.t.Context(), func(tx *sql.Tx) error {
			return tx.QueryRowContext(w.t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, limit)).Scan(&limit)
		}))
	case is: // with the code that the server has for a disk that is full
		w.exec(`CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$`)
		w.exec(`CREATE TRIGGER no_room BEFORE INSERT ON rfis EXECUTE FUNCTION no_room()`)
	default:
		w.exec(`DROP TRIGGER no_room ON rfis`)
	}
}

// What a region has no room for it refuses with a code of its own, and keeps nothing of it.
func TestNoRoomForWrites(t *testing.T) {
	us, w := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("p")
	path := fmt.Sprintf("/rest/v1.0/projects/%d/rfis", project)
	rfi := fmt.Sprintf(`{"subject":"large","question":%q}`, noise(50_000))
	for range 3 {
		c.post(path, `{"rfi":{"subject":"small"}}`).want(201)
	}
	coming := us.newCompany("coming")
	us.fill(coming, 0, 300, 1000)
	snapshot := string(us.admin("GET", snapshotOf(coming), "").want(200).body)
	before, logged := w.rowsOf(id), w.count(`SELECT COUNT(*) FROM change_log`)

	w.full(true)
	for range 3 {
		got := c.post(path, `{"rfi":`+rfi+`}`)
		got.refused(507, problem.InsufficientStorage)
		if got.header.Get("Retry-After") == "" {
			t.Error("it doesn't say when to try again")
		}
		// One that fits, and one that doesn't: neither is there.
		c.patch(path+"/sync", `{"updates":[{"subject":"small"},`+rfi+`]}`).refused(507, problem.InsufficientStorage)
		w.admin("PUT", snapshotOf(coming)+"?state=owned", snapshot).refused(507, problem.InsufficientStorage)
		c.get(path).want(200)
	}
	if got := w.rowsOf(id); got != before || w.count(`SELECT COUNT(*) FROM change_log`) != logged {
		t.Errorf("something was kept of what was refused:\n%s\nand before\n%s", got, before)
	}
	w.full(false)
	c.post(path, `{"rfi":`+rfi+`}`).want(201)
	w.admin("PUT", snapshotOf(coming)+"?state=owned", snapshot).want(200)
}

// "Then purges it in small steps": what is deleted of a large company, after it went or where
// its arrival was given up, goes in short transactions, and other companies' writes get their
// turn between them.
func TestLargeCompaniesAreDeletedInSteps(t *testing.T) {
	const rows = 10_000
	us, w := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	other := w.as(w.user(alice), w.newCompany("other"))
	var made atomic.Int64
	during := func(what string, least int64, f func()) {
		t.Helper()
		stop, before := make(chan struct{}), made.Load()
		var writing sync.WaitGroup
		writing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					other.post("/rest/v1.0/projects", `{"project":{"name":"p"}}`).expect(201)
					made.Add(1)
				}
			}
		})
		f()
		got := made.Load() - before
		close(stop)
		writing.Wait()
		if got < least {
			t.Errorf("%s: only %d writes of another company meanwhile", what, got)
		}
	}

	gone := w.newCompany("gone")
	w.fill(gone, 0, rows, 100)
	w.exec(`UPDATE fence SET state = 'gone', gone_region = 'US02', gone_epoch = 2 WHERE company_id = $1`, int64(gone))
	j := &journey{t: t, from: us, to: w, id: gone, move: "move-1", turn: 1}
	during("purge", 10, func() {
		for left, calls := true, 0; left; calls++ {
			var said struct {
				Deleted int64
				Left    bool
			}
			j.post(w, "purge", nil).want(200).into(&said)
			if left = said.Left; said.Deleted > 500 || !left && calls < rows/500 {
				t.Errorf("call %d deletes %d rows", calls, said.Deleted)
			}
		}
	})

	j.id = us.newCompany("coming")
	j.begin(1, 0)
	w.fill(j.id, 0, rows, 100)
	during("abandon", 3, func() { j.post(w, "abandon", nil).want(200) })
	if s := j.state(w); s.Arrival != nil || s.Rows["rfis"] != 0 {
		t.Errorf("left behind: %+v", s)
	}
	// And what is left of an earlier stay, where the company comes again by all its rows.
	w.fill(gone, 0, rows, 100)
	j.id = gone
	during("arrive", 3, func() { j.post(w, "arrive", map[string]any{"epoch": 3, "version": 0}).want(200) })
	if n := j.state(w).Rows["rfis"]; n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// A region that is drained makes no company, but knows those that it has made.
func TestClosedToNewCompanies(t *testing.T) {
	w := newWorld(t)
	body := func(key string, closed bool) string {
		return fmt.Sprintf(`{"name":"C","onboarded":"2016-03-01","idempotency_key":%q,"closed":%v}`, key, closed)
	}
	var first, again struct{ ID company.ID }
	w.admin("POST", "/internal/companies", body("one", true)).refused(409, problem.RegionDraining)
	w.admin("POST", "/internal/companies", body("one", false)).want(201).into(&first)
	w.admin("POST", "/internal/companies", body("one", true)).want(200).into(&again)
	if first != again {
		t.Errorf("the same key made %d and %d", first.ID, again.ID)
	}
	w.admin("POST", "/internal/companies", body("two", true)).refused(409, problem.RegionDraining)
}
