package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newAuthority(t *testing.T) (*Authority, string) {
	t.Helper()
	ca, err := NewAuthority(AuthorityOptions{Name: "a CA of a test", Now: time.Now(), Lifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.pem")
	if err := ca.Write(file, filepath.Join(dir, "ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	return ca, file
}

// own writes a certificate for this machine.
func own(t *testing.T, ca *Authority, file, role string, lifetime time.Duration) {
	t.Helper()
	c, err := ca.Issue(Leaf{Name: role, Roles: []string{role}, Hosts: []string{"127.0.0.1"}, Now: time.Now(), Lifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePair(file, c); err != nil {
		t.Fatal(err)
	}
}

func peer(t *testing.T, ca *Authority, caFile, role string, lifetime time.Duration) *Peer {
	t.Helper()
	file := filepath.Join(t.TempDir(), role+".pem")
	own(t, ca, file, role, lifetime)
	p, err := OpenPeer(caFile, Files{Certificate: file})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// region answers gateways at a real listener.
func region(t *testing.T, p *Peer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		TLSConfig: p.Server("gateway"), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// call calls the region as a process would.
func call(t *testing.T, address string, dial func(ctx context.Context, conn net.Conn) (net.Conn, error)) error {
	t.Helper()
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return dial(ctx, conn)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != "well" {
		t.Errorf("answered %q", body)
	}
	return err
}

func as(p *Peer, address, role string) func(context.Context, net.Conn) (net.Conn, error) {
	return func(ctx context.Context, conn net.Conn) (net.Conn, error) { return p.Client(ctx, conn, address, role) }
}

func TestOnlyOurProcessesMeet(t *testing.T) {
	ca, caFile := newAuthority(t)
	foreign, foreignFile := newAuthority(t)
	address := region(t, peer(t, ca, caFile, "region", time.Hour))
	if err := call(t, address, as(peer(t, ca, caFile, "gateway", time.Hour), address, "region")); err != nil {
		t.Errorf("a gateway: %v", err)
	}
	bare := func(c *tls.Config) func(context.Context, net.Conn) (net.Conn, error) {
		return func(ctx context.Context, conn net.Conn) (net.Conn, error) {
			secure := tls.Client(conn, c)
			return secure, secure.HandshakeContext(ctx)
		}
	}
	// Whoever trusts the region but is of another CA.
	stranger := peer(t, foreign, foreignFile, "gateway", time.Hour)
	trusting, err := watch([]string{caFile}, peer(t, ca, caFile, "gateway", time.Hour).roots.parse)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dial func(context.Context, net.Conn) (net.Conn, error)
		says string
	}{
		"no certificate":                  {bare(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}), "certificate required"}, //nolint:gosec // the server is to refuse
		"TLS 1.2":                         {bare(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}), "protocol version"},     //nolint:gosec // the server is to refuse
		"one that has ended":              {as(peer(t, ca, caFile, "gateway", -time.Minute), address, "region"), "expired"},
		"one of another CA":               {as(&Peer{stranger.pair, trusting}, address, "region"), "unknown certificate authority"},
		"one of another role":             {as(peer(t, ca, caFile, "login", time.Hour), address, "region"), "bad certificate"},
		"a region elsewhere":              {as(peer(t, ca, caFile, "gateway", time.Hour), "region.example:443", "region"), "region.example"},
		"another role's place":            {as(peer(t, ca, caFile, "gateway", time.Hour), address, "login"), "login is wanted"},
		"a server that is no one of ours": {as(peer(t, foreign, foreignFile, "gateway", time.Hour), address, "region"), "unknown authority"},
	} {
		if err := call(t, address, c.dial); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
}

// Short-lived certificates are replaced while processes run, and so is the CA.
func TestPeersReadTheirFilesAgain(t *testing.T) {
	ca, caFile := newAuthority(t)
	file := filepath.Join(t.TempDir(), "gateway.pem")
	own(t, ca, file, "gateway", -time.Minute)
	gateway, err := OpenPeer(caFile, Files{Certificate: file})
	if err != nil {
		t.Fatal(err)
	}
	address := region(t, peer(t, ca, caFile, "region", time.Hour))
	if err := call(t, address, as(gateway, address, "region")); err == nil {
		t.Fatal("a certificate that has ended is taken")
	}
	own(t, ca, file, "gateway", time.Hour)
	until, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for err = errors.New("never called"); err != nil && until.Err() == nil; {
		err = call(t, address, as(gateway, address, "region"))
	}
	if err != nil {
		t.Fatalf("with a new certificate: %v", err)
	}
	// A CA that takes over: both are trusted, then the new one alone.
	next, nextFile := newAuthority(t)
	data, err := os.ReadFile(nextFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(caFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for err = error(nil); err == nil && until.Err() == nil; {
		err = call(t, address, as(gateway, address, "region"))
	}
	if err == nil {
		t.Error("the CA before is still trusted")
	}
	successor := peer(t, next, nextFile, "gateway", time.Hour)
	if err := call(t, address, as(successor, address, "region")); err == nil {
		t.Error("the region's certificate of the CA before is trusted by who knows the new one alone")
	}
}

func TestPeersNeedFittingFiles(t *testing.T) {
	ca, caFile := newAuthority(t)
	_, foreignFile := newAuthority(t)
	file, door := filepath.Join(t.TempDir(), "gateway.pem"), filepath.Join(t.TempDir(), "door.pem")
	own(t, ca, file, "gateway", time.Hour)
	c, err := ca.Issue(Leaf{Name: "door", Hosts: []string{"api.procore.com"}, Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePair(door, c); err != nil {
		t.Fatal(err)
	}
	for says, files := range map[string][2]string{
		"unknown authority":      {foreignFile, file},
		"incompatible key usage": {caFile, door},
		"no such file":           {caFile + "x", file},
	} {
		if _, err := OpenPeer(files[0], Files{Certificate: files[1]}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v; want %q", files, err, says)
		}
	}
}
