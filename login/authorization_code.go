package login

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"fmt"
	"log/slog"
	"time"

	"mpr/problem"
	"mpr/store"
)

// request is an authorization request that has been checked (RFC 6749 section 4.1.1).
type request struct {
	app         *app
	redirectURI string
	uriWasSent  bool
	state       string
	challenge   string // PKCE, S256; empty where the client sent none
}

// issueCode makes the authorization code of a consent. The grant has its name from here
// on, but begins when the code is redeemed.
func (s *Service) issueCode(ctx context.Context, req *request, u *user) (string, error) {
	now := s.Now()
	code, grant := newSecret(), newSecret()
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		same, err := u.unchanged(ctx, tx)
		if err == nil && !same {
			err = problem.New(problem.Forbidden, "Your account was changed just now. Go back, sign in and try again.")
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO codes (hash, grant_id, app_id, user_id, redirect_uri, uri_was_sent, code_challenge, expires, used)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)`,
			fingerprint(code), grant, req.app.ID, u.ID, req.redirectURI, flag(req.uriWasSent), req.challenge, store.Micros(now.Add(s.CodeLifetime)))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("issue code: %w", err)
	}
	return code, nil
}

// authorizationCode exchanges a code for tokens (RFC 6749 section 4.1.3).
func (s *Service) authorizationCode(ctx context.Context, a *app, p params) (*tokenAnswer, error) {
	if a.serviceAccount() {
		return nil, problem.New(problem.UnauthorizedClient, "This app is a service account. Use client_credentials.")
	}
	if p["code"] == "" {
		return nil, problem.New(problem.InvalidRequest, "The parameter code is missing.")
	}
	now := s.Now()
	refresh := newSecret()
	var grant string
	var userID int64
	var refused error // the transaction commits all the same: the code is used up, or the grant revoked
	err := s.DB.Write(ctx, func(tx *sql.Tx) (err error) {
		grant, userID, refused, err = s.redeem(ctx, tx, a, p, now)
		if err != nil || refused != nil {
			return err
		}
		if err := s.addGrant(ctx, tx, grant, a, userID, now); err != nil {
			return err
		}
		return addRefreshToken(ctx, tx, grant, refresh, now)
	})
	if err != nil {
		return nil, fmt.Errorf("authorization_code: %w", err)
	}
	if refused != nil {
		s.wakePublisher()
		return nil, refused
	}
	answer, err := s.mint(a, userID, grant, now)
	if err != nil {
		return nil, err
	}
	answer.RefreshToken = refresh
	return answer, nil
}

// redeem uses up a code. Of many requests with one code, one wins; a code that comes a
// second time revokes what the first one got: "If an authorization code is used more than
// once, the authorization server MUST deny the request and SHOULD revoke (when possible)
// all tokens previously issued based on that authorization code." (section 4.1.2)
func (s *Service) redeem(ctx context.Context, tx *sql.Tx, a *app, p params, now time.Time) (grant string, userID int64, refused, err error) {
	invalid := problem.New(problem.InvalidGrant, "The authorization code is invalid: it is unknown, has expired, was used already, or was made for another client or redirect URI.")
	var redirectURI, challenge string
	var appID, uriWasSent, expires int64
	err = tx.QueryRowContext(ctx, `SELECT grant_id, app_id, user_id, redirect_uri, uri_was_sent, code_challenge, expires FROM codes WHERE hash = $1`,
		fingerprint(p["code"])).Scan(&grant, &appID, &userID, &redirectURI, &uriWasSent, &challenge, &expires)
	if isNoRows(err) || err == nil && appID != a.ID {
		return "", 0, invalid, nil // another client's code stays as it is: its owner may still use it
	}
	if err != nil {
		return "", 0, nil, err
	}
	if alive, err := enabled(ctx, tx, userID); err != nil || !alive {
		return "", 0, invalid, err
	}
	result, err := tx.ExecContext(ctx, `UPDATE codes SET used = $2 WHERE hash = $1 AND used = 0`, fingerprint(p["code"]), store.Micros(now))
	if err != nil {
		return "", 0, nil, err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return "", 0, nil, err
	}
	if n == 0 {
		slog.WarnContext(ctx, "a code came a second time: what it was exchanged for is revoked", "app", appID, "user", userID)
		return "", 0, invalid, revokeGrant(ctx, tx, grant, now)
	}
	switch {
	case !now.Before(store.Time(expires)):
		return "", 0, invalid, nil
	case p["redirect_uri"] != redirectURI && (uriWasSent == 1 || p["redirect_uri"] != ""):
		return "", 0, invalid, nil
	case !verifierMatches(challenge, p["code_verifier"]):
		return "", 0, problem.New(problem.InvalidGrant, "The code_verifier doesn't match the code_challenge of the authorization request."), nil
	}
	return grant, userID, nil, nil
}

// verifierMatches checks PKCE (RFC 7636 section 4.6, S256). A verifier without a challenge
// is refused too: an attacker may have taken the challenge out (RFC 9700 section 2.1.1).
func verifierMatches(challenge, verifier string) bool {
	if challenge == "" || verifier == "" {
		return challenge == verifier
	}
	if len(verifier) < 43 || len(verifier) > 128 { // RFC 7636 section 4.1
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}
