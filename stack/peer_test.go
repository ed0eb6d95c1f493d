package stack

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"mpr/config"
	"mpr/pki"
)

// A connection between our processes doesn't outlive the certificate that it was begun with.
func TestConnectionsEndWithTheirCertificate(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t)
	if err := ca.Write(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	made := func(role string, lifetime time.Duration) config.InternalTLS {
		c, err := ca.Issue(pki.Leaf{Name: role, Roles: []string{role}, Hosts: []string{"127.0.0.1"}, Now: time.Now(), Lifetime: lifetime})
		if err != nil {
			t.Fatal(err)
		}
		files := config.InternalTLS{CA: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, role+".pem")}
		if err := pki.WritePair(files.Certificate, c); err != nil {
			t.Fatal(err)
		}
		return files
	}
	c := config.Default(0, dir)
	c.InternalTLS = made(RoleLogin, time.Hour)
	s, err := newSystem(c)
	if err != nil {
		t.Fatal(err)
	}
	s.observe = newObserved(t, c).observe
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.openTLS(RoleLogin); err != nil {
		t.Fatal(err)
	}
	address := &s.config.Environments[0].Identity.Internal
	if _, err := s.bind(address); err != nil {
		t.Fatal(err)
	}
	if err := s.bindAndServe(address, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})); err != nil {
		t.Fatal(err)
	}

	gateway, err := peerOf(made(RoleGateway, 5*time.Second), RoleGateway)
	if err != nil {
		t.Fatal(err)
	}
	connections := 0
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, at string) (net.Conn, error) {
		connections++
		conn, err := (&net.Dialer{}).DialContext(ctx, network, at)
		if err != nil {
			return nil, err
		}
		return gateway.Client(ctx, conn, at, RoleLogin)
	}}
	defer transport.CloseIdleConnections()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for ended := false; !ended; <-again.C {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+*address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if ended = resp.Close; ended && time.Now().Before(gateway.Certificate().NotAfter) {
			t.Error("the connection is ended before its certificate")
		}
	}
	if connections != 1 {
		t.Errorf("there were %d connections", connections)
	}
}
