package login

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"slices"

	"mpr/problem"
	"mpr/snapshot"
)

const identityFormat = 1

// identityHead says what the snapshot is of.
type identityHead struct {
	Format int `json:"format"`
	// Identity tells it from other snapshots.
	Identity bool `json:"identity"`
}

// copied are the tables that a sandbox gets: who may sign in, and which apps there are,
// with the hashes of their passwords and secrets. Sessions, grants, codes, refresh tokens
// and signing keys stay: nothing that was granted in one environment holds in another.
// The index isn't among them, because it follows the sandbox's own regions.
// Nor are the words by which apps are found, so that the copy says of none that they are there.
var copied = []struct{ name, key, columns string }{
	{"sequences", "name", "*"}, {"users", "id", "*"},
	{"apps", "id", "id, client_id, name, kind, company_id, redirect_uris, secret_hash, old_secret_hash, old_secret_until, created, '' AS searched_name"},
}

// sendIdentity answers a snapshot of the users and apps.
func (s *Service) sendIdentity(w http.ResponseWriter, r *http.Request) error {
	return snapshot.Serve(r.Context(), w, s.DB, func(*sql.Tx) (any, []snapshot.Table, error) {
		var tables []snapshot.Table
		for _, t := range copied {
			tables = append(tables, snapshot.Table{Name: t.name, Query: `SELECT ` + t.columns + ` FROM ` + t.name + ` ORDER BY ` + t.key})
		}
		return identityHead{identityFormat, true}, tables, nil
	})
}

// takeIdentity takes the users and apps of another environment, into a store that has
// none of its own. What an attempt that broke off has left is replaced.
func (s *Service) takeIdentity(w http.ResponseWriter, r *http.Request) error {
	var head identityHead
	in, err := snapshot.Read(w, r, &head)
	if err != nil {
		return err
	}
	if !head.Identity || head.Format != identityFormat {
		return snapshot.Broken("its first line isn't that of an identity", nil)
	}
	if err := s.clearIdentity(r.Context()); err != nil {
		return err
	}
	var inserter snapshot.Inserter
	err = in.Each(func(table string, batch []snapshot.Row) error {
		if !slices.ContainsFunc(copied, func(t struct{ name, key, columns string }) bool { return t.name == table }) {
			return snapshot.Broken(fmt.Sprintf("it has rows of %q", table), nil)
		}
		return s.DB.Write(r.Context(), func(tx *sql.Tx) error { return inserter.Insert(r.Context(), tx, table, batch, nil) })
	})
	if err != nil {
		return fmt.Errorf("load the identity: %w", err)
	}
	writeJSON(w, http.StatusOK, map[string]any{"rows": in.Rows, "checksum": in.Checksum})
	return nil
}

// clearIdentity refuses where anybody has been granted anything: this store is in use.
func (s *Service) clearIdentity(ctx context.Context) error {
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		var used int
		if err := tx.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM grants) + (SELECT COUNT(*) FROM sessions) + (SELECT COUNT(*) FROM codes)`).Scan(&used); err != nil {
			return fmt.Errorf("look for grants: %w", err)
		}
		if used > 0 {
			return problem.New(problem.Conflict, "People and apps use this identity: it can't be replaced.")
		}
		for _, t := range copied {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+t.name); err != nil {
				return fmt.Errorf("clear %s: %w", t.name, err)
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM search_words WHERE kind = $1`, searchedApps.kind); err != nil {
			return fmt.Errorf("clear search_words: %w", err)
		}
		return nil
	})
}
