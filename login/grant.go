package login

import (
	"context"
	"database/sql"
	"time"

	"mpr/store"
)

// A grant is what access tokens name and revocations end: one authorization by a person
// with all its refreshes, or one client_credentials call.

// noUser stands for the user of a service account's grant.
const noUser = 0

// addGrant begins a grant, which lasts until the first access token expires.
func (s *Service) addGrant(ctx context.Context, tx *sql.Tx, grant string, a *app, userID int64, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO grants (id, app_id, user_id, created, last_token, revoked, published) VALUES ($1, $2, $3, $4, $5, 0, 0)`,
		grant, a.ID, userID, store.Micros(now), store.Micros(now.Add(s.AccessLifetime)))
	return err
}

// extendGrant makes a grant last until an access token made now expires. It says no for a
// grant that was revoked meanwhile: verifiers are told of a revocation until the last
// token of the grant expires, so none may be made that lives longer.
func (s *Service) extendGrant(ctx context.Context, tx *sql.Tx, grant string, now time.Time) (alive bool, err error) {
	result, err := tx.ExecContext(ctx, `UPDATE grants SET last_token = $2 WHERE id = $1 AND revoked = 0`,
		grant, store.Micros(now.Add(s.AccessLifetime)))
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// revokeGrant notes in the store that a grant is revoked. Telling the verifiers follows.
func revokeGrant(ctx context.Context, tx *sql.Tx, grant string, now time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE grants SET revoked = $2 WHERE id = $1 AND revoked = 0`, grant, store.Micros(now))
	return err
}

// flag is how a truth is stored.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
