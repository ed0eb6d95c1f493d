package main

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/html"

	"mpr/bench/machine"
	"mpr/control"
)

const (
	environment = "production"
	within      = time.Minute
	again       = 50 * time.Millisecond
	redirectURI = "http://127.0.0.1:1/callback"
)

// system is a control role and a login service, and clients that have what they need to ask for
// tokens.
type system struct {
	o         options
	dir, door string
	login     *machine.Process
	http      *http.Client
	closes    machine.Cleanup

	account   control.App // which asks by its credentials
	app       control.App
	chains    []string // the newest refresh token of each client
	signInCPU time.Duration
}

func newSystem(ctx context.Context, o options) (s *system, err error) {
	s = &system{o: o, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.clients}, Timeout: within}}
	if s.dir, err = os.MkdirTemp(o.dir, "mpr-bench-login"); err != nil {
		return s, err
	}
	s.closes = append(s.closes, func() error { return os.RemoveAll(s.dir) })
	a, err := machine.FreeAddresses(5)
	if err != nil {
		return s, err
	}
	s.door = "http://" + a[2]
	token := crand.Text() + crand.Text()
	file := filepath.Join(s.dir, "mpr.yaml")
	err = errors.Join(os.WriteFile(filepath.Join(s.dir, "admin.token"), []byte(token), 0o600), os.WriteFile(file, fmt.Appendf(nil, `data: %q
stores: {dsn: %q}
directory: {listen: %q}
control: {listen: %q, token_file: %q}
environments:
  - name: %s
    login: {host: login.procore.com, listen: %q}
    api: {host: api.procore.com, listen: %q}
    identity: {internal: %q}
    regions: [{code: US01, number: 0, upstreams: ["http://127.0.0.1:1"]}]
`, filepath.Join(s.dir, "data"), o.postgres, a[0], a[1], filepath.Join(s.dir, "admin.token"), environment, a[2], a[3], a[4]), 0o600))
	if err != nil {
		return s, err
	}
	for _, role := range []string{"control", "login"} {
		p, err := machine.Start(ctx, s.dir, role, o.binary, role, "--config", file)
		if err != nil {
			return s, err
		}
		s.closes = append(s.closes, p.Stop)
		s.login = p
	}
	return s, s.register(ctx, control.NewClient("http://"+a[1], token, environment))
}

func (s *system) close() error { return s.closes.Close() }

// register makes the apps and the people, each of whom signs in.
func (s *system) register(ctx context.Context, admin *control.Client) (err error) {
	err = machine.Eventually(ctx, "register an app", within, again, func(ctx context.Context) (err error) {
		s.app, err = admin.CreateApp(ctx, control.NewApp{Name: "Reports", Kind: control.KindWeb, RedirectURIs: []string{redirectURI}, IdempotencyKey: "app"})
		return err
	})
	if err == nil {
		s.account, err = admin.CreateServiceAccount(ctx, control.NewServiceAccount{Name: "Sync", Kind: control.KindDeveloperManaged, IdempotencyKey: "account"})
	}
	if err != nil {
		return err
	}
	before, err := s.login.CPU()
	if err != nil {
		return err
	}
	for i := range s.o.clients {
		u := control.NewUser{Login: fmt.Sprintf("person-%d@example.com", i), Name: "Somebody", Password: crand.Text()}
		if _, err := admin.CreateUser(ctx, u); err != nil {
			return err
		}
		refresh, err := s.signIn(ctx, u.Login, u.Password)
		if err != nil {
			return fmt.Errorf("sign in: %w", err)
		}
		s.chains = append(s.chains, refresh)
	}
	after, err := s.login.CPU()
	s.signInCPU = after - before
	return err
}

// signIn is a person with a browser, who signs in and allows the app; it answers a refresh token.
func (s *system) signIn(ctx context.Context, login, password string) (refresh string, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	code := ""
	browser := &http.Client{Jar: jar, Timeout: within, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if code = r.URL.Query().Get("code"); code != "" && strings.HasPrefix(r.URL.String(), redirectURI) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	at := s.door + "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {s.app.ClientID}, "redirect_uri": {redirectURI}}.Encode()
	var form url.Values
	for range 4 { // pages: the one to sign in, and the one to allow it
		if at, form, err = open(ctx, browser, at, form); err != nil {
			return "", err
		}
		if code != "" {
			t, err := s.token(ctx, url.Values{"grant_type": {"authorization_code"}, "client_id": {s.app.ClientID}, "client_secret": {s.app.ClientSecret}, "redirect_uri": {redirectURI}, "code": {code}})
			return t.Refresh, err
		}
		for name, value := range map[string]string{"login": login, "password": password, "decision": "allow"} {
			if form.Has(name) {
				form.Set(name, value)
			}
		}
	}
	return "", errors.New("no code came")
}

// open opens a page, by a form if there is one, and answers its form.
func open(ctx context.Context, browser *http.Client, at string, posted url.Values) (action string, form url.Values, err error) {
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if posted != nil {
		method, body = http.MethodPost, strings.NewReader(posted.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return "", nil, err
	}
	if posted != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := browser.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	doc, err := html.Parse(resp.Body)
	if err != nil {
		return "", nil, err
	}
	action, form = resp.Request.URL.String(), url.Values{}
	for n := range doc.Descendants() {
		a := map[string]string{}
		for _, attribute := range n.Attr {
			a[attribute.Key] = attribute.Val
		}
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "form" && a["action"] != "":
			to, err := resp.Request.URL.Parse(a["action"])
			if err != nil {
				return "", nil, err
			}
			action = to.String()
		case (n.Data == "input" || n.Data == "button") && a["name"] != "":
			form.Set(a["name"], a["value"])
		}
	}
	return action, form, nil
}

// tokens are what a request for them is answered with.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// token asks for tokens.
func (s *system) token(ctx context.Context, form url.Values) (t tokens, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.door+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return t, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.http.Do(req)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, data)
	}
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(data, &t)
}
