package login

import (
	"net/http"
	"time"

	"mpr/problem"
	"mpr/token"
)

// bearer verifies the access token of a request to the login role itself.
func (s *Service) bearer(w http.ResponseWriter, r *http.Request) (*token.Claims, error) {
	raw, err := token.Bearer(r.Header.Values("Authorization"))
	if err != nil {
		// "If the request lacks any authentication information [...] the resource server
		// SHOULD NOT include an error code or other error information." (RFC 6750 section
		// 3.1)
		w.Header().Set("WWW-Authenticate", "Bearer")
		return nil, err
	}
	claims, err := s.Verifier.Verify(raw)
	if err != nil {
		return nil, refuseToken(w, err)
	}
	gone, err := s.revoked(r.Context(), claims.Grant)
	if err != nil {
		return nil, err
	}
	if gone {
		return nil, refuseToken(w, problem.New(problem.InvalidToken, "The access token is invalid"))
	}
	return claims, nil
}

// refuseToken sets the challenge that goes with a token that is no good (RFC 6750 section
// 3).
func refuseToken(w http.ResponseWriter, err error) error {
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	return err
}

// tokenInfo answers GET /oauth/token/info.
func (s *Service) tokenInfo(w http.ResponseWriter, r *http.Request) error {
	claims, err := s.bearer(w, r)
	if err != nil {
		return err
	}
	left := int64(claims.Expires.Sub(s.Now()) / time.Second)
	writeJSON(w, http.StatusOK, map[string]any{
		"resource_owner_id":  claims.Subject,
		"scope":              []string{},
		"scopes":             []string{},
		"expires_in":         left,
		"expires_in_seconds": left,
		"application":        map[string]string{"uid": claims.ClientID},
		"created_at":         claims.IssuedAt.Unix(),
	})
	return nil
}
