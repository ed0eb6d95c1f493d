package region_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
	"mpr/region"
)

func snapshotOf(id company.ID) string { return fmt.Sprintf("/internal/companies/%d/snapshot", id) }

// newFullCompany makes a company that has rows in every table.
func (w *world) newFullCompany(key string) company.ID {
	w.t.Helper()
	id := w.newCompany(key)
	c := w.as(w.user(alice), id)
	project := c.newProject("Tower \u2028 <7>")
	path := fmt.Sprintf("/rest/v1.0/projects/%d", project)
	c.post(path+"/rfis", `{"rfi":{"subject":"a \"quoted\" subject","question":"line\nbreak"}}`).want(201)
	c.post(fmt.Sprintf("%s/users/%d/actions/add", path, alice), "").want(200)
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/90", id), fmt.Sprintf(`{"client_id":"m","name":"M","kind":"developer_managed","permitted_projects":[%d]}`, project)).want(200)
	return id
}

// rowsOf reads all rows of a company that would move, as text.
func (w *world) rowsOf(id company.ID) string {
	w.t.Helper()
	lines := strings.SplitAfter(string(w.admin("GET", snapshotOf(id), "").want(200).body), "\n")
	return strings.Join(lines[1:], "")
}

func TestASnapshotMakesTheSameCompany(t *testing.T) {
	from, to := newWorld(t), newWorld(t)
	id := from.newFullCompany("one")
	from.newFullCompany("not this one")
	sent := from.admin("GET", snapshotOf(id), "").want(200)
	var head struct {
		Format         int
		Company        company.ID
		Epoch, Version int64
	}
	if sent.into(&head); head.Format != 1 || head.Company != id || head.Epoch != 1 || head.Version == 0 {
		t.Errorf("the first line is %+v", head)
	}
	for table := range region.MovingTables() {
		if from.count(`SELECT COUNT(*) FROM `+table+` WHERE company_id = $1`, int64(id)) == 0 {
			t.Errorf("the company has no rows in %s: this test shows nothing of it", table)
		}
	}
	var loaded struct {
		Epoch, Version int64
		Rows           map[string]int64
	}
	to.admin("PUT", snapshotOf(id)+"?state=owned", string(sent.body)).want(200).into(&loaded)
	if loaded.Epoch != head.Epoch || loaded.Version != head.Version || loaded.Rows["rfis"] != 1 {
		t.Errorf("loaded %+v", loaded)
	}
	if got, want := to.rowsOf(id), from.rowsOf(id); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	to.as(to.user(alice), id).post("/rest/v1.0/projects", `{"project":{"name":"on its own"}}`).want(201)
	to.admin("PUT", snapshotOf(id)+"?replace=1", string(sent.body)).refused(409, problem.Conflict)
	if n := to.count(`SELECT COUNT(*) FROM change_log WHERE company_id = $1`, int64(id)); n != 1 {
		t.Errorf("%d changes are in the log, and 1 was made here", n)
	}
}

// "from one consistent read transaction": whatever is written meanwhile, it has all of a
// write or nothing of it.
func TestASnapshotIsOneState(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	var stop atomic.Bool
	var writing sync.WaitGroup
	writing.Go(func() {
		for !stop.Load() { // each write makes two projects
			c.patch("/rest/v1.0/projects/sync", `{"updates":[{"name":"a"},{"name":"b"}]}`).expect(200)
		}
	})
	for range 20 {
		lines := strings.Split(strings.TrimSpace(string(w.admin("GET", snapshotOf(id), "").want(200).body)), "\n")
		var head struct{ Version int64 }
		var end struct{ Rows map[string]int64 }
		check(t, errors.Join(json.Unmarshal([]byte(lines[0]), &head), json.Unmarshal([]byte(lines[len(lines)-1]), &end)))
		if end.Rows["projects"]%2 != 0 || head.Version != 3+end.Rows["projects"] {
			t.Fatalf("version %d has %d projects", head.Version, end.Rows["projects"])
		}
	}
	stop.Store(true)
	writing.Wait()
}

func TestBrokenSnapshotsAreNeverServed(t *testing.T) {
	w := newWorld(t)
	id := w.newFullCompany("one")
	whole := string(w.admin("GET", snapshotOf(id), "").want(200).body)
	lines := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	end := lines[len(lines)-1]
	to := newWorld(t)
	path := snapshotOf(id) + "?state=owned"
	for name, body := range map[string]string{
		"nothing":                 "",
		"no JSON":                 "x\n",
		"another format":          strings.Replace(whole, `"format":1`, `"format":2`, 1),
		"another company's":       strings.Replace(whole, `"company":`+id.String(), `"company":5`, 1),
		"a row of another":        strings.Replace(whole, `"company_id":`+id.String(), `"company_id":5`, 1),
		"cut off after a line":    strings.Join(lines[:len(lines)-1], ""),
		"cut off in a line":       whole[:len(whole)/2],
		"a row is missing":        strings.Join(slices.Delete(slices.Clone(lines), 3, 4), ""),
		"a row is there twice":    strings.Join(slices.Insert(slices.Clone(lines), 3, lines[3]), ""),
		"a changed row":           strings.Replace(whole, "quoted", "quotee", 1),
		"goes on after its end":   whole + lines[1],
		"an unknown table":        strings.Replace(whole, `"table":"rfis"`, `"table":"fence"`, 1),
		"a column more":           strings.Replace(whole, `"job_title":""`, `"job_title":"","more":1`, 1),
		"a column less":           strings.Replace(whole, `"job_title":"",`, ``, 1),
		"a fraction":              strings.Replace(whole, `"permits_all":1`, `"permits_all":1.5`, 1),
		"an end that counts less": lines[0] + `{"rows":{},"checksum":"` + hex.EncodeToString(sha256.New().Sum(nil)) + `"}` + "\n",
	} {
		if body == whole {
			t.Fatalf("%s: nothing was changed", name)
		}
		to.admin("PUT", path, body).refused(422, problem.Invalid)
		to.as(to.user(alice), id).get("/rest/v1.0/projects").refused(421, problem.WrongRegion)
		to.admin("GET", snapshotOf(id), "").refused(421, problem.WrongRegion)
	}
	to.admin("PUT", snapshotOf(id)+"?state=gone", whole).refused(400, problem.BadRequest)
	to.admin("PUT", path, whole).want(200)
	to.as(to.user(alice), id).get("/rest/v1.0/projects").want(200)
	if to.rowsOf(id) != strings.Join(lines[1:len(lines)-1], "")+end+"\n" {
		t.Error("what broken loads have left is mixed with the company")
	}
	if n := to.count(`SELECT COUNT(*) FROM arrivals`); n != 0 {
		t.Errorf("%d arrivals are left", n)
	}
}

// A load that hangs is overtaken by another one, and writes nothing from then on.
func TestTheLastLoadWins(t *testing.T) {
	from, to := newWorld(t), newWorld(t)
	id := from.newFullCompany("one")
	whole := from.admin("GET", snapshotOf(id), "").want(200).body
	first := bytes.IndexByte(whole, '\n') + 1
	hanging, feed := io.Pipe()
	answered := make(chan int)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", to.internal+snapshotOf(id)+"?state=owned", hanging)
		if err != nil {
			t.Error(err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			close(answered)
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	_, err := feed.Write(whole[:first])
	check(t, err)
	until(t, "the load has begun", func() bool { return to.count(`SELECT COUNT(*) FROM arrivals`) == 1 })
	to.admin("PUT", snapshotOf(id)+"?state=owned", string(whole)).want(200)
	_, err = feed.Write(whole[first:])
	check(t, errors.Join(err, feed.Close()))
	if status := <-answered; status != 409 {
		t.Errorf("the load that was overtaken was answered %d", status)
	}
	if to.rowsOf(id) != from.rowsOf(id) {
		t.Error("the company isn't what the last load has brought")
	}
}

func TestACompanyThatLeftIsReplacedWhenToldSo(t *testing.T) {
	w := newWorld(t)
	id := w.newFullCompany("one")
	c := w.as(w.user(alice), id)
	whole := string(w.admin("GET", snapshotOf(id), "").want(200).body)
	c.newProject("after the snapshot")
	w.exec(`UPDATE fence SET state = 'gone', gone_region = 'US02', gone_epoch = 2 WHERE company_id = $1`, int64(id))
	w.admin("GET", snapshotOf(id), "").refused(421, problem.WrongRegion)
	w.admin("PUT", snapshotOf(id), whole).refused(409, problem.Conflict)
	w.admin("PUT", snapshotOf(id)+"?replace=1", whole).refused(409, problem.Conflict) // of epoch 1
	back := strings.Replace(whole, `"epoch":1`, `"epoch":3`, 1)
	w.admin("PUT", snapshotOf(id)+"?replace=1", back).want(200)
	c.epoch = 3
	c.get("/rest/v1.0/projects").refused(421, problem.WrongRegion)
	if _, rows, _ := strings.Cut(whole, "\n"); w.rowsOf(id) != rows {
		t.Error("the company isn't what the snapshot brought")
	}
	w.exec(`UPDATE fence SET state = 'owned' WHERE company_id = $1`, int64(id))
	if got := len(c.get("/rest/v1.0/projects").ids()); got != 1 {
		t.Errorf("%d projects", got)
	}
}

// ?announce=1: the global index hears of everything that it would know of the company.
func TestALoadIsAnnounced(t *testing.T) {
	from, to := newWorld(t), newWorld(t)
	id := from.newFullCompany("one")
	whole := string(from.admin("GET", snapshotOf(id), "").want(200).body)
	to.publisher.away.Store(true)
	heard := to.follow()
	lines := strings.SplitAfter(whole, "\n")
	to.admin("PUT", snapshotOf(id)+"?state=owned&announce=1", strings.Join(lines[:len(lines)-2], "")).refused(422, problem.Invalid)
	var loaded struct{ Version int64 }
	to.admin("PUT", snapshotOf(id)+"?state=owned&announce=1", whole).want(200).into(&loaded)
	to.publisher.away.Store(false)
	heard.until("the last row", func(c directory.Change) bool { return c.Version == loaded.Version })
	kinds := map[string]int{}
	for _, c := range heard.seen[len(heard.seen)-4:] {
		kinds[c.Kind]++
	}
	if want := map[string]int{directory.ChangeCompany: 1, directory.ChangeMembership: 1, directory.ChangeInstallation: 2}; !maps.Equal(kinds, want) {
		t.Errorf("announced %v, want %v", kinds, want)
	}
	if c := to.as(to.user(alice), id); c.newProject("next") == 0 {
		t.Error("no project")
	}
}

// "Bounded memory for companies of 1,000,000 rows." By default it is fewer, so that the
// test is quick: MPR_TEST_ROWS=1000000 makes it as many.
func TestSnapshotsNeedLittleMemory(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("MPR_TEST_ROWS"))
	if err != nil {
		rows = 20_000
	}
	from, to := newWorld(t), newWorld(t)
	id := from.newCompany("large")
	from.exec(`INSERT INTO rfis (company_id, project_id, rfi_id, number, subject, question, status, created, updated)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ` + strconv.Itoa(rows) + `)
		SELECT ` + id.String() + `, 1, i, i, 'A subject of a usual length', 'A question that is somewhat longer than its subject, as questions are', 'open', 0, 0 FROM n`)
	stop, most := make(chan struct{}), make(chan uint64)
	go func() {
		tick, peak := time.NewTicker(5*time.Millisecond), uint64(0)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			select {
			case <-stop:
				most <- peak
				return
			case <-tick.C:
			}
		}
	}()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	started := time.Now()
	resp := from.reading(snapshotOf(id))
	req, err := http.NewRequestWithContext(t.Context(), "PUT", to.internal+snapshotOf(id)+"?state=owned", resp)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	answered, err := client.Do(req)
	check(t, err)
	_, err = io.Copy(io.Discard, answered.Body)
	check(t, errors.Join(err, answered.Body.Close()))
	close(stop)
	peak := <-most
	t.Logf("%d rows in %s, and %d MiB more of memory", rows, time.Since(started).Round(time.Millisecond), (max(peak, before.HeapAlloc)-before.HeapAlloc)>>20)
	if answered.StatusCode != 200 || to.count(`SELECT COUNT(*) FROM rfis`) != int64(rows) {
		t.Fatalf("answered %s", answered.Status)
	}
	if limit := uint64(48 << 20); peak > before.HeapAlloc+limit {
		t.Errorf("took %d MiB", (peak-before.HeapAlloc)>>20)
	}
}

// reading begins to read an answer.
func (w *world) reading(path string) io.ReadCloser {
	t := w.t
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.internal+path, nil)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := client.Do(req)
	check(t, err)
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	return resp.Body
}

func TestCompaniesInTheMonthlySandbox(t *testing.T) {
	w := newWorld(t)
	one, two := w.newCompany("one"), w.newCompany("two")
	w.newCompany("three")
	list := func(query string) (ids []company.ID) {
		t.Helper()
		var page struct {
			Companies []struct {
				ID   company.ID
				Name string
			}
		}
		w.admin("GET", "/internal/monthly_sandbox"+query, "").want(200).into(&page)
		for _, c := range page.Companies {
			ids = append(ids, c.ID)
		}
		return ids
	}
	set := func(id company.ID, enabled bool) answer {
		return w.admin("PUT", fmt.Sprintf("/internal/companies/%d/monthly_sandbox", id), fmt.Sprintf(`{"enabled":%t}`, enabled))
	}
	set(one, true).want(200)
	set(two, true).want(200)
	if got := list(""); !slices.Equal(got, []company.ID{one, two}) {
		t.Errorf("lists %v", got)
	}
	if got := list("?after=" + one.String()); !slices.Equal(got, []company.ID{two}) {
		t.Errorf("lists %v after the first", got)
	}
	set(one, false).want(200)
	w.exec(`UPDATE fence SET state = 'gone' WHERE company_id = $1`, int64(two))
	if got := list(""); len(got) != 0 {
		t.Errorf("lists %v", got)
	}
	set(two, true).refused(421, problem.WrongRegion)
	w.admin("GET", "/internal/monthly_sandbox?after=x", "").refused(400, problem.BadRequest)
	var counted struct{ Rows map[string]int64 }
	w.admin("GET", fmt.Sprintf("/internal/companies/%d/rows", one), "").want(200).into(&counted)
	if counted.Rows["companies"] != 1 || counted.Rows["memberships"] != 1 || counted.Rows["rfis"] != 0 {
		t.Errorf("counts %v", counted)
	}
}

// A copy gives out no id that the region that it is a copy of has given out.
func TestIDsAreRaised(t *testing.T) {
	w := newWorld(t)
	var ids struct{ Last int64 }
	w.admin("GET", "/internal/ids", "").want(200).into(&ids)
	first := ids.Last
	w.admin("PUT", "/internal/ids", fmt.Sprintf(`{"last":%d}`, first+100)).want(200)
	w.admin("PUT", "/internal/ids", fmt.Sprintf(`{"last":%d}`, first+50)).want(200).into(&ids)
	if ids.Last != first+100 {
		t.Errorf("the last id is %d", ids.Last-first)
	}
	for _, wrong := range []string{`{"last":5}`, `{"last":"x"}`, fmt.Sprintf(`{"last":%d}`, company.FirstID(number+1))} {
		w.admin("PUT", "/internal/ids", wrong).refused(422, problem.Invalid)
	}
	if id := w.newCompany("one"); int64(id) != first+101 {
		t.Errorf("made company %d", int64(id)-first)
	}
}
