package control

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mpr/operator"
	"mpr/problem"
	"mpr/store"
)

// Operators as the admin API shows them.
type (
	// Me is who asks.
	Me struct {
		By      string            `json:"by"`
		Role    operator.Role     `json:"role"`
		Session *operator.Session `json:"session,omitempty"`
	}
	// OperatorList lists who was granted a role.
	OperatorList struct {
		Operators []operator.Grant `json:"operators"`
	}
	// NewRole asks for a role of a user.
	NewRole struct {
		Role string `json:"role"`
	}
	// RoleChange is a user's role before and after; "" for none.
	RoleChange struct {
		Login  string        `json:"login"`
		Before operator.Role `json:"before"`
		After  operator.Role `json:"after"`
	}
	// SessionList lists sessions, the newest first.
	SessionList struct {
		Sessions []*operator.Session `json:"sessions"`
	}
	// AuditPage is a page of the audit log, the newest entries first. Next, where it isn't "", is the
	// value of "after" for the next one.
	AuditPage struct {
		Entries []operator.Entry `json:"entries"`
		Next    string           `json:"next,omitempty"`
	}
)

func (s *Service) showSession(r *http.Request) (int, any, error) {
	a := askedBy(r)
	return http.StatusOK, Me{By: a.by, Role: a.role, Session: a.session}, nil
}

func (s *Service) endOwnSession(r *http.Request) (int, any, error) {
	a := askedBy(r)
	if a.session == nil {
		return 0, nil, problem.New(problem.Conflict, "The admin token is no session, and can't be signed out.")
	}
	noted(r).Object = a.session.ID
	err := s.operators.End(noted(r).With(r.Context()), a.session.ID, a.session.UserID)
	return http.StatusOK, Me{By: a.by, Role: a.role}, err
}

// whose is whose sessions somebody may see and end: all of them, 0, or their own.
func (a *asked) whose() int64 {
	if a.role.Covers(operator.Admin) {
		return 0
	}
	return a.session.UserID
}

func (s *Service) listSessions(r *http.Request) (int, any, error) {
	list, err := s.operators.Sessions(r.Context(), askedBy(r).whose())
	return http.StatusOK, SessionList{list}, err
}

func (s *Service) endSession(r *http.Request) (int, any, error) {
	id := r.PathValue("session")
	if !isName(id) {
		return 0, nil, problem.New(problem.NotFound, "%q is not the id of a session.", id)
	}
	err := s.operators.End(noted(r).With(r.Context()), id, askedBy(r).whose())
	return http.StatusOK, struct{}{}, err
}

func (s *Service) listOperators(r *http.Request) (int, any, error) {
	list, err := s.operators.Grants(r.Context())
	return http.StatusOK, OperatorList{list}, err
}

func (s *Service) grantRole(r *http.Request) (int, any, error) {
	var in NewRole
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	role, err := operator.ParseRole(in.Role)
	if err != nil {
		return 0, nil, err
	}
	e, err := s.environment(s.operators.Environment)
	if err != nil {
		return 0, nil, err
	}
	var u operator.User
	err = s.identity(r.Context(), e, http.MethodGet, "/internal/users?login="+url.QueryEscape(r.PathValue("login")), nil, &u)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		err = problem.New(problem.NotFound, "There is no user %s in %s, whose users are operators. Make one with `mpr user create`.", r.PathValue("login"), e.Name).Because(err)
	}
	if err == nil && u.Disabled {
		err = problem.New(problem.Conflict, "The account of %s is disabled. Enable it first: `mpr user enable %s`.", u.Login, u.Login)
	}
	if err != nil {
		return 0, nil, err
	}
	change := RoleChange{Login: u.Login, After: role}
	if a := askedBy(r); a.session != nil && (u.ID == a.session.UserID || u.Login == a.session.Login) && !role.Covers(a.role) {
		return 0, nil, ownRole()
	}
	change.Before, err = s.operators.Grant(r.Context(), noted(r), u, role, askedBy(r).by)
	return http.StatusOK, change, err
}

// ownRole refuses admins who would lock themselves out, in one click that they can't take back.
func ownRole() error {
	return problem.New(problem.Conflict, "You can't take away or lower your own role: another admin has to. Where you are the last admin, grant somebody else the role first: `mpr operator grant EMAIL --role admin`.")
}

func (s *Service) revokeRole(r *http.Request) (int, any, error) {
	change := RoleChange{Login: r.PathValue("login")}
	if !isLine(change.Login) {
		return 0, nil, problem.New(problem.NotFound, "That isn't the login of anybody.")
	}
	if a := askedBy(r); a.session != nil && strings.EqualFold(change.Login, a.session.Login) {
		return 0, nil, ownRole()
	}
	var err error
	change.Before, err = s.operators.Revoke(r.Context(), noted(r), change.Login)
	return http.StatusOK, change, err
}

// Limits of a page of the audit log.
const (
	auditPage    = 100
	maxAuditPage = 1000
)

func readAuditQuery(q url.Values) (a operator.Query, err error) {
	a = operator.Query{By: q.Get("by"), Subject: q.Get("subject"), Environment: q.Get("environment"), After: q.Get("after"), Limit: auditPage}
	for name, to := range map[string]*time.Time{"since": &a.Since, "until": &a.Until} {
		if text := q.Get(name); text != "" {
			if *to, err = time.Parse(time.RFC3339, text); err != nil {
				return a, problem.New(problem.BadRequest, "The parameter %s must be a time such as 2019-04-01T14:00:00Z.", name)
			}
		}
	}
	if text := q.Get("per_page"); text != "" {
		if a.Limit, err = strconv.Atoi(text); err != nil || a.Limit < 1 || a.Limit > maxAuditPage {
			return a, problem.New(problem.BadRequest, "The parameter per_page must be one number from 1 to %d.", maxAuditPage)
		}
	}
	for name, text := range map[string]string{"by": a.By, "subject": a.Subject, "environment": a.Environment} {
		if !isLine(text) {
			return a, problem.New(problem.BadRequest, "The parameter %s must be one line of at most %d bytes.", name, maxPolicyText)
		}
	}
	return a, nil
}

func (s *Service) showAudit(r *http.Request) (int, any, error) {
	q, err := readAuditQuery(r.URL.Query())
	if err != nil {
		return 0, nil, err
	}
	var out AuditPage
	out.Entries, out.Next, err = s.operators.Entries(r.Context(), q)
	return http.StatusOK, out, err
}

// auditCSV answers all that a query selects as CSV.
func (s *Service) auditCSV(w http.ResponseWriter, r *http.Request) {
	out := csv.NewWriter(w)
	s.exportAudit(w, r, "text/csv; charset=utf-8", func(list []operator.Entry, first bool) (err error) {
		if first {
			err = out.Write([]string{"id", "at", "by", "role", "claimed_by", "environment", "action", "subject", "outcome", "request_id", "before", "after"})
		}
		for _, e := range list {
			err = errors.Join(err, out.Write([]string{
				e.ID, e.At.Format(time.RFC3339Nano), plainCell(e.By), string(e.Role), plainCell(e.Claimed), plainCell(e.Environment), e.Action, plainCell(e.Subject), e.Outcome,
				plainCell(e.RequestID), string(e.Before), string(e.After),
			}))
		}
		out.Flush()
		return errors.Join(err, out.Error())
	})
}

// auditLines answers all that a query selects as lines of JSON.
func (s *Service) auditLines(w http.ResponseWriter, r *http.Request) {
	out := json.NewEncoder(w)
	s.exportAudit(w, r, "application/jsonl; charset=utf-8", func(list []operator.Entry, _ bool) (err error) {
		for _, e := range list {
			err = errors.Join(err, out.Encode(e))
		}
		return err
	})
}

// exportAudit has all that a query selects written, page by page.
func (s *Service) exportAudit(w http.ResponseWriter, r *http.Request, mediaType string, write func(list []operator.Entry, first bool) error) {
	q, err := readAuditQuery(r.URL.Query())
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	q.Limit = maxAuditPage
	for first := true; first || q.After != ""; first = false {
		var list []operator.Entry
		if list, q.After, err = s.operators.Entries(r.Context(), q); err != nil && first {
			problem.Write(w, r, store.Explain(err))
			return
		}
		if first {
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("X-Content-Type-Options", "nosniff")
		}
		if err == nil {
			err = write(list, first)
		}
		if err != nil {
			slog.ErrorContext(r.Context(), "the audit log broke off", "error", err)
			panic(http.ErrAbortHandler) // what was sent must not look complete
		}
	}
}
