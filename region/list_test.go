package region_test

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"mpr/problem"
)

// "page and per_page; response headers Total, Per-Page, Link with rel
// first/prev/next/last as absolute URLs on the host that the client called. next is
// absent on the last page."
func TestPages(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	var all []int64
	for i := range 5 {
		all = append(all, c.newProject(fmt.Sprint(i)))
	}
	for _, p := range []struct {
		query             string
		want              []int64
		prev, next, last  string
		perPage, elements string
	}{
		{"", all, "", "", "1", "50", "5"}, // the default, 100, is more than this region answers
		{"?per_page=2", all[:2], "", "2", "3", "2", "5"},
		{"?per_page=2&page=2", all[2:4], "1", "3", "3", "2", "5"},
		{"?per_page=2&page=3", all[4:], "2", "", "3", "2", "5"},
		{"?per_page=2&page=9", nil, "3", "", "3", "2", "5"},
		{"?per_page=5", all, "", "", "1", "5", "5"},
		{"?page=1000000&per_page=50", nil, "1", "", "1", "50", "5"},
		{"?page=&per_page=", all, "", "", "1", "50", "5"},
		{"?filters[name]=3", all[3:4], "", "", "1", "50", "1"},
		{"?filters[name]=none", nil, "", "", "1", "50", "0"},
	} {
		t.Run(p.query, func(t *testing.T) {
			got := c.in(t).get("/rest/v1.0/projects" + p.query)
			if ids := got.ids(); !slices.Equal(ids, append([]int64{}, p.want...)) {
				t.Errorf("listed %v, want %v", ids, p.want)
			}
			if got.header.Get("Total") != p.elements || got.header.Get("Per-Page") != p.perPage {
				t.Errorf("Total %q, Per-Page %q", got.header.Get("Total"), got.header.Get("Per-Page"))
			}
			links := got.links()
			for rel, want := range map[string]string{"first": "1", "prev": p.prev, "next": p.next, "last": p.last} {
				if link := links[rel]; (link != nil) != (want != "") || link != nil && link.Query().Get("page") != want {
					t.Errorf("%s leads to %v, want page %q", rel, link, want)
				}
			}
		})
	}
}

// SQLite knows the lower case of ASCII only; a name as it is written is found all the same.
func TestNamesAreFound(t *testing.T) {
	w := newWorld(t)
	c := w.as(w.user(alice), w.newCompany("one"))
	project := c.newProject("Ärger SÜD")
	for _, name := range []string{"Ärger SÜD", "Ärger sÜd"} {
		if got := c.get("/rest/v1.0/projects?filters[name]=" + url.QueryEscape(name)).ids(); !slices.Equal(got, []int64{project}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, odd := range []string{"%00", "a%00b", "%ff", "%c3%28"} {
		c.get("/rest/v1.0/projects?filters[name]="+odd).refused(400, problem.BadRequest)
	}
}

func TestLinksLeadToTheHostThatWasCalled(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	for i := range 3 {
		c.newProject(fmt.Sprint(i))
	}
	path := fmt.Sprintf("/rest/v1.1/projects?company_id=%d&b=x%%26y%%3E&a=1&a=2&per_page=1&page=2", id)
	got := c.sendWith("GET", path, "", map[string]string{"X-Forwarded-Host": "api.procore.com", "X-Forwarded-Proto": "https"}).want(200)
	links := got.links()
	if len(links) != 4 {
		t.Fatalf("links: %v", links)
	}
	for rel, page := range map[string]int{"first": 1, "prev": 1, "next": 3, "last": 3} {
		u := links[rel]
		if u.Scheme != "https" || u.Host != "api.procore.com" || u.Path != "/rest/v1.1/projects" {
			t.Errorf("%s leads to %s", rel, u)
		}
		q := u.Query()
		if q.Get("page") != strconv.Itoa(page) || q.Get("per_page") != "1" || q.Get("b") != "x&y>" || !slices.Equal(q["a"], []string{"1", "2"}) || q.Get("company_id") != id.String() {
			t.Errorf("%s leads to %s", rel, u)
		}
	}
	// Called without a gateway in between, it is the region's own address.
	if u := c.get("/rest/v1.0/projects").links()["first"]; "http://"+u.Host != w.door {
		t.Errorf("leads to %s", u)
	}
}

func TestBadPages(t *testing.T) {
	w := newWorld(t)
	c := w.as(w.user(alice), w.newCompany("one"))
	for _, query := range []string{
		"page=0", "page=-1", "page=x", "page=1.0", "page=1e3", "page=%2B1", "page=9223372036854775808", "page=1&page=2", "page=1000001",
		"per_page=0", "per_page=-5", "per_page=51", "per_page=1&per_page=1", "per_page=0x10",
	} {
		c.get("/rest/v1.0/projects?"+query).refused(400, problem.BadRequest)
	}
}

// Every list pages alike.
func TestEveryListPages(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("one")
	for i := range 3 {
		w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/%d", id, 60+i), fmt.Sprintf(`{"login":"%d@example.com","name":"N"}`, i)).want(200)
		w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/%d", id, 60+i), fmt.Sprintf(`{"client_id":"%d","name":"N","kind":"developer_managed","permitted_projects":[%d]}`, i, project)).want(200)
		c.post(fmt.Sprintf("/rest/v1.0/projects/%d/users/%d/actions/add", project, 60+i), "").want(200)
		c.post(fmt.Sprintf("/rest/v1.0/projects/%d/rfis", project), `{"rfi":{"subject":"s"}}`).want(201)
	}
	for path, total := range map[string]string{
		fmt.Sprintf("/rest/v1.0/companies/%d/projects", id):          "1",
		fmt.Sprintf("/rest/v1.3/companies/%d/users", id):             "4",
		fmt.Sprintf("/rest/v1.0/companies/%d/app_installations", id): "4",
		fmt.Sprintf("/rest/v1.0/projects/%d/users", project):         "3",
		fmt.Sprintf("/rest/v1.0/projects/%d/rfis", project):          "3",
	} {
		first := c.get(path + "?per_page=2&page=1")
		second := c.get(path + "?per_page=2&page=2")
		both := append(first.ids(), second.ids()...)
		if first.header.Get("Total") != total || strconv.Itoa(len(both)) != total || !slices.IsSorted(both) {
			t.Errorf("%s: total %s, listed %v", path, first.header.Get("Total"), both)
		}
	}
}
