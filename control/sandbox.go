package control

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mpr/company"
	"mpr/problem"
)

// seedProjects is what a company of the development sandbox has from the start.
var seedProjects = []map[string]any{{
	"name": "Sandbox Test Project",
	"rfis": []map[string]string{
		{"subject": "Door schedule", "question": "Which doors of level 2 are fire-rated?"},
		{"subject": "Slab edge", "question": "Does the slab edge move with the revised facade?"},
		{"subject": "Paint of the stairwell", "question": "Which of the two whites is it?", "status": "closed"},
	},
}}

// seedUsers are the people of a company of the development sandbox.
var seedUsers = []struct{ login, name string }{
	{"admin", "Sandbox Administrator"}, {"manager", "Sandbox Project Manager"}, {"subcontractor", "Sandbox Subcontractor"},
}

// hasSandbox says whether apps of a kind get a company of their own in the development
// sandbox. A traditional service account belongs to the company that made it.
func hasSandbox(kind string) bool {
	return slices.Contains([]string{KindWeb, KindInstalled, KindDeveloperManaged}, kind)
}

// sandboxClient is the client id that an app has in the development sandbox: its own,
// after what all client ids there begin with. So a repeated request finds the same app.
func (e *Environment) sandboxClient(app *App) string { return e.Sandbox.ClientPrefix + app.ClientID }

// addSandbox makes what an app that was just registered has in the development sandbox.
// The app doesn't depend on that: where it fails, the answer says how to go on.
func (s *Service) addSandbox(ctx context.Context, e *Environment, app *App) {
	if e.Sandbox == nil || !hasSandbox(app.Kind) {
		return
	}
	made, err := s.makeSandbox(ctx, e, app)
	if err != nil {
		slog.WarnContext(ctx, "an app has no sandbox yet", "client_id", app.ClientID, "environment", e.Sandbox.Name, "error", err)
		made = &Sandbox{Environment: e.Sandbox.Name, Incomplete: problem.From(err).Message}
	}
	app.Sandbox = made
}

// completeSandbox makes what is missing of an app's part of the development sandbox.
func (s *Service) completeSandbox(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case e.Sandbox == nil:
		return 0, nil, problem.New(problem.NotFound, "%s has no development sandbox.", e.Name)
	case !hasSandbox(app.Kind):
		return 0, nil, problem.New(problem.Conflict, "%s is a traditional service account, which belongs to the company that made it and has no development sandbox.", app.ClientID)
	}
	app.Sandbox, err = s.makeSandbox(r.Context(), e, app)
	return http.StatusOK, app, err
}

// makeSandbox makes a company with seed data and the app's own credentials in the
// development sandbox. Each step finds what an earlier request has made, so that repeating
// completes what was cut off and changes nothing that is there.
func (s *Service) makeSandbox(ctx context.Context, e *Environment, app *App) (*Sandbox, error) {
	box := e.Sandbox
	id, err := s.seedCompany(ctx, box, app)
	if err != nil {
		return nil, err
	}
	out := &Sandbox{Environment: box.Name, LoginURL: box.PublicLogin, APIURL: box.PublicAPI, Company: id}
	if out.Users, err = s.seedPeople(ctx, box, app, id); err != nil {
		return nil, err
	}
	twin := App{}
	err = s.identity(ctx, box, http.MethodPost, "/internal/apps?ensure=1",
		newIdentityApp{ClientID: e.sandboxClient(app), Name: app.Name, Kind: app.Kind, RedirectURIs: app.RedirectURIs}, &twin)
	if err != nil {
		return nil, err
	}
	if _, err := s.connect(ctx, box, id, &twin, NewInstallation{}); err != nil {
		return nil, err
	}
	out.ClientID, out.ClientSecret = twin.ClientID, twin.ClientSecret
	return out, nil
}

// seedCompany makes the app's company, with its projects.
func (s *Service) seedCompany(ctx context.Context, box *Environment, app *App) (company.ID, error) {
	info, err := box.region(ctx, box.DefaultRegion)
	if err != nil {
		return 0, err
	}
	if info.Internal == "" {
		return 0, problem.New(problem.Conflict, "A foreign service stands in for %s of the %s, so no company can be made there.", info.Code, box.Name)
	}
	day := s.now().UTC().Truncate(24 * time.Hour)
	made, err := s.bear(ctx, info, NewCompany{
		Region: info.Code, Name: sandboxName(app.Name), Onboarded: day.Format(time.DateOnly), IdempotencyKey: "app " + app.ClientID,
	}, seedProjects)
	if err != nil {
		return 0, err
	}
	p := company.Placement{Company: made.ID, Region: info.Code, Epoch: made.Epoch, Onboarded: day}
	if _, err := place(ctx, box, p, true); err != nil {
		return 0, err
	}
	return made.ID, nil
}

// sandboxName names the company of an app, within what a name may have.
func sandboxName(app string) string {
	const most = 240
	if r := []rune(app); len(r) > most {
		app = string(r[:most])
	}
	return app + " Sandbox"
}

// seedPeople makes the users of the app's company.
func (s *Service) seedPeople(ctx context.Context, box *Environment, app *App, id company.ID) ([]SandboxUser, error) {
	password, err := s.sandboxPassword(box, app)
	if err != nil {
		return nil, err
	}
	users := make([]SandboxUser, len(seedUsers))
	for i, u := range seedUsers {
		login := u.login + "-" + strings.ToLower(app.ClientID) + "@sandbox.example"
		user, err := s.person(ctx, box, login, u.name, password)
		if err != nil {
			return nil, err
		}
		if _, err := s.join(ctx, box, id, user); err != nil {
			return nil, err
		}
		users[i] = SandboxUser{Login: user.Login, Name: user.Name, Password: password}
	}
	return users, nil
}

// person finds a user by login, or makes one.
func (s *Service) person(ctx context.Context, e *Environment, login, name, password string) (*User, error) {
	var user User
	err := s.identity(ctx, e, http.MethodGet, "/internal/users?login="+url.QueryEscape(login), nil, &user)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		err = s.identity(ctx, e, http.MethodPost, "/internal/users?ensure=1", map[string]string{"login": login, "name": name, "password": password}, &user)
	}
	return &user, err
}

// sandboxPassword is the password of an app's users in the development sandbox. It is
// derived and not made up, so that an answer that got lost can be had again.
func (s *Service) sandboxPassword(box *Environment, app *App) (string, error) {
	key, err := hkdf.Key(sha256.New, []byte(s.secret), nil, "password of sandbox users\n"+box.Name+"\n"+app.ClientID, 15)
	if err != nil {
		return "", fmt.Errorf("derive a password: %w", err)
	}
	return base32.StdEncoding.EncodeToString(key), nil
}

// showSandboxes adds the client ids of the development sandbox to a list of apps. The list
// is worth an answer of its own where the sandbox is away.
func (s *Service) showSandboxes(ctx context.Context, e *Environment, apps []App) {
	if e.Sandbox == nil {
		return
	}
	var ids []string
	for i := range apps {
		if hasSandbox(apps[i].Kind) {
			ids = append(ids, e.sandboxClient(&apps[i]))
		}
	}
	there := map[string]string{} // the ids of their secrets
	for part := range slices.Chunk(ids, namesAtOnce) {
		var found AppPage
		if err := s.identity(ctx, e.Sandbox, http.MethodGet, "/internal/apps?client_ids="+url.QueryEscape(strings.Join(part, ",")), nil, &found); err != nil {
			slog.WarnContext(ctx, "the list of apps lacks their sandboxes", "error", err)
			return
		}
		for _, app := range found.Apps {
			there[app.ClientID] = app.SecretID
		}
	}
	for i := range apps {
		if secret, ok := there[e.sandboxClient(&apps[i])]; ok {
			apps[i].Sandbox = &Sandbox{Environment: e.Sandbox.Name, ClientID: e.sandboxClient(&apps[i]), SecretID: secret, LoginURL: e.Sandbox.PublicLogin, APIURL: e.Sandbox.PublicAPI}
		}
	}
}
