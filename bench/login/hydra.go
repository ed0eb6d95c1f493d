package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"mpr/bench/machine"
)

// hydra is ory/hydra at its best: access tokens are signed and not looked up, as ours are; the hash of
// clients' secrets is made as cheap as it allows, since ours are random and need no slow one; requests
// aren't logged.
type hydra struct {
	*service
	public, admin string
}

// loginPage is where hydra sends browsers to: nobody is there, since [hydra.signIn] goes no further.
const loginPage = "http://127.0.0.1:1/"

func startHydra(ctx context.Context, o options, closes *machine.Cleanup) (*hydra, error) {
	dir, err := os.MkdirTemp(o.dir, "hydra-bench-login")
	if err != nil {
		return nil, err
	}
	*closes = append(*closes, func() error { return os.RemoveAll(dir) })
	a, err := machine.FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	h := &hydra{public: "http://" + a[0], admin: "http://" + a[1]}
	h.service = newService("hydra", h.public+"/oauth2/token", o.clients)
	config := map[string]any{
		"dsn":        o.postgres,
		"log":        map[string]any{"level": "error"},
		"serve":      map[string]any{"public": listen(a[0]), "admin": listen(a[1])},
		"urls":       map[string]any{"self": map[string]any{"issuer": h.public}, "login": loginPage + "login", "consent": loginPage + "consent"},
		"secrets":    map[string]any{"system": []string{crand.Text() + crand.Text()}},
		"strategies": map[string]any{"access_token": "jwt"},
		"oauth2":     map[string]any{"hashers": map[string]any{"algorithm": "pbkdf2", "pbkdf2": map[string]any{"iterations": 1}}},
	}
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "hydra.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, o.hydra, "migrate", "sql", "up", "--yes", "--config", file, o.postgres).CombinedOutput(); err != nil { //nolint:gosec // the binary that one was told
		return nil, fmt.Errorf("make its tables: %w: %.2000s", err, out)
	}
	if h.process, err = machine.Start(ctx, dir, "hydra", o.hydra, "serve", "all", "--dev", "--sqa-opt-out", "--config", file); err != nil {
		return nil, err
	}
	*closes = append(*closes, h.process.Stop)
	return h, h.register(ctx)
}

func listen(address string) map[string]any {
	host, port, _ := strings.Cut(address, ":")
	return map[string]any{"host": host, "port": json.Number(port), "request_log": map[string]any{"disable_for_health": true}}
}

// register makes the app and the account, and signs people in.
func (h *hydra) register(ctx context.Context) error {
	err := machine.Eventually(ctx, "register an app", within, again, func(ctx context.Context) (err error) {
		h.app, err = h.client(ctx, map[string]any{"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "redirect_uris": []string{redirectURI}, "scope": "offline"})
		return err
	})
	if err == nil { // the keys that it makes by itself take ten milliseconds to sign with
		err = h.tell(ctx, http.MethodPost, "/admin/keys/hydra.jwt.access-token", map[string]any{"alg": "ES256", "use": "sig", "kid": crand.Text()}, &struct{}{})
	}
	if err == nil {
		h.account, err = h.client(ctx, map[string]any{"grant_types": []string{"client_credentials"}})
	}
	for i := range h.chains {
		if err != nil {
			return err
		}
		h.chains[i], err = h.signIn(ctx, fmt.Sprintf("person-%d@example.com", i))
	}
	return err
}

func (h *hydra) client(ctx context.Context, in map[string]any) (credentials, error) {
	in["token_endpoint_auth_method"] = "client_secret_post"
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	err := h.tell(ctx, http.MethodPost, "/admin/clients", in, &made)
	return credentials{made.ID, made.Secret}, err
}

func (h *hydra) tell(ctx context.Context, method, path string, in, out any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, h.admin+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return call(h.http, req, out)
}

// signIn is a browser whose person signs in and allows the app. The pages for that are up to whoever
// runs hydra, so what they would tell it is told at once.
func (h *hydra) signIn(ctx context.Context, person string) (refresh string, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := &http.Client{Jar: jar, Timeout: within, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), loginPage) || strings.HasPrefix(r.URL.String(), redirectURI) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	at := h.public + "/oauth2/auth?" + url.Values{"response_type": {"code"}, "client_id": {h.app.id}, "redirect_uri": {redirectURI}, "scope": {"offline"}, "state": {crand.Text()}}.Encode()
	for _, step := range []struct {
		name   string
		accept any
	}{{"login", map[string]any{"subject": person}}, {"consent", map[string]any{"grant_scope": []string{"offline"}}}} {
		to, err := visit(ctx, browser, at)
		if err != nil {
			return "", err
		}
		var next struct {
			To string `json:"redirect_to"`
		}
		challenge := step.name + "_challenge"
		if err := h.tell(ctx, http.MethodPut, "/admin/oauth2/auth/requests/"+step.name+"/accept?"+url.Values{challenge: {to.Query().Get(challenge)}}.Encode(), step.accept, &next); err != nil {
			return "", fmt.Errorf("%s: %w", step.name, err)
		}
		at = next.To
	}
	to, err := visit(ctx, browser, at)
	if err != nil {
		return "", err
	}
	code := to.Query().Get("code")
	if code == "" {
		return "", errors.New("no code came")
	}
	return h.exchange(ctx, code)
}

// visit answers where a browser is sent in the end.
func visit(ctx context.Context, browser *http.Client, at string) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := browser.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return resp.Location()
}
