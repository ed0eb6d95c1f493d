package main

import (
	"context"
	crand "crypto/rand"
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

// ours are a control role and our login service.
type ours struct {
	*service
	o         options
	door      string
	signInCPU time.Duration
}

func startOurs(ctx context.Context, o options, closes *machine.Cleanup) (*ours, error) {
	dir, err := os.MkdirTemp(o.dir, "mpr-bench-login")
	if err != nil {
		return nil, err
	}
	*closes = append(*closes, func() error { return os.RemoveAll(dir) })
	a, err := machine.FreeAddresses(5)
	if err != nil {
		return nil, err
	}
	s := &ours{service: newService("mpr", "http://"+a[2]+"/oauth/token", o.clients), o: o, door: "http://" + a[2]}
	token := crand.Text() + crand.Text()
	file := filepath.Join(dir, "mpr.yaml")
	err = errors.Join(os.WriteFile(filepath.Join(dir, "admin.token"), []byte(token), 0o600), os.WriteFile(file, fmt.Appendf(nil, `data: %q
stores: {dsn: %q}
directory: {listen: %q}
control: {listen: %q, token_file: %q}
environments:
  - name: %s
    login: {host: login.procore.com, listen: %q}
    api: {host: api.procore.com, listen: %q}
    identity: {internal: %q}
    regions: [{code: US01, number: 0, upstreams: ["http://127.0.0.1:1"]}]
`, filepath.Join(dir, "data"), o.postgres, a[0], a[1], filepath.Join(dir, "admin.token"), environment, a[2], a[3], a[4]), 0o600))
	if err != nil {
		return nil, err
	}
	for _, role := range []string{"control", "login"} {
		p, err := machine.Start(ctx, dir, role, o.binary, role, "--config", file)
		if err != nil {
			return nil, err
		}
		*closes = append(*closes, p.Stop)
		s.process = p
	}
	return s, s.register(ctx, control.NewClient("http://"+a[1], token, environment))
}

// register makes the apps and the people, each of whom signs in.
func (s *ours) register(ctx context.Context, admin *control.Client) error {
	var app, account control.App
	err := machine.Eventually(ctx, "register an app", within, again, func(ctx context.Context) (err error) {
		app, err = admin.CreateApp(ctx, control.NewApp{Name: "Reports", Kind: control.KindWeb, RedirectURIs: []string{redirectURI}, IdempotencyKey: "app"})
		return err
	})
	if err == nil {
		account, err = admin.CreateServiceAccount(ctx, control.NewServiceAccount{Name: "Sync", Kind: control.KindDeveloperManaged, IdempotencyKey: "account"})
	}
	if err != nil {
		return err
	}
	s.app, s.account = credentials{app.ClientID, app.ClientSecret}, credentials{account.ClientID, account.ClientSecret}
	before, err := s.process.CPU()
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
		s.chains[i] = refresh
	}
	after, err := s.process.CPU()
	s.signInCPU = after - before
	return err
}

// signIn is a person with a browser, who signs in and allows the app; it answers a refresh token.
func (s *ours) signIn(ctx context.Context, login, password string) (refresh string, err error) {
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
	at := s.door + "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {s.app.id}, "redirect_uri": {redirectURI}}.Encode()
	var form url.Values
	for range 4 { // pages: the one to sign in, and the one to allow it
		if at, form, err = open(ctx, browser, at, form); err != nil {
			return "", err
		}
		if code != "" {
			return s.exchange(ctx, code)
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
