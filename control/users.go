package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"mpr/company"
	"mpr/problem"
)

// indexWait is how long an answer waits for the global index. Nothing is lost where the
// index takes longer: it follows the regions' change logs.
const indexWaitMillis = 2000

// change is what a region answers to a change of a company's members or apps.
type change struct {
	Version int64 `json:"version"`
}

// awaitIndex waits until the global index shows a company's changes up to a version,
// and says whether it does.
func (s *Service) awaitIndex(ctx context.Context, e *Environment, id company.ID, version int64) bool {
	status, err := s.internal.Call(ctx, http.MethodGet,
		fmt.Sprintf("%s/internal/index/%d?version=%d&wait_ms=%d", e.IdentityURL, id, version, indexWaitMillis), nil, nil)
	return err == nil && status == http.StatusOK
}

func (s *Service) createUser(r *http.Request, e *Environment) (int, any, error) {
	var in NewUser
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	if err := e.reachable(r.Context(), in.Companies); err != nil {
		return 0, nil, err
	}
	body := map[string]string{"login": in.Login, "name": in.Name}
	if in.Password != "" {
		body["password"] = in.Password
	}
	var user User
	if err := s.identity(r.Context(), e, http.MethodPost, "/internal/users", body, &user); err != nil {
		return 0, nil, err
	}
	noted(r).Object = user.Login
	user.Listed = true
	for _, id := range in.Companies {
		listed, err := s.join(r.Context(), e, id, &user)
		if err != nil {
			return 0, nil, half(err, "User %d (%s) was made, but didn't join company %d. Repeat that part with `mpr user add`.", user.ID, user.Login, id)
		}
		user.Companies = append(user.Companies, id)
		user.Listed = user.Listed && listed
	}
	return http.StatusCreated, user, nil
}

func (s *Service) addUser(r *http.Request, e *Environment) (int, any, error) {
	var in Member
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	id, err := pathCompany(r)
	if err != nil {
		return 0, nil, err
	}
	if in.Login == "" {
		return 0, nil, invalid("login", "name the user who joins")
	}
	var user User
	err = s.identity(r.Context(), e, http.MethodGet, "/internal/users?login="+url.QueryEscape(in.Login), nil, &user)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		return 0, nil, problem.New(problem.NotFound, "There is no user %s in %s.", in.Login, e.Name).Because(err)
	}
	if err != nil {
		return 0, nil, err
	}
	if user.Listed, err = s.join(r.Context(), e, id, &user); err != nil {
		return 0, nil, err
	}
	user.Companies = []company.ID{id}
	noted(r).Object = user.Login
	return http.StatusOK, user, nil
}

// join makes the user a member of the company and says whether List Companies shows it.
func (s *Service) join(ctx context.Context, e *Environment, id company.ID, user *User) (listed bool, err error) {
	var done change
	err = s.atCompany(ctx, e, id, http.MethodPut, fmt.Sprintf("/users/%d", user.ID),
		map[string]string{"login": user.Login, "name": user.Name}, &done)
	if err != nil {
		return false, err
	}
	return s.awaitIndex(ctx, e, id, done.Version), nil
}

// half is the refusal of a request of which a part was done.
func half(err error, format string, args ...any) error {
	p := *problem.From(err)
	p.Message = fmt.Sprintf(format, args...) + " The reason: " + p.Message
	return &p
}
