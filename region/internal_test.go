package region_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"mpr/company"
	"mpr/problem"
	"mpr/region"
)

func TestInternalNeedsTheSecret(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	for _, path := range []string{"/internal/status", "/internal/companies/" + id.String(), "/nowhere"} {
		for _, presented := range []string{"", "Bearer", "Bearer ", "Bearer x", "Bearer " + secret + "x", "Bearer " + secret[1:], "Basic " + secret, "Bearer " + w.user(alice)} {
			h := http.Header{}
			if presented != "" {
				h.Set("Authorization", presented)
			}
			w.call("GET", w.internal+path, "", h).refused(401, problem.Unauthorized)
		}
	}
	w.admin("GET", "/internal/nowhere", "").refused(404, problem.NotFound)
	if got := w.admin("POST", "/internal/status", `{}`); got.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%v allows %q", got, got.header.Get("Allow"))
	}
	var now struct {
		Region    company.Region
		Companies int
	}
	if w.admin("GET", "/internal/status", "").want(200).into(&now); now.Region != code || now.Companies != 1 {
		t.Errorf("says %+v", now)
	}
}

type born struct {
	ID      company.ID
	Epoch   company.Epoch
	Version int64
}

// "The same key is the same company": repeated, at once, after a rename, after it left.
func TestOneKeyMakesOneCompany(t *testing.T) {
	w := newWorld(t)
	const body = `{"name":"Nordwerk","onboarded":"2019-01-01","idempotency_key":"k"}`
	var made born
	if w.admin("POST", "/internal/companies", body).want(201).into(&made); made.Epoch != 1 || made.Version != 1 {
		t.Errorf("made %+v", made)
	}
	again := func(want born) {
		t.Helper()
		var got born
		if w.admin("POST", "/internal/companies", body).want(200).into(&got); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	again(made)
	w.exec(`UPDATE fence SET state = 'gone', epoch = 4, version = 9, gone_region = 'US02', gone_epoch = 5 WHERE company_id = $1`, int64(made.ID))
	w.exec(`DELETE FROM companies WHERE company_id = $1`, int64(made.ID))
	again(born{made.ID, 4, 9})

	ids := make(chan company.ID, 8)
	var making sync.WaitGroup
	for range cap(ids) {
		making.Go(func() {
			var b born
			got := w.admin("POST", "/internal/companies", strings.Replace(body, `"k"`, `"at once"`, 1))
			if got.status != 200 && got.status != 201 {
				t.Errorf("%v", got)
				return
			}
			got.into(&b)
			ids <- b.ID
		})
	}
	making.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first || id == made.ID {
			t.Errorf("one key made %d and %d", first, id)
		}
	}
}

// A company may have projects from the start: made with it, or not at all, and once.
func TestBornWithProjects(t *testing.T) {
	w := newWorld(t)
	const body = `{"name":"Sandbox","onboarded":"2019-01-01","idempotency_key":"k","projects":[{"name":"Sandbox Test Project","rfis":[{"subject":"One"},{"subject":"Two","status":"closed"}]}]}`
	var made born
	w.admin("POST", "/internal/companies", body).want(201).into(&made)
	w.admin("POST", "/internal/companies", body).want(200)
	if projects, rfis := w.count(`SELECT COUNT(*) FROM projects WHERE company_id = $1 AND name = 'Sandbox Test Project'`, int64(made.ID)),
		w.count(`SELECT SUM(number) FROM rfis WHERE company_id = $1`, int64(made.ID)); projects != 1 || rfis != 1+2 {
		t.Errorf("%d projects, RFIs that count up to %d", projects, rfis)
	}
	for _, wrong := range []string{`[{"name":""}]`, `[{"name":"x","rfis":[{"subject":""}]}]`, `[1]`, `"x"`} {
		w.admin("POST", "/internal/companies", `{"name":"Wrong","onboarded":"2019-01-01","idempotency_key":"w","projects":`+wrong+`}`).refused(422, problem.Invalid)
	}
	if n := w.count(`SELECT COUNT(*) FROM companies`); n != 1 {
		t.Errorf("%d companies", n)
	}
}

func TestInternalRefusals(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	for body, fields := range map[string]int{
		`{}`: 3,
		`{"name":" ","onboarded":"2019-01-01","idempotency_key":"k"}`:                                1,
		`{"name":"x","onboarded":"2019-02-29","idempotency_key":"k"}`:                                1,
		`{"name":"x","onboarded":"2019-01-01T00:00:00Z","idempotency_key":"k"}`:                      1,
		`{"name":"x","onboarded":"2019-01-01","idempotency_key":""}`:                                 1,
		`{"name":"x\u0000","onboarded":"2019-01-01","idempotency_key":"k"}`:                          1,
		`{"name":7,"onboarded":7,"idempotency_key":7}`:                                               3,
		`{"name":"x","onboarded":"2019-01-01","idempotency_key":"` + strings.Repeat("k", 256) + `"}`: 1,
	} {
		if got := w.admin("POST", "/internal/companies", body).refused(422, problem.Invalid); len(got) != fields {
			t.Errorf("%s: complains of %v", body, got)
		}
	}
	w.admin("POST", "/internal/companies", `{`).refused(400, problem.MalformedJSON)
	user, app := fmt.Sprintf("/internal/companies/%d/users/5", id), fmt.Sprintf("/internal/companies/%d/apps/5", id)
	w.admin("PUT", user, `{"login":"","name":"x"}`).refused(422, problem.Invalid)
	w.admin("PUT", app, `{"client_id":"c","name":"x","kind":"unheard of"}`).refused(422, problem.Invalid)
	w.admin("PUT", app, `{"client_id":"c","name":"x","kind":"web","permitted_projects":[]}`).refused(422, problem.Invalid)
	w.admin("PUT", app, `{"client_id":"c","name":"x","kind":"developer_managed","permitted_projects":[1]}`).refused(422, problem.Invalid)
	for _, path := range []string{"/internal/companies/x", "/internal/companies/4711", "/internal/fence/4711", "/internal/fence/-1"} {
		w.admin("GET", path, "").refused(404, problem.NotFound)
	}
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/x", id), `{"login":"l","name":"x"}`).refused(404, problem.NotFound)
}

// Each change answers the version that the global index must reach to show it, and may be
// repeated.
func TestInternalChanges(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	change := func(method, path, body string) (version int64) {
		t.Helper()
		var done struct{ Version int64 }
		w.admin(method, fmt.Sprintf("/internal/companies/%d%s", id, path), body).want(200).into(&done)
		return done.Version
	}
	newest := func() int64 {
		return w.count(`SELECT MAX(version) FROM change_log WHERE company_id = $1 AND name IN ('companies', 'memberships', 'installations')`, int64(id))
	}
	for range 2 {
		if got := change("PUT", "/users/80", `{"login":"x@example.com","name":"X"}`); got != newest() {
			t.Errorf("answered version %d; %d is the newest that is published", got, newest())
		}
		if got := change("PUT", "/apps/80", fmt.Sprintf(`{"client_id":"c","name":"C","kind":"developer_managed","permitted_projects":[%d]}`, project)); got != newest() {
			t.Errorf("answered version %d; %d is the newest that is published", got, newest())
		}
	}
	c.post(fmt.Sprintf("/rest/v1.0/projects/%d/users/80/actions/add", project), "").want(200)
	for _, path := range []string{"/users/80", "/apps/80"} {
		if got := change("DELETE", path, ""); got != newest() {
			t.Errorf("DELETE %s answered version %d; %d is the newest that is published", path, got, newest())
		}
		if got := change("DELETE", path, ""); got != 0 {
			t.Errorf("repeated, DELETE %s answered version %d; there is nothing to wait for", path, got)
		}
	}
	var fence struct {
		State   string
		Epoch   company.Epoch
		Version int64
	}
	w.admin("GET", fmt.Sprintf("/internal/fence/%d", id), "").want(200).into(&fence)
	if fence.State != "owned" || fence.Epoch != 1 || fence.Version != w.count(`SELECT MAX(version) FROM change_log WHERE company_id = $1`, int64(id)) {
		t.Errorf("the fence is %+v", fence)
	}
	if got := w.admin("GET", fmt.Sprintf("/internal/companies/%d", id), "").want(200).object(); got.Name != "Company one" {
		t.Errorf("shows %+v", got)
	}
}

// Two regions on one database would give out the same ids.
func TestADatabaseBelongsToOneRegion(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*region.Options){
		"another code":   func(o *region.Options) { o.Code = "US02" },
		"another number": func(o *region.Options) { o.Number = 18 },
	} {
		o := w.options()
		change(&o)
		if s, err := region.New(t.Context(), o); err == nil {
			t.Errorf("%s: started", name)
			check(t, s.Close())
		}
	}
	w.stop()
	w.start() // the same region again
}
