package region_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"mpr/problem"
)

func TestCompany(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	path := "/rest/v1.0/companies/" + id.String()
	c.patch(path, `{"company_id":`+id.String()+`,"company":{"name":"Renamed & <b>"}}`).want(200)
	if got := c.get(path).want(200).object(); got.Name != "Renamed & <b>" || got.ID != int64(id) {
		t.Errorf("shows %+v", got)
	}
	c.patch(path, `{"company":{}}`).want(200) // nothing to change
}

func TestProjects(t *testing.T) {
	w := newWorld(t)
	c := w.as(w.user(alice), w.newCompany("one"))
	made := c.post("/rest/v1.1/projects", `{"project":{"name":"Tower","project_number":"7a"}}`).want(201)
	path := fmt.Sprintf("/rest/v1.1/projects/%d", made.object().ID)
	var shown struct {
		Name          string
		DisplayName   string `json:"display_name"`
		ProjectNumber string `json:"project_number"`
		Active        bool
	}
	if c.get(path).want(200).into(&shown); shown.Name != "Tower" || shown.DisplayName != "Tower" || shown.ProjectNumber != "7a" || !shown.Active {
		t.Errorf("shows %+v", shown)
	}
	// What isn't sent stays as it was.
	c.patch(path, `{"project":{"name":"Higher tower"}}`).want(200)
	c.patch(path, `{"project":{"active":false}}`).want(200)
	if c.get(path).want(200).into(&shown); shown.Name != "Higher tower" || shown.ProjectNumber != "7a" || shown.Active {
		t.Errorf("shows %+v", shown)
	}
	// "Its revoke and info parse the answer as JSON", and so does everything else.
	if got := c.send("DELETE", path, `{}`).want(200).object(); got.Name != "Higher tower" {
		t.Errorf("deleted %+v", got)
	}
	for _, method := range []string{"GET", "DELETE"} {
		c.send(method, path, "").refused(404, problem.NotFound)
	}
	c.patch(path, `{"project":{"name":"x"}}`).refused(404, problem.NotFound)
}

// A company never sees what belongs to another, even where it knows the id.
func TestOtherCompaniesDataIsNotThere(t *testing.T) {
	w := newWorld(t)
	ours, theirs := w.as(w.user(alice), w.newCompany("ours")), w.as(w.user(alice), w.newCompany("theirs"))
	project := theirs.newProject("secret")
	rfi := theirs.post(fmt.Sprintf("/rest/v1.0/projects/%d/rfis", project), `{"rfi":{"subject":"s"}}`).want(201).object().ID
	mine := ours.newProject("mine")
	for _, path := range []string{fmt.Sprintf("/rest/v1.0/projects/%d", project), fmt.Sprintf("/rest/v1.0/projects/%d/rfis/%d", mine, rfi), fmt.Sprintf("/rest/v1.0/projects/%d/rfis/%d", project, rfi)} {
		ours.get(path).refused(404, problem.NotFound)
		ours.delete(path).refused(404, problem.NotFound)
		ours.patch(path, `{"project":{"name":"taken"},"rfi":{"subject":"taken"}}`).refused(404, problem.NotFound)
	}
	var synced struct {
		Entities []object
		Errors   []struct{ Code problem.Code }
	}
	ours.patch("/rest/v1.0/projects/sync", fmt.Sprintf(`{"updates":[{"id":%d,"name":"taken"}]}`, project)).want(200).into(&synced)
	if len(synced.Entities) != 0 || len(synced.Errors) != 1 || synced.Errors[0].Code != problem.NotFound {
		t.Errorf("synced %+v", synced)
	}
	if got := theirs.get(fmt.Sprintf("/rest/v1.0/projects/%d", project)).object(); got.Name != "secret" {
		t.Errorf("now %+v", got)
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	path := fmt.Sprintf("/rest/v1.3/companies/%d/users", id)
	made := c.post(path, `{"user":{"email_address":" Bob@Example.com ","first_name":"Bob","last_name":"Okafor","job_title":"Foreman"}}`).want(201).object()
	if made.ID != w.identity.known["bob@example.com"] || made.Name != "Bob Okafor" {
		t.Errorf("made %+v; known are %v", made, w.identity.known)
	}
	one := fmt.Sprintf("%s/%d", path, made.ID)
	var shown struct {
		Login     string
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		JobTitle  string `json:"job_title"`
		IsActive  bool   `json:"is_active"`
	}
	if c.get(one).want(200).into(&shown); shown.Login != "bob@example.com" || shown.FirstName != "Bob" || shown.LastName != "Okafor" || shown.JobTitle != "Foreman" || !shown.IsActive {
		t.Errorf("shows %+v", shown)
	}
	c.post(path, `{"user":{"login":"BOB@example.com","name":"Bob"}}`).refused(409, problem.Conflict)
	for _, login := range []string{"one@example.com", "two@example.com"} { // an id isn't for clients to choose
		if got := c.post(path, fmt.Sprintf(`{"user":{"id":1,"login":%q,"name":"N"}}`, login)).want(201).object(); got.ID != w.identity.known[login] {
			t.Errorf("made %+v", got)
		}
	}
	c.post(path, `{"user":{"login":"three@example.com","name":"a\u001b[31mb"}}`).refused(422, problem.Invalid)
	c.patch(one, `{"user":{"last_name":"Adeyemi","login":"else@example.com"}}`).want(200)
	c.patch(one, `{"user":{"job_title":null}}`).want(200)
	if c.get(one).want(200).into(&shown); shown.LastName != "Adeyemi" || shown.FirstName != "Bob" || shown.JobTitle != "" || shown.Login != "bob@example.com" {
		t.Errorf("shows %+v", shown)
	}
	bob := w.as(w.user(made.ID), id)
	bob.get("/rest/v1.0/projects").want(200)
	c.patch(one, `{"user":{"is_active":false}}`).want(200)
	bob.get("/rest/v1.0/projects").refused(403, problem.CompanyForbidden)
	c.delete(one).want(200)
	c.get(one).refused(404, problem.NotFound)
	bob.get("/rest/v1.0/projects").refused(403, problem.CompanyForbidden)
}

// Only who is new needs the login service; when it is away, nothing is changed.
func TestUsersWithoutTheLoginService(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	path := fmt.Sprintf("/rest/v1.0/companies/%d/users", id)
	for _, err := range []error{errors.New("connection refused"), problem.New(problem.IdentityUnavailable, "away")} {
		w.identity.err = err
		c.post(path, `{"user":{"login":"x@example.com","name":"X"}}`).refused(503, problem.IdentityUnavailable)
		c.patch(path+"/sync", fmt.Sprintf(`{"updates":[{"id":%d,"job_title":"Lead"},{"login":"x@example.com","name":"X"}]}`, alice)).refused(503, problem.IdentityUnavailable)
	}
	w.identity.err = problem.New(problem.Invalid, "no such address")
	c.post(path, `{"user":{"login":"x@example.com","name":"X"}}`).refused(422, problem.Invalid)
	w.identity.err = errors.New("must not be asked")
	c.post(path, `{"user":{"login":"nobody","name":""}}`).refused(422, problem.Invalid)
	c.get(path).want(200)
	c.patch(fmt.Sprintf("%s/%d", path, alice), `{"user":{"name":"Alice"}}`).want(200)
	if got := c.get(path).ids(); !slices.Equal(got, []int64{alice}) {
		t.Errorf("users %v", got)
	}
}

// The paths of the public Go connectors: .../actions/add and .../actions/remove.
func TestProjectUsers(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	path := fmt.Sprintf("/rest/v1.0/projects/%d/users", project)
	one := fmt.Sprintf("%s/%d", path, alice)
	for _, remove := range []struct{ method, path string }{{"DELETE", one + "/actions/remove"}, {"POST", one + "/actions/remove"}, {"DELETE", one}} {
		c.get(one).refused(404, problem.NotFound)
		for range 2 { // repeating it changes nothing
			if got := c.send("POST", one+"/actions/add", `{}`).want(200).object(); got.ID != alice {
				t.Errorf("added %+v", got)
			}
		}
		c.get(one).want(200)
		if got := c.get(path).ids(); !slices.Equal(got, []int64{alice}) {
			t.Errorf("users %v", got)
		}
		for range 2 {
			c.send(remove.method, remove.path, "").want(200)
		}
		if got := c.get(path).ids(); len(got) != 0 {
			t.Errorf("users %v", got)
		}
	}
	c.post(fmt.Sprintf("%s/%d/actions/add", path, 999), "").refused(404, problem.NotFound)
	// Who leaves the company leaves its projects.
	bob := c.post(fmt.Sprintf("/rest/v1.0/companies/%d/users", id), `{"user":{"login":"bob@example.com","name":"Bob"}}`).want(201).object().ID
	c.post(fmt.Sprintf("%s/%d/actions/add", path, bob), "").want(200)
	c.delete(fmt.Sprintf("/rest/v1.0/companies/%d/users/%d", id, bob)).want(200)
	if got := c.get(path).ids(); len(got) != 0 {
		t.Errorf("users %v", got)
	}
}

func TestRFIs(t *testing.T) {
	w := newWorld(t)
	c := w.as(w.user(alice), w.newCompany("one"))
	path := fmt.Sprintf("/rest/v1.0/projects/%d/rfis", c.newProject("one"))
	type rfi struct {
		ID        int64
		ProjectID int64 `json:"project_id"`
		Number    int64
		Subject   string
		Question  string
		Status    string
	}
	var first, second, shown rfi
	c.post(path, `{"rfi":{"subject":"Which door?","question":"North or south?"}}`).want(201).into(&first)
	c.post(path, `{"rfi":{"subject":"Which window?","status":"closed"}}`).want(201).into(&second)
	if first.Number != 1 || first.Status != "open" || second.Number != 2 || second.Status != "closed" {
		t.Errorf("made %+v and %+v", first, second)
	}
	one := fmt.Sprintf("%s/%d", path, first.ID)
	c.patch(one, `{"rfi":{"status":"closed"}}`).want(200)
	if c.get(one).want(200).into(&shown); shown.Status != "closed" || shown.Subject != "Which door?" || shown.Question != "North or south?" || shown.Number != 1 {
		t.Errorf("shows %+v", shown)
	}
	// An RFI is found in its project only.
	c.get(fmt.Sprintf("/rest/v1.0/projects/%d/rfis/%d", c.newProject("other"), first.ID)).refused(404, problem.NotFound)
	c.delete(one).want(200)
	c.get(one).refused(404, problem.NotFound)
	if got := c.get(path).ids(); !slices.Equal(got, []int64{second.ID}) {
		t.Errorf("RFIs %v", got)
	}
}

func TestInstallations(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	path := fmt.Sprintf("/rest/v1.0/companies/%d/app_installations", id)
	put := func(body string) { w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/70", id), body).want(200) }
	put(fmt.Sprintf(`{"client_id":"m","name":"M","kind":"developer_managed","permitted_projects":[%d]}`, project))
	var shown struct {
		ID                int64
		Kind              string
		ClientID          string   `json:"client_id"`
		PermittedProjects *[]int64 `json:"permitted_projects"`
	}
	if c.get(path + "/70").want(200).into(&shown); shown.Kind != "developer_managed" || shown.ClientID != "m" || shown.PermittedProjects == nil || !slices.Equal(*shown.PermittedProjects, []int64{project}) {
		t.Errorf("shows %+v", shown)
	}
	c.delete(fmt.Sprintf("/rest/v1.0/projects/%d", project)).want(200) // and its permit with it
	if c.get(path + "/70").want(200).into(&shown); shown.PermittedProjects == nil || len(*shown.PermittedProjects) != 0 {
		t.Errorf("shows %+v", shown)
	}
	put(`{"client_id":"m2","name":"M","kind":"developer_managed"}`)
	shown.PermittedProjects = nil
	if c.get(path + "/70").want(200).into(&shown); shown.PermittedProjects != nil || shown.ClientID != "m2" {
		t.Errorf("shows %+v", shown)
	}
	c.get(path+"/71").refused(404, problem.NotFound)
	c.patch(path+"/71", `{"app_installation":{"permitted_projects":null}}`).refused(404, problem.NotFound)
	// The app that speaks can be disconnected, too: it is the last that it did.
	c.delete(fmt.Sprintf("%s/%d", path, webApp)).want(200)
	c.get(path).refused(403, problem.AppNotConnected)
}

// "sync as PATCH with {"updates": [...]}", from the Ruby SDK, which merges the objects that
// several answers have.
func TestSync(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	type synced struct {
		Entities []object
		Errors   []struct {
			Index  int
			Code   problem.Code
			Errors map[string][]string
		}
	}
	sync := func(path, body string) (s synced) {
		t.Helper()
		c.patch(path, body).want(200).into(&s)
		if s.Entities == nil || s.Errors == nil {
			t.Errorf("%s: lists must be lists, not null", path)
		}
		return s
	}
	got := sync("/rest/v1.0/projects/sync", fmt.Sprintf(`{"company_id":%d,"updates":[{"id":%d,"name":"renamed"},{"name":""},{"name":"new"},{"id":"x"},{"id":999,"name":"nowhere"},{"id":null,"name":"newer"}]}`, id, project))
	if len(got.Entities) != 3 || got.Entities[0].ID != project || got.Entities[0].Name != "renamed" || got.Entities[1].Name != "new" || got.Entities[2].Name != "newer" {
		t.Errorf("saved %+v", got.Entities)
	}
	if len(got.Errors) != 3 || got.Errors[0].Index != 1 || len(got.Errors[0].Errors["name"]) == 0 || got.Errors[1].Index != 3 || got.Errors[2].Code != problem.NotFound {
		t.Errorf("refused %+v", got.Errors)
	}
	got = sync(fmt.Sprintf("/rest/v1.0/companies/%d/users/sync", id),
		fmt.Sprintf(`{"updates":[{"id":%d,"name":"Alice"},{"login":"bob@example.com","name":"Bob"},{"login":"bob@example.com","name":"Bob"},{"name":"nobody"}]}`, alice))
	if len(got.Entities) != 2 || got.Entities[1].ID != w.identity.known["bob@example.com"] || len(got.Errors) != 2 || got.Errors[0].Code != problem.Conflict {
		t.Errorf("saved %+v, refused %+v", got.Entities, got.Errors)
	}
	got = sync(fmt.Sprintf("/rest/v1.0/projects/%d/rfis/sync", project), `{"updates":[{"subject":"a"},{"subject":"b"}]}`)
	if len(got.Entities) != 2 || got.Entities[1].Subject != "b" {
		t.Errorf("saved %+v", got.Entities)
	}
	sync("/rest/v1.0/projects/sync", `{"updates":[]}`)
	for _, body := range []string{`{}`, `{"updates":null}`, `{"updates":{}}`, `{"updates":[7]}`, `{"updates":[{"name":"x"},null]}`, `{"updates":[{"name":"x","name":"y"}]}`} {
		c.patch("/rest/v1.0/projects/sync", body).refused(400, problem.BadRequest)
	}
}
