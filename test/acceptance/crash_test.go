package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"testing"
	"time"
)

// "The whole process killed with SIGKILL under write load, started again: every write
// that was answered 2xx is there, every issued token still works, no placement is lost."
//
// The load records what it was told before it believes anything: an answer that arrived
// is a promise, a call that broke off promises nothing.
func TestKilledUnderWriteLoad(t *testing.T) {
	d := startDev(t, t.TempDir())
	told := newPromises()
	for range 2 {
		l := d.startLoad(t, told)
		l.waitForMore(t, promised{"objects": 100, "refreshes": 6, "machine tokens": 3, "companies": 3})
		d.Kill(t)
		l.end(t)
		d.Restart(t)
		d.holdToPromises(t, told)
	}
	d.Stop(t)
	d.Restart(t)
	d.holdToPromises(t, told)
}

// written is an object that mpr said it had made, and where it is shown.
type written struct {
	Company  int64
	ID       int64
	Path     string
	Contents string // the name of a project, the subject of an RFI
}

// chain is a person's grant: each refresh adds a pair.
type chain struct {
	access  []string
	refresh string
	// unsure is set while a refresh is under way whose answer isn't known yet: if mpr
	// dies now, the last refresh token may have been used up, or not.
	unsure bool
}

// promises are what mpr has answered 2xx to.
type promises struct {
	mu        sync.Mutex
	objects   []written
	machines  []string
	companies []company
	chains    []*chain
	count     promised
	grown     chan struct{} // a token for whoever waits for more
}

// promised counts promises by their kind.
type promised map[string]int

func newPromises() *promises { return &promises{count: promised{}, grown: make(chan struct{}, 1)} }

// add notes a promise under the lock.
func (p *promises) add(kind string, note func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	note()
	p.count[kind]++
	select {
	case p.grown <- struct{}{}:
	default:
	}
}

// load is the writers at work.
type load struct {
	told   *promises
	before promised
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	wrong  []error
}

// startLoad starts writers in all three regions, at the login door and at the admin API.
func (d *dev) startLoad(t *testing.T, told *promises) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{told: told, before: maps.Clone(told.count), cancel: cancel}
	t.Cleanup(cancel)
	user := d.userTokens(t)
	web, machine := d.app(t, "web"), d.app(t, "developer_managed")
	admin := d.adminToken(t)
	for range 3 {
		for _, c := range d.everywhere(t) {
			l.run(func() error { return d.writeProject(ctx, told, user.Access, c.ID) })
		}
	}
	for range 3 {
		p := d.userTokens(t)
		c := &chain{access: []string{p.Access}, refresh: p.Refresh}
		told.add("chains", func() { told.chains = append(told.chains, c) })
		l.run(func() error { return d.refreshChain(ctx, told, web, c) })
	}
	l.run(func() error { return d.issueToMachine(ctx, told, machine) })
	for _, region := range regions {
		l.run(func() error { return d.onboard(ctx, told, admin, region) })
	}
	return l
}

// run repeats one writer's step until a call breaks off: the sign that mpr is dead.
func (l *load) run(step func() error) {
	l.wg.Go(func() {
		for {
			err := step()
			if err == nil {
				continue
			}
			if _, refused := errors.AsType[*refusedError](err); refused {
				l.mu.Lock()
				l.wrong = append(l.wrong, err)
				l.mu.Unlock()
			}
			return
		}
	})
}

// waitForMore waits until that many promises of each kind were made beyond those there
// were at the start of the load.
func (l *load) waitForMore(t *testing.T, more promised) {
	t.Helper()
	enough := func() bool {
		l.told.mu.Lock()
		defer l.told.mu.Unlock()
		for kind, n := range more {
			if l.told.count[kind]-l.before[kind] < n {
				return false
			}
		}
		return true
	}
	limit := time.After(2 * time.Minute)
	for !enough() {
		select {
		case <-l.told.grown:
		case <-limit:
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("after two minutes there are only %v, from %v on; refused: %v", l.told.count, l.before, errors.Join(l.wrong...))
		}
	}
}

// end waits for the writers, which have seen mpr die, and tells what was refused to them
// while it lived.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.cancel()
	l.wg.Wait()
	if err := errors.Join(l.wrong...); err != nil {
		t.Errorf("refused under load: %v", err)
	}
}

// refusedError is an answer that isn't 2xx.
type refusedError struct{ answer answer }

func (e *refusedError) Error() string { return e.answer.String() }

// post sends JSON and reads the answer's JSON; an error is either a *refusedError or a
// call that broke off.
func post(ctx context.Context, c call, into any) error {
	c.Method = "POST"
	a, err := c.do(ctx)
	if err != nil {
		return err
	}
	if a.Status/100 != 2 {
		return &refusedError{a}
	}
	return json.Unmarshal(a.Body, into)
}

// writeProject makes a project and an RFI in it.
func (d *dev) writeProject(ctx context.Context, told *promises, token string, company int64) error {
	name := fmt.Sprintf("Project at %d", time.Now().UnixNano())
	var project object
	err := post(ctx, call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: company,
		JSON: map[string]any{"company_id": company, "project": map[string]any{"name": name}}}, &project)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/rest/v1.0/projects/%d", project.ID)
	told.add("objects", func() { told.objects = append(told.objects, written{company, project.ID, path, name}) })

	subject := "Question on " + name
	var rfi object
	err = post(ctx, call{URL: d.apiURL("%s/rfis", path), Token: token, Company: company,
		JSON: map[string]any{"rfi": map[string]any{"subject": subject}}}, &rfi)
	if err != nil {
		return err
	}
	rfiPath := fmt.Sprintf("%s/rfis/%d", path, rfi.ID)
	told.add("objects", func() { told.objects = append(told.objects, written{company, rfi.ID, rfiPath, subject}) })
	return nil
}

// refreshChain refreshes once.
func (d *dev) refreshChain(ctx context.Context, told *promises, web app, c *chain) error {
	told.mu.Lock()
	form := refreshForm(web, c.refresh)
	c.unsure = true
	told.mu.Unlock()
	var p tokens
	if err := post(ctx, call{URL: d.loginURL("/oauth/token"), Form: form}, &p); err != nil {
		return err
	}
	told.add("refreshes", func() { c.access, c.refresh, c.unsure = append(c.access, p.Access), p.Refresh, false })
	return nil
}

func (d *dev) issueToMachine(ctx context.Context, told *promises, machine app) error {
	var p tokens
	err := post(ctx, call{URL: d.loginURL("/oauth/token"), Form: url.Values{
		"grant_type": {"client_credentials"}, "client_id": {machine.ClientID}, "client_secret": {machine.ClientSecret},
	}}, &p)
	if err != nil {
		return err
	}
	told.add("machine tokens", func() { told.machines = append(told.machines, p.Access) })
	return nil
}

// onboard makes a company: its placement must not be lost.
func (d *dev) onboard(ctx context.Context, told *promises, admin, region string) error {
	c := company{Name: fmt.Sprintf("Onboarded at %d", time.Now().UnixNano()), Region: region}
	var made object
	err := post(ctx, call{URL: d.Admin.URL + "/admin/v1/environments/production/companies", Token: admin,
		JSON: map[string]any{"name": c.Name, "region": region}}, &made)
	if err != nil {
		return err
	}
	c.ID = made.ID
	told.add("companies", func() { told.companies = append(told.companies, c) })
	return nil
}

// holdToPromises checks each promise at the doors.
func (d *dev) holdToPromises(t *testing.T, told *promises) {
	t.Helper()
	told.mu.Lock()
	defer told.mu.Unlock()
	fresh := d.userTokens(t)
	used := map[string]bool{}
	for _, w := range told.objects {
		got := call{URL: d.apiURL("%s", w.Path), Token: fresh.Access, Company: w.Company}.send(t)
		var o object
		if got.Status == 200 {
			o = got.object(t)
		}
		if o.ID != w.ID || o.Name+o.Subject != w.Contents {
			t.Errorf("lost: %+v; %v", w, got)
		}
		if used[w.Path] {
			t.Errorf("%s was given away twice", w.Path)
		}
		used[w.Path] = true
	}
	machine := d.app(t, "developer_managed")
	for _, token := range told.machines {
		call{URL: d.apiURL("/rest/v1.0/me"), Token: token, Company: machine.Companies[0]}.send(t).want(t, 200)
	}
	for _, c := range told.companies {
		got := d.admin(t, "GET", fmt.Sprintf("/companies/%d", c.ID), nil)
		var o company
		got.want(t, 200).into(t, &o)
		if o != c {
			t.Errorf("onboarded %+v, now %v", c, got)
		}
	}
	d.holdToChains(t, told)
	t.Logf("all there: %v", told.count)
}

// holdToChains wants each access token to work, and each refresh token that was the last
// one for sure.
func (d *dev) holdToChains(t *testing.T, told *promises) {
	t.Helper()
	web := d.app(t, "web")
	for i, c := range told.chains {
		for _, token := range c.access {
			if got := (call{URL: d.apiURL("/rest/v1.0/me"), Token: token}).send(t); got.Status != 200 {
				t.Errorf("chain %d: an access token is lost: %v", i, got)
			}
		}
		if c.unsure {
			continue
		}
		p := d.pair(t, refreshForm(web, c.refresh))
		c.access, c.refresh = append(c.access, p.Access), p.Refresh
	}
}
