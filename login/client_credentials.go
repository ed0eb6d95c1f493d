package login

import (
	"context"
	"database/sql"
	"fmt"

	"mpr/problem"
)

// clientCredentials is the grant of service accounts (RFC 6749 section 4.4). There is no
// refresh token: "A refresh token SHOULD NOT be included" (section 4.4.3).
func (s *Service) clientCredentials(ctx context.Context, a *app, _ params) (*tokenAnswer, error) {
	if !a.serviceAccount() {
		return nil, problem.New(problem.UnauthorizedClient,
			"This app is no service account, so it can't use client_credentials. Use authorization_code.")
	}
	now := s.Now()
	grant := newSecret()
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		return s.addGrant(ctx, tx, grant, a, noUser, now)
	})
	if err != nil {
		return nil, fmt.Errorf("client_credentials: %w", err)
	}
	// A service account is its app: it has the app's id.
	return s.mint(a, a.ID, grant, now)
}
