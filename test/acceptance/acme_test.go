package acceptance

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"mpr/test/loopback"
)

// acmeServer is a CA that is asked by ACME.
type acmeServer struct {
	url  string
	file string         // what its own server is trusted by
	root *x509.CertPool // what its certificates are trusted by
}

// startACME starts Pebble, the CA that Let's Encrypt tests clients with. It finds all hosts on
// this machine, and proves them at the port of an address.
func startACME(t *testing.T, address string) *acmeServer {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	names := loopback.FreeAddresses(t, 1)
	dns, err := challtestsrv.New(challtestsrv.Config{Log: quiet, DNSAddrs: names})
	if err != nil {
		t.Fatal(err)
	}
	dns.SetDefaultDNSIPv6("")
	go dns.Run()
	t.Cleanup(dns.Shutdown)
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	store := db.NewMemoryStore()
	signer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the only one"}})
	front := wfe.New(quiet, store, va.New(quiet, 0, port, true, names[0], store), signer, []string{"ca.example"}, true, false, 1, 1)
	server := httptest.NewTLSServer(front.Handler())
	t.Cleanup(server.Close)
	a := &acmeServer{url: server.URL + wfe.DirectoryPath, file: filepath.Join(t.TempDir(), "acme.pem"), root: x509.NewCertPool()}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if !a.root.AppendCertsFromPEM(signer.GetRootCert(0).PEM()) {
		t.Fatal("the CA has no root")
	}
	return a
}

// A door asks a CA for the certificate of its host, and of no other; it keeps what it gets.
func TestDoorsByACME(t *testing.T) {
	const host = "login.procore.com"
	s := newTopology(t)
	address := strings.TrimPrefix(s.Environments[0].Login, "http://")
	authority := startACME(t, address)
	s.configure(t, "tls: {acme: {directory: "+authority.url+", email: ops@example.com, ca_file: "+authority.file+"}}\n")
	ops := s.observed(t)
	s.start(t, "control", "login")
	becomes(t, ops["login"], 200)

	trust := &tls.Config{RootCAs: authority.root, ServerName: host, MinVersion: tls.VersionTLS12}
	look := func() *x509.Certificate {
		conn := handshake(t, address, trust)
		defer conn.Close() //nolint:errcheck // it was open
		return conn.ConnectionState().PeerCertificates[0]
	}
	// A client that has waited for too long tries again; the CA is asked all the same.
	eventually(t, readyWithin, func() (bool, string) {
		conn, err := (&tls.Dialer{Config: trust}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return false, err.Error()
		}
		return conn.Close() == nil, ""
	})
	first := look()
	transport := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: callWithin}
	call{URL: "https://" + address + "/.well-known/jwks.json", Client: client}.send(t).want(t, 200)
	figures := string(call{URL: ops["login"] + "/metrics"}.send(t).want(t, 200).Body)
	if !strings.Contains(figures, `mpr_certificate_end_timestamp_seconds{certificate="`+host+`",use="door"}`) {
		t.Errorf("no end of the certificate is shown:\n%s", figures)
	}

	for _, other := range []string{"api.procore.com", "elsewhere.example", ""} {
		config := &tls.Config{InsecureSkipVerify: true, ServerName: other} //nolint:gosec // no certificate is to be shown
		if conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("a certificate is shown to who asks for %q", other)
		}
	}
	kept := filepath.Join(s.data, "acme")
	entries, err := os.ReadDir(kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 || strings.Contains(e.Name(), "elsewhere") || strings.Contains(e.Name(), "api.") {
			t.Errorf("%s is kept, %v, %v", e.Name(), info.Mode(), err)
		}
	}
	s.stop(t, "login")
	s.start(t, "login")
	becomes(t, ops["login"], 200)
	if !look().Equal(first) {
		t.Error("another certificate was asked for after the start")
	}
	s.stop(t, "login", "control")
}
