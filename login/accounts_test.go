package login

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// account changes an account by the internal listener.
func (w *world) account(t *testing.T, u user, method, what string, body any) (a account) {
	t.Helper()
	w.ask(t, method, fmt.Sprintf("/internal/users/%d/%s", u.ID, what), body).want(t, http.StatusOK).json(t, &a)
	return a
}

// signsIn says whether somebody can sign in.
func (w *world) signsIn(t *testing.T, login, password string) bool {
	t.Helper()
	b := w.browser(t).open(t, "/login").signIn(t, login, password)
	return b.StatusCode == http.StatusOK && strings.Contains(string(b.body), "You are signed in as")
}

// Whoever is disabled has nothing left to go on with, and nobody else loses anything.
func TestDisabledAccounts(t *testing.T) {
	w := newWorld(t)
	a, u, other := w.newApp(t, kindWeb, callback), w.newPerson(t, "a@example.com"), w.newPerson(t, "b@example.com")
	theirs := w.tokens(t, codeForm(a, w.code(t, a, other, "")))
	machine := w.tokens(t, machineForm(w.newApp(t, kindDeveloperManaged)))
	pair, unused := w.tokens(t, codeForm(a, w.code(t, a, u, ""))), w.code(t, a, u, "")
	w.verify(t, pair.AccessToken)
	b := w.browser(t).open(t, authorizeURL(a, callback)).signIn(t, u.Login, password)

	got := w.account(t, u, http.MethodPost, "disable", nil)
	if !got.Disabled || got.Credential != "" || got.Ended.Sessions != 1 || got.Ended.Grants != 1 {
		t.Errorf("%+v, %+v", got, got.Ended)
	}
	w.gone(t, pair.AccessToken)
	w.get(t, "/oauth/token/info", "Authorization", "Bearer "+pair.AccessToken).refused(t, 401, "invalid_token")
	w.post(t, "/oauth/token", refreshForm(a, pair.RefreshToken)).refused(t, 400, "invalid_grant")
	w.post(t, "/oauth/token", codeForm(a, unused)).refused(t, 400, "invalid_grant")
	if b.submit(t, "decision", "allow"); b.at.Path != "/login" || b.away != nil {
		t.Errorf("the session led to %s, away to %v", b.at, b.away)
	}
	if w.signsIn(t, u.Login, password) {
		t.Error("whoever is disabled signs in")
	}
	w.verify(t, theirs.AccessToken)
	w.verify(t, machine.AccessToken)
	w.tokens(t, refreshForm(a, theirs.RefreshToken))

	// It may be repeated; what it has ended before stays so.
	if got := w.account(t, u, http.MethodPost, "disable", nil); !got.Disabled || *got.Ended != (ended{}) {
		t.Errorf("again: %+v, %+v", got, got.Ended)
	}
	for range 2 {
		if got := w.account(t, u, http.MethodPost, "enable", nil); got.Disabled || got.Credential == "" {
			t.Errorf("enabled: %+v", got)
		}
	}
	if !w.signsIn(t, u.Login, password) {
		t.Error("whoever was enabled again can't sign in")
	}
	w.post(t, "/oauth/token", refreshForm(a, pair.RefreshToken)).refused(t, 400, "invalid_grant")
	w.get(t, "/oauth/token/info", "Authorization", "Bearer "+pair.AccessToken).refused(t, 401, "invalid_token")
}

// Another password ends sessions and what was begun in them, and nothing that apps were granted.
func TestPasswordsAreReplaced(t *testing.T) {
	w := newWorld(t)
	a, u := w.newApp(t, kindWeb, callback), w.newPerson(t, "a@example.com")
	pair, unused := w.tokens(t, codeForm(a, w.code(t, a, u, ""))), w.code(t, a, u, "")
	b := w.browser(t).open(t, authorizeURL(a, callback)).signIn(t, u.Login, password)
	const next = "another horse battery"
	before := w.account(t, u, http.MethodPost, "enable", nil).Credential
	if got := w.account(t, u, http.MethodPut, "password", map[string]string{"password": next}); got.Ended.Sessions != 1 || got.Ended.Grants != 0 || got.Credential == before {
		t.Errorf("%+v, %+v", got, got.Ended)
	}
	if b.submit(t, "decision", "allow"); b.at.Path != "/login" {
		t.Errorf("the session led to %s", b.at)
	}
	w.post(t, "/oauth/token", codeForm(a, unused)).refused(t, 400, "invalid_grant")
	w.tokens(t, refreshForm(a, pair.RefreshToken))
	if w.signsIn(t, u.Login, password) || !w.signsIn(t, u.Login, next) {
		t.Error("the password isn't the new one")
	}
	// While an account is disabled its password changes for later.
	w.account(t, u, http.MethodPost, "disable", nil)
	if got := w.account(t, u, http.MethodPut, "password", map[string]string{"password": password}); !got.Disabled {
		t.Errorf("%+v", got)
	}
	if w.signsIn(t, u.Login, password) {
		t.Error("a new password enables an account")
	}
	w.account(t, u, http.MethodPost, "enable", nil)
	if w.signsIn(t, u.Login, next) || !w.signsIn(t, u.Login, password) {
		t.Error("the password that was set meanwhile isn't the one")
	}

	path := fmt.Sprintf("/internal/users/%d/password", u.ID)
	for _, wrong := range []string{"", "short", strings.Repeat("x", 1025)} {
		w.ask(t, http.MethodPut, path, map[string]string{"password": wrong}).want(t, http.StatusUnprocessableEntity)
	}
	w.ask(t, http.MethodPut, "/internal/users/99/password", map[string]string{"password": next}).want(t, http.StatusNotFound)
	w.ask(t, http.MethodPost, "/internal/users/99/disable", nil).want(t, http.StatusNotFound)
	w.ask(t, http.MethodPost, "/internal/users/x/enable", nil).want(t, http.StatusBadRequest)
}

// What is begun while an account is disabled doesn't slip past: a code that is redeemed in that
// moment gives nothing that lives.
func TestNothingSlipsPastADisabledAccount(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback)
	for i := range 10 {
		u := w.newUser(t, fmt.Sprintf("%d@example.com", i))
		forms := make([]url.Values, 3)
		for j := range forms {
			forms[j] = codeForm(a, w.code(t, a, u, ""))
		}
		replies := make([]reply, len(forms))
		var all sync.WaitGroup
		for j, form := range forms {
			all.Go(func() { replies[j] = w.post(t, "/oauth/token", form) })
		}
		all.Go(func() { w.account(t, u, http.MethodPost, "disable", nil) })
		all.Wait()
		for _, r := range replies {
			if r.StatusCode != http.StatusOK {
				r.refused(t, 400, "invalid_grant")
				continue
			}
			var pair tokenAnswer
			r.json(t, &pair)
			w.post(t, "/oauth/token", refreshForm(a, pair.RefreshToken)).refused(t, 400, "invalid_grant")
			w.get(t, "/oauth/token/info", "Authorization", "Bearer "+pair.AccessToken).refused(t, 401, "invalid_token")
		}
	}
}
