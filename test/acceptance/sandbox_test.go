package acceptance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const monthly = "monthly sandbox"

// sandboxState is what `mpr sandbox show --json` prints.
type sandboxState struct {
	Serving  int `json:"serving"`
	Building int `json:"building"`
	Run      struct {
		Phase  string `json:"phase"`
		Copied int    `json:"copied"`
		Error  string `json:"error"`
	} `json:"run"`
	Next time.Time `json:"next"`
}

// refresh refreshes the monthly sandbox and waits until its doors have gone over to the
// new copy: each has keys of its own.
func (d *dev) refresh(t *testing.T) {
	t.Helper()
	keys := func() string {
		return string(call{URL: d.at(t, monthly).loginURL("/oauth/jwks")}.send(t).want(t, 200).Body)
	}
	before := keys()
	var run struct{ Error string }
	if err := json.Unmarshal(d.mpr(t, "sandbox", "refresh", "monthly", "--json"), &run); err != nil || run.Error != "" {
		t.Fatalf("refresh: %v %s", err, run.Error)
	}
	eventually(t, readyWithin, func() (bool, string) { return keys() != before, "the login door serves the copy before" })
}

func (d *dev) setSandbox(t *testing.T, id int64, flag string) {
	t.Helper()
	d.mpr(t, "company", "sandbox", strconv.FormatInt(id, 10), flag)
}

// newProject makes a project, and answers its id.
func (d *dev) newProject(t *testing.T, token string, company int64, name string) int64 {
	t.Helper()
	return call{Method: "POST", URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: company,
		JSON: map[string]any{"project": map[string]any{"name": name}}}.send(t).want(t, 201).object(t).ID
}

func (d *dev) projectIDs(t *testing.T, token string, company int64) []int64 {
	t.Helper()
	return ids(call{URL: d.apiURL("/rest/v1.0/projects?per_page=1000"), Token: token, Company: company}.send(t).want(t, 200).objects(t))
}

func (d *dev) companyIDs(t *testing.T, token string) []int64 {
	t.Helper()
	return ids(call{URL: d.apiURL("/rest/v1.0/companies"), Token: token}.send(t).want(t, 200).objects(t))
}

// "Monthly sandbox: a copy of production for companies that enabled it [...] production
// credentials work there, production tokens do not; apps installed since appear only after
// the next refresh." "What was changed in the sandbox is gone after the refresh."
func TestMonthlySandbox(t *testing.T) {
	d := startDev(t, t.TempDir())
	box := d.at(t, monthly)
	machine, person := d.app(t, "developer_managed"), d.userTokens(t).Access
	token := d.machineToken(t, machine)
	enabled, not := d.in(t, "US02").ID, d.in(t, "EU01").ID
	copied := d.newProject(t, token, enabled, "before the refresh")
	d.setSandbox(t, enabled, "--enable")
	d.refresh(t)

	inBox := box.machineToken(t, machine)
	personInBox := box.userTokens(t).Access // signs in with production's password
	if got, want := box.projectIDs(t, inBox, enabled), d.projectIDs(t, token, enabled); !slices.Equal(got, want) || !slices.Contains(got, copied) {
		t.Errorf("the copy has the projects %v, and production %v", got, want)
	}
	if got := box.companyIDs(t, personInBox); !slices.Equal(got, []int64{enabled}) {
		t.Errorf("List Companies in the sandbox: %v", got)
	}
	call{URL: box.apiURL("/rest/v1.0/projects"), Token: inBox, Company: not}.send(t).wantCode(t, 403, "app_not_connected")
	d.wantElsewhere(t, monthly, "production", person)
	d.wantElsewhere(t, monthly, "production", token)

	// From here on both go their own ways.
	changed := box.newProject(t, inBox, enabled, "only in the sandbox")
	since := d.newProject(t, token, enabled, "since the refresh")
	if slices.Contains(d.projectIDs(t, token, enabled), changed) != (changed == since) || slices.Contains(box.projectIDs(t, inBox, enabled), since) != (changed == since) {
		t.Error("a change has crossed over")
	}
	var later app
	d.admin(t, "POST", "/service-accounts", map[string]any{"name": "Later", "kind": "developer_managed", "companies": []int64{enabled}}).want(t, 201).into(t, &later)
	box.exchange(t, map[string][]string{"grant_type": {"client_credentials"}, "client_id": {later.ClientID}, "client_secret": {later.ClientSecret}}).wantCode(t, 401, "invalid_client")

	d.refresh(t)
	call{URL: box.apiURL("/rest/v1.0/projects"), Token: inBox, Company: enabled}.send(t).wantCode(t, 401, "invalid_token")
	laterToken := box.machineToken(t, later)
	if got, want := box.projectIDs(t, laterToken, enabled), d.projectIDs(t, token, enabled); !slices.Equal(got, want) {
		t.Errorf("after the second refresh the copy has the projects %v, and production %v", got, want)
	}

	d.setSandbox(t, enabled, "--disable")
	d.refresh(t)
	if got := box.companyIDs(t, box.userTokens(t).Access); len(got) != 0 {
		t.Errorf("without any company enabled there are %v", got)
	}
	d.Stop(t)
	d.Restart(t)
	if got := d.at(t, monthly).companyIDs(t, d.at(t, monthly).userTokens(t).Access); len(got) != 0 {
		t.Errorf("after a restart there are %v", got)
	}
}

// newLargeCompany makes so many projects in a company that its copying can be met half-way, and answers
// how many. What starts processes on PostgreSQL, without the race detector, copies several times as fast.
func (d *dev) newLargeCompany(t *testing.T, token string, company int64) (projects int) {
	t.Helper()
	if projects = 4_000; d.stores != "" {
		projects = 16_000
	}
	for made := 0; made < projects; made += 500 {
		updates := make([]map[string]any, 500)
		for i := range updates {
			updates[i] = map[string]any{"name": fmt.Sprintf("Project %d", made+i)}
		}
		call{Method: "PATCH", URL: d.apiURL("/rest/v1.0/projects/sync"), Token: token, Company: company, JSON: map[string]any{"updates": updates}}.send(t).want(t, 200)
	}
	return projects
}

func (d *dev) total(t *testing.T, token string, company int64) string {
	t.Helper()
	return call{URL: d.apiURL("/rest/v1.0/projects?per_page=1"), Token: token, Company: company}.send(t).want(t, 200).Header.Get("Total")
}

// copying waits until a refresh is in the middle of a company.
func (d *dev) copying(t *testing.T, state func() sandboxState) {
	t.Helper()
	eventually(t, readyWithin, func() (bool, string) {
		s := state()
		return s.Building != 0 && s.Run.Phase == "copying companies" && s.Run.Copied == 0, fmt.Sprintf("%+v", s)
	})
}

// "A refresh that dies half-way leaves the previous copy serving", and complete; the next
// one starts clean. "Production is not slowed noticeably and never locked": it takes
// writes all the while.
func TestKilledInARefresh(t *testing.T) {
	d := startDev(t, t.TempDir())
	machine, c := d.app(t, "developer_managed"), d.in(t, "US01").ID
	token := d.machineToken(t, machine)
	d.setSandbox(t, c, "--enable")
	d.refresh(t)
	inBox := d.at(t, monthly).machineToken(t, machine)
	before := d.at(t, monthly).projectIDs(t, inBox, c)
	rows := d.newLargeCompany(t, token, c)

	d.admin(t, "POST", "/sandboxes/monthly/refresh", nil).want(t, 202)
	d.copying(t, func() (s sandboxState) { d.admin(t, "GET", "/sandboxes/monthly", nil).into(t, &s); return s })
	d.newProject(t, token, c, "written while it is copied")
	d.Kill(t)
	d.Restart(t)
	box := d.at(t, monthly)
	if got := box.projectIDs(t, inBox, c); !slices.Equal(got, before) {
		t.Errorf("after the kill the sandbox has %d projects, and had %d", len(got), len(before))
	}

	var stop atomic.Bool
	var writing sync.WaitGroup
	var slowest time.Duration
	writing.Go(func() {
		for !stop.Load() {
			began := time.Now()
			a, err := call{Method: "POST", URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: c, JSON: map[string]any{"project": map[string]any{"name": "meanwhile"}}}.do(t.Context())
			if err != nil || a.Status != 201 {
				t.Errorf("a write during a refresh: %v %v", err, a)
				return
			}
			slowest = max(slowest, time.Since(began))
		}
	})
	eventually(t, readyWithin, func() (bool, string) {
		a := d.admin(t, "POST", "/sandboxes/monthly/refresh", nil) // refused while the dead one is taken to be alive
		return a.Status == 202, a.String()
	})
	eventually(t, 2*readyWithin, func() (bool, string) {
		var s sandboxState
		d.admin(t, "GET", "/sandboxes/monthly", nil).into(t, &s)
		return s.Building == 0 && s.Serving > 2, fmt.Sprintf("%+v", s)
	})
	stop.Store(true)
	writing.Wait()
	t.Logf("the slowest write during the refresh took %s", slowest)
	eventually(t, readyWithin, func() (bool, string) {
		a, err := call{URL: box.apiURL("/rest/v1.0/projects"), Token: inBox, Company: c}.do(t.Context())
		return err == nil && a.Status == 401, "tokens of the copy before still hold"
	})
	inBox = box.machineToken(t, machine)
	total, err := strconv.Atoi(box.total(t, inBox, c))
	if err != nil || total < rows+len(before)+1 {
		t.Errorf("the copy has %d projects (%v)", total, err)
	}
}

// The same with each role as a process of its own: they go over one by one, and find the
// generation that serves when they start, with the directory or without.
func TestRolesGoOverToAFreshCopy(t *testing.T) {
	s := newTopology(t, monthly)
	s.start(t, "control", "login", "US01", "US02", "EU01", "gateway")
	s.populate(t)
	machine, c := s.app(t, "developer_managed"), s.in(t, "EU01").ID
	token := s.machineToken(t, machine)
	box := s.at(t, monthly)
	// Asked at the door, since a copy may be over in the time that a command takes to start.
	state := func() (now sandboxState) { s.admin(t, "GET", "/sandboxes/monthly", nil).into(t, &now); return now }
	var set any
	s.run(t, &set, "company", "sandbox", strconv.FormatInt(c, 10), "--enable")
	s.run(t, &set, "sandbox", "refresh", "monthly")
	var inBox string
	works := func(what string) {
		t.Helper()
		eventually(t, readyWithin, func() (bool, string) {
			a, err := call{URL: box.apiURL("/rest/v1.0/projects"), Token: inBox, Company: c}.do(t.Context())
			return err == nil && a.Status == 200, fmt.Sprint(what, ": ", err, a)
		})
	}
	enter := func() {
		t.Helper()
		eventually(t, readyWithin, func() (bool, string) {
			a, err := call{Method: "POST", URL: box.loginURL("/oauth/token"), Form: map[string][]string{
				"grant_type": {"client_credentials"}, "client_id": {machine.ClientID}, "client_secret": {machine.ClientSecret}}}.do(t.Context())
			if err != nil || a.Status != 200 {
				return false, fmt.Sprint(err, a)
			}
			var granted tokens
			a.into(t, &granted)
			inBox = granted.Access
			return true, ""
		})
		works("after a refresh")
	}
	enter()
	before := box.total(t, inBox, c)
	s.newLargeCompany(t, token, c)

	s.admin(t, "POST", "/sandboxes/monthly/refresh", nil).want(t, 202)
	s.copying(t, state)
	s.kill(t, "control")
	works("without the control role")
	s.kill(t, "gateway", "EU01")
	s.start(t, "gateway", "EU01")
	works("started without the directory")
	if got := box.total(t, inBox, c); got != before {
		t.Errorf("the copy has %s projects, and had %s", got, before)
	}
	s.start(t, "control")
	s.runEventually(t, &set, "sandbox", "refresh", "monthly")
	if now := state(); now.Serving < 3 || now.Building != 0 {
		t.Errorf("the state is %+v", now)
	}
	eventually(t, readyWithin, func() (bool, string) {
		a, err := call{URL: box.apiURL("/rest/v1.0/projects"), Token: inBox, Company: c}.do(t.Context())
		return err == nil && a.Status == 401, "tokens of the copy before still hold"
	})
	enter()
	if got, want := box.total(t, inBox, c), s.total(t, token, c); got != want {
		t.Errorf("the copy has %s projects, and production %s", got, want)
	}
	s.stop(t, "control", "gateway", "EU01", "US01", "US02", "login")
}
