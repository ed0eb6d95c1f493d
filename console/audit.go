package console

import (
	"errors"
	"strings"
	"time"

	"mpr/control"
	"mpr/operator"
	"mpr/problem"
)

// auditView is a page of the audit log.
type auditView struct {
	control.AuditPage
	By, Subject, Environment, Since, Until string
	More, First                            string
	CSV, JSON                              string
	// Bounded says that only the last month was looked through.
	Bounded bool
}

// subjectsBack is how far back it is looked for a subject, where nothing else is said: the log has
// no index of what entries are about.
const subjectsBack = 30 * 24 * time.Hour

var auditPage = page{template: "audit", load: loadAudit}

func loadAudit(q *request) (shown, error) {
	v := q.r.URL.Query()
	a := auditView{By: v.Get("by"), Subject: v.Get("subject"), Environment: v.Get("environment"), Since: v.Get("since"), Until: v.Get("until")}
	err := a.load(q, v.Get("after"))
	if errors.Is(err, problem.New(problem.BadRequest, "")) {
		q.problem, err = problem.From(err), nil // beside what was typed
	}
	return shown{title: "Audit log", nav: "audit", data: &a}, err
}

// load reads the page of the log that the filter selects, and where all of it is.
func (a *auditView) load(q *request, after string) (err error) {
	query := control.AuditQuery{By: a.By, Subject: a.Subject, Environment: a.Environment, After: after, Limit: perPage}
	for text, at := range map[*string]*time.Time{&a.Since: &query.Since, &a.Until: &query.Until} {
		if *text == "" {
			continue
		}
		t, err := time.Parse("2006-01-02T15:04", *text)
		if err != nil {
			return problem.New(problem.BadRequest, "%.50q is no time such as 2019-04-01T14:00.", *text)
		}
		*at = t
	}
	if a.Bounded = query.Since.IsZero() && (a.Subject != "" || a.Environment != ""); a.Bounded {
		query.Since = time.Now().Add(-subjectsBack)
	}
	if a.AuditPage, err = q.client.Audit(q.ctx(), query); err != nil {
		return err
	}
	pairs := []string{"by", a.By, "subject", a.Subject, "environment", a.Environment, "since", a.Since, "until", a.Until}
	if a.Next != "" {
		a.More = link(q.r.URL.Path, append(pairs, "after", a.Next)...)
	}
	if query.After != "" {
		a.First = link(q.r.URL.Path, pairs...)
	}
	export := []string{"by", a.By, "subject", a.Subject, "environment", a.Environment, "since", rfc(query.Since), "until", rfc(query.Until)}
	a.CSV, a.JSON = link("/admin/v1/audit.csv", export...), link("/admin/v1/audit.jsonl", export...)
	return nil
}

func rfc(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// operatorsView is who may do what, and who has signed in.
type operatorsView struct {
	Operators []operator.Grant
	Sessions  []*operator.Session
	Roles     []operator.Role
	Own       string
}

var operatorsPage = page{template: "operators", load: func(q *request) (shown, error) {
	list, err := q.client.Operators(q.ctx())
	if err != nil {
		return shown{}, err
	}
	sessions, err := q.client.Sessions(q.ctx())
	return shown{title: "Operators", nav: "operators", data: &operatorsView{
		list.Operators, sessions.Sessions[:min(len(sessions.Sessions), 4*perPage)], []operator.Role{operator.Viewer, operator.Operator, operator.Admin}, q.session.ID,
	}}, err
}}

func changeRole(q *request) (string, error) {
	login := strings.TrimSpace(q.r.PostFormValue("login"))
	if login == "" {
		return "", badField("login", "must be that of a user")
	}
	to := q.at.Path() + "/operators?done=saved"
	if q.r.PostFormValue("revoke") != "" {
		_, err := q.client.RevokeRole(q.ctx(), login)
		return to, err
	}
	_, err := q.client.GrantRole(q.ctx(), login, q.r.PostFormValue("role"))
	return to, err
}

func endSession(q *request) (string, error) {
	return q.at.Path() + "/operators?done=ended", q.client.EndSession(q.ctx(), q.r.PostFormValue("session"))
}

// keysView are the signing keys.
type keysView struct {
	Keys []control.Key
	Now  time.Time
}

var keysPage = page{template: "keys", load: func(q *request) (shown, error) {
	keys, err := q.client.Keys(q.ctx())
	return shown{title: "Signing keys", nav: "keys", data: &keysView{keys, time.Now().UTC()}}, err
}}

func rotateKey(q *request) (string, error) {
	_, err := q.client.RotateKey(q.ctx())
	return q.at.Path() + "/keys?done=rotated", err
}
