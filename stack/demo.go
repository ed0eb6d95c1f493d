package stack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mpr/company"
	"mpr/config"
	"mpr/control"
	"mpr/intercom"
	"mpr/problem"
)

// demo fills a new `mpr dev` with what a newcomer needs to try it: a company in each
// region, people, apps, projects. It uses the doors that everybody uses, the admin API
// and the api door. What it made is noted after each step, so that a start that was cut
// off goes on where it stopped, and so that later starts can print the secrets again.
type demo struct {
	file  string
	admin *control.Client
	notes demoNotes
	// operators says that its people can be operators.
	operators bool
}

// demoNotes is the content of the file demo.json in the data folder.
type demoNotes struct {
	Companies []CompanyFacts `json:"companies"`
	Users     []demoUser     `json:"users"`
	Apps      []AppFacts     `json:"apps"`
	// Projects lists the companies that have got their projects.
	Projects []company.ID `json:"projects"`
}

// demoUser is noted before the user is made, since a password can't be read back.
type demoUser struct {
	UserFacts
	Made bool `json:"made"`
}

const demoFile = "demo.json"

// fillDemo makes what is missing of the demo data in the first environment and adds it
// to the facts.
func (s *system) fillDemo(ctx context.Context, facts *Facts) error {
	token, err := readOrMakeSecret(s.config.Control.TokenFile)
	if err != nil {
		return err
	}
	e := &s.config.Environments[0]
	d := &demo{
		file:  filepath.Join(s.config.Data, demoFile),
		admin: control.NewClient(facts.Admin.URL, token, e.Name), operators: e.Name == s.config.Control.Operators,
	}
	data, err := os.ReadFile(d.file)
	if err == nil {
		err = json.Unmarshal(data, &d.notes)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", d.file, err)
	}
	if err := d.companies(ctx, e); err != nil {
		return err
	}
	if len(d.notes.Companies) == 0 {
		return nil // foreign services stand in for all regions: there is nobody to ask
	}
	if err := d.users(ctx); err != nil {
		return err
	}
	if err := d.apps(ctx); err != nil {
		return err
	}
	for _, id := range d.companyIDs() {
		if err := s.served[e.Name].edition().knows(ctx, id); err != nil {
			return err
		}
	}
	if err := d.projects(ctx, facts.Environments[0], s.config.CompanyHeader); err != nil {
		return err
	}
	facts.Companies, facts.Apps = d.notes.Companies, d.notes.Apps
	for _, u := range d.notes.Users {
		facts.Users = append(facts.Users, u.UserFacts)
	}
	return nil
}

// save notes what has been made so far.
func (d *demo) save() error {
	data, err := json.MarshalIndent(d.notes, "", "  ")
	if err != nil {
		return fmt.Errorf("note the demo data: %w", err)
	}
	if err := writeFile(d.file, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("note the demo data: %w", err)
	}
	return nil
}

var demoCompanies = []string{"Granite Builders", "Lakeshore Construction", "Nordwerk Bau", "Red Rock Civil", "Harbour & Sons"}

func (d *demo) companies(ctx context.Context, e *config.Environment) error {
	for i, r := range e.Regions {
		if len(r.Upstreams) > 0 || slices.ContainsFunc(d.notes.Companies, func(c CompanyFacts) bool { return string(c.Region) == r.Code }) {
			continue
		}
		made, err := d.admin.CreateCompany(ctx, control.NewCompany{
			Name:   demoCompanies[i%len(demoCompanies)],
			Region: company.Region(r.Code),
			// A customer from before there were regions, so that the legacy rules show.
			Onboarded:      "2016-03-01",
			IdempotencyKey: "demo-" + r.Code,
		})
		if err != nil {
			return fmt.Errorf("make a company in %s: %w", r.Code, err)
		}
		d.notes.Companies = append(d.notes.Companies, CompanyFacts{made.ID, made.Name, made.Region})
		if err := d.save(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) users(ctx context.Context) error {
	all := d.companyIDs()
	if len(d.notes.Users) == 0 {
		d.notes.Users = []demoUser{
			{UserFacts: UserFacts{Login: "alice@example.com", Password: password(), Companies: all}},
			{UserFacts: UserFacts{Login: "bob@example.com", Password: password(), Companies: all[:1]}},
		}
		if err := d.save(); err != nil {
			return err
		}
	}
	names := []string{"Alice Ng", "Bob Okafor"}
	for i := range d.notes.Users {
		u := &d.notes.Users[i]
		if u.Made {
			continue
		}
		_, err := d.admin.CreateUser(ctx, control.NewUser{Login: u.Login, Name: names[i], Password: u.Password})
		if err != nil && !errors.Is(err, problem.New(problem.Conflict, "")) { // made by a start that was cut off
			return fmt.Errorf("make the user %s: %w", u.Login, err)
		}
		for _, id := range u.Companies {
			if _, err := d.admin.AddUser(ctx, id, control.Member{Login: u.Login}); err != nil {
				return fmt.Errorf("add %s to company %d: %w", u.Login, id, err)
			}
		}
		u.Made = true
		if err := d.save(); err != nil {
			return err
		}
	}
	first := &d.notes.Users[0]
	if first.Role != "" || !d.operators {
		return nil
	}
	if _, err := d.admin.GrantRole(ctx, first.Login, "admin"); err != nil {
		return fmt.Errorf("make %s an admin: %w", first.Login, err)
	}
	first.Role = "admin"
	return d.save()
}

func (d *demo) apps(ctx context.Context) error {
	all := d.companyIDs()
	const local = "http://127.0.0.1:8080/callback"
	for _, a := range []AppFacts{
		{Name: "Field Reports", Kind: control.KindWeb, RedirectURIs: []string{local, outOfBand}, Companies: all},
		{Name: "Site Camera", Kind: control.KindInstalled, RedirectURIs: []string{local, outOfBand}, Companies: all},
		{Name: "Nightly Sync", Kind: control.KindDeveloperManaged, RedirectURIs: []string{}, Companies: all},
		{Name: "Payroll Export", Kind: control.KindTraditional, RedirectURIs: []string{}, Companies: all[:1]},
	} {
		if slices.ContainsFunc(d.notes.Apps, func(made AppFacts) bool { return made.Name == a.Name }) {
			continue
		}
		made, err := d.app(ctx, a)
		if err != nil {
			return fmt.Errorf("make the app %s: %w", a.Name, err)
		}
		a.ClientID, a.ClientSecret, a.Sandbox = made.ClientID, made.ClientSecret, made.Sandbox
		d.notes.Apps = append(d.notes.Apps, a)
		if err := d.save(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) app(ctx context.Context, a AppFacts) (control.App, error) {
	switch a.Kind {
	case control.KindDeveloperManaged:
		return d.admin.CreateServiceAccount(ctx, control.NewServiceAccount{Name: a.Name, Kind: a.Kind, Companies: a.Companies})
	case control.KindTraditional:
		return d.admin.CreateServiceAccount(ctx, control.NewServiceAccount{Name: a.Name, Kind: a.Kind, Company: a.Companies[0]})
	}
	return d.admin.CreateApp(ctx, control.NewApp{Name: a.Name, Kind: a.Kind, RedirectURIs: a.RedirectURIs, Companies: a.Companies})
}

// projects makes projects through the login and api doors, as the developer-managed
// service account would: the whole way of a call is walked once for each region before
// the system says that it is ready.
func (d *demo) projects(ctx context.Context, doors EnvironmentFacts, header string) error {
	missing := slices.DeleteFunc(d.companyIDs(), func(id company.ID) bool { return slices.Contains(d.notes.Projects, id) })
	if len(missing) == 0 {
		return nil
	}
	i := slices.IndexFunc(d.notes.Apps, func(a AppFacts) bool { return a.Kind == control.KindDeveloperManaged })
	account := d.notes.Apps[i]
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	client := intercom.NewCaller(nil, "")
	defer client.Close() //nolint:errcheck // it closes idle connections
	_, err := client.Call(ctx, http.MethodPost, doors.Login+"/oauth/token",
		map[string]string{"grant_type": "client_credentials", "client_id": account.ClientID, "client_secret": account.ClientSecret}, &granted)
	if err != nil {
		return err
	}
	api := client.With("Authorization", "Bearer "+granted.AccessToken)
	for _, id := range missing {
		for _, name := range []string{"Riverside Tower", "Depot 7"} {
			body := map[string]any{"company_id": id, "project": map[string]any{"name": name}}
			err := unhurried(ctx, func() error {
				_, err := api.With(header, id.String()).Call(ctx, http.MethodPost, doors.API+"/rest/v1.0/projects", body, nil)
				return err
			})
			if err != nil {
				return err
			}
		}
		d.notes.Projects = append(d.notes.Projects, id)
		if err := d.save(); err != nil {
			return err
		}
	}
	return nil
}

// unhurriedFor is longer than a spike is counted.
const unhurriedFor = 30 * time.Second

// unhurried makes a call again that is too much for its app: who tries out small limits gets
// demo data all the same.
func unhurried(ctx context.Context, call func() error) error {
	limit, again := time.NewTimer(unhurriedFor), time.NewTicker(time.Second)
	defer limit.Stop()
	defer again.Stop()
	for {
		err := call()
		if !errors.Is(err, problem.New(problem.RateLimited, "")) {
			return err
		}
		select {
		case <-again.C:
		case <-limit.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

func (d *demo) companyIDs() []company.ID {
	ids := make([]company.ID, len(d.notes.Companies))
	for i, c := range d.notes.Companies {
		ids[i] = c.ID
	}
	return ids
}

// password makes a password for a demo user: 80 random bits in 16 characters.
func password() string { return rand.Text()[:16] }
