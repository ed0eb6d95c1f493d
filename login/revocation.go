package login

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"mpr/problem"
	"mpr/store"
	"mpr/token"
)

// revokeGrant notes in the store that a grant is revoked. Publishing follows. before is
// an error of the caller's, which wins.
func revokeGrant(ctx context.Context, tx *sql.Tx, grant string, now time.Time, before error) error {
	if before != nil {
		return before
	}
	_, err := tx.ExecContext(ctx, `UPDATE grants SET revoked = $2 WHERE id = $1 AND revoked = 0`, grant, store.Micros(now))
	return err
}

// revoke answers POST /oauth/revoke (RFC 7009): the token's grant ends, its access tokens
// and its refresh token with it. The body is an empty object, since public clients parse
// it as JSON.
func (s *Service) revoke(w http.ResponseWriter, r *http.Request) error {
	p, err := readParams(w, r)
	if err != nil {
		return err
	}
	a, err := s.authenticateClient(r.Context(), w, r, p)
	if err != nil {
		return err
	}
	if p["token"] == "" {
		return problem.New(problem.InvalidRequest, "The parameter token is missing.")
	}
	grant, err := s.grantOf(r.Context(), a, p["token"])
	if err != nil {
		return err
	}
	// "invalid tokens do not cause an error response" (section 2.2)
	if grant != "" {
		err := s.DB.Write(r.Context(), func(tx *sql.Tx) error { return revokeGrant(r.Context(), tx, grant, s.Now(), nil) })
		if err != nil {
			return fmt.Errorf("revoke: %w", err)
		}
		if err := s.publishOnce(r.Context()); err != nil {
			slog.Warn("a revocation waits until it can be published", "error", err)
			s.wakePublisher()
		}
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

// grantOf finds the grant of an access or refresh token of this app; empty if the token
// is unknown, or another app's.
func (s *Service) grantOf(ctx context.Context, a *app, presented string) (string, error) {
	if claims, err := s.Verifier.Verify(presented); err == nil {
		if claims.App != a.ID {
			return "", nil
		}
		return claims.Grant, nil
	}
	var grant string
	err := s.DB.Read().QueryRowContext(ctx, `SELECT t.grant_id FROM refresh_tokens t JOIN grants g ON g.id = t.grant_id
		WHERE t.hash = $1 AND g.app_id = $2`, fingerprint(presented), a.ID).Scan(&grant)
	if err != nil && !isNoRows(err) {
		return "", fmt.Errorf("find a token: %w", err)
	}
	return grant, nil
}

// revoked says whether the store knows a grant as revoked: at the login door a revocation
// counts at once.
func (s *Service) revoked(ctx context.Context, grant string) (bool, error) {
	var at int64
	err := s.DB.Read().QueryRowContext(ctx, `SELECT revoked FROM grants WHERE id = $1`, grant).Scan(&at)
	if err != nil && !isNoRows(err) {
		return false, fmt.Errorf("read grant: %w", err)
	}
	return at != 0, nil
}

// publishEvery is how often revocations that could not be published are tried again.
const publishEvery = time.Second

// publishRevocations tells verifiers of revoked grants, until the context ends.
func (s *Service) publishRevocations(ctx context.Context) {
	t := time.NewTicker(publishEvery)
	defer t.Stop()
	for {
		if err := s.publishOnce(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("publish revocations; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-s.wakeUp:
		}
	}
}

// wakePublisher makes publishRevocations look at once.
func (s *Service) wakePublisher() {
	select {
	case s.wakeUp <- struct{}{}:
	default: // it has been woken already
	}
}

// publishOnce publishes what isn't yet. A revocation may be published twice; that changes
// nothing.
func (s *Service) publishOnce(ctx context.Context) error {
	pending, err := s.unpublished(ctx)
	if err != nil {
		return err
	}
	for grant, until := range pending {
		if s.Now().Before(until) { // afterwards no token needs it
			if err := s.Revoker.Revoke(ctx, grant, until); err != nil {
				return err
			}
		}
		err := s.DB.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE grants SET published = 1 WHERE id = $1`, grant)
			return err
		})
		if err != nil {
			return fmt.Errorf("note a published revocation: %w", err)
		}
	}
	return nil
}

const publishAtOnce = 100

func (s *Service) unpublished(ctx context.Context) (pending map[string]time.Time, err error) {
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT id, last_token FROM grants WHERE published = 0 AND revoked > 0 LIMIT $1`, publishAtOnce)
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	pending = map[string]time.Time{}
	for rows.Next() {
		var grant string
		var until int64
		if err := rows.Scan(&grant, &until); err != nil {
			return nil, fmt.Errorf("list revocations: %w", err)
		}
		pending[grant] = store.Time(until)
	}
	return pending, rows.Err()
}

// bearer verifies the access token of a request to the login role itself.
func (s *Service) bearer(w http.ResponseWriter, r *http.Request) (*token.Claims, error) {
	raw, err := token.Bearer(r.Header.Values("Authorization"))
	if err == nil {
		var claims *token.Claims
		if claims, err = s.Verifier.Verify(raw); err == nil {
			var gone bool
			if gone, err = s.revoked(r.Context(), claims.Grant); err == nil && !gone {
				return claims, nil
			}
			if err == nil {
				err = problem.New(problem.InvalidToken, "The access token is invalid")
			}
		}
	}
	// RFC 6750 section 3
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	return nil, err
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
