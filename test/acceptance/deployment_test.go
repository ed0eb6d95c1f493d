package acceptance

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"mpr/test/loopback"
	"mpr/test/postgres"
)

// The configuration that is shipped for production works: PostgreSQL, a cluster of NATS servers on the shipped nats.conf,
// secrets from the shipped script, each role a process. Only names, ports and folders are other ones here.
func TestTheShippedProductionConfiguration(t *testing.T) {
	server := postgres.Start(t)
	s, replaced := newShipped(t, server)
	migrate := exec.Command(binary, "db", "migrate", "--config", s.config) //nolint:noctx // it ends by itself
	migrate.Env = environ()
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("mpr db migrate: %v\n%s", err, out)
	}
	nodes := startShippedNATS(t, replaced)
	// A control role that finds no leader ends, and is started again by whoever runs it; here nobody does.
	eventually(t, readyWithin, func() (bool, string) {
		led := slices.ContainsFunc(nodes, func(n *natsserver.Server) bool {
			return n.JetStreamIsLeader() && len(n.JetStreamClusterPeers()) == len(nodes)
		})
		return led, "the NATS servers have no leader that knows all three"
	})
	var all []string
	for _, code := range regions {
		named := "region-" + strings.ToLower(code)
		all = append(all, s.split(t, code, named+"-0", named+"-1")...)
	}
	all = append(all, "gateway", "login", "control")
	s.start(t, all...)
	s.populate(t)
	s.works(t, s.userTokens(t).Access)
	s.works(t, s.machineToken(t, s.app(t, "developer_managed")))
	s.stop(t, all...)
}

// shipped is what stands in the shipped files in place of names of services, by those names.
type shipped struct {
	secrets string
	nats    []string // addresses for clients
	routes  []string
}

// newShipped writes the shipped configuration with addresses of this machine.
func newShipped(t *testing.T, server *postgres.Server) (*topology, *shipped) {
	t.Helper()
	dir := t.TempDir()
	s := &topology{
		dev:    &dev{data: filepath.Join(dir, "data"), log: &logBook{}},
		config: filepath.Join(dir, "mpr.yaml"), processes: map[string]*process{},
	}
	r := &shipped{secrets: filepath.Join(dir, "secrets"), nats: loopback.FreeAddresses(t, 3), routes: loopback.FreeAddresses(t, 3)}
	if out, err := exec.Command("../../deploy/secrets.sh", r.secrets).CombinedOutput(); err != nil { //nolint:noctx // it ends by itself
		t.Fatalf("secrets.sh: %v\n%s", err, out)
	}
	makeDatabases(t, server)
	_, socket, _ := strings.Cut(server.DSN(), "?")
	names := []string{"control:4090", "login:4000", "gateway:4001", "gateway:4002", "login:4100"}
	for i, code := range []string{"us01", "us02", "eu01"} {
		for _, n := range []string{"0", "1"} {
			host := "region-" + code + "-" + n + ".region-" + code
			names = append(names, fmt.Sprintf("%s:%d", host, 4101+i), fmt.Sprintf("%s:%d", host, 4131+i))
		}
	}
	// Their names aren't where they listen, which --bind says.
	replace := []string{
		"/var/lib/mpr", s.data, "/etc/mpr/secrets", r.secrets, "@postgres/", "@/", "?passfile=", "?" + socket + "&passfile=",
		"listen: :4092", `listen: ""`, "drain_delay: 10s", "drain_delay: 0s", "nats://nats:4222", "nats://" + r.nats[0],
	}
	found := map[string]string{}
	for i, address := range loopback.FreeAddresses(t, len(names)) {
		found[names[i]] = address
		_, port, _ := net.SplitHostPort(address)
		replace = append(replace, names[i], "localhost:"+port)
	}
	rewrite(t, "../../deploy/mpr.yaml", s.config, replace...)
	facts, err := json.Marshal(map[string]any{
		"environments": []map[string]string{{"name": "production", "login": "http://" + found["login:4000"], "api": "http://" + found["gateway:4001"], "legacy": "http://" + found["gateway:4002"]}},
		"admin":        map[string]string{"url": "http://" + found["control:4090"], "token_file": filepath.Join(r.secrets, "admin.token")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(facts, &s.facts); err != nil {
		t.Fatal(err)
	}
	s.addProcesses(t, "--bind", "127.0.0.1")
	return s, r
}

// makeDatabases makes the databases of the shipped script.
func makeDatabases(t *testing.T, server *postgres.Server) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/compose/databases.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // all that it did was answered
	for line := range strings.Lines(string(text)) {
		if _, err := db.ExecContext(t.Context(), line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// startShippedNATS starts three servers on the shipped nats.conf.
func startShippedNATS(t *testing.T, r *shipped) (servers []*natsserver.Server) {
	t.Helper()
	for i := range r.nats {
		dir := t.TempDir()
		if err := os.Symlink(r.secrets, filepath.Join(dir, "secrets")); err != nil { // what it includes
			t.Fatal(err)
		}
		replace := []string{
			"$NATS_NAME", fmt.Sprintf("nats-%d", i), "listen: 0.0.0.0:4222", "listen: " + r.nats[i], "listen: 0.0.0.0:6222", "listen: " + r.routes[i],
			"http: 0.0.0.0:8222", "", "/data", filepath.Join(dir, "data"),
		}
		for j, route := range r.routes {
			replace = append(replace, fmt.Sprintf("nats-%d.nats:6222", j), route)
		}
		file := filepath.Join(dir, "nats.conf")
		rewrite(t, "../../deploy/nats.conf", file, replace...)
		options, err := natsserver.ProcessConfigFile(file)
		if err != nil {
			t.Fatal(err)
		}
		options.NoSigs, options.NoLog = true, true
		one, err := natsserver.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { one.Shutdown(); one.WaitForShutdown() })
		one.Start()
		servers = append(servers, one)
	}
	return servers
}

// rewrite copies a file with other texts, each of which must be there.
func rewrite(t *testing.T, from, to string, replace ...string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(string(text), replace[i]) {
			t.Errorf("%s doesn't say %q any more", from, replace[i])
		}
	}
	if err := os.WriteFile(to, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
}
