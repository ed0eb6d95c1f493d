package login

import (
	"database/sql"
	"io/fs"
	"testing"
	"testing/fstest"

	"mpr/store"
	"mpr/test/engine"
)

// A store of an older version is taken over: a code that it has issued can be redeemed,
// and what it has granted goes on.
func TestOlderStore(t *testing.T) {
	t.Parallel()
	const first = "00001_identity.sql"
	script, err := fs.ReadFile(Migrations(), first)
	must(t, err)
	dsn := engine.Store(t)
	old, err := store.Open(t.Context(), dsn, fstest.MapFS{first: {Data: script}})
	must(t, err)
	must(t, old.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `
			INSERT INTO index_companies (company_id, name, version) VALUES (5, 'Granite', 1);
			INSERT INTO grants (id, app_id, user_id, created, last_token, revoked, published) VALUES ('open', 1, 1, 0, 0, 0, 0), ('used', 1, 1, 0, 0, 0, 0);
			INSERT INTO codes (hash, grant_id, app_id, user_id, redirect_uri, uri_was_sent, code_challenge, expires, used)
				VALUES ('a', 'open', 1, 1, 'x', 1, '', 0, 0), ('b', 'used', 1, 1, 'x', 1, '', 0, 1)`)
		return err
	}))
	must(t, old.Close())

	db, err := store.Open(t.Context(), dsn, Migrations())
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	var grant string
	must(t, db.Read().QueryRowContext(t.Context(), `SELECT id FROM grants`).Scan(&grant))
	var deleted int64
	must(t, db.Read().QueryRowContext(t.Context(), `SELECT deleted FROM index_companies WHERE company_id = 5`).Scan(&deleted))
	if grant != "used" || deleted != 0 {
		t.Errorf("the grant %s is left, and deleted is %d", grant, deleted)
	}
}
