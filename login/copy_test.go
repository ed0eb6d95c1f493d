package login

import (
	"net/http"
	"strings"
	"testing"
)

func (w *world) identity(t *testing.T, method, body string) reply {
	t.Helper()
	return send(t, noRedirects, newRequest(t, method, w.internal+"/internal/identity", strings.NewReader(body), "Authorization", "Bearer "+secret))
}

// Of a copy "production credentials work there, production tokens do not".
func TestACopyOfTheIdentity(t *testing.T) {
	from := newWorld(t)
	to := newWorldOf(t)
	person := from.newPerson(t, "alice@example.com")
	machine, web := from.newApp(t, kindDeveloperManaged), from.newApp(t, kindWeb, callback)
	tokens := from.tokens(t, codeForm(web, from.code(t, web, person, "")))
	whole := string(from.identity(t, http.MethodGet, "").want(t, 200).body)
	for _, private := range []string{"refresh_tokens", "grants", "sessions", "codes", "signing_keys", "PRIVATE"} {
		if strings.Contains(whole, private) {
			t.Errorf("the copy has %s", private)
		}
	}
	lines := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	for name, body := range map[string]string{
		"cut off":         strings.Join(lines[:len(lines)-1], ""),
		"another head":    strings.Replace(whole, `"identity":true`, `"company":5`, 1),
		"another table":   strings.Replace(whole, `"table":"apps"`, `"table":"grants"`, 1),
		"another address": strings.Replace(whole, "alice@", "malice@", 1),
	} {
		if got := to.identity(t, http.MethodPut, body); got.StatusCode != 422 {
			t.Errorf("%s: %v", name, got)
		}
	}
	for range 2 { // the second replaces the first
		to.identity(t, http.MethodPut, whole).want(t, 200)
	}
	var found user
	if to.ask(t, http.MethodGet, "/internal/users?login=alice@example.com", nil).want(t, 200).json(t, &found); found != person {
		t.Errorf("got %+v, want %+v", found, person)
	}
	if claims := to.verify(t, to.tokens(t, machineForm(machine)).AccessToken); claims.App != machine.ID {
		t.Errorf("the token is the app %d's", claims.App)
	}
	if b := to.browser(t).open(t, loginPath).signIn(t, "alice@example.com", password); !strings.Contains(string(b.body), "You are signed in as") {
		t.Errorf("after sign-in: %s", b.body)
	}
	to.post(t, "/oauth/token", refreshForm(web, tokens.RefreshToken)).refused(t, 400, "invalid_grant")
	if _, err := to.verifier.Verify(tokens.AccessToken); err == nil {
		t.Error("a token of the original holds in the copy")
	}
	if next := to.newUser(t, "bob@example.com"); next.ID != person.ID+1 {
		t.Errorf("the next user has the id %d", next.ID)
	}
	to.identity(t, http.MethodPut, whole).refusedInternally(t, 409, "conflict")
	send(t, noRedirects, newRequest(t, http.MethodGet, to.internal+"/internal/identity", nil)).want(t, 401)
}
