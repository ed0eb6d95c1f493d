package acceptance

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

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
	if err := os.WriteFile(filepath.Join(data, "restoring"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(data, "internal.secret")); err != nil {
		t.Fatal(err)
	}
	d.command(t, false, "dev", "--port", "0", "--data", data)
	d.command(t, false, "control", "--data", data)
	d.command(t, true, "restore", "--data", data, "--from", from)
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
	at, err := url.Parse(d.stores)
	if err != nil {
		t.Fatal(err)
	}
	q := at.Query()
	schemas := q.Get("search_path")
	q.Del("search_path")
	plain := *at
	plain.RawQuery = q.Encode()
	server := plain.String()
	dump := filepath.Join(t.TempDir(), "stores.dump")
	postgres.Run(t, "pg_dump", "--format=custom", "--schema="+schemas+"_*", "--file="+dump, "--dbname="+server)
	database := "restored_" + schemas
	postgres.Run(t, "createdb", "--maintenance-db="+server, database)
	t.Cleanup(func() { postgres.Run(t, "dropdb", "--force", "--maintenance-db="+server, database) })
	plain.Path, at.Path = "/"+database, "/"+database
	postgres.Run(t, "pg_restore", "--exit-on-error", "--dbname="+plain.String(), dump)
	return at.String()
}
