package region_test

import (
	"fmt"
	"testing"

	"mpr/company"
	"mpr/region"
)

// A gateway may ask about a call before it sends it. Questions change nothing.
func TestQuestions(t *testing.T) {
	w := newWorld(t)
	ours, theirs := w.newCompany("ours"), w.newCompany("theirs")
	c := w.as(w.user(alice), ours)
	project := c.newProject("Tower")
	ask := func(c caller, question, path string) answer {
		return c.sendWith("GET", path, "", map[string]string{region.QuestionHeader: question})
	}
	for name, a := range map[string]answer{
		"access":                      ask(c, "access", "/rest/v1.0/projects").want(204),
		"access, whatever the path":   ask(c, "access", "/nothing/here").want(204),
		"no access":                   ask(w.as(w.user(alice+1), theirs), "access", "/rest/v1.0/projects").want(403),
		"an unknown company":          ask(w.as(w.user(alice), 4711), "access", "/rest/v1.0/projects").want(421),
		"an unknown question":         ask(c, "weather", "/rest/v1.0/projects").want(400),
		"a path without a project":    ask(c, "project", "/rest/v1.0/projects").want(404),
		"a project that nobody knows": ask(c, "project", "/rest/v1.0/projects/999").want(404),
		"an impossible project":       ask(c, "project", "/rest/v1.0/projects/99999999999999999999").want(404),
	} {
		if got := a.header.Get("Procore-Company-Id"); got != "" {
			t.Errorf("%s: the answer names company %s", name, got)
		}
	}
	for _, path := range []string{"/rest/v1.0/projects/%d", "/rest/v1.1/projects/%d/rfis", "/vapid/projects/%d/users/5"} {
		// Whose the project is doesn't depend on who asks: the call itself is checked.
		got := ask(w.as(w.user(alice+1), 0), "project", fmt.Sprintf(path, project)).want(204)
		if id, err := company.ParseID(got.header.Get("Procore-Company-Id")); err != nil || id != ours {
			t.Errorf("%s: %q", path, got.header.Get("Procore-Company-Id"))
		}
	}
	w.as("nonsense", ours).sendWith("GET", fmt.Sprintf("/rest/v1.0/projects/%d", project), "", map[string]string{region.QuestionHeader: "project"}).want(401)
}

func TestCompanyBaseURL(t *testing.T) {
	w := newWorld(t)
	c := w.as(w.user(alice), w.newCompany("one"))
	got := c.sendWith("GET", "/rest/v1.0/company_base_url", "", map[string]string{"X-Forwarded-Host": "api.procore.com", "X-Forwarded-Proto": "https"}).want(200)
	if want := `{"web_base_url":"https://api.procore.com","zone":"eu01"}` + "\n"; string(got.body) != want {
		t.Errorf("%s, want %s", got.body, want)
	}
}
