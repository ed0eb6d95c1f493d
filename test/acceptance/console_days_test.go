package acceptance

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// aDayPasses has keys forgotten, as they are a day after their first use.
func (d *dev) aDayPasses(t *testing.T) {
	t.Helper()
	driver, dsn := "sqlite", "file:"+filepath.Join(d.data, "control.db")+"?_pragma=busy_timeout(10000)"
	if d.stores != "" {
		u, err := url.Parse(d.stores)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set("search_path", q.Get("search_path")+"_control")
		u.RawQuery = q.Encode()
		driver, dsn = "pgx", u.String()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // all that it did was answered
	if _, err := db.ExecContext(t.Context(), `DELETE FROM operator_keys`); err != nil {
		t.Fatal(err)
	}
}

// A day later a key is forgotten. What it has made is still found by it, and by nobody who asks for
// something else or may not see it any more.
func TestKeysADayLater(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v, bob := d.visitor(t, d.Users[0]), d.visitor(t, d.Users[1])
	path := func(a answer) string { return strings.Split(a.want(t, 303).Header.Get("Location"), "?")[0] }
	works := v.form(t, "/console/production/companies/new", "/new")
	first := path(v.send(t, works, "name", "First Works", "region", "US01", "onboarded", "2016-01-01"))
	app := v.form(t, "/console/production/apps/new", "/new")
	id := v.send(t, app, "name", "Keyed", "kind", "developer_managed").want(t, 200).text(t, "client-id")
	mine := bob.form(t, "/developers/new", "/new")
	own := bob.send(t, mine, "name", "Mine", "kind", "developer_managed").want(t, 200).text(t, "client-id")

	d.aDayPasses(t)
	for field, other := range map[string]string{"name": "Second Works", "onboarded": "2016-01-02"} {
		before := works.fields.Get(field)
		wantText(t, v.send(t, works, field, other).want(t, 409), "idempotency_key_reused")
		works.fields.Set(field, before)
	}
	for range 2 { // what was refused hasn't taken the key
		if again := path(v.send(t, works)); again != first {
			t.Errorf("the company is %s, and was %s", again, first)
		}
	}
	wantText(t, v.send(t, app, "name", "Other").want(t, 409), "idempotency_key_reused")
	wantText(t, v.send(t, app, "name", "Keyed").want(t, 200), id, "It was registered before")
	wantText(t, bob.send(t, mine).want(t, 200), own, "It was registered before")

	d.mpr(t, "app", "owner", "add", own, d.Users[0].Login)
	d.mpr(t, "app", "owner", "remove", own, d.Users[1].Login)
	d.aDayPasses(t)
	for range 2 {
		wantText(t, bob.send(t, mine).want(t, 403), "isn't yours any more")
	}
}
