package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// "Each role also runs as a process of its own, on one mpr.yaml", and goes on without the
// others as ARCHITECTURE.md's table of roles says.
func TestEachRoleItsOwnProcess(t *testing.T) {
	s := newTopology(t)
	// The worst order: nobody finds those whom it needs.
	s.start(t, "EU01", "gateway", "US02", "login", "US01", "control")
	s.populate(t)
	person, machine := s.userTokens(t), s.machineToken(t, s.app(t, "developer_managed"))
	s.works(t, person.Access)
	s.works(t, machine)
	traditional := s.app(t, "traditional")
	s.projects(t.Context(), s.machineToken(t, traditional), traditional.Companies[0]).want(t, 200)
	s.listed(t, person.Access, s.everywhere(t)...)
	revoked := s.userTokens(t).Access
	s.revoke(t, revoked)

	s.keepsOthersOff(t)

	s.withoutControlAndLogin(t, person.Access, machine, revoked)
	s.withoutARegion(t, person.Access)
	s.controlAndLoginAreBack(t, person, machine)

	s.stop(t, "control", "gateway", "EU01", "US01", "US02", "login")
}

// withoutControlAndLogin: a gateway "goes on without login, control, the directory's
// server", and keeps nothing that it can't rebuild but a copy on disk.
func (s *topology) withoutControlAndLogin(t *testing.T, person, machine, revoked string) {
	t.Helper()
	s.kill(t, "login", "control")
	s.works(t, person)
	s.works(t, machine)
	for _, exempt := range []string{"/rest/v1.0/me", "/rest/v1.0/companies"} {
		a := call{URL: s.apiURL("%s", exempt), Token: person}.send(t).wantCode(t, 503, "identity_unavailable")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%v: no Retry-After", a)
		}
	}
	for _, end := range []func(*testing.T, ...string){s.stop, s.kill} {
		end(t, "gateway")
		s.start(t, "gateway")
		s.opens(t)
		s.works(t, person)
		s.works(t, machine)
		// Nobody but the gateway stands before this region, and it has its knowledge of
		// revocations from disk.
		s.projects(t.Context(), revoked, s.in(t, foreignRegion).ID).wantCode(t, 401, "invalid_token")
		s.projects(t.Context(), person, unknownCompany).wantCode(t, 403, "company_forbidden")
	}
}

// withoutARegion: "everything else" goes on without a region, and a region without
// everything else.
func (s *topology) withoutARegion(t *testing.T, token string) {
	t.Helper()
	const lost = "EU01"
	at := s.in(t, lost).ID
	made := s.newProject(t, token, at)
	s.kill(t, lost)
	for range 3 {
		a := s.projects(t.Context(), token, at).wantCode(t, 503, "region_unavailable")
		var refusal struct{ Region string }
		a.into(t, &refusal)
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); refusal.Region != lost || err != nil || wait < 1 {
			t.Errorf("%v, Retry-After %q; want the region's code and when to try again", a, a.Header.Get("Retry-After"))
		}
		for _, c := range s.Companies {
			if c.Region != lost {
				s.projects(t.Context(), token, c.ID).want(t, 200)
			}
		}
	}
	s.start(t, lost)
	took := eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), token, at)
		if a.Status != 503 {
			a.want(t, 200)
		}
		return a.Status == 200, a.String()
	})
	t.Logf("%s answers again after %v, without control and login", lost, took)
	if got := s.projects(t.Context(), token, at).want(t, 200).objects(t); !slices.ContainsFunc(got, func(o object) bool { return o == made }) {
		t.Errorf("%+v is lost: %+v", made, got)
	}
	s.works(t, token)
}

// controlAndLoginAreBack: what changes now reaches all others, which were never restarted.
func (s *topology) controlAndLoginAreBack(t *testing.T, person tokens, machine string) {
	t.Helper()
	// Login starts without the directory, too. What it can't tell yet waits.
	s.start(t, "login")
	web := s.app(t, "web")
	eventually(t, readyWithin, func() (bool, string) {
		return s.reaches(t, s.loginURL("/.well-known/jwks.json"))
	})
	second := s.userTokens(t)
	s.works(t, second.Access)
	s.postRevoke(t, second.Access)
	s.exchange(t, refreshForm(web, second.Refresh)).wantCode(t, 400, "invalid_grant")

	s.start(t, "control")
	var all struct{ Companies []company }
	s.runEventually(t, &all, "company", "list")
	for _, c := range s.everywhere(t) {
		if !slices.Contains(all.Companies, c) {
			t.Errorf("the first list after the start lacks %+v: %+v", c, all)
		}
	}
	foreign := s.in(t, foreignRegion).ID
	took := eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), second.Access, foreign)
		return a.Status == 401, a.String()
	})
	t.Logf("the revocation that waited for the directory arrived %v after control was started", took)

	var born company
	s.runEventually(t, &born, "company", "create", "--name", "Born later", "--region", "US02", "--idempotency-key", "later")
	s.run(t, &object{}, "user", "add", "--login", s.Users[0].Login, "--company", fmt.Sprint(born.ID))
	s.run(t, &object{}, "app", "install", "--app", web.ClientID, "--company", fmt.Sprint(born.ID))
	s.arrives(t, person.Access, born)
	s.listed(t, person.Access, append(s.everywhere(t), born)...)
	s.works(t, machine)

	next := s.pair(t, refreshForm(web, person.Refresh))
	s.works(t, next.Access)
	s.revoke(t, next.Access)
}

// keepsOthersOff: two processes on one store would destroy it.
func (s *topology) keepsOthersOff(t *testing.T) {
	t.Helper()
	for says, args := range map[string][]string{
		"another process runs the directory server": {"control", "--config", s.config},
		"is in use by another mpr":                  {"dev", "--port", "0", "--data", s.data},
	} {
		out, err := s.command(args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("mpr %v beside the roles: %v\n%s", args, err, out)
		}
	}
}

// Nobody is there to be waited for, and SIGTERM comes: that is no failure.
func TestStoppedBeforeReady(t *testing.T) {
	s := newTopology(t)
	roles := []string{"gateway", "US01", "login"}
	s.start(t, roles...)
	for _, name := range roles {
		eventually(t, readyWithin, func() (bool, string) {
			said := s.processes[name].log.since(0)
			return strings.Contains(said, "waiting for") || strings.Contains(said, "msg=ready"), name + " says " + said
		})
	}
	s.stop(t, roles...)
}

// foreignRegion is a region that a service of somebody else stands in for.
const foreignRegion = "AP01"

// unknownCompany lives nowhere.
const unknownCompany = 4242

// populate makes regions, companies, people and apps with the commands.
func (s *topology) populate(t *testing.T) {
	t.Helper()
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `[{"id":1,"name":"of company %s"}]`, r.Header.Get("Procore-Company-Id"))
	}))
	t.Cleanup(foreign.Close)
	for _, region := range regions {
		var made company
		s.runEventually(t, &made, "company", "create", "--name", "Builders of "+region, "--region", region, "--idempotency-key", region)
		s.Companies = append(s.Companies, made)
	}
	var known object
	s.run(t, &known, "region", "add", "--code", foreignRegion, "--number", "18", "--upstream", foreign.URL)
	var abroad company
	s.run(t, &abroad, "company", "create", "--name", "Builders abroad", "--region", foreignRegion, "--id", fmt.Sprint(18<<45+1))
	s.Companies = append(s.Companies, abroad)

	var everywhere []string
	eva := user{Login: "eva@example.com"}
	for _, c := range s.everywhere(t) {
		everywhere = append(everywhere, "--company", fmt.Sprint(c.ID))
		eva.Companies = append(eva.Companies, c.ID)
	}
	s.runEventually(t, &object{}, "app", "list") // the login service may begin last
	var made struct{ Password string }
	s.run(t, &made, append([]string{"user", "create", "--login", eva.Login, "--name", "Eva Lang"}, everywhere...)...)
	eva.Password = made.Password
	s.Users = append(s.Users, eva)

	s.newRegistration(t, "web", everywhere, "app", "create", "--name", "Field Reports", "--redirect-uri", "http://127.0.0.1:8080/callback")
	s.newRegistration(t, "developer_managed", everywhere[:2], "service-account", "create", "--name", "Nightly Sync")
	for _, c := range s.everywhere(t)[1:] {
		s.run(t, &object{}, "app", "install", "--app", s.app(t, "developer_managed").ClientID, "--company", fmt.Sprint(c.ID))
	}
	s.newRegistration(t, "traditional", everywhere[4:], "service-account", "create", "--kind", "traditional", "--name", "Payroll Export")
	for _, c := range s.Companies {
		s.arrives(t, s.userTokens(t).Access, c)
	}
}

// newRegistration makes an app or a service account.
func (s *topology) newRegistration(t *testing.T, kind string, companies []string, args ...string) {
	t.Helper()
	var made struct {
		ClientID     string  `json:"client_id"`
		ClientSecret string  `json:"client_secret"`
		Companies    []int64 `json:"companies"`
		Company      int64   `json:"company"`
	}
	s.run(t, &made, append(args, companies...)...)
	if made.Company != 0 {
		made.Companies = []int64{made.Company}
	}
	s.Apps = append(s.Apps, app{Name: kind, Kind: kind, ClientID: made.ClientID, ClientSecret: made.ClientSecret,
		RedirectURIs: []string{"http://127.0.0.1:8080/callback"}, Companies: made.Companies})
}

// projects lists the projects of a company.
func (s *topology) projects(ctx context.Context, token string, company int64) answer {
	c := call{URL: s.apiURL("/rest/v1.0/projects?company_id=%d", company), Token: token, Company: company}
	a, err := c.do(ctx)
	if err != nil {
		return answer{Body: []byte(err.Error()), call: c}
	}
	return a
}

// newProject makes a project.
func (s *topology) newProject(t *testing.T, token string, company int64) object {
	t.Helper()
	return call{Method: "POST", URL: s.apiURL("/rest/v1.0/projects"), Token: token, Company: company,
		JSON: map[string]any{"project": map[string]any{"name": fmt.Sprintf("Project %d", time.Now().UnixNano())}}}.send(t).want(t, 201).object(t)
}

// works reads and writes in the companies of all regions.
func (s *topology) works(t *testing.T, token string) {
	t.Helper()
	for _, c := range s.everywhere(t) {
		made := s.newProject(t, token, c.ID)
		if got := s.projects(t.Context(), token, c.ID).want(t, 200).objects(t); !slices.Contains(ids(got), made.ID) {
			t.Errorf("%s: project %d isn't in the list %v", c.Region, made.ID, got)
		}
	}
	s.projects(t.Context(), token, s.in(t, foreignRegion).ID).want(t, 200)
}

// listed wants List Companies to show these companies.
func (s *topology) listed(t *testing.T, token string, want ...company) {
	t.Helper()
	eventually(t, 5*time.Second, func() (bool, string) {
		a := call{URL: s.apiURL("/rest/v1.0/companies"), Token: token}.send(t).want(t, 200)
		got := a.objects(t)
		for _, c := range want {
			if !slices.ContainsFunc(got, func(o object) bool { return o.ID == c.ID && o.Name == c.Name }) {
				return false, fmt.Sprintf("%v lacks %+v", a, c)
			}
		}
		return true, ""
	})
}

// arrives waits until the gateway knows a company.
func (s *topology) arrives(t *testing.T, token string, c company) {
	t.Helper()
	took := eventually(t, 5*time.Second, func() (bool, string) {
		a := s.projects(t.Context(), token, c.ID)
		return a.Status == 200, a.String()
	})
	if took > time.Second {
		t.Errorf("the gateway knew company %d after %v", c.ID, took)
	}
}

func (s *topology) postRevoke(t *testing.T, token string) {
	t.Helper()
	web := s.app(t, "web")
	call{Method: "POST", URL: s.loginURL("/oauth/revoke"), Form: url.Values{
		"token": {token}, "client_id": {web.ClientID}, "client_secret": {web.ClientSecret},
	}}.send(t).want(t, 200)
}

// revoke ends a token's grant: "Revocation reaches every gateway in under a second." It
// asks for a region that verifies nothing, so that it is the gateway that refuses.
func (s *topology) revoke(t *testing.T, token string) {
	t.Helper()
	foreign := s.in(t, foreignRegion).ID
	s.projects(t.Context(), token, foreign).want(t, 200)
	s.postRevoke(t, token)
	took := eventually(t, 5*time.Second, func() (bool, string) {
		a := s.projects(t.Context(), token, foreign)
		return a.Status == 401, a.String()
	})
	t.Logf("the gateway refused the token %v after its revocation", took.Round(time.Millisecond))
	if took > time.Second {
		t.Errorf("the gateway took %v to refuse a revoked token", took)
	}
}

// opens waits until the gateway answers.
func (s *topology) opens(t *testing.T) {
	t.Helper()
	took := eventually(t, readyWithin, func() (bool, string) { return s.reaches(t, s.apiURL("/rest/v1.0/me")) })
	t.Logf("the gateway answers after %v", took.Round(time.Millisecond))
}

// reaches says whether anybody answers at an address.
func (s *topology) reaches(t *testing.T, address string) (bool, string) {
	t.Helper()
	_, err := call{URL: address}.do(t.Context())
	return err == nil, fmt.Sprint(err)
}
