package login

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"mpr/problem"
	"mpr/store"
)

// errRefreshToken is what clients of such systems know.
func errRefreshToken() error {
	return problem.New(problem.InvalidGrant, "The refresh token is invalid")
}

// addRefreshToken keeps a new refresh token.
func addRefreshToken(ctx context.Context, tx *sql.Tx, grant, refresh string, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO refresh_tokens (hash, grant_id, created, used, answer, answer_until) VALUES ($1, $2, $3, 0, '', 0)`,
		fingerprint(refresh), grant, store.Micros(now))
	return err
}

// refreshToken exchanges a refresh token for a new pair (RFC 6749 section 6). The old one
// is used up at once. One that comes again revokes the whole family, since either of the
// two who have it may be a thief (RFC 9700 section 4.14.2); within the grace, where there
// is one, it answers the very same pair, for clients whose first answer got lost.
func (s *Service) refreshToken(ctx context.Context, a *app, p params) (*tokenAnswer, error) {
	if p["refresh_token"] == "" {
		return nil, problem.New(problem.InvalidRequest, "The parameter refresh_token is missing.")
	}
	now := s.Now()
	var answer *tokenAnswer
	var refused error // the transaction commits all the same: the family is revoked
	err := s.DB.Write(ctx, func(tx *sql.Tx) (err error) {
		answer, refused, err = s.rotate(ctx, tx, a, p["refresh_token"], now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("refresh_token: %w", err)
	}
	if refused != nil {
		s.wakePublisher()
		return nil, refused
	}
	return answer, nil
}

func (s *Service) rotate(ctx context.Context, tx *sql.Tx, a *app, presented string, now time.Time) (answer *tokenAnswer, refused, err error) {
	hash := fingerprint(presented)
	var grant string
	var appID, userID int64
	err = tx.QueryRowContext(ctx, `SELECT t.grant_id, g.app_id, g.user_id
		FROM refresh_tokens t JOIN grants g ON g.id = t.grant_id WHERE t.hash = $1 AND g.revoked = 0`, hash).
		Scan(&grant, &appID, &userID)
	if isNoRows(err) || err == nil && appID != a.ID {
		return nil, errRefreshToken(), nil // another app's refresh token stays as it is
	}
	if err != nil {
		return nil, nil, err
	}
	result, err := tx.ExecContext(ctx, `UPDATE refresh_tokens SET used = $2 WHERE hash = $1 AND used = 0`, hash, store.Micros(now))
	if err != nil {
		return nil, nil, err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return nil, nil, err
	}
	if n == 0 {
		return repeated(ctx, tx, grant, presented, now)
	}
	alive, err := s.extendGrant(ctx, tx, grant, now)
	if err != nil {
		return nil, nil, err
	}
	if !alive {
		return nil, errRefreshToken(), nil
	}
	next := newSecret()
	if err := addRefreshToken(ctx, tx, grant, next, now); err != nil {
		return nil, nil, err
	}
	if answer, err = s.mint(a, userID, grant, now); err != nil {
		return nil, nil, err
	}
	answer.RefreshToken = next
	if s.RefreshGrace > 0 {
		err = keepAnswer(ctx, tx, presented, answer, now.Add(s.RefreshGrace))
	}
	return answer, nil, err
}

// repeated answers a refresh token that was used before. What was answered then is read
// here and not earlier: of two that come at once, the second one has waited until the
// first one's transaction ended, and sees only now what that has kept.
func repeated(ctx context.Context, tx *sql.Tx, grant, presented string, now time.Time) (answer *tokenAnswer, refused, err error) {
	var sealed string
	var until int64
	err = tx.QueryRowContext(ctx, `SELECT answer, answer_until FROM refresh_tokens WHERE hash = $1`, fingerprint(presented)).Scan(&sealed, &until)
	if err != nil {
		return nil, nil, err
	}
	if sealed == "" || !now.Before(store.Time(until)) {
		slog.WarnContext(ctx, "a refresh token came a second time: its whole family is revoked", "grant", grant)
		return nil, errRefreshToken(), revokeGrant(ctx, tx, grant, now)
	}
	data, err := unseal(presented, sealed)
	if err != nil {
		return nil, nil, err
	}
	answer = &tokenAnswer{}
	if err := json.Unmarshal(data, answer); err != nil {
		return nil, nil, err
	}
	return answer, nil, nil
}

// keepAnswer keeps the new pair for the grace, sealed with the old refresh token: the
// store can't read it without whoever holds that token.
func keepAnswer(ctx context.Context, tx *sql.Tx, presented string, answer *tokenAnswer, until time.Time) error {
	data, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	sealed, err := seal(presented, data)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE refresh_tokens SET answer = $2, answer_until = $3 WHERE hash = $1`,
		fingerprint(presented), sealed, store.Micros(until))
	return err
}
