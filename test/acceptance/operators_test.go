package acceptance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// toControl goes from a page of the control role to the login service, signs in there, allows it,
// and answers the URL at control to which the browser is sent back, not opened yet.
func (p *person) toControl(t *testing.T, page string, u user) *url.URL {
	t.Helper()
	away := call{Client: p.client, URL: page}.send(t).want(t, 303).Header.Get("Location")
	if !strings.HasPrefix(away, p.door.Scheme+"://"+p.door.Host+"/oauth/authorize?") || !strings.Contains(away, "code_challenge_method=S256") {
		t.Fatalf("%s leads to %s", page, away)
	}
	consent := p.open(t, away).signIn(t, u)
	consent.answer.want(t, 200)
	return consent.submit(t, url.Values{"decision": {"allow"}}).redirectedOutside(t)
}

// text is what stands in an element of a page.
func (a answer) text(t *testing.T, id string) string {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && attribute(n, "id") == id {
			if to := attribute(n, "href"); to != "" {
				return to
			}
			if n.FirstChild != nil {
				return n.FirstChild.Data
			}
		}
	}
	return ""
}

// An operator signs in at the control role with a browser: by the login service's own pages.
func TestOperatorsSignInWithABrowser(t *testing.T) {
	d := startDev(t, t.TempDir())
	alice := d.Users[0]
	p := newPerson(t, d)
	home := func() answer { return call{Client: p.client, URL: d.Admin.URL + "/"}.send(t).want(t, 200) }
	if got := home().text(t, "login"); got != "" {
		t.Fatalf("signed in as %q from the start", got)
	}
	call{Client: p.client, URL: d.Admin.URL + "/admin/v1/session"}.send(t).wantCode(t, 401, "unauthorized")

	// Nothing that stands in the URL leads away.
	for _, to := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)"} {
		stranger := newPerson(t, d)
		back := stranger.toControl(t, d.Admin.URL+"/signin?to="+url.QueryEscape(to), alice)
		if got := (call{Client: stranger.client, URL: back.String()}).send(t).want(t, 303).Header.Get("Location"); got != "/" {
			t.Errorf("%s leads to %s", to, got)
		}
	}

	back := p.toControl(t, d.Admin.URL+"/signin?to="+url.QueryEscape("/?from=here"), alice)
	// Another browser, which hasn't begun it, can't end it.
	call{Client: newPerson(t, d).client, URL: back.String()}.send(t).want(t, 400)
	in := call{Client: p.client, URL: back.String()}.send(t).want(t, 303)
	if to := in.Header.Get("Location"); to != "/?from=here" {
		t.Errorf("led to %s", to)
	}
	secret := ""
	for _, line := range in.Header.Values("Set-Cookie") {
		if name, value, _ := strings.Cut(line, "="); strings.HasPrefix(name, "mpr_operator_") {
			secret, _, _ = strings.Cut(value, ";")
			if !strings.Contains(line, "HttpOnly") || !strings.Contains(line, "SameSite=Lax") {
				t.Errorf("the cookie %s", line)
			}
		}
	}
	page := home()
	if page.text(t, "login") != alice.Login || page.text(t, "role") != "admin" {
		t.Errorf("signed in as %q, %q", page.text(t, "login"), page.text(t, "role"))
	}
	var me struct{ By, Role string }
	call{Client: p.client, URL: d.Admin.URL + "/admin/v1/session"}.send(t).want(t, 200).into(t, &me)
	if me.By != alice.Login || me.Role != "admin" {
		t.Errorf("%+v", me)
	}
	// The same answer of the login service comes again: the browser has nothing under way.
	call{Client: p.client, URL: back.String()}.send(t).want(t, 400)
	if home().text(t, "login") != alice.Login {
		t.Error("the session is gone")
	}

	d.rotatesSessions(t, p, alice, secret)

	form := firstForm(home().Body)
	call{Client: p.client, Method: "POST", URL: d.Admin.URL + "/signout", Form: url.Values{}}.send(t).want(t, 403)
	call{Client: p.client, Method: "POST", URL: d.Admin.URL + form.action, Form: form.fields}.send(t).want(t, 303)
	if got := home().text(t, "login"); got != "" {
		t.Errorf("still signed in as %s", got)
	}
}

// rotatesSessions: signing in again makes a new session, and ends the one before.
func (d *dev) rotatesSessions(t *testing.T, p *person, u user, before string) {
	t.Helper()
	away := call{Client: p.client, URL: d.Admin.URL + "/signin"}.send(t).want(t, 303).Header.Get("Location")
	back := p.open(t, away).submit(t, url.Values{"decision": {"allow"}}).redirectedOutside(t)
	call{Client: p.client, URL: back.String()}.send(t).want(t, 303)
	at, err := url.Parse(d.Admin.URL)
	if err != nil {
		t.Fatal(err)
	}
	old := &http.Cookie{Name: "mpr_operator_" + at.Port(), Value: before}
	req, err := http.NewRequestWithContext(t.Context(), "GET", d.Admin.URL+"/admin/v1/session", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(old)
	got, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = got.Body.Close()
	if got.StatusCode != 401 {
		t.Errorf("the session before: %s", got.Status)
	}
}

// What a code of a command line is good for: once, for whoever has the verifier; and its page leads
// to this machine, whatever the URL says.
func TestCodesOfCommandLines(t *testing.T) {
	d := shared(t)
	verifier := strings.Repeat("v", 43)
	challenge, state := "YmY1OGExNzU3YWI2YjZkYjk2ZTA2YmY1OGExNzU3YWI", strings.Repeat("s", 43)
	for _, query := range []string{"port=0", "port=70000", "port=80@evil.example", "port=1&challenge=x&state=" + state, "port=1&challenge=" + challenge, "port=-1&challenge=" + challenge + "&state=" + state} {
		call{URL: d.Admin.URL + "/signin?" + query}.send(t).want(t, 400)
	}
	p := newPerson(t, d)
	back := p.toControl(t, d.Admin.URL+"/signin?port=4242&challenge="+challenge+"&state="+state+"&to=https://evil.example", d.Users[0])
	page := call{Client: p.client, URL: back.String()}.send(t).want(t, 200)
	next, err := url.Parse(page.text(t, "hand-over"))
	if err != nil || next.Scheme != "http" || next.Host != "127.0.0.1:4242" || next.Query().Get("state") != state {
		t.Fatalf("leads to %v, %v", next, err)
	}
	redeem := func(body map[string]string) answer {
		return call{Method: "POST", URL: d.Admin.URL + "/signin/session", JSON: body}.send(t)
	}
	code := next.Query().Get("code")
	redeem(map[string]string{"code": code, "verifier": verifier}).wantCode(t, 400, "invalid_grant") // not the challenge's
	redeem(map[string]string{"code": code, "verifier": verifier}).wantCode(t, 400, "invalid_grant")
	redeem(map[string]string{"code": back.Query().Get("code"), "verifier": verifier}).wantCode(t, 400, "invalid_grant") // the login service's
	redeem(map[string]string{}).wantCode(t, 400, "invalid_grant")
	redeem(map[string]string{"cod": "x"}).wantCode(t, 400, "malformed_json")
	// An access token of the very user is no session.
	call{URL: d.Admin.URL + "/admin/v1/session", Token: d.userTokens(t).Access}.send(t).wantCode(t, 401, "unauthorized")
}

// asOperator runs a command as whoever has signed in with this configuration folder.
func (s *topology) asOperator(t *testing.T, home string, args ...string) (out, complaint string, err error) {
	t.Helper()
	cmd := s.command(append(args, "--admin", s.Admin.URL)...)
	cmd.Env = append(cmd.Env, "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"))
	var wrong bytes.Buffer
	cmd.Stderr = &wrong
	said, err := cmd.Output()
	return string(said), wrong.String(), err
}

// signInAt runs mpr signin and is its browser.
func (s *topology) signInAt(t *testing.T, home string, u user) {
	t.Helper()
	cmd := s.command("signin", "--no-browser", "--admin", s.Admin.URL)
	cmd.Env = append(cmd.Env, "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"))
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	page := ""
	for lines := bufio.NewScanner(said); page == "" && lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "http") {
			page = line
		}
	}
	if page == "" {
		_ = cmd.Wait()
		t.Fatal("mpr signin printed no URL")
	}
	p := newPerson(t, s.dev)
	back := p.toControl(t, page, u)
	next := call{Client: p.client, URL: back.String()}.send(t).want(t, 200).text(t, "hand-over")
	call{Client: p.client, URL: strings.Replace(next, "state=", "state=x", 1)}.send(t).want(t, 404) // somebody guesses
	call{Client: p.client, URL: next}.send(t).want(t, 200)
	_, _ = io.Copy(io.Discard, said)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("mpr signin: %v", err)
	}
}

var tokenSetting = regexp.MustCompile(`(?m)^control: \{`)

// setToken turns the admin API's token on or off, for the next start.
func (s *topology) setToken(t *testing.T, value string) {
	t.Helper()
	args := s.processes["control"].args
	config := args[slices.Index(args, "--config")+1]
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.NewReplacer("admin_token: on, ", "", "admin_token: off, ", "").Replace(string(text)))
	if err := os.WriteFile(config, tokenSetting.ReplaceAll(text, []byte("control: {admin_token: "+value+", ")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The admin API's token is replaced by operators who sign in: each role a process of its own.
func TestOperatorsInPlaceOfTheToken(t *testing.T) {
	s := newTopology(t)
	home := t.TempDir()
	s.setToken(t, "off")
	out, err := s.command("control", "--config", s.config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no user of production is an admin") || !strings.Contains(string(out), "start with control.admin_token: on") {
		t.Fatalf("control without anybody who could use it: %v\n%s", err, out)
	}
	s.setToken(t, "on")
	s.start(t, "control", "login", "US01")
	var made struct{ Password string }
	s.runEventually(t, &made, "user", "create", "--login", "root@example.com", "--name", "Root Admin")
	root := user{Login: "root@example.com", Password: made.Password}
	s.run(t, &object{}, "operator", "grant", root.Login, "--role", "admin")

	s.setToken(t, "off")
	s.stop(t, "control")
	s.start(t, "control")
	eventually(t, readyWithin, func() (bool, string) { return s.reaches(t, s.Admin.URL+"/admin/v1/signin") })
	if _, err := s.mpr("company", "list"); err == nil || !strings.Contains(err.Error(), "turned off") {
		t.Errorf("the token is taken though it is turned off: %v", err)
	}
	if _, wrong, err := s.asOperator(t, home, "company", "list"); err == nil || !strings.Contains(wrong, "mpr signin --admin "+s.Admin.URL) {
		t.Errorf("before signing in: %v %s", err, wrong)
	}
	s.signInAt(t, home, root)
	if out, wrong, err := s.asOperator(t, home, "operator", "whoami"); err != nil || !strings.Contains(out, root.Login) {
		t.Errorf("whoami: %s %s %v", out, wrong, err)
	}
	if _, wrong, err := s.asOperator(t, home, "operator", "revoke", root.Login); err == nil || !strings.Contains(wrong, "the last admin") {
		t.Errorf("the last admin is gone: %v %s", err, wrong)
	}
	// Sessions outlive the control role, and the login service being away.
	s.kill(t, "login")
	s.stop(t, "control")
	s.start(t, "control")
	eventually(t, readyWithin, func() (bool, string) {
		out, wrong, err := s.asOperator(t, home, "region", "list")
		return err == nil && strings.Contains(out, "US01"), wrong
	})
	if out, wrong, err := s.asOperator(t, home, "audit", "--subject", root.Login); err != nil || !strings.Contains(out, "DELETE /admin/v1/operators/{login}") || !strings.Contains(out, "conflict") ||
		!strings.Contains(out, "PUT /admin/v1/operators/{login}") {
		t.Errorf("the audit log: %s %s %v", out, wrong, err)
	}
	if _, wrong, err := s.asOperator(t, home, "signin", "--no-browser", "--port", "1", "--wait", "0s"); err == nil || !strings.Contains(wrong, "--wait") {
		t.Errorf("%v %s", err, wrong)
	}
	s.stop(t, "control", "US01")
}

// Operators sign in where everything speaks TLS: the doors, the admin API, and the processes to one
// another, with certificates on both sides.
func TestOperatorsSignInBehindTLS(t *testing.T) {
	s := newTopology(t)
	s.doorsOverTLS(t)
	rewrite(t, s.config, s.config, "control: {", fmt.Sprintf("control: {login_url: %q, ", s.Environments[0].Login))
	s.secured(t)
	s.start(t, "control", "login", "US01")
	people := map[string]user{}
	for _, role := range []string{"admin", "viewer"} {
		var made struct{ Password string }
		login := role + "@example.com"
		s.runEventually(t, &object{}, "app", "list")
		s.run(t, &made, "user", "create", "--login", login, "--name", "Who is "+role)
		s.run(t, &object{}, "operator", "grant", login, "--role", role)
		people[role] = user{Login: login, Password: made.Password}
	}
	s.setToken(t, "off")
	s.stop(t, "control")
	s.start(t, "control")
	eventually(t, readyWithin, func() (bool, string) { return s.reaches(t, s.Admin.URL+"/admin/v1/signin") })

	admin, viewer := t.TempDir(), t.TempDir()
	s.signInAt(t, admin, people["admin"])
	s.signInAt(t, viewer, people["viewer"])
	create := []string{"company", "create", "--name", "Made by an operator", "--region", "US01"}
	if _, wrong, err := s.asOperator(t, viewer, create...); err == nil || !strings.Contains(wrong, "viewer") {
		t.Errorf("a viewer makes a company: %v %s", err, wrong)
	}
	if _, wrong, err := s.asOperator(t, admin, create...); err != nil {
		t.Errorf("an admin makes no company: %v %s", err, wrong)
	}
	if out, wrong, err := s.asOperator(t, viewer, "company", "list"); err != nil || !strings.Contains(out, "Made by an operator") {
		t.Errorf("a viewer sees %s %s %v", out, wrong, err)
	}
	out, wrong, err := s.asOperator(t, admin, "audit")
	for _, want := range []string{people["admin"].Login, people["viewer"].Login, "forbidden", "POST /companies"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("the audit log doesn't tell of %q: %s %s %v", want, out, wrong, err)
		}
	}
	if _, _, err := s.asOperator(t, admin, "signout"); err != nil {
		t.Error(err)
	}
	if _, wrong, err := s.asOperator(t, admin, "company", "list"); err == nil || !strings.Contains(wrong, "mpr signin --admin "+s.Admin.URL) {
		t.Errorf("after signing out: %v %s", err, wrong)
	}
	s.stop(t, "control", "login", "US01")
}
