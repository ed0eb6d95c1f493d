package console

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mpr/control"
	"mpr/operator"
	"mpr/problem"
)

// request is a page's request of somebody who has signed in.
type request struct {
	service *Service
	w       http.ResponseWriter
	r       *http.Request
	session *operator.Session
	at      place
	client  *control.Client // asks as the visitor, in the environment
	portal  bool

	// problem is why a form that was sent couldn't be taken, and form what stood in it.
	problem *problem.Problem
	form    url.Values
	// stale says that the form was made from what isn't in force any more: the page has what is, and
	// what was typed beside it, so that sending it again overwrites nobody unseen.
	stale bool
}

// overtaken is the refusal of a form that was made from what isn't in force any more.
func (q *request) overtaken(why string) error {
	q.stale = true
	return problem.New(problem.Conflict, "%s", why)
}

func (q *request) ctx() context.Context { return q.r.Context() }

// covers says whether the visitor may do what takes a role.
func (q *request) covers(least operator.Role) bool { return q.session.Role.Covers(least) }

// needs refuses a page whose form the visitor may not send.
func (q *request) needs(least operator.Role) error {
	if q.covers(least) {
		return nil
	}
	return problem.New(problem.Forbidden, "This takes the role %s, and %s has the role %s. An admin can grant it.", least, q.session.Login, q.session.Role)
}

// shown is what a page shows, before the layout is put around it.
type shown struct {
	title string
	// nav is the entry of the navigation that the page belongs to.
	nav  string
	data any
	// status is that of the answer; 0 for the usual one.
	status int
}

// page is a page: a template, and what loads its data.
type page struct {
	template string
	load     func(*request) (shown, error)
	// live names the parts of the page that change by themselves: elements with the id, whose
	// content is the template of that name.
	live []string
}

// view is what the layout shows, with the page's own data in it.
type view struct {
	Title, Nav, Template string
	Product, Header      string
	Style, Script        string
	At                   place
	Places               []place
	Portal               bool
	Session              *operator.Session
	Operator, Admin      bool
	Viewer               bool
	CSRF                 string
	Path                 string
	Live                 bool
	Done                 string
	Problem              *problem.Problem
	RequestID            string
	// Form is what was typed into a form that was refused; Typed in place of it where the form is to
	// begin with what is in force.
	Form, Typed url.Values
	Now         time.Time
	Data        any
}

// visit answers a request of somebody who has signed in, and sends everybody else to sign in.
func (s *Service) visit(w http.ResponseWriter, r *http.Request, answer func(*request) error) {
	q := &request{service: s, w: w, r: r, portal: strings.HasPrefix(r.URL.Path, developersPath)}
	w.Header().Set("Cache-Control", "no-store")
	err := q.enter()
	switch {
	case err != nil:
	case q.session == nil && q.wantsStream():
		q.beginStream()
		_, _ = w.Write([]byte(sessionOver))
		return
	case q.session == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		http.Redirect(w, r, "/signin?"+url.Values{"to": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
		return
	case q.session == nil:
		err = problem.New(problem.Unauthorized, "You aren't signed in any more. Sign in, and do it again: nothing was changed.")
	default:
		err = answer(q)
	}
	if err != nil {
		q.refuse(err)
	}
}

// enter finds out who asks, for what environment.
func (q *request) enter() (err error) {
	if q.session, err = q.service.Admin.Visitor(q.w, q.r); err != nil {
		return err
	}
	q.at, err = q.service.place(q.r.PathValue("env"))
	if q.session != nil {
		q.client = q.service.Admin.As(q.session, q.requestID(), q.at.Name)
	}
	return err
}

func (q *request) requestID() string { return q.w.Header().Get(problem.RequestIDHeader) }

// get has a page at a path, with its live updates.
func (s *Service) get(path string, p page) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		s.visit(w, r, func(q *request) error {
			if len(p.live) > 0 && q.wantsStream() {
				return q.stream(p)
			}
			return q.show(p)
		})
	})
}

// post takes a form that is on a page: act does what it asks for, and answers where to go then; ""
// where it has answered itself. What can't be done is told on the page.
func (s *Service) post(path string, p page, act func(*request) (to string, err error)) {
	s.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		s.visit(w, r, func(q *request) error {
			to, err := act(q)
			switch {
			case err != nil:
				return q.showAgain(p, err)
			case to != "":
				return q.redirect(to)
			}
			return nil
		})
	})
}

// showAgain shows a page with what was typed into it, and why that couldn't be taken: by whose fault
// that is makes no difference to whoever has typed it.
func (q *request) showAgain(p page, err error) error {
	q.problem, q.form = problem.From(err), q.r.PostForm
	if shown := q.show(p); shown != nil {
		if q.problem.Code.Status() >= http.StatusInternalServerError {
			return err // which is why the page can't be had either
		}
		return shown
	}
	q.log(q.problem, err)
	return nil
}

// log notes a refusal.
func (q *request) log(p *problem.Problem, err error) {
	problem.Log(q.w, q.r, p)
	slog.InfoContext(q.ctx(), "a page was refused", "request_id", q.requestID(), "path", q.r.URL.Path, "error", err)
	if observer, ok := q.w.(interface{ Refused(problem.Code) }); ok {
		observer.Refused(p.Code)
	}
}

// redirect leads to a path of ours. What it says was done is signed for the session and the path: a
// link that somebody else makes up says nothing.
func (q *request) redirect(to string) error {
	if path, code, ok := strings.Cut(to, "?done="); ok {
		to = path + "?done=" + code + "." + q.sign(path, code)
	}
	http.Redirect(q.w, q.r, to, http.StatusSeeOther)
	return nil
}

// done is what the address says was done; "" where we haven't said so.
func (q *request) done() string {
	code, signature, _ := strings.Cut(q.r.URL.Query().Get("done"), ".")
	if q.session == nil || done[code] == "" || !hmac.Equal([]byte(signature), []byte(q.sign(q.r.URL.Path, code))) {
		return ""
	}
	return done[code]
}

func (q *request) sign(path, code string) string {
	mac := hmac.New(sha256.New, []byte(q.session.CSRF()))
	_, _ = mac.Write([]byte("done\n" + path + "\n" + code)) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// show loads and renders a page.
func (q *request) show(p page) error {
	what, err := p.load(q)
	if err != nil {
		return err
	}
	return q.render(p, what)
}

func (q *request) view(p page, what shown) view {
	v := view{
		Title: what.title, Nav: what.nav, Template: p.template, Product: q.service.Product, Header: q.service.CompanyHeader, Style: q.service.style, Script: q.service.script,
		At: q.at, Places: q.service.places, Portal: q.portal, Session: q.session, Path: q.r.URL.Path, Live: len(p.live) > 0 && q.problem == nil,
		Problem: q.problem, RequestID: q.requestID(), Form: q.form, Now: time.Now().UTC(), Data: what.data,
	}
	if q.session != nil {
		v.Operator, v.Admin, v.Viewer, v.CSRF = q.covers(operator.Operator), q.covers(operator.Admin), q.covers(operator.Viewer), q.session.CSRF()
	}
	if q.r.Method == http.MethodGet {
		v.Done = q.done()
	}
	if v.Form == nil {
		v.Form = url.Values{}
	}
	if q.stale {
		v.Form, v.Typed = url.Values{}, v.Form
	}
	return v
}

// Sent is what was typed into the form with an action that ends like that: where several are on a
// page, each has its own.
func (v view) Sent(action string) url.Values {
	if strings.HasSuffix(v.Path, action) {
		return v.Form
	}
	return url.Values{}
}

// Refused is why the form with an action that ends like that couldn't be taken; nil for the others.
func (v view) Refused(action string) *problem.Problem {
	if v.Problem != nil && strings.HasSuffix(v.Path, action) {
		return v.Problem
	}
	return nil
}

// render writes a page with the layout around it.
func (q *request) render(p page, what shown) error {
	t := q.service.templates[p.template]
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "layout", q.view(p, what)); err != nil {
		return err
	}
	status := http.StatusOK
	switch {
	case what.status != 0:
		status = what.status
	case q.problem != nil:
		status = q.problem.Code.Status()
	}
	control.SecurePage(q.w.Header(), pagePolicy)
	q.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	q.w.WriteHeader(status)
	_, _ = q.w.Write(b.Bytes())
	return nil
}

// pagePolicy: nothing is loaded but from here, nothing runs that stands in a page, and nobody frames it.
const pagePolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// refusal is what the page of an error shows.
type refusal struct {
	*problem.Problem
	// Advice is what to do next, and Link where.
	Advice, Link, LinkText string
}

// refuse answers with an error, as a page.
func (q *request) refuse(err error) {
	p := problem.From(err)
	q.log(p, err)
	r := refusal{Problem: p}
	switch {
	case p.Code == problem.Unauthorized:
		r.Link, r.LinkText = "/signin", "Sign in"
	case p.Code == problem.Forbidden && q.session != nil && !q.covers(operator.Viewer):
		r.Advice, r.Link, r.LinkText = "This is for operators. What you may see of your own apps is in the developers’ portal.", developersPath, "Go to the portal"
	case p.Code.Status() >= http.StatusInternalServerError:
		r.Advice = "Try again in a moment. If it stays like this, the log of the control role has the cause under the request id."
	}
	q.problem = nil
	if err := q.render(page{template: "error"}, shown{title: "That didn’t work", data: r, status: p.Code.Status()}); err != nil {
		slog.ErrorContext(q.ctx(), "render page", "page", "error", "error", err)
		problem.Write(q.w, q.r, err)
	}
}
