package login

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"mpr/problem"
	"mpr/token"
)

// tokenAnswer is a successful answer of the token endpoint (RFC 6749 section 5.1).
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	CreatedAt    int64  `json:"created_at"`
}

// tokenEndpoint answers POST /oauth/token.
func (s *Service) tokenEndpoint(w http.ResponseWriter, r *http.Request) error {
	p, err := readParams(w, r)
	if err != nil {
		return err
	}
	grants := map[string]func(context.Context, *app, params) (*tokenAnswer, error){
		"authorization_code": s.authorizationCode,
		"refresh_token":      s.refreshToken,
		"client_credentials": s.clientCredentials,
	}
	grant := grants[p["grant_type"]]
	if p["grant_type"] == "" {
		return problem.New(problem.InvalidRequest, "The parameter grant_type is missing: send authorization_code, refresh_token or client_credentials.")
	}
	if grant == nil {
		return problem.New(problem.UnsupportedGrantType, "The grant type isn't supported: send authorization_code, refresh_token or client_credentials.")
	}
	a, err := s.authenticateClient(r.Context(), w, r, p)
	if err != nil {
		return err
	}
	answer, err := grant(r.Context(), a, p)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// writeJSON answers JSON that must not be cached.
func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the status is sent: a client that went away can't be told
}

// mint makes an access token of a grant. The grant in the store must already last until
// the token expires, so that a revocation of the grant reaches it.
func (s *Service) mint(a *app, subject int64, grant string, now time.Time) (*tokenAnswer, error) {
	now = now.Truncate(time.Second)
	raw, err := s.ring.Sign(token.Claims{
		Issuer:   s.Issuer,
		Subject:  subject,
		ClientID: a.ClientID,
		App:      a.ID,
		Kind:     a.tokenKind(),
		Company:  a.Company,
		Grant:    grant,
		ID:       newSecret(),
		IssuedAt: now,
		Expires:  now.Add(s.AccessLifetime),
	})
	if err != nil {
		return nil, err
	}
	return &tokenAnswer{
		AccessToken: raw,
		TokenType:   "bearer",
		ExpiresIn:   int64(s.AccessLifetime / time.Second),
		CreatedAt:   now.Unix(),
	}, nil
}
