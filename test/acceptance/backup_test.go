package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"mpr/test/postgres"
)

// A backup that is taken under writes is put into an empty system: companies, one that has
// moved among them, tokens, and what was revoked are as they were.
func TestBackupAndRestore(t *testing.T) {
	d := startDev(t, t.TempDir())
	told := newPromises()
	l := d.startLoad(t, told)
	l.waitForMore(t, promised{"objects": 40, "refreshes": 4, "machine tokens": 2, "companies": 3})
	l.end(t)
	moved := d.everywhere(t)[0]
	d.move(t, "start", strconv.FormatInt(moved.ID, 10), "--to", "EU01", "--wait")
	revoked := d.userTokens(t)
	web := d.app(t, "web")
	call{Method: "POST", URL: d.loginURL("/oauth/revoke"), Form: url.Values{"token": {revoked.Access}, "client_id": {web.ClientID}, "client_secret": {web.ClientSecret}}}.send(t).want(t, 200)
	d.gone(t, revoked.Access)

	later := d.startLoad(t, newPromises()) // writes go on while the backup is taken
	later.waitForMore(t, promised{"objects": 10})
	to := filepath.Join(t.TempDir(), "backup")
	d.command(t, true, "backup", "--data", d.data, "--to", to)
	restored := d.copyDatabase(t)
	later.waitForMore(t, promised{"objects": 20})
	later.end(t)
	d.command(t, false, "backup", "--data", d.data, "--to", to)    // the folder is there
	d.command(t, false, "restore", "--data", d.data, "--from", to) // the system runs
	d.Stop(t)
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	d.command(t, false, "backup", "--data", d.data, "--to", nowhere, "--admin", "http://127.0.0.1:1", "--token-file", filepath.Join(d.data, "admin.token"))
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("a backup that failed has left its folder behind")
	}
	d.command(t, false, "restore", "--data", d.data, "--from", to) // it isn't empty

	data := filepath.Join(t.TempDir(), "restored")
	d.command(t, true, "restore", "--data", data, "--from", to)
	d.cutOff(t, data, to)
	again := startOn(t, data, restored)
	again.holdToPromises(t, told)
	again.gone(t, revoked.Access)
	var now struct {
		Region string
		Fence  struct{ State string }
	}
	if err := json.Unmarshal(again.mpr(t, "company", "show", strconv.FormatInt(moved.ID, 10), "--json"), &now); err != nil || now.Region != "EU01" || now.Fence.State != "owned" {
		t.Errorf("the company that had moved: %+v, %v", now, err)
	}
	again.mpr(t, "directory", "rebuild", "--force") // companies that were made while the backup was taken
	again.mpr(t, "directory", "verify")

	damaged := filepath.Join(to, "directory.jsonl")
	if err := os.WriteFile(damaged, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.command(t, false, "restore", "--data", filepath.Join(t.TempDir(), "other"), "--from", to)
}

// cutOff takes a restore back half-way, as a loss of power would leave it: nobody takes what is there
// for an empty system, and the restore can be repeated.
func (d *dev) cutOff(t *testing.T, data, from string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(data, "restoring"), []byte("the directory was begun\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(data, "internal.secret")); err != nil {
		t.Fatal(err)
	}
	d.command(t, false, "dev", "--port", "0", "--data", data)
	d.command(t, false, "control", "--data", data)
	d.command(t, true, "restore", "--data", data, "--from", from)
}

// A region that is restored from an earlier backup than the identity store is: the lists of companies
// say what the region knows, and follow it from then on, though the index knew of later changes.
func TestRestoreOfAnEarlierRegion(t *testing.T) {
	d := startDev(t, t.TempDir())
	person, token := d.everywhereUser(t), d.userTokens(t).Access
	at := d.everywhere(t)[slices.IndexFunc(d.everywhere(t), func(c company) bool { return c.Region == "EU01" })]
	before := d.names(t, token)
	early, late := filepath.Join(t.TempDir(), "early"), filepath.Join(t.TempDir(), "late")
	d.command(t, true, "backup", "--data", d.data, "--to", early)
	region := d.copyRegion(t, "eu01")
	me := call{URL: d.apiURL("/rest/v1.0/me"), Token: token}.send(t).want(t, 200).object(t).ID
	user := fmt.Sprintf("/rest/v1.0/companies/%d/users/%d", at.ID, me)
	for i := range 10 { // the index comes to know far more versions than the region's backup
		call{Method: "PATCH", URL: d.apiURL("/rest/v1.0/companies/%d", at.ID), Token: token, Company: at.ID, JSON: map[string]any{"company": map[string]any{"name": fmt.Sprint("Later ", i)}}}.send(t).want(t, 200)
	}
	lost := d.newCompany(t, "EU01", "2016-03-01")
	d.admin(t, "PUT", fmt.Sprintf("/companies/%d/users", lost.ID), map[string]any{"login": person.Login}).want(t, 200)
	call{Method: "DELETE", URL: d.apiURL("%s", user), Token: token, Company: at.ID}.send(t).want(t, 200)
	after := maps.Clone(before)
	delete(after, at.ID)
	after[lost.ID] = lost.Name
	d.lists(t, token, after)
	d.command(t, true, "backup", "--data", d.data, "--to", late)
	stores := d.copyDatabase(t)
	d.Stop(t)

	mixBackups(t, early, late, "EU01")
	data := filepath.Join(t.TempDir(), "restored")
	d.command(t, true, "restore", "--data", data, "--from", late)
	region(stores)
	again := startOn(t, data, stores)
	again.lists(t, token, before)
	call{Method: "DELETE", URL: again.apiURL("%s", user), Token: token, Company: at.ID}.send(t).want(t, 200)
	delete(before, at.ID)
	again.lists(t, token, before)
	next := again.newCompany(t, "EU01", "2016-03-01") // under the id of the one that is lost, which has members in the index
	again.lists(t, token, before)
	again.admin(t, "PUT", fmt.Sprintf("/companies/%d/users", next.ID), map[string]any{"login": person.Login}).want(t, 200)
	before[next.ID] = next.Name
	again.lists(t, token, before)
	// Once more, as an operator has it after a restore of one store alone.
	again.mpr(t, "directory", "rebuild", "--force", "--index")
	other := d.everywhere(t)[slices.IndexFunc(d.everywhere(t), func(c company) bool { return c.Region != "EU01" })]
	call{Method: "DELETE", URL: again.apiURL("/rest/v1.0/companies/%d/users/%d", other.ID, me), Token: token, Company: other.ID}.send(t).want(t, 200)
	delete(before, other.ID)
	again.lists(t, token, before)
}

// names are the companies that List Companies answers.
func (d *dev) names(t *testing.T, token string) map[int64]string {
	t.Helper()
	var list []company
	call{URL: d.apiURL("/rest/v1.0/companies?per_page=1000"), Token: token}.send(t).want(t, 200).into(t, &list)
	names := map[int64]string{}
	for _, c := range list {
		names[c.ID] = c.Name
	}
	return names
}

// lists waits until List Companies answers these companies.
func (d *dev) lists(t *testing.T, token string, want map[int64]string) {
	t.Helper()
	eventually(t, time.Minute, func() (bool, string) {
		got := d.names(t, token)
		return maps.Equal(got, want), fmt.Sprintf("listed are %v, want %v", got, want)
	})
}

// mixBackups puts production's store of a region from one backup into another one.
func mixBackups(t *testing.T, from, to, region string) {
	t.Helper()
	read := func(dir string) (m map[string]any, file map[string]any) {
		data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range m["files"].([]any) { //nolint:errcheck,forcetypeassert // it would fail the test
			if f := f.(map[string]any); f["what"] == region && f["environment"] == "production" { //nolint:errcheck,forcetypeassert // it would fail the test
				file = f
			}
		}
		return m, file
	}
	_, source := read(from)
	m, target := read(to)
	if source == nil { // PostgreSQL has backups of its own
		return
	}
	data, err := os.ReadFile(filepath.Join(from, source["file"].(string))) //nolint:errcheck,forcetypeassert // it would fail the test
	if err == nil {
		err = os.WriteFile(filepath.Join(to, target["file"].(string)), data, 0o600) //nolint:errcheck,forcetypeassert // it would fail the test
	}
	maps.Copy(target, source)
	manifest, failed := json.Marshal(m)
	if err = errors.Join(err, failed, os.WriteFile(filepath.Join(to, "manifest.json"), manifest, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// copyRegion dumps production's store of a region on PostgreSQL, and answers what puts it in the
// place of the one in a database.
func (d *dev) copyRegion(t *testing.T, region string) (into func(stores string)) {
	t.Helper()
	if d.stores == "" {
		return func(string) {}
	}
	server, schemas := serverOf(t, d.stores)
	schema := schemas + "_production_region_" + region
	dump := filepath.Join(t.TempDir(), "region.dump")
	postgres.Run(t, "pg_dump", "--format=custom", "--schema="+schema, "--file="+dump, "--dbname="+server)
	return func(stores string) {
		restored, _ := serverOf(t, stores)
		postgres.Run(t, "psql", "--quiet", "--dbname="+restored, "--command=DROP SCHEMA "+schema+" CASCADE")
		postgres.Run(t, "pg_restore", "--exit-on-error", "--dbname="+restored, dump)
	}
}

// serverOf is where a database is, and what the names of its schemas begin with.
func serverOf(t *testing.T, stores string) (dsn, schemas string) {
	t.Helper()
	at, err := url.Parse(stores)
	if err != nil {
		t.Fatal(err)
	}
	q := at.Query()
	schemas = q.Get("search_path")
	q.Del("search_path")
	at.RawQuery = q.Encode()
	return at.String(), schemas
}

// command runs a command with the stores of this mpr dev, which must do well or fail.
func (d *dev) command(t *testing.T, well bool, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = d.environ()
	out, err := cmd.CombinedOutput()
	if (err == nil) != well {
		t.Fatalf("mpr %v: %v\n%s", args, err, out)
	}
	t.Logf("mpr %v: %s", args[0], out)
}

// copyDatabase does what docs/stores.md says of PostgreSQL, which mpr backup leaves alone: it dumps the
// database as it is now, restores the dump into an empty one, and answers where that is; "" for SQLite.
func (d *dev) copyDatabase(t *testing.T) (stores string) {
	t.Helper()
	if d.stores == "" {
		return ""
	}
	server, schemas := serverOf(t, d.stores)
	dump := filepath.Join(t.TempDir(), "stores.dump")
	postgres.Run(t, "pg_dump", "--format=custom", "--schema="+schemas+"_*", "--file="+dump, "--dbname="+server)
	database := "restored_" + schemas
	postgres.Run(t, "createdb", "--maintenance-db="+server, database)
	t.Cleanup(func() { postgres.Run(t, "dropdb", "--force", "--maintenance-db="+server, database) })
	at, err := url.Parse(d.stores)
	if err != nil {
		t.Fatal(err)
	}
	at.Path = "/" + database
	restored, _ := serverOf(t, at.String())
	postgres.Run(t, "pg_restore", "--exit-on-error", "--dbname="+restored, dump)
	return at.String()
}
