package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// "A second start finds all data again ... Ctrl-C drains and exits 0."
func TestSecondStart(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "made", "by mpr"))
	before := d.facts
	user := d.userTokens(t)
	at := d.in(t, "US02").ID
	made := call{Method: "POST", URL: d.apiURL("/rest/v1.0/projects"), Token: user.Access, Company: at,
		JSON: map[string]any{"project": map[string]any{"name": "Kept"}}}.send(t).want(t, 201).object(t)
	first := d.ready
	d.Stop(t) // which holds it to exit code 0
	d.Restart(t)
	t.Logf("ready after %v, and after %v on existing data; 3 s are promised without the race detector", first, d.ready)

	if !reflect.DeepEqual(d.Users, before.Users) || !reflect.DeepEqual(d.Apps, before.Apps) || !reflect.DeepEqual(d.Companies, before.Companies) {
		t.Errorf("the second start tells of other users, apps or companies:\n%+v\n%+v", before, d.facts)
	}
	kept := call{URL: d.apiURL("/rest/v1.0/projects/%d", made.ID), Token: user.Access, Company: at}.send(t).want(t, 200).object(t)
	if kept != made {
		t.Errorf("made %+v, now %+v", made, kept)
	}
	d.pair(t, refreshForm(d.app(t, "web"), user.Refresh))
}

// What is under way when Ctrl-C comes is ended, not broken off.
func TestCtrlCDrains(t *testing.T) {
	d := startDev(t, t.TempDir())
	token, at := d.userTokens(t).Access, d.in(t, "EU01").ID
	const first, second = `{"project":{"name":"Last`, ` one"}}`
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.apiAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(stopWithin)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /rest/v1.0/projects HTTP/1.1\r\nHost: api.procore.com\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"+
		"Authorization: Bearer %s\r\nProcore-Company-Id: %d\r\nContent-Length: %d\r\n\r\n", token, at, len(first)+len(second))
	in := bufio.NewReader(conn)
	// "100 Continue" says that the call is under way.
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
		t.Fatalf("asked to go on, the door said %q %v", line, err)
	}
	fmt.Fprint(conn, first)

	stopped := make(chan error, 1)
	go func() { stopped <- d.stop() }()
	// The doors are closed to others while the last call goes on.
	eventually(t, 10*time.Second, func() (bool, string) {
		other, err := net.Dial("tcp", d.apiAddr())
		if err == nil {
			_ = other.Close()
		}
		return err != nil, "the doors are still open"
	})
	fmt.Fprint(conn, second)
	if _, err := in.ReadString('\n'); err != nil { // the empty line after "100 Continue"
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("the call that was under way was broken off: %v", err)
	}
	if resp.Body.Close(); resp.StatusCode != 201 {
		t.Errorf("the call that was under way: %s", resp.Status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// The JSON is an interface: "Scripts and other test suites will rely on it."
func TestJSONShape(t *testing.T) {
	d := shared(t)
	if bytes.Count(d.line, []byte("\n")) != 1 || !bytes.HasSuffix(d.line, []byte("\n")) {
		t.Errorf("not one line: %q", d.line)
	}
	var got map[string]any
	if err := json.Unmarshal(d.line, &got); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "the object", got, "environments", "tls", "proxy", "ca", "admin", "users", "apps", "companies")
	environments := objectsIn(t, got, "environments")
	var names []string
	for _, e := range environments {
		names = append(names, fmt.Sprint(e["name"]))
		keys := []string{"name", "login", "api"}
		if e["name"] == "production" {
			keys = append(keys, "legacy")
		}
		wantKeys(t, "an environment", e, keys...)
	}
	if want := []string{"production", "monthly sandbox", "development sandbox"}; !slices.Equal(names, want) {
		t.Errorf("environments %v, want %v", names, want)
	}
	admin, ok := got["admin"].(map[string]any)
	if !ok {
		t.Fatalf("admin is %v", got["admin"])
	}
	wantKeys(t, "admin", admin, "url", "token_file")
	for _, u := range objectsIn(t, got, "users") {
		keys := []string{"login", "password", "companies"}
		if u["role"] != nil { // operators have one
			keys = append(keys, "role")
		}
		wantKeys(t, "a user", u, keys...)
	}
	kinds := map[string]bool{}
	for _, a := range objectsIn(t, got, "apps") {
		keys := []string{"name", "kind", "client_id", "client_secret", "redirect_uris", "companies"}
		if a["kind"] != "traditional" {
			keys = append(keys, "sandbox")
		}
		wantKeys(t, "an app", a, keys...)
		kinds[fmt.Sprint(a["kind"])] = true
		if _, isList := a["redirect_uris"].([]any); !isList {
			t.Errorf("redirect_uris of %v is not a list: %v", a["name"], a["redirect_uris"])
		}
	}
	if want := []string{"developer_managed", "installed", "traditional", "web"}; !slices.Equal(slices.Sorted(maps.Keys(kinds)), want) {
		t.Errorf("apps of the kinds %v, want %v", kinds, want)
	}
	for _, c := range objectsIn(t, got, "companies") {
		wantKeys(t, "a company", c, "id", "name", "region")
	}
	for _, address := range []string{d.Environments[0].Login, d.Environments[0].API, d.Environments[0].Legacy, d.Proxy, d.Admin.URL} {
		if !strings.HasPrefix(address, "http://127.0.0.1:") {
			t.Errorf("%s is not on loopback", address)
		}
	}
	if !strings.HasPrefix(d.TLS, "127.0.0.1:") {
		t.Errorf("tls: %s", d.TLS)
	}
	for _, secret := range []string{d.Admin.TokenFile, filepath.Dir(d.Admin.TokenFile)} {
		if info, err := os.Stat(secret); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v %v", secret, info, err)
		}
	}
}

func wantKeys(t *testing.T, what string, object map[string]any, keys ...string) {
	t.Helper()
	slices.Sort(keys)
	if got := slices.Sorted(maps.Keys(object)); !slices.Equal(got, keys) {
		t.Errorf("%s has the fields %v, want %v", what, got, keys)
	}
}

func objectsIn(t *testing.T, parent map[string]any, key string) []map[string]any {
	t.Helper()
	list, ok := parent[key].([]any)
	if !ok || len(list) == 0 {
		t.Fatalf("%s is %v, want a list", key, parent[key])
	}
	all := make([]map[string]any, len(list))
	for i, v := range list {
		if all[i], ok = v.(map[string]any); !ok {
			t.Fatalf("%s holds %v, want objects", key, v)
		}
	}
	return all
}

// Two processes on one data folder would destroy it.
func TestOneProcessOnAFolder(t *testing.T) {
	d := shared(t)
	second := exec.CommandContext(t.Context(), binary, "dev", "--port", "0", "--json", "--data", d.data)
	second.Env = d.environ()
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("a second mpr dev on the same data: %v\n%s", err, out)
	}
}

// "--reset asks before it deletes".
func TestResetAsks(t *testing.T) {
	d := startDev(t, t.TempDir())
	d.Stop(t)
	before := d.Apps
	for _, said := range []string{"", "n\n", "\n"} {
		cmd := exec.CommandContext(t.Context(), binary, "dev", "--port", "0", "--json", "--data", d.data, "--reset")
		cmd.Env, cmd.Stdin = d.environ(), strings.NewReader(said)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("after %q --reset went on: %s", said, out)
		}
	}
	d.Restart(t)
	if !reflect.DeepEqual(d.Apps, before) {
		t.Error("--reset deleted the data though nobody agreed")
	}
}

// "refuses every other target"
func TestProxyRefusesOtherTargets(t *testing.T) {
	d := shared(t)
	addr := strings.TrimPrefix(d.Proxy, "http://")
	for _, target := range []string{
		"example.com:443", "127.0.0.1:22", "localhost:443", "[::1]:443", "api.procore.com:80", "api.procore.com:22", "api.procore.com.evil.example:443",
		"evil.example#api.procore.com:443", "api.procore.com@evil.example:443", d.TLS, strings.TrimPrefix(d.Admin.URL, "http://"),
	} {
		got := raw(t, addr, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
		if got.Status/100 != 4 {
			t.Errorf("CONNECT %s: %v", target, got)
		}
	}
	for _, line := range []string{"GET http://example.com/", "GET http://api.procore.com/rest/v1.0/me", "GET /"} {
		if got := raw(t, addr, line+" HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"); got.Status/100 != 4 {
			t.Errorf("%s: %v", line, got)
		}
	}
	call{URL: "https://api.procore.com/rest/v1.0/me", Token: d.userTokens(t).Access, Client: d.hostsClient(t)}.send(t).want(t, 200)
}

// "Revocation reaches every gateway in under a second", though the gateway has just
// verified the token and remembers it.
func TestRevocation(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	for _, which := range []string{"access", "refresh"} {
		p := d.userTokens(t)
		call{URL: d.apiURL("/rest/v1.0/me"), Token: p.Access}.send(t).want(t, 200)
		token := map[string]string{"access": p.Access, "refresh": p.Refresh}[which]
		call{Method: "POST", URL: d.loginURL("/oauth/revoke"), Form: map[string][]string{
			"token": {token}, "client_id": {web.ClientID}, "client_secret": {web.ClientSecret},
		}}.send(t).want(t, 200)
		d.gone(t, p.Access)
		d.exchange(t, refreshForm(web, p.Refresh)).wantCode(t, 400, "invalid_grant")
	}
}

// "rotated with mpr keys rotate without breaking a token in use"
func TestKeysRotate(t *testing.T) {
	d := startDev(t, t.TempDir())
	old := d.userTokens(t)
	oldKey := decodePart(t, strings.Split(old.Access, ".")[0])["kid"]
	d.mpr(t, "keys", "rotate")
	// The old key's tokens go on while the new key takes over.
	web, refresh := d.app(t, "web"), old.Refresh
	newest := ""
	took := eventually(t, 30*time.Second, func() (bool, string) {
		call{URL: d.apiURL("/rest/v1.0/me"), Token: old.Access}.send(t).want(t, 200)
		p := d.pair(t, refreshForm(web, refresh))
		newest, refresh = p.Access, p.Refresh
		call{URL: d.apiURL("/rest/v1.0/me"), Token: newest}.send(t).want(t, 200)
		return decodePart(t, strings.Split(newest, ".")[0])["kid"] != oldKey, "tokens are still signed with the old key"
	})
	t.Logf("the new key signed after %v", took)
	var published struct{ Keys []struct{ Kid, D string } }
	call{URL: d.loginURL("/.well-known/jwks.json")}.send(t).want(t, 200).into(t, &published)
	for _, key := range published.Keys {
		if key.D != "" {
			t.Fatal("a private key is published")
		}
	}
	if len(published.Keys) != 2 {
		t.Errorf("%d keys are published; want the old and the new one", len(published.Keys))
	}
	// Both survive a start.
	d.Stop(t)
	d.Restart(t)
	for _, token := range []string{old.Access, newest} {
		call{URL: d.apiURL("/rest/v1.0/me"), Token: token}.send(t).want(t, 200)
	}
}

// "commands find a running mpr dev by --data DIR"
func TestCommandsFindMprDev(t *testing.T) {
	d := shared(t)
	for _, args := range [][]string{
		{"company", "list"}, {"region", "list"}, {"app", "list"}, {"keys", "list"}, {"company", "show", fmt.Sprint(d.in(t, "EU01").ID)},
	} {
		if table := d.mpr(t, args...); len(table) == 0 {
			t.Errorf("mpr %v says nothing", args)
		}
		if text := d.mpr(t, append(args, "--json")...); !json.Valid(text) {
			t.Errorf("mpr %v --json is not JSON: %s", args, text)
		}
	}
	secret := d.app(t, "web").ClientSecret
	if list := d.mpr(t, "app", "list", "--json"); bytes.Contains(list, []byte(secret)) {
		t.Error("mpr app list shows a secret")
	}
}

// commandWithin is how long a command may take, a move that is waited for among them.
const commandWithin = 3 * time.Minute

// mpr runs a command against this mpr dev and answers its standard output.
func (d *dev) mpr(t *testing.T, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "--data", d.data)...)
	cmd.Env = d.environ()
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("mpr %v: %v\n%s%s", args, err, out, &complaint)
	}
	return out
}
