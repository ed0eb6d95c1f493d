package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/operator"
	"mpr/paging"
	"mpr/problem"
)

func (s *Service) createApp(r *http.Request, e *Environment) (int, any, error) {
	var in NewApp
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	if !slices.Contains([]string{KindWeb, KindInstalled}, in.Kind) {
		return 0, nil, invalid("kind", "expected web, or installed for a program on desktops or phones that can keep no secret; service accounts are made at service-accounts")
	}
	return s.makeApp(r, e, newIdentityApp{Name: in.Name, Kind: in.Kind, RedirectURIs: in.RedirectURIs}, in.IdempotencyKey, in.Companies, in.Own)
}

func (s *Service) createServiceAccount(r *http.Request, e *Environment) (int, any, error) {
	var in NewServiceAccount
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	switch in.Kind {
	case KindDeveloperManaged:
		if in.Company != 0 {
			return 0, nil, invalid("company", "a developer-managed service account belongs to no company: name those where it is installed in companies")
		}
	case KindTraditional:
		if in.Company == 0 || len(in.Companies) > 0 {
			return 0, nil, invalid("company", "a traditional service account is tied to one company: name it here, and none in companies")
		}
		in.Companies = []company.ID{in.Company}
	default:
		return 0, nil, invalid("kind", "expected developer_managed, or traditional for an account of one company")
	}
	return s.makeApp(r, e, newIdentityApp{Name: in.Name, Kind: in.Kind, Company: in.Company}, in.IdempotencyKey, in.Companies, in.Own)
}

// newIdentityApp is what the login service is asked for.
type newIdentityApp struct {
	ClientID     string     `json:"client_id,omitempty"`
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	RedirectURIs []string   `json:"redirect_uris,omitempty"`
	Company      company.ID `json:"company,omitempty"`
}

// clientID is the client id of the app that a key makes. It is nothing that must not be
// guessed.
func (e *Environment) clientID(key string) string {
	sum := sha256.Sum256([]byte("client id\n" + e.Name + "\n" + key))
	return e.ClientPrefix + base32.StdEncoding.EncodeToString(sum[:])[:len(rand.Text())]
}

// makeApp has the login service make an app and the regions connect it to companies.
func (s *Service) makeApp(r *http.Request, e *Environment, in newIdentityApp, key string, companies []company.ID, own bool) (int, any, error) {
	ctx := r.Context()
	own, err := s.registers(r, e, own)
	if err != nil {
		return 0, nil, err
	}
	if own && (len(companies) > 0 || in.Kind == KindTraditional) {
		return 0, nil, problem.New(problem.Forbidden, "Only a company's administrators and operators connect apps to it, and make service accounts of one company. Leave the companies out.")
	}
	if err := e.reachable(ctx, companies); err != nil {
		return 0, nil, err
	}
	if own && key != "" {
		key = askedBy(r).by + "\n" + key // nobody finds the app of somebody else by its key
	}
	app, claim, err := s.ensureApp(r, e, in, key, companies, own)
	if err != nil {
		return 0, nil, err
	}
	if own {
		n := askedBy(r).session
		if err := s.operators.AddOwner(claim.With(ctx, app.ClientID), nil, app.ClientID, operator.User{ID: n.UserID, Login: n.Login, Name: n.Name}, n.Login); err != nil {
			return 0, nil, half(err, "App %s was made, but isn't yours yet. Ask an operator for it: `mpr app owner add %s %s`.", app.ClientID, app.ClientID, n.Login)
		}
		app.Owned = true
	}
	app.Listed = true
	for _, id := range companies {
		listed, err := s.connect(ctx, e, id, &app, NewInstallation{})
		if err != nil {
			// Its secret is lost with this answer; a new one can be had.
			return 0, nil, half(err, "App %s was made, but not connected to company %d. Go on with `mpr app install` and `mpr app rotate-secret`.", app.ClientID, id)
		}
		app.Companies = append(app.Companies, id)
		app.Listed = app.Listed && listed
	}
	s.addSandbox(ctx, e, &app)
	return http.StatusCreated, app, nil
}

// ensureApp has the login service make an app, or find the one that the key has made before. Whoever
// it was taken away from since doesn't get it back by repeating how they came by it.
func (s *Service) ensureApp(r *http.Request, e *Environment, in newIdentityApp, key string, companies []company.ID, own bool) (app App, claim *operator.Claim, err error) {
	ctx := r.Context()
	claim, err = s.claim(ctx, e, "app", key, struct {
		newIdentityApp
		Companies []company.ID `json:"companies,omitempty"`
	}{in, companies})
	if err != nil {
		return app, nil, err
	}
	if claim != nil {
		in.ClientID = e.clientID(key)
		if own && claim.Made != "" {
			if err := s.stillOwns(r, claim.Made); err != nil {
				return app, nil, err
			}
		}
	}
	status, err := s.internal.Call(ctx, http.MethodPost, e.IdentityURL+"/internal/apps?ensure=1", in, &app)
	if err != nil {
		return app, nil, nothingMade(ctx, claim, relay(err, problem.IdentityUnavailable, "The login service"))
	}
	if claim != nil && (app.Name != strings.TrimSpace(in.Name) || app.Kind != in.Kind || app.Company != in.Company) { // it was made more than a day ago
		return App{}, nil, nothingMade(ctx, claim, operator.KeyReused())
	}
	noted(r).Object, noted(r).After = app.ClientID, in
	older := claim != nil && claim.First && status == http.StatusOK // more than a day ago as well
	if !own || older {
		err = claim.Keep(ctx, app.ClientID)
	}
	if err == nil && own && older {
		err = s.stillOwns(r, app.ClientID)
	}
	return app, claim, err
}

// stillOwns refuses whoever an app doesn't belong to any more.
func (s *Service) stillOwns(r *http.Request, clientID string) error {
	n := askedBy(r).session
	owns, err := s.operators.Owns(r.Context(), n.UserID, n.Login, clientID)
	if err == nil && !owns {
		err = problem.New(problem.Forbidden, "The app that was registered with this idempotency key isn't yours any more. Use another key to register another one.")
	}
	return err
}

// connect installs the app in the company and says whether List Companies shows it.
func (s *Service) connect(ctx context.Context, e *Environment, id company.ID, app *App, in NewInstallation) (listed bool, err error) {
	var done change
	err = s.atCompany(ctx, e, id, http.MethodPut, fmt.Sprintf("/apps/%d", app.ID), struct {
		ClientID          string   `json:"client_id"`
		Name              string   `json:"name"`
		Kind              string   `json:"kind"`
		PermittedProjects *[]int64 `json:"permitted_projects,omitempty"`
	}{app.ClientID, app.Name, app.Kind, in.PermittedProjects}, &done)
	if err != nil {
		return false, err
	}
	return s.awaitIndex(ctx, e, id, done.Version), nil
}

func (s *Service) installApp(r *http.Request, e *Environment) (int, any, error) {
	var in NewInstallation
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	id, err := pathCompany(r)
	if err != nil {
		return 0, nil, err
	}
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	if app.Kind == KindTraditional && app.Company != id {
		return 0, nil, problem.New(problem.Conflict, "%s is a traditional service account of company %d and can't be connected to another one. Make a developer-managed one.", app.ClientID, app.Company)
	}
	if in.PermittedProjects != nil && app.Kind != KindDeveloperManaged {
		return 0, nil, invalid("permitted_projects", "only developer-managed service accounts are limited to projects")
	}
	listed, err := s.connect(r.Context(), e, id, app, in)
	return http.StatusOK, Installation{App: app.ID, Company: id, Listed: listed}, err
}

// app finds the app of the request's path, by id or client id.
func (s *Service) app(r *http.Request, e *Environment) (*App, error) {
	name := r.PathValue("app")
	if !isName(name) {
		return nil, problem.New(problem.NotFound, "%.100q is not the id or the client id of an app.", name)
	}
	var app App
	err := s.identity(r.Context(), e, http.MethodGet, "/internal/apps/"+name, nil, &app)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		err = problem.New(problem.NotFound, "There is no app %s in %s.", name, e.Name).Because(err)
	}
	return &app, err
}

// appPage reads the app in the path, and which page of a list about it is asked for.
func (s *Service) appPage(r *http.Request, e *Environment) (*App, paging.Page, error) {
	p, err := paging.Read(r.URL.Query(), maxPerPage)
	if err != nil {
		return nil, p, err
	}
	app, err := s.app(r, e)
	return app, p, err
}

// isName wants what stands for itself in a path.
func isName(s string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func (s *Service) showApp(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	one := []App{*app}
	s.showSandboxes(r.Context(), e, one)
	s.showStates(r.Context(), e, one)
	return http.StatusOK, one[0], nil
}

func (s *Service) listApps(r *http.Request, e *Environment) (int, any, error) {
	p, err := paging.Read(r.URL.Query(), maxPerPage)
	if err != nil {
		return 0, nil, err
	}
	if text := r.URL.Query().Get("q"); text != "" {
		return s.searchApps(r.Context(), e, text, r.URL.Query().Get("after"), p.Size)
	}
	out := AppPage{Apps: []App{}}
	err = s.identity(r.Context(), e, http.MethodGet, "/internal/apps?page="+strconv.Itoa(p.Number)+"&per_page="+strconv.Itoa(p.Size), nil, &out)
	if err == nil {
		s.showSandboxes(r.Context(), e, out.Apps)
		s.showStates(r.Context(), e, out.Apps)
	}
	return http.StatusOK, out, err
}

// searchApps lists apps, by id, in whose name each word of the text begins a word, or whose client id
// it begins.
func (s *Service) searchApps(ctx context.Context, e *Environment, text, after string, limit int) (int, any, error) {
	if after == "" {
		after = "0"
	}
	out := AppPage{Apps: []App{}}
	err := s.identity(ctx, e, http.MethodGet, "/internal/apps?"+url.Values{"q": {text}, "after": {after}, "limit": {strconv.Itoa(limit)}}.Encode(), nil, &out)
	if err == nil {
		s.showSandboxes(ctx, e, out.Apps)
		s.showStates(ctx, e, out.Apps)
	}
	return http.StatusOK, out, err
}

// setRedirectURIs gives an app other redirect URIs, and its part of the development sandbox as well.
func (s *Service) setRedirectURIs(r *http.Request, e *Environment) (int, any, error) {
	var in RedirectURIs
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	app, err := s.app(r, e)
	if err == nil {
		err = s.notOurOwn(e, app)
	}
	if err != nil {
		return 0, nil, err
	}
	noted(r).Before, noted(r).After = RedirectURIs{app.RedirectURIs}, in
	body := newIdentityApp{Name: app.Name, Kind: app.Kind, RedirectURIs: in.RedirectURIs}
	if err := s.identity(r.Context(), e, http.MethodPut, "/internal/apps/"+app.ClientID, body, app); err != nil {
		return 0, nil, err
	}
	if e.Sandbox != nil && hasSandbox(app.Kind) {
		twin := "/internal/apps/" + e.sandboxClient(app)
		err := s.identity(r.Context(), e.Sandbox, http.MethodGet, twin, nil, &App{})
		if err == nil {
			err = s.identity(r.Context(), e.Sandbox, http.MethodPut, twin, body, &App{})
		}
		if err != nil && !errors.Is(err, problem.New(problem.NotFound, "")) { // it may have none yet
			return 0, nil, half(err, "The redirect URIs of %s were changed, but not those of its part of the development sandbox. Repeat it.", app.ClientID)
		}
	}
	return http.StatusOK, app, nil
}

// listInstallations lists the companies in which an app is installed, by the global index.
func (s *Service) listInstallations(r *http.Request, e *Environment) (int, any, error) {
	app, p, err := s.appPage(r, e)
	if err != nil {
		return 0, nil, err
	}
	out := InstallationPage{ClientID: app.ClientID, Installations: []InstalledIn{}}
	var found struct {
		Companies []struct {
			ID   company.ID `json:"id"`
			Name string     `json:"name"`
		} `json:"companies"`
		Total int `json:"total"`
	}
	path := fmt.Sprintf("/internal/apps/%d/installations?page=%d&per_page=%d", app.ID, p.Number, p.Size)
	if err := s.identity(r.Context(), e, http.MethodGet, path, nil, &found); err != nil {
		return 0, nil, err
	}
	out.Total = found.Total
	for _, c := range found.Companies {
		at, _ := e.Pages.Placement(c.ID)
		out.Installations = append(out.Installations, InstalledIn{Company: c.ID, Name: c.Name, Region: at.Region})
	}
	return http.StatusOK, out, nil
}

func (s *Service) rotateSecret(r *http.Request, e *Environment) (int, any, error) {
	var in SecretRotation
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	if app.Kind == KindInstalled {
		return 0, nil, problem.New(problem.Conflict, "%s is an installed app, which has no secret.", app.ClientID)
	}
	err = s.identity(r.Context(), e, http.MethodPost, fmt.Sprintf("/internal/apps/%d/rotate-secret", app.ID), in, app)
	return http.StatusOK, app, err
}

func (s *Service) listKeys(r *http.Request, e *Environment) (int, any, error) {
	out := KeyList{Keys: []Key{}}
	err := s.identity(r.Context(), e, http.MethodGet, "/internal/keys", nil, &out)
	return http.StatusOK, out, err
}

func (s *Service) rotateKey(r *http.Request, e *Environment) (int, any, error) {
	var out RotatedKey
	err := s.identity(r.Context(), e, http.MethodPost, "/internal/keys/rotate", nil, &out)
	noted(r).Object = out.KID
	return http.StatusOK, out, err
}
