package stack

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mpr/config"
	"mpr/observe"
)

var seedHosts = []string{"login.procore.com", "api.procore.com", "app.procore.com"}

// startFront serves TLS for the seed's hosts and the proxy before it, and answers every
// request with the host that it was sent to.
func startFront(t *testing.T, dir string) (proxyURL string, roots *x509.CertPool) {
	t.Helper()
	a, err := developmentCA(dir, seedHosts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig, err := developmentTLS(a, seedHosts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := newObserved(t, config.Default(0, dir))
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	front, err := p.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.serve(front, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Host, r.Proto)
	}), tlsConfig)
	tunnel, err := p.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	forward := newProxy(seedHosts, front.Addr().String())
	p.add(forward)
	p.serve(tunnel, forward, nil)
	roots = x509.NewCertPool()
	roots.AddCert(a.Certificate)
	return "http://" + tunnel.Addr().String(), roots
}

func TestHardCodedHostsThroughTheProxy(t *testing.T) {
	proxyURL, roots := startFront(t, t.TempDir())
	via, err := url.Parse(proxyURL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for _, host := range seedHosts {
		resp, err := (&http.Client{Transport: transport}).Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if got, want := string(body), host+" HTTP/2.0"; got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
	}
}

func TestProxyRefusesEveryOtherTarget(t *testing.T) {
	proxyURL, _ := startFront(t, t.TempDir())
	for _, request := range []string{
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
		"CONNECT api.procore.com:80 HTTP/1.1\r\nHost: api.procore.com:80\r\n\r\n",
		"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
		"CONNECT api.procore.com.evil.test:443 HTTP/1.1\r\nHost: api.procore.com.evil.test:443\r\n\r\n",
		"GET http://api.procore.com/ HTTP/1.1\r\nHost: api.procore.com\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: api.procore.com:443\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(proxyURL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %s, want 403", request, resp.Status)
		}
		if err := errors.Join(resp.Body.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestAuthorityIsKeptAndSignsForOurHostsOnly(t *testing.T) {
	dir := t.TempDir()
	first, err := developmentCA(dir, seedHosts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	second, err := developmentCA(dir, seedHosts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !first.Certificate.Equal(second.Certificate) {
		t.Error("the second start made another CA")
	}
	info, err := os.Stat(filepath.Join(dir, caKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the CA's key: %v, %v; want mode 0600", info.Mode(), err)
	}
	foreign, err := developmentTLS(second, []string{"example.com"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(foreign.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(second.Certificate)
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "example.com", Roots: roots}); err == nil {
		t.Error("a certificate for another site is trusted")
	}
	third, err := developmentCA(dir, append([]string{"api.example.com"}, seedHosts...), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if third.Certificate.Equal(first.Certificate) || !covers(third, []string{"api.example.com"}) {
		t.Error("the CA doesn't cover a host that was added")
	}
}

func TestFolderIsLockedAndResetOnlyIfOurs(t *testing.T) {
	dir, deleted := filepath.Join(t.TempDir(), "data"), 0
	also := func() error { deleted++; return nil }
	if err := resetFolder(dir, also); err != nil {
		t.Errorf("reset of a folder that isn't there: %v", err)
	}
	held, err := openFolder(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, shared := range []bool{false, true} {
		if _, err := openFolder(dir, shared); err == nil || !strings.Contains(err.Error(), "in use by another mpr") {
			t.Errorf("second open, shared %v: %v; want a refusal that says why", shared, err)
		}
	}
	if err := resetFolder(dir, also); err == nil {
		t.Error("a folder in use was reset")
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := readOrMakeSecret(filepath.Join(dir, "some.secret")); err != nil {
		t.Fatal(err)
	}
	if err := resetFolder(dir, also); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "some.secret")); !os.IsNotExist(err) {
		t.Errorf("after the reset: %v; want no file", err)
	}

	// Roles share a folder, but not with somebody who wants all of it.
	for range 2 {
		role, err := openFolder(dir, true)
		if err != nil {
			t.Fatal(err)
		}
		defer role.Close() //nolint:errcheck // only locked
	}
	if err := resetFolder(dir, also); err == nil {
		t.Error("a folder that roles use was reset")
	}

	strange := t.TempDir()
	if err := os.WriteFile(filepath.Join(strange, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := resetFolder(strange, also); err == nil || !strings.Contains(err.Error(), "nothing was deleted") {
		t.Errorf("reset of a stranger's folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(strange, "thesis.txt")); err != nil {
		t.Errorf("a stranger's file is gone: %v", err)
	}
	if deleted != 2 { // of the folder that isn't there, and of ours
		t.Errorf("what else is kept was deleted %d times", deleted)
	}
}

func TestSecretIsMadeOnceAndMustBeLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.secret")
	first, err := readOrMakeSecret(path)
	if err != nil || len(first) < 52 {
		t.Fatalf("readOrMakeSecret: %q, %v", first, err)
	}
	if second, err := readOrMakeSecret(path); err != nil || second != first {
		t.Errorf("second read: %q, %v; want %q", second, err, first)
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readOrMakeSecret(path); err == nil {
		t.Error("a short secret was taken")
	}
}

// Roles that start at the same time on one data folder must show one another the same
// secret.
func TestSecretIsTheSameForAllWhoMakeIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "a.secret")
	const processes = 16
	secrets, begin := make(chan string, processes), make(chan struct{})
	for range processes {
		go func() {
			<-begin
			secret, err := readOrMakeSecret(path)
			if err != nil {
				t.Error(err)
			}
			secrets <- secret
		}()
	}
	close(begin)
	first := <-secrets
	for range processes - 1 {
		if other := <-secrets; other != first {
			t.Errorf("two secrets: %q and %q", first, other)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// newObserved is a process that nobody looks at.
func newObserved(t *testing.T, c *config.Config) *process {
	t.Helper()
	p := newProcess(c.Gateway, c.Operations)
	var err error
	if p.observe, err = observe.New(observe.Options{Role: "test"}); err != nil {
		t.Fatal(err)
	}
	p.add(p.observe)
	return p
}
