package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"mpr/bench/machine"
)

// service is a login service with clients that have what they need to ask for tokens.
type service struct {
	name, endpoint string
	process        *machine.Process
	http           *http.Client
	account        credentials // which asks for itself
	app            credentials
	chains         []string // the newest refresh token of each client
}

type credentials struct{ id, secret string }

func newService(name, endpoint string, clients int) *service {
	return &service{
		name: name, endpoint: endpoint, chains: make([]string, clients),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: within},
	}
}

// kinds are the requests that are measured.
func (s *service) kinds() []*kind {
	return []*kind{{of: s, name: "client credentials", ask: s.clientCredentials}, {of: s, name: "refresh", ask: s.refresh}}
}

func (s *service) clientCredentials(ctx context.Context, _ int) error {
	_, err := s.token(ctx, s.account, url.Values{"grant_type": {"client_credentials"}})
	return err
}

func (s *service) refresh(ctx context.Context, client int) error {
	t, err := s.token(ctx, s.app, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.chains[client]}})
	if err == nil {
		s.chains[client] = t.Refresh
	}
	return err
}

// exchange exchanges a code for tokens, and answers the one to refresh.
func (s *service) exchange(ctx context.Context, code string) (refresh string, err error) {
	t, err := s.token(ctx, s.app, url.Values{"grant_type": {"authorization_code"}, "redirect_uri": {redirectURI}, "code": {code}})
	if err == nil && t.Refresh == "" {
		err = fmt.Errorf("%s gave no refresh token", s.name)
	}
	return t.Refresh, err
}

// tokens are what a request for them is answered with.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// token asks for tokens.
func (s *service) token(ctx context.Context, as credentials, form url.Values) (t tokens, err error) {
	form.Set("client_id", as.id)
	form.Set("client_secret", as.secret)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return t, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	err = call(s.http, req, &t)
	return t, err
}

// call sends a request whose answer is JSON.
func call(client *http.Client, req *http.Request, out any) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s: %.300s", resp.Status, data)
	}
	return json.Unmarshal(data, out)
}
