package login

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"strings"

	"mpr/problem"
	"mpr/store"
)

// session is a person who has signed in with a browser.
type session struct {
	user *user
	csrf string
}

// cookieName is the session's cookie. On https the name itself makes browsers insist on
// Secure, on this host and on no Domain (RFC 6265bis section 4.1.3.2). Plain http serves
// development on loopback only, where environments differ by port; cookies don't (RFC
// 6265 section 8.5), so the name does.
func (s *Service) cookieName(r *http.Request) (name string, secure bool) {
	host, plain := strings.CutPrefix(s.baseURL(r), "http://")
	if !plain {
		return "__Host-mpr_session", true
	}
	name = "mpr_session"
	if _, port, err := net.SplitHostPort(host); err == nil {
		name += "_" + port
	}
	return name, false
}

// session finds the session of a request; nil if there is none.
func (s *Service) session(r *http.Request) (*session, error) {
	name, _ := s.cookieName(r)
	cookie, err := r.Cookie(name)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // no cookie: nobody has signed in
	}
	var userID int64
	var csrf string
	err = s.DB.Read().QueryRowContext(r.Context(), `SELECT user_id, csrf FROM sessions WHERE hash = $1 AND expires > $2`,
		fingerprint(cookie.Value), store.Micros(s.Now())).Scan(&userID, &csrf)
	if isNoRows(err) {
		return nil, nil //nolint:nilnil // it has ended
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	u, err := s.userByID(r.Context(), userID)
	if err != nil || u == nil || u.disabled {
		return nil, err
	}
	return &session{u, csrf}, nil
}

// startSession makes a new session, whatever the browser had before: a session id that
// somebody planted is never taken over. It says no where the account was changed since the user was
// read.
func (s *Service) startSession(w http.ResponseWriter, r *http.Request, u *user) (begun bool, err error) {
	id := newSecret()
	err = s.DB.Write(r.Context(), func(tx *sql.Tx) (err error) {
		if begun, err = u.unchanged(r.Context(), tx); err != nil || !begun {
			return err
		}
		_, err = tx.ExecContext(r.Context(), `INSERT INTO sessions (hash, user_id, csrf, expires) VALUES ($1, $2, $3, $4)`,
			fingerprint(id), u.ID, newSecret(), store.Micros(s.Now().Add(s.SessionLifetime)))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("start session: %w", err)
	}
	if begun {
		s.setCookie(w, r, id, int(s.SessionLifetime.Seconds()))
	}
	return begun, nil
}

// endSession ends the browser's session, if it has one.
func (s *Service) endSession(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	name, _ := s.cookieName(r)
	cookie, err := r.Cookie(name)
	if err != nil {
		return nil //nolint:nilerr // there is none
	}
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE hash = $1`, fingerprint(cookie.Value))
		return err
	})
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	s.setCookie(w, r, "", -1)
	return nil
}

func (s *Service) setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	name, secure := s.cookieName(r)
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	})
}

// checkCSRF wants a form to hold the session's own secret, which no other site can read.
func (n *session) checkCSRF(p params) error {
	if subtle.ConstantTimeCompare([]byte(p["csrf"]), []byte(n.csrf)) != 1 {
		return problem.New(problem.Forbidden, "The page is too old, or didn't come from here. Go back, reload it and try again.")
	}
	return nil
}
