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
)

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
		err := s.DB.Write(r.Context(), func(tx *sql.Tx) error { return revokeGrant(r.Context(), tx, grant, s.Now()) })
		if err != nil {
			return fmt.Errorf("revoke: %w", err)
		}
		s.publishBeforeAnswer(r.Context())
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

const (
	// publishEvery is how often revocations that could not be published are tried again.
	publishEvery = time.Second
	// publishWithin is how long an answer waits for the directory. What isn't published by
	// then is later, by the loop.
	publishWithin = time.Second
	publishAtOnce = 100
)

// publishBeforeAnswer publishes what a request has revoked, so that it is on its way to
// all verifiers when the client hears of it. A directory that is away doesn't fail the
// request: the revocation is in the store.
func (s *Service) publishBeforeAnswer(ctx context.Context) {
	// A client that goes away must not keep its revocation from being published.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishWithin)
	defer cancel()
	more, err := s.publishSome(ctx)
	if err != nil {
		slog.WarnContext(ctx, "a revocation waits until it can be published", "error", err)
	}
	if more || err != nil {
		s.wakePublisher()
	}
}

// publishRevocations tells verifiers of revoked grants, until the context ends.
func (s *Service) publishRevocations(ctx context.Context) {
	t := time.NewTicker(publishEvery)
	defer t.Stop()
	var told problem.Told
	for {
		more, err := s.publishSome(ctx)
		if told.Anew(err) && ctx.Err() == nil {
			slog.Warn("publish revocations; trying again until that succeeds", "error", err)
		}
		if more && err == nil {
			continue
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

// publishSome publishes what isn't yet, and says whether there is more. A revocation may
// be published twice, by two login services; that changes nothing.
func (s *Service) publishSome(ctx context.Context) (more bool, err error) {
	pending, err := s.unpublished(ctx)
	if err != nil {
		return false, err
	}
	for grant, until := range pending {
		if s.Now().Before(until) { // afterwards no token needs it
			if err := s.Revoker.Revoke(ctx, grant, until); err != nil {
				return false, err
			}
		}
		err := s.DB.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE grants SET published = 1 WHERE id = $1`, grant)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("note a published revocation: %w", err)
		}
	}
	return len(pending) == publishAtOnce, nil
}

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
