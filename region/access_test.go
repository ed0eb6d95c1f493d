package region_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// access is what a caller gets: a refusal of everything, or these projects.
type access struct {
	token   string
	refused problem.Code
	sees    []int64
}

// Who may do what: kind of token × member or not × installed or not × permitted or not.
func TestWhoMayCall(t *testing.T) {
	w := newWorld(t)
	id, other := w.newCompany("ours"), w.newCompany("theirs")
	a := w.as(w.user(alice), id)
	open, closed := a.newProject("open"), a.newProject("closed")
	const (
		stranger     = int64(404)
		left         = int64(405)
		notInstalled = int64(30)
		everywhere   = int64(31)
		limited      = int64(32)
		shutOut      = int64(33)
		traditional  = int64(34)
	)
	for app, body := range map[int64]string{
		everywhere:  `{"client_id":"a","name":"A","kind":"developer_managed"}`,
		limited:     fmt.Sprintf(`{"client_id":"b","name":"B","kind":"developer_managed","permitted_projects":[%d]}`, open),
		shutOut:     `{"client_id":"c","name":"C","kind":"developer_managed","permitted_projects":[]}`,
		traditional: `{"client_id":"d","name":"D","kind":"traditional"}`,
	} {
		w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/%d", id, app), body).want(200)
	}
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/%d", id, left), `{"login":"l@example.com","name":"Left"}`).want(200)
	a.patch(fmt.Sprintf("/rest/v1.0/companies/%d/users/%d", id, left), `{"user":{"is_active":false}}`).want(200)
	account := func(app int64, of company.ID) string {
		return w.token(token.Claims{Subject: app, App: app, Kind: rules.TraditionalToken, Company: of})
	}
	person := func(user, app int64) string {
		return w.token(token.Claims{Subject: user, App: app, Kind: rules.UserToken})
	}
	for name, c := range map[string]access{
		"member, app installed":                   {person(alice, webApp), "", []int64{open, closed}},
		"member, app not installed":               {person(alice, notInstalled), problem.AppNotConnected, nil},
		"member, app limited for itself":          {person(alice, limited), "", []int64{open, closed}},
		"former member":                           {person(left, webApp), problem.CompanyForbidden, nil},
		"no member, app installed":                {person(stranger, webApp), problem.CompanyForbidden, nil},
		"no member, app not installed":            {person(stranger, notInstalled), problem.CompanyForbidden, nil},
		"a person with the number of an app":      {person(everywhere, webApp), problem.CompanyForbidden, nil},
		"traditional, installed":                  {account(traditional, id), "", []int64{open, closed}},
		"traditional, not installed":              {account(notInstalled, id), problem.AppNotConnected, nil},
		"traditional, of another company":         {account(traditional, other), problem.AppNotConnected, nil},
		"developer-managed, installed":            {w.managed(everywhere), "", []int64{open, closed}},
		"developer-managed, not installed":        {w.managed(notInstalled), problem.AppNotConnected, nil},
		"developer-managed, one project":          {w.managed(limited), "", []int64{open}},
		"developer-managed, no project":           {w.managed(shutOut), "", nil},
		"an account with the number of a member":  {w.managed(alice), problem.AppNotConnected, nil},
		"a person through a limited account's id": {person(alice, shutOut), "", []int64{open, closed}},
	} {
		t.Run(name, func(t *testing.T) {
			c.tryAll(t, w.as(c.token, id).in(t), []int64{open, closed})
			// In the other company only Alice and the web app have a part.
			if got := w.as(c.token, other).in(t).get("/rest/v1.0/projects"); (got.status == 200) != (name == "member, app installed") {
				t.Errorf("in another company: %v", got)
			}
		})
	}
}

// tryAll tries each thing that can be done with projects that the caller does or doesn't
// see.
func (c access) tryAll(t *testing.T, caller caller, all []int64) {
	t.Helper()
	if c.refused != "" {
		for _, path := range []string{"/projects", fmt.Sprintf("/projects/%d", all[0]), fmt.Sprintf("/companies/%d", caller.id), "/nothing/here"} {
			caller.get("/rest/v1.0"+path).refused(403, c.refused)
		}
		caller.post("/rest/v1.0/projects", `{"project":{"name":"x"}}`).refused(403, c.refused)
		return
	}
	if got := caller.get("/rest/v1.0/projects").ids(); !slices.Equal(got, append([]int64{}, c.sees...)) {
		t.Errorf("sees %v, want %v", got, c.sees)
	}
	for _, project := range all {
		path := fmt.Sprintf("/rest/v1.0/projects/%d", project)
		want := 404
		if slices.Contains(c.sees, project) {
			want = 200
		}
		caller.get(path).want(want)
		caller.get(path + "/rfis").want(want)
		caller.get(path + "/users").want(want)
		caller.patch(path, `{"project":{"active":true}}`).want(want)
		caller.post(fmt.Sprintf("%s/users/%d/actions/add", path, alice), ``).want(want)
		if want == 404 {
			caller.delete(path).want(404)
			caller.post(path+"/rfis", `{"rfi":{"subject":"x"}}`).want(404)
		}
	}
}

// A service account can't widen its own limits.
func TestAccountsCantChangeInstallations(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	a := w.as(w.user(alice), id)
	open, closed := a.newProject("open"), a.newProject("closed")
	const app = int64(41)
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/%d", id, app),
		fmt.Sprintf(`{"client_id":"m","name":"M","kind":"developer_managed","permitted_projects":[%d]}`, open)).want(200)
	m, path := w.as(w.managed(app), id), fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/%d", id, app)
	m.patch(path, `{"app_installation":{"permitted_projects":null}}`).refused(403, problem.Forbidden)
	m.delete(path).refused(403, problem.Forbidden)
	m.post("/rest/v1.0/projects", `{"project":{"name":"mine"}}`).refused(403, problem.Forbidden)
	// Nor by a person whom it makes a member.
	users := fmt.Sprintf("/rest/v1.0/companies/%d/users", id)
	m.post(users, `{"user":{"login":"mine@example.com","name":"Mine"}}`).refused(403, problem.Forbidden)
	m.patch(users+"/sync", `{"updates":[{"login":"mine@example.com","name":"Mine"}]}`).refused(403, problem.Forbidden)
	m.patch(fmt.Sprintf("%s/%d", users, alice), `{"user":{"is_active":false}}`).refused(403, problem.Forbidden)
	m.delete(fmt.Sprintf("%s/%d", users, alice)).refused(403, problem.Forbidden)
	m.patch(fmt.Sprintf("/rest/v1.0/companies/%d", id), `{"company":{"name":"Mine"}}`).refused(403, problem.Forbidden)
	m.patch(fmt.Sprintf("/rest/v1.0/projects/%d", open), `{"project":{"name":"open"}}`).want(200)
	a.patch(path, fmt.Sprintf(`{"app_installation":{"permitted_projects":[%d,%d,%d]}}`, closed, open, closed)).want(200)
	if got := m.get("/rest/v1.0/projects").ids(); !slices.Equal(got, []int64{open, closed}) {
		t.Errorf("sees %v", got)
	}
	a.patch(path, `{"app_installation":{"permitted_projects":[]}}`).want(200)
	if got := m.get("/rest/v1.0/projects").ids(); len(got) != 0 {
		t.Errorf("sees %v", got)
	}
	a.delete(path).want(200)
	m.get("/rest/v1.0/projects").refused(403, problem.AppNotConnected)
}

func TestTokensAndHeaders(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	for name, try := range map[string]struct {
		header map[string]string
		status int
		code   problem.Code
	}{
		"no token":         {map[string]string{"Authorization": ""}, 401, problem.MissingToken},
		"no bearer":        {map[string]string{"Authorization": "Basic " + c.token}, 401, problem.InvalidToken},
		"tampered":         {map[string]string{"Authorization": "Bearer " + c.token + "x"}, 401, problem.InvalidToken},
		"the secret":       {map[string]string{"Authorization": "Bearer " + secret}, 401, problem.InvalidToken},
		"no company":       {map[string]string{"Procore-Company-Id": ""}, 400, problem.BadRequest},
		"company in hex":   {map[string]string{"Procore-Company-Id": "0x10"}, 400, problem.InvalidCompanyHeader},
		"two in one value": {map[string]string{"Procore-Company-Id": id.String() + "," + id.String()}, 400, problem.InvalidCompanyHeader},
		"no epoch":         {map[string]string{"Mpr-Epoch": ""}, 400, problem.BadRequest},
		"epoch 0":          {map[string]string{"Mpr-Epoch": "0"}, 400, problem.BadRequest},
		"epoch with sign":  {map[string]string{"Mpr-Epoch": "+1"}, 400, problem.BadRequest},
		"epoch of words":   {map[string]string{"Mpr-Epoch": "one"}, 400, problem.BadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.in(t).sendWith("GET", "/rest/v1.0/projects", "", try.header)
			got.refused(try.status, try.code)
			if challenge := got.header.Get("WWW-Authenticate"); (challenge != "") != (try.status == 401) || try.code == problem.InvalidToken && !strings.Contains(challenge, "invalid_token") {
				t.Errorf("WWW-Authenticate: %q (RFC 6750 section 3)", challenge)
			}
		})
	}
}

func TestPathsAndMethods(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	for _, version := range []string{"/rest/v1.0", "/rest/v1.1", "/rest/v1.3", "/vapid"} {
		c.get(version + "/projects").want(200)
		c.get(fmt.Sprintf("%s/companies/%d/users", version, id)).want(200)
	}
	for _, path := range []string{
		"/", "/rest", "/rest/v1.0", "/rest/v1.0/", "/rest/v1.2/projects", "/rest/v2.0/projects", "/projects", "/rest/v1.0/projects/", "/rest/v1.0//projects",
		"/rest/v1.0/x/../projects", "/rest/v1.0/./projects", "/rest/v1.0/Projects", "/rest/v1.0/companies", "/rest/v1.0/%70rojects",
		fmt.Sprintf("/rest/v1.0/projects%%2F%d", project), "/rest/v1.0/projects/0", "/rest/v1.0/projects/-1", "/rest/v1.0/projects/1e3",
		"/rest/v1.0/projects/9223372036854775808", "/rest/v1.0/projects/x", fmt.Sprintf("/rest/v1.0/projects/%d/", project), "/vapidx/projects", "/rest/v1.0x/projects",
		"/internal/status",
	} {
		c.get(path).refused(404, problem.NotFound)
	}
	for path, allowed := range map[string]string{
		"/rest/v1.0/projects":                        "GET, HEAD, POST",
		"/rest/v1.0/projects/" + fmt.Sprint(project): "DELETE, GET, HEAD, PATCH",
		"/vapid/projects/sync":                       "DELETE, GET, HEAD, PATCH", // "sync" may be an id, for all that the path says
		"/rest/v1.3/companies/" + id.String():        "GET, HEAD, PATCH",
	} {
		got := c.send("PUT", path, `{}`)
		got.refused(405, problem.MethodNotAllowed)
		if got.header.Get("Allow") != allowed {
			t.Errorf("%s: Allow is %q, want %q", path, got.header.Get("Allow"), allowed)
		}
		c.send("OPTIONS", path, "").refused(405, problem.MethodNotAllowed)
	}
	head, get := c.send("HEAD", "/rest/v1.0/projects", ""), c.get("/rest/v1.0/projects")
	if head.want(200); len(head.body) != 0 {
		t.Errorf("HEAD has a body: %v", head)
	}
	for _, name := range []string{"Total", "Per-Page", "Link", "Content-Type"} {
		if head.header.Get(name) != get.header.Get(name) || get.header.Get(name) == "" {
			t.Errorf("%s: HEAD %q, GET %q", name, head.header.Get(name), get.header.Get(name))
		}
	}
	if head := c.send("HEAD", "/rest/v1.0/projects/999", ""); head.status != 404 {
		t.Errorf("%v", head)
	}
}

// A call names one company, wherever it names it.
func TestOneCompany(t *testing.T) {
	w := newWorld(t)
	id, other := w.newCompany("one"), w.newCompany("two")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	for name, try := range map[string]struct{ method, path, body string }{
		"in the query":              {"GET", fmt.Sprintf("/rest/v1.0/projects?company_id=%d", other), ""},
		"in one of two":             {"GET", fmt.Sprintf("/rest/v1.0/projects?company_id=%d&company_id=%d", id, other), ""},
		"nothing in the query":      {"GET", "/rest/v1.0/projects?company_id=", ""},
		"words in the query":        {"GET", "/rest/v1.0/projects?company_id=all", ""},
		"in an escaped query":       {"GET", fmt.Sprintf("/rest/v1.0/projects?%%63ompany_id=%d", other), ""},
		"in the path":               {"GET", fmt.Sprintf("/rest/v1.0/companies/%d/users", other), ""},
		"words in the path":         {"GET", "/rest/v1.0/companies/ours/users", ""},
		"in the path of a show":     {"GET", fmt.Sprintf("/rest/v1.0/companies/%d", other), ""},
		"in the query of an update": {"PATCH", fmt.Sprintf("/rest/v1.0/projects/%d?company_id=%d", project, other), `{"project":{"name":"x"}}`},
		"in the body":               {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"company_id":%d,"project":{"name":"x"}}`, other)},
		"in the body as text":       {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"company_id":"%d","project":{"name":"x"}}`, other)},
		"in the body as float":      {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"company_id":%d.0,"project":{"name":"x"}}`, id)},
		"huge in the body":          {"POST", "/rest/v1.0/projects", `{"company_id":1e400,"project":{"name":"x"}}`},
		"an object in the body":     {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"company_id":{"id":%d},"project":{"name":"x"}}`, id)},
		"in the wrapped object":     {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"project":{"name":"x","company_id":%d}}`, other)},
		"in one of a sync":          {"PATCH", "/rest/v1.0/projects/sync", fmt.Sprintf(`{"updates":[{"name":"x"},{"name":"x","company_id":%d}]}`, other)},
		"in the body of a DELETE":   {"DELETE", fmt.Sprintf("/rest/v1.0/projects/%d", project), fmt.Sprintf(`{"company_id":%d}`, other)},
		"deep in the body":          {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"project":{"name":"x","company":{"more":[1,{"company_id":%d}]}}}`, other)},
		"deep, under an escape":     {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"project":{"name":"x","company":{"\u0063ompany_id":%d}}}`, other)},
		"in a mixed list":           {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"x":[{"company_id":%d},1],"project":{"name":"x"}}`, other)},
		"under an escaped name":     {"POST", "/rest/v1.0/projects", fmt.Sprintf(`{"company\u005fid":%d,"project":{"name":"x"}}`, other)},
	} {
		t.Run(name, func(t *testing.T) {
			c.in(t).send(try.method, try.path, try.body).refused(400, problem.CompanyMismatch)
		})
	}
	for _, query := range []string{"a=%zz", "company_id=1;company_id=2"} {
		c.get("/rest/v1.0/projects?"+query).refused(400, problem.BadRequest)
	}
	if got := c.get("/rest/v1.0/projects").ids(); !slices.Equal(got, []int64{project}) {
		t.Errorf("a refused call had an effect: %v", got)
	}
	// The same company everywhere is fine, in each form that clients send.
	c.post(fmt.Sprintf("/rest/v1.0/projects?company_id=%d", id), fmt.Sprintf(`{"company_id":"%d","project":{"name":"x","company_id":%d}}`, id, id)).want(201)
	c.post("/rest/v1.0/projects", `{"company_id":null,"project":{"name":"y"}}`).want(201)
	c.sendWith("GET", "/rest/v1.0/projects", `not JSON at all`, map[string]string{"Content-Type": "text/plain"}).want(200)
}

// The ids of the seed's time fit 32 bits; ours don't, and what is written must be what is
// read.
func TestLargeIDs(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	if want := company.ID(company.FirstID(number) + 1); id != want || id <= 1<<32 {
		t.Fatalf("the first company is %d, want %d", id, want)
	}
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	got := string(c.get(fmt.Sprintf("/rest/v1.0/projects/%d", project)).want(200).body)
	for _, want := range []string{fmt.Sprintf(`"id":%d,`, project), fmt.Sprintf(`"company_id":%d,`, id)} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if project <= 1<<32 || project >= 1<<53 {
		t.Errorf("project %d: ids of new regions exceed 32 bits and stay below 2^53", project)
	}
}
