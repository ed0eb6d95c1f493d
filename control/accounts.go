package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"mpr/operator"
	"mpr/problem"
)

// AccountChange is a user's account after a change.
type AccountChange struct {
	ID       int64  `json:"id"`
	Login    string `json:"login"`
	Name     string `json:"name"`
	Disabled bool   `json:"disabled"`
	// Ended is what the change has ended.
	Ended EndedAccess `json:"ended"`
}

// EndedAccess counts what a user could have gone on with.
type EndedAccess struct {
	// Sessions are those at the login service, OperatorSessions those at the control role.
	Sessions         int64 `json:"sessions"`
	OperatorSessions int64 `json:"operator_sessions"`
	// Grants are what apps were granted, each with its tokens.
	Grants int64 `json:"grants"`
}

// NewPassword asks for another password of a user.
type NewPassword struct {
	Password string `json:"password"`
}

// accountState is how the audit log tells of it.
type accountState struct {
	Disabled bool `json:"disabled"`
}

// pathAccount finds the user that the path names.
func (s *Service) pathAccount(r *http.Request, e *Environment) (u operator.User, err error) {
	login := r.PathValue("login")
	if !isLine(login) {
		return u, problem.New(problem.NotFound, "That isn't the login of anybody.")
	}
	err = s.identity(r.Context(), e, http.MethodGet, "/internal/users?login="+url.QueryEscape(login), nil, &u)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		err = problem.New(problem.NotFound, "There is no user %s in %s.", login, e.Name).Because(err)
	}
	return u, err
}

// changeAccount has the login service change an account.
func (s *Service) changeAccount(ctx context.Context, e *Environment, u operator.User, method, what string, in any) (out AccountChange, err error) {
	err = s.identity(ctx, e, method, fmt.Sprintf("/internal/users/%d/%s", u.ID, what), in, &out)
	return out, err
}

// hasOperators says whether users of the environment may have roles here.
func (s *Service) hasOperators(e *Environment) bool { return e.Name == s.operators.Environment }

// disableUser ends an operator's sessions first, in the transaction that refuses to disable the last
// admin, and those again that somebody began until the login service knew.
func (s *Service) disableUser(r *http.Request, e *Environment) (int, any, error) {
	u, err := s.pathAccount(r, e)
	if err != nil {
		return 0, nil, err
	}
	noted(r).Before, noted(r).After = accountState{u.Disabled}, accountState{true}
	var first, second int64
	if s.hasOperators(e) {
		if first, err = s.operators.Disable(r.Context(), u, askedBy(r).role); err != nil {
			return 0, nil, err
		}
	}
	out, err := s.changeAccount(r.Context(), e, u, http.MethodPost, "disable", nil)
	if err != nil {
		return 0, nil, half(err, "%s is signed out here, but the account may not be disabled yet. Repeat it.", u.Login)
	}
	if s.hasOperators(e) {
		if second, err = s.operators.EndAll(r.Context(), u); err != nil {
			return 0, nil, half(err, "The account of %s is disabled, but a session at the control role may go on for a minute. Repeat it.", u.Login)
		}
	}
	out.Ended.OperatorSessions = first + second
	return http.StatusOK, out, nil
}

func (s *Service) enableUser(r *http.Request, e *Environment) (int, any, error) {
	u, err := s.pathAccount(r, e)
	if err == nil && s.hasOperators(e) {
		err = s.operators.MayTouch(r.Context(), u, askedBy(r).role)
	}
	if err != nil {
		return 0, nil, err
	}
	noted(r).Before, noted(r).After = accountState{u.Disabled}, accountState{false}
	out, err := s.changeAccount(r.Context(), e, u, http.MethodPost, "enable", nil)
	if err != nil {
		return 0, nil, err
	}
	if s.hasOperators(e) {
		if err := s.operators.Enable(r.Context(), u); err != nil {
			return 0, nil, half(err, "The account of %s is enabled, but the control role doesn't count it yet. Repeat it.", u.Login)
		}
	}
	return http.StatusOK, out, nil
}

func (s *Service) setPassword(r *http.Request, e *Environment) (int, any, error) {
	var in NewPassword
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	u, err := s.pathAccount(r, e)
	if err == nil && s.hasOperators(e) {
		err = s.operators.MayTouch(r.Context(), u, askedBy(r).role)
	}
	if err != nil {
		return 0, nil, err
	}
	out, err := s.changeAccount(r.Context(), e, u, http.MethodPut, "password", in)
	if err != nil {
		return 0, nil, err
	}
	if s.hasOperators(e) {
		if out.Ended.OperatorSessions, err = s.operators.EndAll(r.Context(), u); err != nil {
			return 0, nil, half(err, "%s has the new password, but a session at the control role may go on for a minute. Repeat it.", u.Login)
		}
	}
	return http.StatusOK, out, nil
}

// DisableUser keeps a user from signing in, and ends what they and their apps could go on with.
func (c *Client) DisableUser(ctx context.Context, login string) (out AccountChange, err error) {
	err = c.do(ctx, http.MethodPost, "/users/"+segment(login)+"/disable", nil, &out)
	return out, err
}

// EnableUser lets a user sign in again.
func (c *Client) EnableUser(ctx context.Context, login string) (out AccountChange, err error) {
	err = c.do(ctx, http.MethodPost, "/users/"+segment(login)+"/enable", nil, &out)
	return out, err
}

// SetPassword gives a user another password, and ends the sessions.
func (c *Client) SetPassword(ctx context.Context, login string, in NewPassword) (out AccountChange, err error) {
	err = c.do(ctx, http.MethodPut, "/users/"+segment(login)+"/password", in, &out)
	return out, err
}
