package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mpr/config"
	"mpr/pki"
)

// doorSystem is a system on one certificate for each host, of one CA.
func doorSystem(t *testing.T, hosts ...string) (s *system, ca *pki.Authority, files []config.Pair) {
	t.Helper()
	dir := t.TempDir()
	ca = newCA(t)
	c := config.Default(0, filepath.Join(dir, "data"))
	for _, host := range hosts {
		pair := config.Pair{Certificate: filepath.Join(dir, host+".pem")}
		issue(t, ca, pair.Certificate, time.Hour, host)
		c.TLS.Certificates = append(c.TLS.Certificates, pair)
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := newSystem(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.openTLS(RoleLogin); err != nil {
		t.Fatal(err)
	}
	s.observe = newObserved(t, c).observe
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s, ca, c.TLS.Certificates
}

func newCA(t *testing.T) *pki.Authority {
	t.Helper()
	ca, err := pki.NewAuthority(pki.AuthorityOptions{Name: "a CA of a test", Now: time.Now(), Lifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *pki.Authority, file string, lifetime time.Duration, hosts ...string) *x509.Certificate {
	t.Helper()
	c, err := ca.Issue(pki.Leaf{Name: "door", Hosts: hosts, Now: time.Now(), Lifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.WritePair(file, c); err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

// openDoor answers at the login door of production with the request's protocol.
func openDoor(t *testing.T, s *system) string {
	t.Helper()
	address := &s.config.Environments[0].Login.Listen
	if _, err := s.bind(address); err != nil {
		t.Fatal(err)
	}
	err := s.bindAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	if err != nil {
		t.Fatal(err)
	}
	return *address
}

// shake connects to a door.
func shake(t *testing.T, address string, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	plain, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() })
	conn := tls.Client(plain, c)
	return conn, conn.HandshakeContext(t.Context())
}

func roots(ca *pki.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Certificate)
	return p
}

func TestDoorsSpeakTLS(t *testing.T) {
	s, ca, _ := doorSystem(t, "login.procore.com", "api.procore.com")
	address := openDoor(t, s)
	for _, host := range []string{"login.procore.com", "api.procore.com"} {
		conn, err := shake(t, address, &tls.Config{RootCAs: roots(ca), ServerName: host, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
			t.Errorf("%s: the protocol is %q", host, p)
		}
	}
	if _, err := shake(t, address, &tls.Config{RootCAs: roots(ca), ServerName: "login.procore.com", MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	old := &tls.Config{RootCAs: roots(ca), ServerName: "login.procore.com", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // it must be refused
	if _, err := shake(t, address, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	for proto, protocols := range map[string][]string{"HTTP/2.0": {"h2", "http/1.1"}, "HTTP/1.1": {"http/1.1"}} {
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots(ca), ServerName: "login.procore.com", NextProtos: protocols, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: proto == "HTTP/2.0",
		}
		if got := bodyOf(t, transport, "https://"+address); got != proto {
			t.Errorf("%q came by %q", proto, got)
		}
	}
}

// bodyOf answers the body of an answer.
func bodyOf(t *testing.T, transport *http.Transport, url string) string {
	t.Helper()
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Files that are replaced are used for new connections; those that are open go on; what can't
// be used changes nothing.
func TestCertificatesOfDoorsAreReadAgain(t *testing.T) {
	const host = "login.procore.com"
	s, ca, files := doorSystem(t, host)
	address := openDoor(t, s)
	trust := &tls.Config{RootCAs: roots(ca), ServerName: host, NextProtos: []string{"http/1.1"}}
	before, err := shake(t, address, trust)
	if err != nil {
		t.Fatal(err)
	}
	shown := func() *x509.Certificate {
		conn, err := shake(t, address, trust)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // it was open
		return conn.ConnectionState().PeerCertificates[0]
	}
	first := shown()
	for name, content := range map[string]string{"nothing": "", "no certificate": "-----BEGIN"} {
		if err := os.WriteFile(files[0].Certificate, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if !shown().Equal(first) {
			t.Errorf("%s in the file: another certificate is shown", name)
		}
	}
	issue(t, ca, files[0].Certificate, -time.Minute, host) // it has ended
	second := issue(t, newCA(t), files[0].Certificate, time.Hour, host)
	trust.InsecureSkipVerify = true // that it is shown is what is looked for
	until, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !shown().Equal(second) {
		if until.Err() != nil {
			t.Fatal("the new certificate isn't shown")
		}
	}
	if _, err := io.WriteString(before, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(before, answer); err != nil || string(answer) != "HTTP/1.1 200" {
		t.Errorf("a connection from before got %q, %v", answer, err)
	}
}

func TestBadCertificatesStopTheStart(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t)
	one, other := filepath.Join(dir, "one.pem"), filepath.Join(dir, "other.pem")
	issue(t, ca, one, time.Hour, "one.example")
	issue(t, ca, other, time.Hour, "other.example")
	for says, pair := range map[string]config.Pair{
		"no such file":                         {Certificate: filepath.Join(dir, "none.pem")},
		"don't hold a certificate and its key": {Certificate: one, Key: other},
	} {
		c := config.Default(0, dir)
		c.TLS.Certificates = []config.Pair{pair}
		if err := RunRole(t.Context(), RoleOptions{Config: c, Role: RoleLogin}); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), pair.Certificate) {
			t.Errorf("%+v: %v; want %q", pair, err, says)
		}
	}
}

// Certificates are asked for the hosts of doors that are here, and for no others.
func TestACMEAsksForOurHostsOnly(t *testing.T) {
	c := config.Default(0, t.TempDir())
	c.TLS.ACME = config.ACME{Directory: "https://127.0.0.1:1/directory", Email: "ops@example.com"}
	d, err := openDoors(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.acme.HostPolicy(t.Context(), "login.procore.com"); err == nil {
		t.Error("a certificate is asked for a door that isn't here")
	}
	if p := d.config("login.procore.com").NextProtos; strings.Join(p, " ") != "h2 http/1.1 acme-tls/1" {
		t.Errorf("the protocols are %q", p)
	}
	for host, ours := range map[string]bool{"login.procore.com": true, "api.procore.com": false, "example.com": false} {
		if err := d.acme.HostPolicy(t.Context(), host); (err == nil) != ours {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// Operators see when certificates end.
func TestTheEndsOfCertificatesAreShown(t *testing.T) {
	s, _, files := doorSystem(t, "login.procore.com", "api.procore.com")
	ends := s.doors.ends()
	if len(ends) != 2 || ends[0].Labels[1] != files[0].Certificate || ends[1].Labels[1] != files[1].Certificate {
		t.Fatalf("%+v", ends)
	}
	for _, e := range ends {
		if end := time.Unix(int64(e.Value), 0); time.Until(end) < 59*time.Minute || time.Until(end) > time.Hour {
			t.Errorf("%v ends at %v", e.Labels, end)
		}
	}
}
