package region_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mpr/problem"
)

func TestBadBodies(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	for name, try := range map[string]struct {
		body   string
		status int
		code   problem.Code
	}{
		"nothing":                {``, 400, problem.BadRequest},
		"cut off":                {`{"project":{"name":"x"`, 400, problem.MalformedJSON},
		"cut off in a name":      {`{"proj`, 400, problem.MalformedJSON},
		"cut off after a name":   {`{"project":`, 400, problem.MalformedJSON},
		"a comma too many":       {`{"project":{"name":"x"},}`, 400, problem.MalformedJSON},
		"no quotes":              {`{project:{"name":"x"}}`, 400, problem.MalformedJSON},
		"two values":             {`{"project":{"name":"x"}} {}`, 400, problem.MalformedJSON},
		"a list":                 {`[{"project":{"name":"x"}}]`, 400, problem.MalformedJSON},
		"a text":                 {`"project"`, 400, problem.MalformedJSON},
		"a number":               {`7`, 400, problem.MalformedJSON},
		"null":                   {`null`, 400, problem.BadRequest}, // as good as nothing
		"not UTF-8":              {"{\"project\":{\"name\":\"\xff\xfe\"}}", 400, problem.MalformedJSON},
		"UTF-16":                 {"\xfe\xff\x00{\x00}", 400, problem.MalformedJSON},
		"a name twice":           {`{"project":{"name":"x"},"project":{"name":"y"}}`, 400, problem.MalformedJSON},
		"the same name, escaped": {`{"project":{"name":"x"},"projec\u0074":{"name":"y"}}`, 400, problem.MalformedJSON},
		"a name twice within":    {`{"project":{"name":"x","name":"y"}}`, 400, problem.BadRequest},
		"very deep":              {strings.Repeat(`{"project":`, 3000), 400, problem.MalformedJSON},
		"very deep, and closed":  {`{"project":` + strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000) + `}`, 400, problem.MalformedJSON},
		"not wrapped":            {`{"name":"x"}`, 400, problem.BadRequest},
		"wrapped otherwise":      {`{"Project":{"name":"x"}}`, 400, problem.BadRequest},
		"wrapped in a list":      {`{"project":[{"name":"x"}]}`, 400, problem.BadRequest},
		"null is wrapped":        {`{"project":null}`, 400, problem.BadRequest},
		"too large":              {`{"project":{"name":"x","description":"` + strings.Repeat("x", maxBody) + `"}}`, 413, problem.BodyTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			c.in(t).sendWith("POST", "/rest/v1.0/projects", try.body, map[string]string{"Content-Type": "application/json"}).refused(try.status, try.code)
		})
	}
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json/../x", "application/xml", "application/json; charset=utf-16"} {
		c.sendWith("POST", "/rest/v1.0/projects", `{"project":{"name":"x"}}`, map[string]string{"Content-Type": contentType}).refused(415, problem.UnsupportedMediaType)
	}
	c.sendWith("POST", "/rest/v1.0/projects", `{"project":{"name":"x"}}`, map[string]string{"Content-Encoding": "gzip"}).refused(415, problem.UnsupportedMediaType)
	if got := c.get("/rest/v1.0/projects").ids(); len(got) != 0 {
		t.Errorf("refused bodies made projects: %v", got)
	}
	// What is no fault.
	for _, contentType := range []string{"application/json", "Application/JSON; charset=UTF-8", "application/vnd.api+json"} {
		c.sendWith("POST", "/rest/v1.0/projects", "\n{\"project\" : {\"name\":\"x\", \"unknown\": [1e999, {\"a\":{}}]}}\n", map[string]string{"Content-Type": contentType}).want(201)
	}
}

// A body of unknown length is held to the same limit.
func TestLargeBodyInChunks(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	body := strings.NewReader(`{"project":{"name":"` + strings.Repeat("x", 4*maxBody) + `"}}`)
	req, err := http.NewRequestWithContext(t.Context(), "POST", w.door+"/rest/v1.0/projects", struct{ *strings.Reader }{body})
	check(t, err)
	req.ContentLength = -1
	req.Header = http.Header{"Authorization": {"Bearer " + w.user(alice)}, "Procore-Company-Id": {id.String()}, "Mpr-Epoch": {"1"}, "Content-Type": {"application/json"}}
	resp, err := client.Do(req)
	check(t, err)
	check(t, resp.Body.Close())
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %s", resp.Status)
	}
}

func TestInvalidFields(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/50", id), `{"client_id":"m","name":"M","kind":"developer_managed"}`).want(200)
	projectPath, users := fmt.Sprintf("/rest/v1.0/projects/%d", project), fmt.Sprintf("/rest/v1.0/companies/%d/users", id)
	for name, try := range map[string]struct{ method, path, body, fields string }{
		"blank name":        {"POST", "/rest/v1.0/projects", `{"project":{"name":" \t\u00a0"}}`, "name"},
		"no name":           {"POST", "/rest/v1.0/projects", `{"project":{}}`, "name"},
		"null name":         {"PATCH", projectPath, `{"project":{"name":null}}`, "name"},
		"name is a number":  {"POST", "/rest/v1.0/projects", `{"project":{"name":7}}`, "name"},
		"name is huge":      {"POST", "/rest/v1.0/projects", `{"project":{"name":1e400}}`, "name"},
		"name is an object": {"POST", "/rest/v1.0/projects", `{"project":{"name":{}}}`, "name"},
		"name with NUL":     {"POST", "/rest/v1.0/projects", `{"project":{"name":"a\u0000b"}}`, "name"},
		"long name":         {"POST", "/rest/v1.0/projects", `{"project":{"name":"` + strings.Repeat("ü", 256) + `"}}`, "name"},
		"flag is a text":    {"PATCH", projectPath, `{"project":{"active":"true"}}`, "active"},
		"flag is null":      {"PATCH", projectPath, `{"project":{"active":null}}`, "active"},
		"all at once":       {"PATCH", projectPath, `{"project":{"name":"","active":1,"project_number":[]}}`, "active name project_number"},
		"company's name":    {"PATCH", fmt.Sprintf("/rest/v1.0/companies/%d", id), `{"company":{"name":""}}`, "name"},
		"no address":        {"POST", users, `{"user":{"name":"X"}}`, "email_address"},
		"half an address":   {"POST", users, `{"user":{"login":"@example.com","name":"X"}}`, "email_address"},
		"nobody's name":     {"POST", users, `{"user":{"login":"x@example.com"}}`, "name"},
		"no subject":        {"POST", projectPath + "/rfis", `{"rfi":{"question":"?"}}`, "subject"},
		"unknown status":    {"POST", projectPath + "/rfis", `{"rfi":{"subject":"s","status":"lost"}}`, "status"},
		"long question":     {"POST", projectPath + "/rfis", `{"rfi":{"subject":"s","question":"` + strings.Repeat("x", 65_500) + `"}}`, "-"}, // the body's limit comes first
		"ids are texts":     {"PATCH", fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/50", id), `{"app_installation":{"permitted_projects":["1"]}}`, "permitted_projects"},
		"ids are huge":      {"PATCH", fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/50", id), `{"app_installation":{"permitted_projects":[1e30]}}`, "permitted_projects"},
		"ids are negative":  {"PATCH", fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/50", id), `{"app_installation":{"permitted_projects":[-1]}}`, "permitted_projects"},
		"too many ids":      {"PATCH", fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/50", id), `{"app_installation":{"permitted_projects":[` + manyIDs(5001) + `]}}`, "permitted_projects"},
		"no project of ours": {"PATCH", fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/50", id), `{"app_installation":{"permitted_projects":[1]}}`,
			"permitted_projects"},
		"limits for a web app": {"PATCH", fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/%d", id, webApp),
			fmt.Sprintf(`{"app_installation":{"permitted_projects":[%d]}}`, project), "permitted_projects"},
	} {
		t.Run(name, func(t *testing.T) {
			if try.fields == "-" {
				c.in(t).send(try.method, try.path, try.body).want(413)
				return
			}
			wrong := c.in(t).send(try.method, try.path, try.body).refused(422, problem.Invalid)
			if got := strings.Join(slices.Sorted(maps.Keys(wrong)), " "); got != try.fields {
				t.Errorf("complains of %q, want %q", got, try.fields)
			}
		})
	}
	if got := c.get(projectPath).object(); got.Name != "one" {
		t.Errorf("a refused update had an effect: %+v", got)
	}
	// Just as long as may be, in characters and not in bytes.
	c.post("/rest/v1.0/projects", `{"project":{"name":"`+strings.Repeat("ü", 255)+`"}}`).want(201)
}

// manyIDs lists so many ids.
func manyIDs(n int) string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = strconv.Itoa(i + 1)
	}
	return strings.Join(ids, ",")
}
