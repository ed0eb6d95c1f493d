package acceptance

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

var (
	// doorCA is the folder of the CA of doors that speak TLS.
	doorCA string
	// doorTrust is how the tests' clients speak TLS: they trust this CA and no other.
	doorTrust = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
)

func makeDoorCA(dir string) error {
	cmd := exec.CommandContext(context.Background(), binary, "pki", "init", dir)
	cmd.Env = environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make a CA for doors: %w\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return err
	}
	doorCA = dir
	if !doorTrust.RootCAs.AppendCertsFromPEM(text) {
		return errors.New("the CA for doors holds no certificate")
	}
	return nil
}

// pki runs a command of mpr pki.
func (s *topology) pki(t *testing.T, args ...string) {
	t.Helper()
	if out, err := s.command(append([]string{"pki"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("mpr pki %v: %v\n%s", args, err, out)
	}
}

// doorCertificate writes a certificate for a host and this machine, in place of the one before.
func (s *topology) doorCertificate(t *testing.T, file, host string) {
	t.Helper()
	name := rand.Text()
	s.pki(t, "issue", doorCA, "--host", host, "--host", "127.0.0.1", "--name", name)
	if err := os.Rename(filepath.Join(doorCA, name+".pem"), file); err != nil {
		t.Fatal(err)
	}
}

// doorsOverTLS has the doors of production speak TLS, each with a certificate for its host, and
// the admin API; it answers the files of the doors by host.
func (s *topology) doorsOverTLS(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	yaml := "tls:\n  certificates:\n"
	for _, host := range []string{"app.procore.com", "login.procore.com", "api.procore.com"} {
		files[host] = filepath.Join(dir, host+".pem")
		s.doorCertificate(t, files[host], host)
		yaml += "    - certificate_file: " + files[host] + "\n"
	}
	admin := filepath.Join(dir, "admin.pem")
	s.doorCertificate(t, admin, "control.internal")
	rewrite(t, s.config, s.config, "control: {", fmt.Sprintf("control: {certificate_file: %q, ", admin))
	s.configure(t, yaml)
	s.env = append(s.env, "SSL_CERT_FILE="+filepath.Join(doorCA, "ca.pem"))
	s.Admin.URL = strings.Replace(s.Admin.URL, "http://", "https://", 1)
	for _, url := range []*string{&s.Environments[0].Login, &s.Environments[0].API, &s.Environments[0].Legacy} {
		*url = strings.Replace(*url, "http://", "https://", 1)
	}
	return files
}

// shown is the certificate that a door shows to who names a host.
func shown(t *testing.T, url, host string) *x509.Certificate {
	t.Helper()
	trust := doorTrust.Clone()
	trust.ServerName = host
	conn := handshake(t, strings.TrimPrefix(url, "https://"), trust)
	defer conn.Close() //nolint:errcheck // it was open
	return conn.ConnectionState().PeerCertificates[0]
}

func handshake(t *testing.T, address string, c *tls.Config) *tls.Conn {
	t.Helper()
	conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("TLS with %s: %v", address, err)
	}
	secure, ok := conn.(*tls.Conn)
	if !ok {
		t.Fatalf("%T is no connection of TLS", conn)
	}
	return secure
}

// The whole system works with doors that end TLS themselves, by HTTP/2, under the gateway's limits;
// their certificates are replaced under calls, of which none fails.
func TestDoorsOverTLS(t *testing.T) {
	s := newTopology(t)
	files := s.doorsOverTLS(t)
	s.configure(t, "gateway: {max_body_bytes: 65536}\n")
	s.start(t, "control", "login", "US01", "US02", "EU01", "gateway")
	s.populate(t)
	person := s.userTokens(t)
	s.works(t, person.Access)
	s.listed(t, person.Access, s.everywhere(t)...)
	// A client that knows only one host gets its tokens by way of the gateway, and hears of the door.
	var metadata struct {
		Endpoint string `json:"token_endpoint"`
	}
	call{URL: s.apiURL("/.well-known/oauth-authorization-server")}.send(t).want(t, 200).into(t, &metadata)
	if metadata.Endpoint != s.apiURL("/oauth/token") {
		t.Errorf("tokens are at %s", metadata.Endpoint)
	}

	door := s.Environments[0]
	for host, url := range map[string]string{"login.procore.com": door.Login, "api.procore.com": door.API, "app.procore.com": door.Legacy} {
		if err := shown(t, url, host).VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	s.limitsOverHTTP2(t, person.Access)

	x := s.startTraffic(t, s.in(t, "EU01").ID)
	x.waitFor(t, 20)
	before := shown(t, door.API, "api.procore.com")
	s.doorCertificate(t, files["api.procore.com"], "api.procore.com")
	eventually(t, readyWithin, func() (bool, string) {
		return !shown(t, door.API, "api.procore.com").Equal(before), "the certificate before is still shown"
	})
	plain.CloseIdleConnections() // others make new ones, as new clients do
	x.waitFor(t, 50)
	x.end()
	for _, f := range x.failed {
		t.Error(f)
	}
	x.hold(t)
	s.stop(t, "gateway", "EU01", "US01", "US02", "login", "control")
}

// limitsOverHTTP2: what the gateway bounds over plain HTTP it bounds here.
func (s *topology) limitsOverHTTP2(t *testing.T, token string) {
	t.Helper()
	at := s.in(t, "US02").ID
	large := call{Method: "POST", URL: s.apiURL("/rest/v1.0/projects"), Token: token, Company: at, Header: map[string]string{"Content-Type": "application/json"}, Body: strings.Repeat(" ", 1<<17)}
	large.send(t).wantCode(t, 413, "body_too_large")
	wide := call{URL: s.apiURL("/rest/v1.0/projects"), Token: token, Company: at, Header: map[string]string{"X-Wide": strings.Repeat("x", 70<<10)}}
	wide.send(t).wantCode(t, 431, "header_too_large")
	resp, err := plain.Get(s.apiURL("/rest/v1.0/me")) //nolint:noctx // the client has a time limit
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Proto != "HTTP/2.0" || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("it came by %s, %s", resp.Proto, resp.Status)
	}
	trust := doorTrust.Clone()
	trust.NextProtos = []string{"h2"}
	conn := handshake(t, strings.TrimPrefix(s.Environments[0].API, "https://"), trust)
	defer conn.Close() //nolint:errcheck // it was open
	framer := http2.NewFramer(conn, conn)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	settings, ok := frame.(*http2.SettingsFrame)
	if err != nil || !ok {
		t.Fatalf("the first frame is %v, %v", frame, err)
	}
	if streams, _ := settings.Value(http2.SettingMaxConcurrentStreams); streams != 128 {
		t.Errorf("%d streams at a time", streams)
	}
}
