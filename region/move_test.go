package region_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"mpr/company"
	"mpr/problem"
	"mpr/region"
)

// journey is a move by the contract, step by step, as a mover makes it.
type journey struct {
	t        *testing.T
	from, to *world
	id       company.ID
	move     string
	turn     int64
	// between is called after each page and each batch of changes.
	between func()
}

type ownership struct {
	State   string
	Epoch   company.Epoch
	Version int64
}

type arrival struct {
	Move    string
	Table   string
	After   string
	Copied  bool
	Version int64
}

func (j *journey) path(verb string) string {
	return fmt.Sprintf("/contract/v1/companies/%d/%s", j.id, verb)
}

// post calls an operation with these members besides the move's.
func (j *journey) post(w *world, verb string, members map[string]any) answer {
	j.t.Helper()
	all := map[string]any{"move": j.move, "turn": j.turn}
	maps.Copy(all, members)
	data, err := json.Marshal(all)
	check(j.t, err)
	return w.admin("POST", j.path(verb), string(data))
}

func (j *journey) state(w *world) (s struct {
	Fence   *struct{ ownership }
	Arrival *arrival
	Tables  []string
	Rows    map[string]int64
}) {
	j.t.Helper()
	w.admin("GET", j.path("state?rows=1"), "").want(200).into(&s)
	return s
}

func (j *journey) pause() {
	if j.between != nil {
		j.between()
	}
}

// begin begins the departure and the arrival. reuse is the version of what is left at the
// destination; 0 for nothing.
func (j *journey) begin(epoch company.Epoch, reuse int64) arrival {
	j.t.Helper()
	version := reuse
	if reuse == 0 {
		version = j.state(j.from).Fence.Version
	}
	j.post(j.from, "depart", map[string]any{"epoch": epoch, "version": version}).want(200)
	var a arrival
	j.post(j.to, "arrive", map[string]any{"epoch": epoch, "version": version, "reuse": reuse > 0}).want(200).into(&a)
	return a
}

// copy copies all rows, a few at a time.
func (j *journey) copy(a arrival) {
	j.t.Helper()
	for !a.Copied {
		if a.Table == "" {
			a.Table = j.state(j.from).Tables[0]
		}
		var page struct {
			Rows    []json.RawMessage
			After   string
			Last    bool
			Version int64
		}
		j.from.admin("GET", j.path(fmt.Sprintf("rows?table=%s&after=%s&limit=2", a.Table, a.After)), "").want(200).into(&page)
		taken := map[string]any{"table": a.Table, "since": a.After, "after": page.After, "last": page.Last, "rows": page.Rows, "version": page.Version}
		j.post(j.to, "rows", taken).want(200)
		j.post(j.to, "rows", taken).want(200).into(&a) // once more is no harm
		j.pause()
	}
}

// follow applies changes until there are no more, and answers the version.
func (j *journey) follow() int64 {
	j.t.Helper()
	for {
		at := j.state(j.to).Arrival.Version
		var log struct {
			Changes []json.RawMessage
			Version int64
		}
		j.from.admin("GET", j.path(fmt.Sprintf("changes?after=%d", at)), "").want(200).into(&log)
		if at == log.Version {
			return at
		}
		j.post(j.to, "changes", map[string]any{"changes": log.Changes}).want(200)
		j.post(j.to, "changes", map[string]any{"changes": log.Changes}).want(200) // once more is no harm
	}
}

// compare wants both sides to be the same.
func (j *journey) compare(query string) {
	j.t.Helper()
	var from, to struct {
		Version int64
		Tables  map[string]struct {
			Rows int64
			Sum  string
		}
	}
	j.from.admin("GET", j.path("checksum"+query), "").want(200).into(&from)
	j.to.admin("GET", j.path("checksum"+query), "").want(200).into(&to)
	if !reflect.DeepEqual(from, to) {
		j.t.Errorf("checksum%s: the source has\n%v\nand the destination\n%v", query, from, to)
	}
}

// finish freezes, brings the last changes, and has the destination own the company.
func (j *journey) finish(epoch company.Epoch, since int64) {
	j.t.Helper()
	var froze, owns ownership
	for range 2 {
		j.post(j.from, "freeze", map[string]any{"epoch": epoch}).want(200).into(&froze)
	}
	last := j.follow()
	if froze.State != "frozen" || froze.Version != last {
		j.t.Fatalf("frozen %+v, and the last change is %d", froze, last)
	}
	j.compare("")
	j.compare(fmt.Sprintf("?since=%d", since))
	for range 2 {
		j.post(j.to, "activate", map[string]any{"epoch": epoch + 1, "version": last}).want(200).into(&owns)
		j.post(j.from, "leave", map[string]any{"epoch": epoch + 1, "region": j.to.code}).want(200)
	}
	if owns != (ownership{"owned", epoch + 1, last}) {
		j.t.Fatalf("the destination says %+v", owns)
	}
}

// callerAt is alice at an epoch.
func (w *world) callerAt(id company.ID, epoch company.Epoch) caller {
	c := w.as(w.user(alice), id)
	c.epoch = epoch
	return c
}

// A company moves while it is written to, and back again; nothing is lost and nobody else
// serves it.
func TestContract(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	id := us.newCompany("one")
	a := us.callerAt(id, 1)
	projects := []int64{a.newProject("p0"), a.newProject("p1"), a.newProject("p2")}
	rfi := func(c caller, project int64, subject string) int64 {
		return c.post(fmt.Sprintf("/rest/v1.0/projects/%d/rfis", project), fmt.Sprintf(`{"rfi":{"subject":%q}}`, subject)).want(201).object().ID
	}
	var rfis []int64
	for i := range 9 {
		rfis = append(rfis, rfi(a, projects[i%3], fmt.Sprint("rfi ", i)))
	}
	writes := 0
	j := &journey{t: t, from: us, to: eu, id: id, move: "move-1", turn: 1, between: func() {
		// The numbers of RFIs are unique in a project and are given out again: rows that are
		// copied at different moments stand in one another's way.
		writes++
		last := rfis[len(rfis)-1]
		project := projects[(len(rfis)-1)%3]
		a.delete(fmt.Sprintf("/rest/v1.0/projects/%d/rfis/%d", project, last)).want(200)
		rfis[len(rfis)-1] = rfi(a, project, fmt.Sprint("again ", writes))
		a.patch(fmt.Sprintf("/rest/v1.0/projects/%d", projects[0]), fmt.Sprintf(`{"project":{"name":"renamed %d"}}`, writes)).want(200)
		a.newProject(fmt.Sprint("new ", writes))
	}}
	j.copy(j.begin(1, 0))
	verified := j.follow()
	j.compare("")
	j.between()
	a.post("/rest/v1.0/projects", `{"project":{"name":"late"}}`).want(201)
	j.finish(1, verified)
	if writes < 8 {
		t.Errorf("only %d rounds of writes: the test shows little", writes)
	}

	for table, key := range region.MovingTables() {
		if here, there := us.rows(table, key, int64(id)), eu.rows(table, key, int64(id)); !maps.Equal(here, there) || len(there) == 0 && table != "permitted_projects" && table != "project_users" {
			t.Errorf("%s: the source has\n%v\nand the destination\n%v", table, here, there)
		}
	}
	// The source tells where it went; nobody can make it serve again.
	refusal := a.get("/rest/v1.0/projects")
	refusal.refused(421, problem.WrongRegion)
	if refusal.header.Get("Mpr-Region") != "EU01" || refusal.header.Get("Mpr-Epoch") != "2" {
		t.Errorf("the source says %v", refusal.header)
	}
	for verb, members := range map[string]map[string]any{"freeze": {"epoch": 1}, "thaw": {"epoch": 2}, "depart": {"epoch": 1}} {
		j.post(us, verb, members).refused(409, problem.Conflict)
	}
	b := eu.callerAt(id, 2)
	b.get("/rest/v1.0/projects").want(200)

	// And back, by the changes since.
	b.patch(fmt.Sprintf("/rest/v1.0/projects/%d", projects[1]), `{"project":{"name":"over there"}}`).want(200)
	b.delete(fmt.Sprintf("/rest/v1.0/projects/%d/rfis/%d", projects[0], rfis[0])).want(200)
	base := j.state(us).Fence.Version
	back := &journey{t: t, from: eu, to: us, id: id, move: "move-2", turn: 2}
	begun := back.begin(2, base)
	if !begun.Copied || begun.Version != base {
		t.Fatalf("going back begins at %+v, and %d is here", begun, base)
	}
	back.finish(2, back.follow())
	us.callerAt(id, 3).get(fmt.Sprintf("/rest/v1.0/projects/%d/rfis/%d", projects[0], rfis[0])).refused(404, problem.NotFound)
	b.get("/rest/v1.0/projects").refused(421, problem.WrongRegion)

	// What is left is deleted bit by bit, and the fence goes on to say where it went.
	for left := true; left; {
		var said struct {
			Deleted int64
			Left    bool
		}
		back.post(eu, "purge", nil).want(200).into(&said)
		left = said.Left
	}
	for table, n := range back.state(eu).Rows {
		if n != 0 {
			t.Errorf("%d rows of %s are left", n, table)
		}
	}
	b.get("/rest/v1.0/projects").refused(421, problem.WrongRegion)
	back.post(us, "purge", nil).refused(409, problem.Conflict)
	// Now all rows must be copied again.
	again := &journey{t: t, from: us, to: eu, id: id, move: "move-3", turn: 3}
	if begun := again.begin(3, base); begun.Copied {
		t.Errorf("begins with what is deleted: %+v", begun)
	}
}

// Who calls the destination while it begins to own the company is told to ask again in a moment,
// until it is let in: never that it has come to the wrong place.
func TestCallsWhileActivating(t *testing.T) {
	here, there := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	id := here.newCompany("one")
	for n := range int64(10) {
		epoch := company.Epoch(n + 1)
		j := &journey{t: t, from: here, to: there, id: id, move: fmt.Sprint("move-", n), turn: n + 1}
		var left int64 // what it has of the company from before
		if f := j.state(there).Fence; f != nil {
			left = f.Version
		}
		j.copy(j.begin(epoch, left))
		verified := j.follow()
		callers := sync.WaitGroup{}
		for range 4 {
			c := there.callerAt(id, epoch+1)
			callers.Go(func() {
				for {
					a := c.get("/rest/v1.0/projects")
					if a.status == 200 {
						return
					}
					if a.status != 421 || a.header.Get("Mpr-Moving") != "1" {
						t.Errorf("move %d: %d with %v", n, a.status, a.header)
						return
					}
				}
			})
		}
		j.finish(epoch, verified)
		callers.Wait()
		here, there = there, here
	}
}

// A move that is given up leaves the source as it was, under a newer epoch, and nothing at
// the destination.
func TestContractAbandoned(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	id := us.newCompany("one")
	a := us.callerAt(id, 1)
	a.newProject("p")
	j := &journey{t: t, from: us, to: eu, id: id, move: "move-1", turn: 5}
	j.copy(j.begin(1, 0))
	j.follow()
	j.post(us, "freeze", map[string]any{"epoch": 1}).want(200)
	a.get("/rest/v1.0/projects").refused(421, problem.WrongRegion)
	a.post("/rest/v1.0/projects", `{"project":{"name":"x"}}`).refused(421, problem.WrongRegion)
	j.post(us, "thaw", map[string]any{"epoch": 1}).refused(409, problem.Conflict) // not under the old one
	for range 2 {
		j.post(us, "thaw", map[string]any{"epoch": 2}).want(200)
		j.post(eu, "abandon", nil).want(200)
	}
	us.callerAt(id, 2).get("/rest/v1.0/projects").want(200)
	a.get("/rest/v1.0/projects").refused(421, problem.WrongRegion)
	if s := j.state(eu); s.Fence != nil || s.Arrival != nil || s.Rows["projects"] != 0 {
		t.Errorf("left behind: %+v", s)
	}
	j.post(eu, "activate", map[string]any{"epoch": 2, "version": 1}).refused(409, problem.Conflict)
	eu.callerAt(id, 2).get("/rest/v1.0/projects").refused(421, problem.WrongRegion)
}

// "At most one acts on a company at a time, safe even if it is paused for a minute and wakes
// up": who has been replaced changes nothing any more.
// A request to arrive that was on its way for long must not bring back what was given up; the
// next move of the company is another matter.
func TestArriveAfterAbandon(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	j := &journey{t: t, from: us, to: eu, id: us.newCompany("one"), move: "move-1", turn: 1}
	late := map[string]any{"epoch": 1, "version": 0}
	j.post(eu, "abandon", nil).want(200)
	j.post(eu, "arrive", late).refused(409, problem.Conflict)
	if j.state(eu).Arrival != nil {
		t.Error("it arrives all the same")
	}
	j.move, j.turn = "move-2", 2
	j.post(eu, "arrive", late).want(200)
}

func TestReplacedMoversChangeNothing(t *testing.T) {
	us, eu := newWorldOf(t, "US02", 16), newWorldOf(t, "EU01", 17)
	id := us.newCompany("one")
	old := &journey{t: t, from: us, to: eu, id: id, move: "move-1", turn: 1}
	old.copy(old.begin(1, 0))
	young := &journey{t: t, from: us, to: eu, id: id, move: "move-1", turn: 2}
	if a := young.begin(1, 0); !a.Copied {
		t.Errorf("the next mover begins anew: %+v", a)
	}
	for _, w := range []*world{us, eu} {
		for _, verb := range []string{"depart", "freeze", "thaw", "leave", "arrive", "rows", "changes", "activate", "abandon", "settle"} {
			members := map[string]any{"epoch": 1, "version": 3, "region": "DE01", "table": "rfis", "last": true, "rows": []any{}, "changes": []any{}}
			old.post(w, verb, members).refused(409, problem.MoverReplaced)
		}
	}
	us.callerAt(id, 1).get("/rest/v1.0/projects").want(200)
	young.finish(1, young.follow())
}

// What the contract gets may be anything.
func TestContractRefusals(t *testing.T) {
	us := newWorldOf(t, "US02", 16)
	id := us.newCompany("one")
	j := &journey{t: t, from: us, to: us, id: id, move: "m", turn: 1}
	for path, status := range map[string]int{
		j.path("rows?table=fence"): 422, j.path("rows?table=rfis&after=x"): 400, j.path("rows?table=rfis&after=[1]"): 400, j.path("rows?table=rfis&limit=-1"): 400,
		j.path("changes?after=-1"): 400, j.path("changes?after=1&until=x"): 400, j.path("nothing"): 404, "/contract/v1/companies/0/state": 404,
		"/contract/v1/companies/99/rows?table=rfis": 404, "/contract/v1/companies/99/changes": 404, "/contract/v1/companies/99/checksum": 404,
	} {
		us.admin("GET", path, "").want(status)
	}
	for _, body := range []string{"", "null", "[]", `{"move":"m"}`, `{"turn":1}`, `{"move":"m","turn":-1}`, `{"move":1,"turn":1}`} {
		if got := us.admin("POST", j.path("freeze"), body); got.status != 400 && got.status != 422 {
			t.Errorf("%q: %v", body, got)
		}
	}
	j.post(us, "freeze", map[string]any{"epoch": 7}).refused(409, problem.Conflict)
	j.post(us, "leave", map[string]any{"epoch": 2, "region": "US02"}).refused(422, problem.Invalid)
	j.post(us, "leave", map[string]any{"epoch": 2, "region": "EU01"}).refused(409, problem.Conflict) // it isn't frozen
	j.post(us, "arrive", map[string]any{"epoch": 1, "version": 1}).refused(409, problem.Conflict)    // it lives here
	us.callerAt(id, 1).get("/rest/v1.0/projects").want(200)
	eu := newWorldOf(t, "EU01", 17)
	j.to = eu
	a := j.begin(1, 0)
	for _, rows := range []string{`[{"company_id":99,"name":"x"}]`, `[1]`, `[{}]`} {
		j.post(eu, "rows", map[string]any{"table": "companies", "after": "[]", "rows": json.RawMessage(rows)}).refused(422, problem.Invalid)
	}
	withNUL := map[string]any{"company_id": id, "name": "a\x00b", "onboarded": "", "created": 1, "updated": 1, "monthly_sandbox": 0}
	j.post(eu, "rows", map[string]any{"table": "companies", "after": "[]", "rows": []any{withNUL}}).refused(422, problem.Invalid)
	j.post(eu, "changes", map[string]any{"changes": []any{}}).refused(409, problem.Conflict) // before the rows
	j.copy(a)
	at := j.state(eu).Arrival.Version
	for _, change := range []map[string]any{
		{"version": at + 2, "table": "rfis", "row": map[string]any{}}, {"version": at + 1, "table": "fence", "row": map[string]any{}},
		{"version": at + 1, "table": "companies", "row": map[string]any{"company_id": 5}}, {"version": at + 1, "table": "projects", "row": 7},
	} {
		if got := j.post(eu, "changes", map[string]any{"changes": []any{change}}); got.status != 422 && got.status != 400 {
			t.Errorf("%v: %v", change, got)
		}
	}
	j.post(eu, "activate", map[string]any{"epoch": 2, "version": at + 1}).refused(409, problem.Conflict)
	us.call("GET", us.internal+j.path("state"), "", nil).want(401)
}

// Rows that are made while a table is read come by the change log: whoever reads more slowly
// than they are made gets to an end.
func TestRowsEnd(t *testing.T) {
	w := newWorldOf(t, "US02", 16)
	j := &journey{t: t, from: w, id: w.newCompany("one")}
	a := w.callerAt(j.id, 1)
	type page struct {
		Rows       []struct{ Name string }
		After, End string
		Last       bool
	}
	read := func(query string) (p page) {
		w.admin("GET", j.path("rows?table=projects&limit=1&"+query), "").want(200).into(&p)
		return p
	}
	if p := read(""); p.End != "" || !p.Last || len(p.Rows) > 0 {
		t.Errorf("the first page of an empty table is %+v", p)
	}
	a.newProject("p0")
	a.newProject("p1")
	p := read("")
	var names []string
	for end := p.End; ; p = read("after=" + p.After + "&until=" + end) {
		a.newProject("late")
		for _, r := range p.Rows {
			names = append(names, r.Name)
		}
		if p.Last || len(names) > 2 {
			break
		}
	}
	if !slices.Equal(names, []string{"p0", "p1"}) {
		t.Errorf("up to the end there are %v", names)
	}
}
