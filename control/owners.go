package control

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"mpr/operator"
	"mpr/problem"
)

// OwnerList lists to whom an app belongs.
type OwnerList struct {
	ClientID string           `json:"client_id"`
	Owners   []operator.Owner `json:"owners"`
}

// owns says whether the app in a request's path belongs to whoever asks. Operators' users are those
// of one environment, and so are the apps that belong to them; with them come their parts of its
// development sandbox.
func (s *Service) owns(r *http.Request, who principal) (bool, error) {
	clientID := r.PathValue("app")
	if who.session == nil || !isName(clientID) {
		return false, nil
	}
	e, err := s.environment(r.PathValue("environment"))
	if err != nil {
		return false, err
	}
	own, err := s.environment(s.operators.Environment)
	if err != nil {
		return false, err
	}
	switch e {
	case own:
	case own.Sandbox:
		twin := clientID
		if clientID = strings.TrimPrefix(twin, e.ClientPrefix); clientID == twin {
			return false, nil
		}
	default:
		return false, nil
	}
	return s.operators.Owns(r.Context(), who.session.UserID, who.session.Login, clientID)
}

// notYours is the refusal of an app that isn't the developer's. It may be there or not.
func notYours(r *http.Request) error {
	return problem.New(problem.NotFound, "You have no app %s here. Whoever has it can add you to its owners, and so can an operator.", r.PathValue("app"))
}

// listOwnApps lists the apps of whoever asks.
func (s *Service) listOwnApps(r *http.Request, e *Environment) (int, any, error) {
	out := AppPage{Apps: []App{}}
	who := askedBy(r)
	if who.session == nil || e.Name != s.operators.Environment {
		return http.StatusOK, out, nil
	}
	ids, err := s.operators.Owned(r.Context(), who.session.UserID, who.session.Login)
	if err != nil {
		return 0, nil, err
	}
	for part := range slices.Chunk(ids, namesAtOnce) {
		var found AppPage
		if err := s.identity(r.Context(), e, http.MethodGet, "/internal/apps?client_ids="+url.QueryEscape(strings.Join(part, ",")), nil, &found); err != nil {
			return 0, nil, err
		}
		out.Apps = append(out.Apps, found.Apps...)
	}
	slices.SortFunc(out.Apps, func(a, b App) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	out.Total = len(out.Apps)
	s.showSandboxes(r.Context(), e, out.Apps)
	s.showStates(r.Context(), e, out.Apps)
	return http.StatusOK, out, nil
}

// showStates adds how apps stand, by the last report. A list without that is better than none.
func (s *Service) showStates(ctx context.Context, e *Environment, apps []App) {
	if e.Ledger == nil || len(apps) == 0 {
		return
	}
	report, err := e.Ledger.Latest(ctx, e.InForce())
	if err != nil {
		slog.WarnContext(ctx, "apps stay without their states", "error", err)
		return
	}
	at := map[string]int{}
	for i := range apps {
		at[apps[i].ClientID] = i
		apps[i].State = "compliant"
	}
	for i := range report.Apps {
		if j, ok := at[report.Apps[i].ClientID]; ok {
			apps[j].State = string(report.Apps[i].State)
		}
	}
}

// ownerOf finds the app in the path, which must be of the environment whose users can have apps.
func (s *Service) ownerOf(r *http.Request, e *Environment) (*App, error) {
	if e.Name != s.operators.Environment {
		return nil, problem.New(problem.Conflict, "Apps belong to users of %s, and so only apps that are registered there.", s.operators.Environment)
	}
	return s.app(r, e)
}

// notOurOwn refuses the app that we are to the login service: whoever says where its users are sent back
// to is sent the codes of those who sign in here, admins among them.
func (s *Service) notOurOwn(e *Environment, app *App) error {
	if e.Name == s.operators.Environment && app.ClientID == clientID {
		return problem.New(problem.Conflict, "%s is the app by which people sign in here. The control role keeps it itself: its URL is control.url.", clientID)
	}
	return nil
}

func (s *Service) listOwners(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.ownerOf(r, e)
	if err != nil {
		return 0, nil, err
	}
	list, err := s.operators.Owners(r.Context(), app.ClientID)
	return http.StatusOK, OwnerList{app.ClientID, list}, err
}

func (s *Service) addOwner(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.ownerOf(r, e)
	if err == nil {
		err = s.notOurOwn(e, app)
	}
	if err != nil {
		return 0, nil, err
	}
	var u operator.User
	err = s.identity(r.Context(), e, http.MethodGet, "/internal/users?login="+url.QueryEscape(r.PathValue("login")), nil, &u)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		err = problem.New(problem.NotFound, "There is no user %.100s in %s.", r.PathValue("login"), e.Name).Because(err)
	}
	if err != nil {
		return 0, nil, err
	}
	if err := s.operators.AddOwner(r.Context(), noted(r), app.ClientID, u, askedBy(r).by); err != nil {
		return 0, nil, err
	}
	list, err := s.operators.Owners(r.Context(), app.ClientID)
	return http.StatusOK, OwnerList{app.ClientID, list}, err
}

func (s *Service) removeOwner(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.ownerOf(r, e)
	if err != nil {
		return 0, nil, err
	}
	login := r.PathValue("login")
	if !isLine(login) {
		return 0, nil, problem.New(problem.NotFound, "That isn't the login of anybody.")
	}
	// An operator can add another owner at any time; others would lock themselves out.
	keep := !askedBy(r).role.Covers(operator.Operator)
	if err := s.operators.RemoveOwner(r.Context(), noted(r), app.ClientID, login, keep); err != nil {
		return 0, nil, err
	}
	list, err := s.operators.Owners(r.Context(), app.ClientID)
	return http.StatusOK, OwnerList{app.ClientID, list}, err
}

// registers says whether whoever asks may register an app, and whether it is theirs then: always,
// but for operators, who say so.
func (s *Service) registers(r *http.Request, e *Environment, want bool) (own bool, err error) {
	who := askedBy(r)
	switch {
	case !who.role.Covers(operator.Operator):
	case !want:
		return false, nil
	case e.Name != s.operators.Environment || who.session == nil:
		return false, invalid("own", "takes somebody who has signed in, and an app of "+s.operators.Environment)
	}
	if e.Name != s.operators.Environment || who.session == nil {
		return false, problem.New(problem.Forbidden, "Developers register their apps in %s; each has its part of the development sandbox from then on.", s.operators.Environment)
	}
	return true, s.operators.MayOwnMore(r.Context(), who.session.UserID)
}

// OwnApps lists the apps of whoever asks.
func (c *Client) OwnApps(ctx context.Context) (out AppPage, err error) {
	err = c.do(ctx, http.MethodGet, "/own-apps", nil, &out)
	return out, err
}

// AppOwners lists to whom an app belongs.
func (c *Client) AppOwners(ctx context.Context, app string) (out OwnerList, err error) {
	err = c.do(ctx, http.MethodGet, "/apps/"+segment(app)+"/owners", nil, &out)
	return out, err
}

// AddAppOwner has an app belong to a user as well.
func (c *Client) AddAppOwner(ctx context.Context, app, login string) (out OwnerList, err error) {
	err = c.do(ctx, http.MethodPut, "/apps/"+segment(app)+"/owners/"+segment(login), nil, &out)
	return out, err
}

// RemoveAppOwner takes an app away from a user.
func (c *Client) RemoveAppOwner(ctx context.Context, app, login string) (out OwnerList, err error) {
	err = c.do(ctx, http.MethodDelete, "/apps/"+segment(app)+"/owners/"+segment(login), nil, &out)
	return out, err
}
