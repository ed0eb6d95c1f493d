package control

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"mpr/intercom"
	"mpr/operator"
	"mpr/problem"
	"mpr/store"
	"mpr/token"
)

// principal is who asks.
type principal struct {
	// by is the login, or says that it was the admin token.
	by   string
	role operator.Role
	// session is nil for the admin token.
	session *operator.Session
}

// ByToken is what the audit log calls whoever has the admin token.
const ByToken = "the admin token"

// asked is a request of somebody who is known, and its entry in the audit log.
type asked struct {
	principal
	// owner says that it is allowed because the app is theirs, whatever their role.
	owner  bool
	record *operator.Record
}

type askedKey struct{}

func askedBy(r *http.Request) *asked {
	if a, ok := r.Context().Value(askedKey{}).(*asked); ok {
		return a
	}
	return &asked{record: &operator.Record{}}
}

// noted is the request's entry in the audit log, for what it changes.
func noted(r *http.Request) *operator.Record { return askedBy(r).record }

// by is who is recorded as having asked for a change: who has signed in and, for whoever has the
// admin token, who they say to be.
func by(r *http.Request, claimed string) string {
	a := askedBy(r)
	if a.session != nil {
		return a.by
	}
	if isLine(claimed) { // what isn't is refused
		a.record.Claimed = claimed
	}
	return claimed
}

// who finds out who asks: by the admin token or the session of a command line in the
// Authorization header, or by the session in a browser's cookie. Nobody is [problem.Unauthorized].
func (s *Service) who(w http.ResponseWriter, r *http.Request) (principal, error) {
	if p, ok := r.Context().Value(insideKey{}).(*principal); ok {
		return *p, nil
	}
	if intercom.Shows(r, s.token) {
		return principal{by: ByToken, role: operator.Admin}, nil
	}
	var session *operator.Session
	var err error
	if shown := r.Header.Values("Authorization"); len(shown) > 0 {
		secret, malformed := token.Bearer(shown)
		if malformed == nil {
			session, err = s.operators.Session(r.Context(), secret, operator.CommandLine)
		}
	} else if session, err = s.browserSession(r); err == nil && session != nil && !safe(r.Method) {
		// A form of another site can bring the cookie along, but not the session's own secret.
		if err := s.crossOrigin.Check(r); err != nil {
			return principal{}, problem.New(problem.Forbidden, "The request came from another site.").Because(err)
		}
		err = session.CheckCSRF(r.Header.Get(csrfHeader))
	}
	if err != nil {
		return principal{}, store.Explain(err)
	}
	if session == nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="mpr admin"`)
		return principal{}, s.unauthorized()
	}
	return principal{by: session.Login, role: session.Role, session: session}, nil
}

// csrfHeader is where scripts of our pages show their session's secret.
const csrfHeader = "X-Csrf-Token"

func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }

func (s *Service) unauthorized() error {
	if s.token == "" {
		return problem.New(problem.Unauthorized, "The admin API needs an operator who has signed in, and the session may have ended: sign in with `mpr signin`. Its token is turned off (control.admin_token).")
	}
	return problem.New(problem.Unauthorized,
		"The admin API needs an operator who has signed in (`mpr signin`), whose session may have ended, or its token: send \"Authorization: Bearer ...\" with the content of the control role's token file.")
}

// guard lets a route answer only those who may ask, and has the audit log tell of it.
func (s *Service) guard(pattern string, rt route) http.Handler {
	method, _, _ := strings.Cut(pattern, " ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.who(w, r)
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		a := &asked{principal: who, record: &operator.Record{}}
		if rt.logged || !safe(method) {
			environment, subject := s.subject(r)
			a.record, err = s.operators.Log(r.Context(), operator.Entry{
				By: who.by, Role: who.role, Environment: environment, Action: pattern, Subject: subject, RequestID: r.Header.Get(problem.RequestIDHeader),
			})
			if err != nil {
				problem.Write(w, r, store.Explain(err))
				return
			}
		}
		watched := &watchedAnswer{ResponseWriter: w}
		ended := false
		defer func() {
			if !ended {
				s.end(r, a, "broken_off")
			}
		}()
		r = r.WithContext(context.WithValue(r.Context(), askedKey{}, a))
		allowed := who.role.Covers(rt.least)
		if !allowed && rt.own {
			a.owner, err = s.owns(r, who)
			allowed = a.owner
		}
		switch {
		case err != nil:
			s.refuse(watched, r, err)
		case allowed:
			rt.h.ServeHTTP(watched, r)
		case rt.own && !who.role.Covers(operator.Viewer):
			s.refuse(watched, r, notYours(r)) // strangers don't learn which apps there are
		default:
			s.refuse(watched, r, problem.New(problem.Forbidden, "This takes the role %s, and %s has the role %s. An admin can grant it: mpr operator grant %s --role %s.", rt.least, who.by, who.role, who.by, rt.least))
		}
		ended = true
		s.end(r, a, watched.outcome())
	})
}

// subject is what a request is about: the environment, and the path below it.
func (s *Service) subject(r *http.Request) (environment, subject string) {
	subject = strings.TrimPrefix(r.URL.EscapedPath(), systemPath+"/") // escaped: it can be stored
	if name := r.PathValue("environment"); name != "" {
		if e, err := s.environment(name); err == nil {
			environment = e.Name
		}
		_, subject, _ = strings.Cut(strings.TrimPrefix(subject, "environments/"), "/")
	}
	return environment, subject[:min(len(subject), maxSubject)]
}

const maxSubject = 500

// end says in the audit log what came of a request. Whoever asked may have gone away by then.
func (s *Service) end(r *http.Request, a *asked, outcome string) {
	if err := a.record.End(context.WithoutCancel(r.Context()), outcome); err != nil {
		slog.ErrorContext(r.Context(), "an entry of the audit log stays without its outcome", "request_id", r.Header.Get(problem.RequestIDHeader), "outcome", outcome, "error", err)
	}
}

// refuse answers with an error, once the audit log has it.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	err = store.Explain(err)
	s.end(r, askedBy(r), string(problem.From(err).Code))
	problem.Write(w, r, err)
}

// watchedAnswer notices a refusal.
type watchedAnswer struct {
	http.ResponseWriter
	code problem.Code
}

// Refused is what package problem tells of an answer with an error.
func (a *watchedAnswer) Refused(code problem.Code) {
	a.code = code
	if above, ok := a.ResponseWriter.(interface{ Refused(problem.Code) }); ok {
		above.Refused(code)
	}
}

// Unwrap is for [http.ResponseController].
func (a *watchedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *watchedAnswer) outcome() string {
	if a.code != "" {
		return string(a.code)
	}
	return operator.Done
}
