package login

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
)

// loginPage answers GET /login.
func (s *Service) loginPage(w http.ResponseWriter, r *http.Request) error {
	n, err := s.session(r)
	if err != nil {
		return err
	}
	if n != nil {
		http.Redirect(w, r, afterSignIn(r), http.StatusSeeOther)
		return nil
	}
	s.renderLogin(w, r, http.StatusOK, "", "")
	return nil
}

// afterSignIn is where a person goes who has signed in: on with the authorization request
// of the query, if there is one. It is always a path of ours.
func afterSignIn(r *http.Request) string {
	if strings.Contains(r.URL.RawQuery, "client_id=") {
		return authorizePath + "?" + r.URL.RawQuery
	}
	return "/"
}

func (s *Service) renderLogin(w http.ResponseWriter, r *http.Request, status int, login, alert string) {
	s.render(w, status, view{Page: "login", Title: "Sign in", Login: login, Alert: alert, Action: loginPath + "?" + r.URL.RawQuery})
}

// signIn answers the sign-in form. Whether the account exists can't be told from the
// answer, nor from how long it takes. That another site can't sign somebody in unseen is
// the work of [Service.page]: there is no session yet whose secret a form could hold.
func (s *Service) signIn(w http.ResponseWriter, r *http.Request) error {
	p := params{}
	if err := p.addForm(http.MaxBytesReader(w, r.Body, maxParams)); err != nil {
		return err
	}
	login := strings.ToLower(strings.TrimSpace(p["login"]))
	if login == "" || p["password"] == "" || len(login) > maxLogin || len(p["password"]) > maxPassword {
		s.renderLogin(w, r, http.StatusUnprocessableEntity, p["login"], "Enter your e-mail address and your password.")
		return nil
	}
	peer := s.peer(r)
	refused, giveBack, err := s.takeAttempt(r.Context(), peer, login)
	if err != nil {
		return err
	}
	if refused != nil {
		slog.WarnContext(r.Context(), "too many attempts to sign in", "peer", peer, "account_limited", refused.ofAccount)
		w.Header().Set("Retry-After", retryAfter(refused.wait))
		s.renderLogin(w, r, http.StatusTooManyRequests, p["login"], "Too many attempts. Wait a minute and try again.")
		return nil
	}
	u, err := s.checkLogin(r.Context(), login, p["password"])
	if err != nil {
		giveBack() // nobody has looked at the password
		return err
	}
	begun := false
	if u != nil {
		if begun, err = s.startSession(w, r, u); err != nil {
			giveBack()
			return err
		}
	}
	if !begun {
		s.renderLogin(w, r, http.StatusUnprocessableEntity, p["login"], "The e-mail address or the password is wrong.")
		return nil
	}
	giveBack()
	http.Redirect(w, r, afterSignIn(r), http.StatusSeeOther)
	return nil
}

// checkLogin answers the user whose login and password these are; nil if they are
// nobody's.
func (s *Service) checkLogin(ctx context.Context, login, password string) (*user, error) {
	u, err := s.userByLogin(ctx, login)
	if err != nil {
		return nil, err
	}
	stored := ""
	if u != nil {
		stored = u.passwordHash
	}
	ok, err := s.checkPassword(ctx, password, stored)
	if err != nil || !ok {
		return nil, err
	}
	return u, nil
}

// logoutPage asks before it signs out: a GET has no effect.
func (s *Service) logoutPage(w http.ResponseWriter, r *http.Request) error {
	n, err := s.session(r)
	if err != nil {
		return err
	}
	if n == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	s.render(w, http.StatusOK, view{Page: "logout", Title: "Sign out?", User: n.user, CSRF: n.csrf, Action: logoutPath})
	return nil
}

func (s *Service) signOut(w http.ResponseWriter, r *http.Request) error {
	n, err := s.session(r)
	if err != nil {
		return err
	}
	p := params{}
	if err := p.addForm(http.MaxBytesReader(w, r.Body, maxParams)); err != nil {
		return err
	}
	if n != nil {
		if err := n.checkCSRF(p); err != nil {
			return err
		}
		if err := s.endSession(r.Context(), w, r); err != nil {
			return err
		}
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// home answers GET /.
func (s *Service) home(w http.ResponseWriter, r *http.Request) error {
	n, err := s.session(r)
	if err != nil {
		return err
	}
	v := view{Page: "home", Title: s.Product}
	if n != nil {
		v.User = n.user
	}
	s.render(w, http.StatusOK, v)
	return nil
}
