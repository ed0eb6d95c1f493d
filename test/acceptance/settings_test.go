package acceptance

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startWith starts mpr dev with settings of its own.
func startWith(t *testing.T, yaml string) *dev {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mpr.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return startDev(t, t.TempDir(), "--config", file)
}

func TestTokensExpire(t *testing.T) {
	d := startWith(t, "tokens:\n  access_lifetime: 3s\n  algorithm: EdDSA\n")
	p := d.userTokens(t)
	if alg := decodePart(t, strings.Split(p.Access, ".")[0])["alg"]; alg != "EdDSA" {
		t.Errorf("signed by %v", alg)
	}
	if p.ExpiresIn != 3 {
		t.Errorf("expires_in: %d", p.ExpiresIn)
	}
	call{URL: d.apiURL("/rest/v1.0/me"), Token: p.Access}.send(t).want(t, 200)
	// The gateway remembers the token by now, and must not remember it for longer than it lives.
	eventually(t, 10*time.Second, func() (bool, string) {
		a := call{URL: d.apiURL("/rest/v1.0/me"), Token: p.Access}.send(t)
		return a.Status == 401, a.String()
	})
	call{URL: d.apiURL("/rest/v1.0/projects"), Token: p.Access, Company: d.in(t, "EU01").ID}.send(t).wantCode(t, 401, "invalid_token")
	// The refresh token "has no fixed expiry".
	next := d.pair(t, refreshForm(d.app(t, "web"), p.Refresh))
	call{URL: d.apiURL("/rest/v1.0/me"), Token: next.Access}.send(t).want(t, 200)
}

// A client whose connection broke may repeat its refresh, where the operator allows it.
func TestRefreshGrace(t *testing.T) {
	d := startWith(t, "tokens:\n  refresh_grace: 1h\n  algorithm: ES512\n")
	p := d.userTokens(t)
	web := d.app(t, "web")
	next := d.pair(t, refreshForm(web, p.Refresh))
	if again := d.pair(t, refreshForm(web, p.Refresh)); again.Access != next.Access || again.Refresh != next.Refresh {
		t.Error("the repeated refresh answered another pair")
	}
	d.pair(t, refreshForm(web, next.Refresh))
}

// "non-compliant applications will continue to function as expected for existing Procore
// Customers until June 30, 2019. However, you will not be able to access data from new
// Procore customers."
func TestTheLegacyHostBeforeItsEnd(t *testing.T) {
	d := startWith(t, "dates:\n  legacy_sunset: 2099-12-31\n")
	existing, moved, later := d.newCompany(t, "US01", "2015-05-04"), d.newCompany(t, "EU01", "2015-05-04"), d.newCompany(t, "US01", "2018-10-31")
	u := d.newUser(t, "integrator", existing.ID, moved.ID, later.ID)
	web := d.app(t, "web")
	for _, c := range []company{existing, moved, later} {
		d.install(t, &web, c.ID)
	}
	token := d.pair(t, codeForm(web, web.redirectURI(t), d.code(t, u, web, web.redirectURI(t)))).Access
	old := func(c company) call {
		return call{URL: d.Environments[0].Legacy + "/rest/v1.0/projects?company_id=" + strconv.FormatInt(c.ID, 10), Token: token}
	}
	old(existing).send(t).want(t, 200)
	old(moved).send(t).wantCode(t, 403, "legacy_forbidden")
	old(later).send(t).wantCode(t, 403, "legacy_forbidden")
	call{URL: d.Environments[0].Legacy + "/rest/v1.0/projects", Token: token}.send(t).wantCode(t, 400, "missing_company_header")
	for _, c := range []company{existing, moved, later} {
		call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: c.ID}.send(t).want(t, 200)
	}
}

// "not for service accounts (their tokens need the header everywhere; a setting turns that
// off)": then they list their companies without it, as people do, and nothing else.
func TestAccountsThatNeedNoHeader(t *testing.T) {
	d := startWith(t, "service_accounts_need_header: false\n")
	developer, traditional := d.app(t, "developer_managed"), d.app(t, "traditional")
	other := d.newCompany(t, "US02", "2019-01-01").ID
	for kind, a := range map[string]app{"developer_managed": developer, "traditional": traditional} {
		token := d.machineToken(t, a)
		if me := (call{URL: d.apiURL("/rest/v1.0/me"), Token: token}).send(t).want(t, 200).object(t); me.Login != a.ClientID {
			t.Errorf("%s: me is %+v", kind, me)
		}
		var listed []int64
		for _, c := range (call{URL: d.apiURL("/rest/v1.0/companies"), Token: token}).send(t).want(t, 200).objects(t) {
			listed = append(listed, c.ID)
		}
		if !slices.Equal(listed, slices.Sorted(slices.Values(a.Companies))) {
			t.Errorf("%s lists %v, want %v", kind, listed, a.Companies)
		}
		own := call{URL: d.apiURL("/rest/v1.0/projects"), Token: token}
		own.send(t).wantCode(t, 400, "missing_company_header")
		own.Company = a.Companies[0]
		own.send(t).want(t, 200)
		for _, path := range []string{"/rest/v1.0/me", "/rest/v1.0/companies", "/rest/v1.0/projects"} {
			got := call{URL: d.apiURL("%s", path), Token: token, Company: other}.send(t)
			if got.Status != 403 {
				t.Errorf("%s at a company that isn't its own: %v", kind, got)
			}
		}
	}
}

// Nobody can hold connections of the login door by sending no more of what was announced.
func TestABodyThatNeverEndsAtTheLoginDoor(t *testing.T) {
	d := startWith(t, "gateway:\n  stall_timeout: 1s\n")
	door := strings.TrimPrefix(d.Environments[0].Login, "http://")
	for _, path := range []string{"/oauth/token", "/oauth/revoke", "/login"} {
		got := raw(t, door, "POST "+path+" HTTP/1.1\r\nHost: "+door+"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant_type=")
		if got.Status != 408 {
			t.Errorf("%v; want 408", got)
		}
	}
	d.userTokens(t)
}
