package login

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"mpr/test/await"
)

func (w *world) count(t *testing.T, table string) (n int) {
	t.Helper()
	must(t, w.db.Read().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n)) //nolint:gosec // a name of ours
	return n
}

func (w *world) sweep(t *testing.T) { t.Helper(); must(t, w.service.sweepOnce(t.Context())) }

// What has ended is deleted, and what lives on is not.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	a, u, p := w.userTokens(t)
	w.newPerson(t, "a@example.com")
	w.browser(t).open(t, "/login").signIn(t, "a@example.com", password)
	w.code(t, a, u, "") // never redeemed
	w.tokens(t, machineForm(w.newApp(t, kindDeveloperManaged)))
	next := w.tokens(t, refreshForm(a, p.RefreshToken))
	ended, other := w.code(t, a, u, ""), credentials(a)
	other.Set("token", w.tokens(t, codeForm(a, ended)).RefreshToken)
	w.post(t, "/oauth/revoke", other).want(t, 200)

	w.sweep(t)
	for table, want := range map[string]int{"sessions": 1, "codes": 3, "grants": 3, "refresh_tokens": 3} {
		if got := w.count(t, table); got != want {
			t.Errorf("%s: %d at first, want %d", table, got, want)
		}
	}
	w.clock.advance(25 * time.Hour)
	w.sweep(t)
	for table, want := range map[string]int{"sessions": 0, "codes": 0, "grants": 1, "refresh_tokens": 2} {
		if got := w.count(t, table); got != want {
			t.Errorf("%s: %d after a day, want %d", table, got, want)
		}
	}
	w.clock.advance(90 * 24 * time.Hour)
	w.sweep(t)
	// "It has no fixed expiry."
	w.tokens(t, refreshForm(a, next.RefreshToken))
	w.post(t, "/oauth/token", refreshForm(a, p.RefreshToken)).refused(t, 400, "invalid_grant")
}

// A backlog is deleted in short transactions, to the last row, and what lives on stays.
func TestSweepOfABacklog(t *testing.T) {
	w := newWorld(t)
	a, _, p := w.userTokens(t)
	// A service that doesn't know the buckets yet tells all revocations again, and sweeps none before.
	await.That(t, "both buckets are known", func() bool { return w.count(t, "published_to") == 2 })
	now := w.clock.now()
	old := now.Add(-200 * 24 * time.Hour).UnixMicro()
	const numbers = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) `
	must(t, w.db.Write(t.Context(), func(tx *sql.Tx) error {
		for _, fill := range []string{
			`INSERT INTO sessions (hash, user_id, csrf, expires) ` + numbers + `SELECT 's' || i, 1, '', $1 FROM n`,
			`INSERT INTO codes (hash, grant_id, app_id, user_id, redirect_uri, uri_was_sent, code_challenge, expires, used) ` + numbers + `SELECT 'c' || i, '', 1, 1, '', 0, '', $1, 0 FROM n`,
			`INSERT INTO refresh_tokens (hash, grant_id, created, used, answer, answer_until) ` + numbers + `SELECT 'u' || i, 'living', $1, $1, '', 0 FROM n`,
			`INSERT INTO refresh_tokens (hash, grant_id, created, used, answer, answer_until) ` + numbers + `SELECT 'r' || i, 'r7', $1, 0, '', 0 FROM n`,
			`INSERT INTO grants (id, app_id, user_id, created, last_token, revoked, published) ` + numbers + `SELECT 'm' || i, 1, 0, $1, $1, 0, 0 FROM n`,
			`INSERT INTO grants (id, app_id, user_id, created, last_token, revoked, published) ` + numbers + `SELECT 'r' || i, 1, 1, $1, $1, $1, 1 FROM n WHERE i <= 350`,
		} {
			if _, err := tx.ExecContext(t.Context(), fill, old); err != nil {
				return err
			}
		}
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.service.sweepOnce(ctx); err == nil {
		t.Error("swept after the end of its context")
	}
	more, err := w.service.sweepRevoked(t.Context(), now.UnixMicro())
	if grants := w.count(t, "grants"); err != nil || !more || grants != 1+2500+250 {
		t.Errorf("after one step %d grants are left, more: %v, %v", grants, more, err)
	}
	w.sweep(t)
	for table, want := range map[string]int{"sessions": 0, "codes": 1, "refresh_tokens": 1, "grants": 1} {
		if got := w.count(t, table); got != want {
			t.Errorf("%s: %d are left, want %d", table, got, want)
		}
	}
	w.tokens(t, refreshForm(a, p.RefreshToken))
}

// A service that starts again finds its data: tokens, keys, sessions go on.
func TestStartAgain(t *testing.T) {
	w := newWorld(t)
	a, _, p := w.userTokens(t)
	w.newPerson(t, "a@example.com")
	b := w.browser(t).open(t, "/login").signIn(t, "a@example.com", password)
	w.verify(t, p.AccessToken)
	must(t, w.service.Close())
	again, err := New(t.Context(), w.service.Options)
	must(t, err)
	w.service = again
	w.get(t, "/oauth/token/info", "Authorization", "Bearer "+p.AccessToken).want(t, 200)
	w.verify(t, w.tokens(t, refreshForm(a, p.RefreshToken)).AccessToken)
	if b.open(t, authorizeURL(a, callback)); b.at.Path != "/oauth/authorize" {
		t.Errorf("the session is gone: %s", b.at)
	}
	if n := w.count(t, "signing_keys"); n != 1 {
		t.Errorf("%d signing keys after a second start", n)
	}
}

// Two services on one store, as in production: one redeems what the other has issued, and
// they sign with the same key.
func TestTwoServicesOnOneStore(t *testing.T) {
	w := newWorld(t)
	second, err := New(t.Context(), w.service.Options)
	must(t, err)
	t.Cleanup(func() { must(t, second.Close()) })
	if w.count(t, "signing_keys") != 1 {
		t.Error("the second service made a key of its own")
	}
	first := w.service
	a, _, p := w.userTokens(t)
	w.service = second
	next := w.tokens(t, refreshForm(a, p.RefreshToken))
	w.verify(t, next.AccessToken)
	w.service = first
	w.post(t, "/oauth/token", refreshForm(a, p.RefreshToken)).refused(t, 400, "invalid_grant")
	w.service = second
	w.post(t, "/oauth/token", refreshForm(a, next.RefreshToken)).refused(t, 400, "invalid_grant")
	w.service = first
}
