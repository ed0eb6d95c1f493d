package acceptance

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// secured gives each process a certificate of a CA that `mpr pki` makes, by a configuration of
// its own, and answers the CA's folder.
func (s *topology) secured(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	s.pki(t, "init", dir)
	common, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range s.processes {
		s.pki(t, "issue", dir, "--role", p.args[0], "--name", name, "--host", "127.0.0.1")
		config := filepath.Join(dir, name+".yaml")
		text := string(common) + "internal_tls:\n  ca_file: " + filepath.Join(dir, "ca.pem") + "\n  certificate_file: " + filepath.Join(dir, name+".pem") + "\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if i := slices.Index(p.args, s.config); i >= 0 {
			p.args[i] = config
		}
	}
	return dir
}

// internalDoor is a listener for our own processes.
type internalDoor struct {
	address string
	process string   // whose it is
	admits  []string // roles
}

// internalDoors are all of them.
func (s *topology) internalDoors(t *testing.T) map[string]internalDoor {
	t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]internalDoor{}
	for line := range strings.Lines(string(data)) {
		read := func(key string) string {
			_, rest, _ := strings.Cut(line, key+`: "`)
			value, _, _ := strings.Cut(rest, `"`)
			return value
		}
		switch code := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "- {code: "), ","); {
		case strings.HasPrefix(line, "directory:"):
			found["directory"] = internalDoor{read("listen"), "control", []string{"login", "gateway", "region"}}
		case strings.Contains(line, "identity:"):
			found["identity"] = internalDoor{read("internal"), "login", []string{"gateway", "region", "control"}}
		case strings.Contains(line, "code:"):
			code, _, _ = strings.Cut(code, ",")
			found[code] = internalDoor{read("listen"), code, []string{"gateway"}}
			found["inside "+code] = internalDoor{read("internal"), code, []string{"control"}}
		}
	}
	if len(found) != 8 {
		t.Fatalf("found the listeners %v", found)
	}
	return found
}

// enters says why somebody isn't let in at a listener. Whoever is let in is answered, or spoken
// to first.
func enters(t *testing.T, address string, config *tls.Config) error {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callWithin)); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		conn = tls.Client(conn, config)
	}
	// In TLS 1.3 a client is done before the server has seen its certificate.
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: inside\r\n\r\n"); err != nil {
		return err
	}
	answer := make([]byte, len("HTTP/1.1"))
	n, err := io.ReadFull(conn, answer)
	if text := string(answer[:n]); err == nil && text != "HTTP/1.1" && !strings.HasPrefix(text, "INFO ") {
		return fmt.Errorf("answered %q", text)
	}
	return err
}

func certificateOf(t *testing.T, file string) []tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{c}
}

// keepsStrangersOff: at each internal listener only those are let in whom it is for.
func (s *topology) keepsStrangersOff(t *testing.T, dir string) {
	t.Helper()
	foreign := filepath.Join(t.TempDir(), "foreign")
	s.pki(t, "init", foreign)
	roles := map[string]string{"login": "login", "gateway": "gateway", "EU01": "region", "control": "control"}
	for door, d := range s.internalDoors(t) {
		for name, role := range roles {
			config := &tls.Config{InsecureSkipVerify: true, Certificates: certificateOf(t, filepath.Join(dir, name+".pem"))} //nolint:gosec // who is let in is what is looked at
			err := enters(t, d.address, config)
			if admitted := slices.Contains(d.admits, role); admitted != (err == nil) {
				t.Errorf("%s at %s: %v; to be let in: %v", name, door, err, admitted)
			} else if err != nil {
				s.tells(t, d, "names the roles ["+role+"]")
			}
			config.MaxVersion = tls.VersionTLS12
			if enters(t, d.address, config) == nil {
				t.Errorf("%s at %s: TLS 1.2 is spoken", name, door)
			}
		}
		if err := enters(t, d.address, nil); err == nil {
			t.Errorf("%s answers without TLS", door)
		}
		config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // who is let in is what is looked at
		if err := enters(t, d.address, config); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("nobody at %s: %v", door, err)
		}
		s.tells(t, d, "didn't provide a certificate")
		name := strings.ReplaceAll(door, " ", "-")
		s.pki(t, "issue", foreign, "--role", d.admits[0], "--host", "127.0.0.1", "--name", name)
		config.Certificates = certificateOf(t, filepath.Join(foreign, name+".pem"))
		if err := enters(t, d.address, config); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
			t.Errorf("one of another CA at %s: %v", door, err)
		}
		s.tells(t, d, "signed by unknown authority")
	}
}

// tells wants the log of a listener's process to say why somebody was refused.
func (s *topology) tells(t *testing.T, d internalDoor, why string) {
	t.Helper()
	eventually(t, readyWithin, func() (bool, string) {
		return strings.Contains(s.processes[d.process].log.since(0), why), d.process + " doesn't say that " + why
	})
}

// The whole system works with certificates on both sides of each internal connection, and
// lets nobody in without one. Under calls, of which none fails, all certificates are renewed, a
// company moves, and one CA takes over from another.
func TestRolesShowOneAnotherCertificates(t *testing.T) {
	s := newTopology(t)
	dir := s.secured(t)
	s.start(t, "EU01", "gateway", "US02", "login", "US01", "control")
	s.populate(t)
	person := s.userTokens(t)
	s.works(t, person.Access)
	s.listed(t, person.Access, s.everywhere(t)...)
	call{URL: s.apiURL("/rest/v1.0/me"), Token: person.Access}.send(t).want(t, 200)
	// A client that knows only one host gets its tokens by way of the gateway.
	call{URL: s.apiURL("/.well-known/jwks.json")}.send(t).want(t, 200)
	s.keepsStrangersOff(t, dir)

	old := certificateOf(t, filepath.Join(dir, "gateway.pem"))
	at := s.in(t, "EU01")
	x := s.startTraffic(t, at.ID)
	x.waitFor(t, 20)
	s.renewed(t, dir, "renew", dir, "--all")
	s.moves(t, at.ID, "US02")
	x.waitFor(t, 20)
	s.takesOver(t, dir)
	s.moves(t, at.ID, "EU01")
	x.waitFor(t, 20)
	x.end()
	for _, f := range x.failed {
		t.Error(f)
	}
	x.hold(t)
	t.Logf("%d calls while certificates, the CA and the region changed, none of them failed", x.calls)
	if err := enters(t, s.internalDoors(t)["US01"].address, &tls.Config{InsecureSkipVerify: true, Certificates: old}); err == nil { //nolint:gosec // who is let in is what is looked at
		t.Error("a certificate of the CA before is let in")
	}
	for _, c := range s.everywhere(t) {
		s.newProject(t, person.Access, c.ID)
	}
	s.stop(t, "gateway", "EU01", "US01", "US02", "login", "control")
}

// renewed runs a command that makes the certificates anew, and waits until those processes that
// show one at a listener show the new one.
func (s *topology) renewed(t *testing.T, dir string, args ...string) {
	t.Helper()
	s.pki(t, args...)
	for door, d := range s.internalDoors(t) {
		want := certificateOf(t, filepath.Join(dir, d.process+".pem"))[0].Leaf.SerialNumber
		eventually(t, readyWithin, func() (bool, string) {
			return s.serial(t, d).Cmp(want) == 0, door + " still shows the certificate before"
		})
	}
	s.taken(t, "gateway", filepath.Join(dir, "gateway.pem"))
}

// serial is that of the certificate which a listener shows.
func (s *topology) serial(t *testing.T, d internalDoor) *big.Int {
	t.Helper()
	conn := handshake(t, d.address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // what is shown is what is looked at
	defer conn.Close()                                                     //nolint:errcheck // it was open
	return conn.ConnectionState().PeerCertificates[0].SerialNumber
}

// taken waits until a process says that it has read a file again, once more than before. What it
// does by itself has it look: a gateway asks each upstream for its health.
func (s *topology) taken(t *testing.T, process, file string) {
	t.Helper()
	p := s.processes[process]
	eventually(t, readyWithin, func() (bool, string) {
		for _, d := range s.internalDoors(t) {
			if d.process == process {
				s.serial(t, d)
			}
		}
		n := 0
		for line := range strings.Lines(p.log.since(0)) {
			if strings.Contains(line, "read again") && strings.Contains(line, file) {
				n++
			}
		}
		if n <= p.taken[file] {
			return false, fmt.Sprintf("%s has read %s %d times", process, file, n)
		}
		if p.taken == nil {
			p.taken = map[string]int{}
		}
		p.taken[file] = n
		return true, ""
	})
}

// takesOver has a new CA take over, step by step as `mpr pki rotate` says. All processes read the
// CA's own files here, so that each step is with all of them once they have looked.
func (s *topology) takesOver(t *testing.T, dir string) {
	t.Helper()
	everywhere := func() {
		for name := range s.processes {
			s.taken(t, name, filepath.Join(dir, "ca.pem"))
		}
	}
	s.pki(t, "rotate", dir)
	everywhere()
	s.pki(t, "rotate", dir)
	everywhere()
	s.renewed(t, dir, "renew", dir)
	s.pki(t, "rotate", dir)
	everywhere()
}

// moves moves a company and waits until it has changed over.
func (s *topology) moves(t *testing.T, id int64, to string) {
	t.Helper()
	out, err := s.mpr("move", "start", fmt.Sprint(id), "--to", to, "--wait")
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var last moved
	if err = errors.Join(err, json.Unmarshal([]byte(lines[len(lines)-1]), &last)); err != nil || last.Phase != "retained" {
		t.Fatalf("the move to %s says %v %v", to, lines, err)
	}
}

// A process with a certificate of another role, or with none that is of use, doesn't start.
func TestCertificatesThatDoNotFit(t *testing.T) {
	s := newTopology(t)
	dir := s.secured(t)
	for name, of := range map[string]string{"gateway": "login", "EU01": "gateway"} {
		config := filepath.Join(dir, "wrong-"+name+".yaml")
		rewrite(t, filepath.Join(dir, name+".yaml"), config, filepath.Join(dir, name+".pem"), filepath.Join(dir, of+".pem"))
		p := s.processes[name]
		args := slices.Clone(p.args)
		args[slices.Index(args, filepath.Join(dir, name+".yaml"))] = config
		out, err := s.command(args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "it needs the URI mpr://"+p.args[0]) {
			t.Errorf("mpr %v: %v\n%s", args, err, out)
		}
	}
}

// A gateway that has internal_tls sends no token in the clear, whatever the directory says.
func TestNoFallBackToPlainHTTP(t *testing.T) {
	s := newTopology(t)
	configuration := filepath.Join(s.secured(t), "control.yaml")
	s.start(t, "EU01", "gateway", "US02", "login", "US01", "control")
	s.populate(t)
	token := s.userTokens(t).Access
	at := s.in(t, "US02").ID
	s.projects(t.Context(), token, at).want(t, 200)
	// The control role doesn't know the region from its configuration, or it would refuse that.
	whole, err := os.ReadFile(configuration)
	if err != nil {
		t.Fatal(err)
	}
	var without strings.Builder
	for line := range strings.Lines(string(whole)) {
		if !strings.Contains(line, "code: US02") {
			without.WriteString(line)
		}
	}
	s.stop(t, "control")
	if err := os.WriteFile(configuration, []byte(without.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t, "control")
	door := s.internalDoors(t)
	var known object
	s.runEventually(t, &known, "region", "add", "--code", "US02", "--number", "16", "--upstream", "http://"+door["US02"].address, "--internal", "https://"+door["inside US02"].address)
	eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), token, at)
		return a.Status == 503, a.String()
	})
	eventually(t, readyWithin, func() (bool, string) {
		said := s.processes["gateway"].log.since(0)
		return strings.Contains(said, "is a process of ours on plain HTTP"), "the gateway says\n" + said
	})
	// It starts with all of its configuration, and mends what the directory says.
	s.stop(t, "control")
	if err := os.WriteFile(configuration, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t, "control")
	eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), token, at)
		return a.Status == 200, a.String()
	})
	s.stop(t, "gateway", "EU01", "US01", "US02", "login", "control")
}

// A NATS server of the operator's lets in who shows a certificate, and is let in itself.
func TestTheDirectoryBehindTLS(t *testing.T) {
	s := newTopology(t)
	dir := filepath.Join(t.TempDir(), "pki")
	s.pki(t, "init", dir)
	s.pki(t, "issue", dir, "--role", "control", "--role", "login", "--role", "gateway", "--role", "region", "--name", "all", "--host", "127.0.0.1")
	ca, pair := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "all.pem")
	config, err := natsserver.GenTLSConfig(&natsserver.TLSConfigOpts{CertFile: pair, KeyFile: pair, CaFile: ca, Verify: true, Timeout: 10})
	if err != nil {
		t.Fatal(err)
	}
	server, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
		TLSConfig: config, TLSVerify: true, TLSTimeout: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	server.Start()
	if !server.ReadyForConnections(readyWithin) {
		t.Fatal("the NATS server doesn't start")
	}
	before := s.config
	s.config = filepath.Join(dir, "mpr.yaml")
	rewrite(t, before, s.config, "directory: {", fmt.Sprintf("directory: {urls: [%q], access: {ca_file: %q, certificate_file: %q, key_file: %q}, ", "tls://"+server.Addr().String(), ca, pair, pair))
	for _, p := range s.processes {
		p.args[slices.Index(p.args, before)] = s.config
	}
	s.start(t, "EU01", "gateway", "US02", "login", "US01", "control")
	s.populate(t)
	s.works(t, s.userTokens(t).Access)
	s.stop(t, "gateway", "EU01", "US01", "US02", "login", "control")
}
