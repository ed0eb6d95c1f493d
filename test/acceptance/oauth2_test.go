package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// connector is a program in Go as they are written for this API: the hosts are
// constants, the tokens come from golang.org/x/oauth2, and of proxies and authorities it
// knows only what its environment tells every program.
type connector struct {
	client *http.Client
}

const (
	hardCodedLogin = "https://login.procore.com"
	hardCodedAPI   = "https://api.procore.com"
)

func (d *dev) connector(t *testing.T, a app) *connector {
	t.Helper()
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, d.hostsClient(t))
	// No AuthStyle: the package finds out by itself, HTTP Basic first.
	config := clientcredentials.Config{ClientID: a.ClientID, ClientSecret: a.ClientSecret, TokenURL: hardCodedLogin + "/oauth/token"}
	return &connector{client: config.Client(ctx)}
}

// call calls the API for a company (0 for none), reads the JSON of the answer into v, and
// answers its header.
func (c *connector) call(t *testing.T, method, address string, company int64, body, v any) http.Header {
	t.Helper()
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, address, sent)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if company != 0 {
		r.Header.Set("procore-company-id", strconv.FormatInt(company, 10)) // "the Ruby SDK sends" it so
	}
	resp, err := c.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s", method, address, resp.Status, text)
	}
	if v != nil {
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatalf("%s %s: %s: %v", method, address, text, err)
		}
	}
	return resp.Header
}

func TestGoConnector(t *testing.T) {
	d := shared(t)
	account := d.app(t, "developer_managed")
	c := d.connector(t, account)
	u := d.newUser(t, "connector")
	for _, at := range d.everywhere(t) {
		var companies, projects, users []object
		c.call(t, "GET", hardCodedAPI+"/rest/v1.0/companies", at.ID, nil, &companies)
		if !slices.Contains(ids(companies), at.ID) {
			t.Errorf("List Companies lacks %d: %v", at.ID, companies)
		}
		var project, member object
		c.call(t, "POST", hardCodedAPI+"/rest/v1.1/projects", at.ID,
			map[string]any{"company_id": at.ID, "project": map[string]any{"name": "By a connector"}}, &project)
		c.call(t, "GET", fmt.Sprintf(hardCodedAPI+"/rest/v1.1/projects?company_id=%d&per_page=1000", at.ID), at.ID, nil, &projects)
		if !slices.Contains(ids(projects), project.ID) {
			t.Errorf("%s: the new project is not in the list", at.Region)
		}

		ofCompany := fmt.Sprintf(hardCodedAPI+"/rest/v1.3/companies/%d/users", at.ID)
		c.call(t, "POST", ofCompany, at.ID, map[string]any{"user": map[string]any{"login": u.Login, "email_address": u.Login, "name": "Connected"}}, &member)
		c.call(t, "GET", ofCompany+"?per_page=1000", at.ID, nil, &users)
		if !slices.Contains(ids(users), member.ID) {
			t.Errorf("%s: user %d is not in the company: %v", at.Region, member.ID, users)
		}

		ofProject := fmt.Sprintf(hardCodedAPI+"/rest/v1.0/projects/%d/users", project.ID)
		c.call(t, "POST", fmt.Sprintf("%s/%d/actions/add", ofProject, member.ID), at.ID, map[string]any{}, nil)
		c.call(t, "GET", ofProject, at.ID, nil, &users)
		if !slices.Equal(ids(users), []int64{member.ID}) {
			t.Errorf("%s: users of the project %v, want %d alone", at.Region, users, member.ID)
		}
		c.call(t, "DELETE", fmt.Sprintf("%s/%d/actions/remove", ofProject, member.ID), at.ID, nil, nil)
		c.call(t, "GET", ofProject, at.ID, nil, &users)
		if len(users) != 0 {
			t.Errorf("%s: still users of the project: %v", at.Region, users)
		}
	}
}

// "List Companies without the header (older service accounts)": refused, since the seed
// wants the header from service accounts on every call.
func TestGoConnectorWithoutTheHeader(t *testing.T) {
	d := shared(t)
	resp, err := d.connector(t, d.app(t, "traditional")).client.Get(hardCodedAPI + "/rest/v1.0/companies")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 400 || !strings.Contains(string(text), "Missing Procore-Company-Id header!") {
		t.Errorf("%s %s", resp.Status, text)
	}
}

// The package reads RFC 6749's errors.
func TestGoConnectorWithAWrongSecret(t *testing.T) {
	d := shared(t)
	a := d.app(t, "developer_managed")
	a.ClientSecret = "wrong"
	resp, err := d.connector(t, a).client.Get(hardCodedAPI + "/rest/v1.0/companies")
	if err == nil {
		_ = resp.Body.Close()
	}
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || refusal.ErrorCode != "invalid_client" || refusal.Response.StatusCode != 401 {
		t.Errorf("with a wrong secret: %v", err)
	}
}

// "page and per_page; response headers Total, Per-Page, Link with rel
// first/prev/next/last as absolute URLs on the host that the client called. next is
// absent on the last page."
func TestFollowingLinkHeaders(t *testing.T) {
	d := shared(t)
	c := d.connector(t, d.app(t, "developer_managed"))
	at := d.in(t, "EU01")
	var made []int64
	for i := range 5 {
		var project object
		c.call(t, "POST", hardCodedAPI+"/rest/v1.0/projects", at.ID,
			map[string]any{"company_id": at.ID, "project": map[string]any{"name": fmt.Sprintf("Page %d", i)}}, &project)
		made = append(made, project.ID)
	}
	var seen []int64
	pages := 0
	for next := fmt.Sprintf("%s/rest/v1.0/projects?company_id=%d&per_page=2", hardCodedAPI, at.ID); next != ""; pages++ {
		var page []object
		header := c.call(t, "GET", next, at.ID, nil, &page)
		seen = append(seen, ids(page)...)
		links := readLinks(t, header)
		if header.Get("Per-Page") != "2" {
			t.Errorf("Per-Page: %q", header.Get("Per-Page"))
		}
		if _, has := links["prev"]; has != (pages > 0) {
			t.Errorf("page %d: links %v", pages+1, links)
		}
		next = links["next"]
		if next == "" && header.Get("Total") != strconv.Itoa(len(seen)) {
			t.Errorf("Total: %q; %d were listed", header.Get("Total"), len(seen))
		}
		if next != "" && len(page) != 2 {
			t.Errorf("page %d of 2 has %d", pages+1, len(page))
		}
	}
	if pages < 3 || len(seen) != len(slices.Compact(slices.Sorted(slices.Values(seen)))) {
		t.Errorf("%d pages with %v", pages, seen)
	}
	for _, id := range made {
		if !slices.Contains(seen, id) {
			t.Errorf("project %d is on no page", id)
		}
	}
}

// readLinks reads a Link header (RFC 8288) and wants its targets on the host called.
func readLinks(t *testing.T, header http.Header) map[string]string {
	t.Helper()
	links := map[string]string{}
	for _, value := range header.Values("Link") {
		for _, link := range strings.Split(value, ",") {
			target, params, _ := strings.Cut(strings.TrimSpace(link), ">")
			target = strings.TrimPrefix(target, "<")
			_, rel, _ := strings.Cut(params, `rel=`)
			rel = strings.Trim(rel, `"`)
			u, err := url.Parse(target)
			if err != nil || u.Scheme+"://"+u.Host != hardCodedAPI || !u.Query().Has("company_id") {
				t.Errorf("the link %q doesn't lead to the same list on the host called", link)
			}
			links[rel] = target
		}
	}
	return links
}

// An installed app has no secret: "PKCE S256 ... required for public clients".
func TestInstalledApp(t *testing.T) {
	d := shared(t)
	installed := d.app(t, "installed")
	uri := installed.RedirectURIs[0]
	if installed.ClientSecret != "" {
		t.Error("an installed app can't keep a secret, and has one")
	}
	form := codeForm(installed, uri, d.code(t, d.everywhereUser(t), installed, uri))
	form.Set("code_verifier", pkceVerifier)
	token := d.pair(t, form).Access
	for _, id := range installed.Companies {
		call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: id}.send(t).want(t, 200)
	}
}
