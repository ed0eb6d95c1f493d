package login

import "net/http"

// metadata answers GET /.well-known/oauth-authorization-server (RFC 8414), with URLs on
// the host that the client called: "The "issuer" value returned MUST be identical to the
// authorization server's issuer identifier value into which the well-known URI string was
// inserted" (section 3.3).
func (s *Service) metadata(w http.ResponseWriter, r *http.Request) error {
	base := s.baseURL(r)
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                     base,
		"authorization_endpoint":                     base + "/oauth/authorize",
		"token_endpoint":                             base + "/oauth/token",
		"revocation_endpoint":                        base + "/oauth/revoke",
		"jwks_uri":                                   base + "/oauth/jwks",
		"response_types_supported":                   []string{"code"},
		"response_modes_supported":                   []string{"query"},
		"grant_types_supported":                      []string{"authorization_code", "refresh_token", "client_credentials"},
		"token_endpoint_auth_methods_supported":      []string{"client_secret_basic", "client_secret_post", "none"},
		"revocation_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "none"},
		"code_challenge_methods_supported":           []string{"S256"},
		// People who come to another door are sent on to the login door, whose answer
		// names that door (RFC 9207 section 2).
		"authorization_response_iss_parameter_supported": s.door(r) == base,
	})
	return nil
}

// jwks answers the public keys (RFC 7517 section 5).
func (s *Service) jwks(w http.ResponseWriter, _ *http.Request) error {
	keys, err := s.ring.JWKS()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=60")
	_, _ = w.Write(keys)
	return nil
}
