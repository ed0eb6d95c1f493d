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
	p, err := OpenPeer(caFile, Files{Certificate: file}, role)
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

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !is() {
		if ctx.Err() != nil {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Short-lived certificates are replaced while processes run.
func TestPeersReadTheirFilesAgain(t *testing.T) {
	t.Parallel() // it waits for files to be looked at
	ca, caFile := newAuthority(t)
	file := filepath.Join(t.TempDir(), "gateway.pem")
	own(t, ca, file, "gateway", -time.Minute)
	gateway, err := OpenPeer(caFile, Files{Certificate: file}, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	address := region(t, peer(t, ca, caFile, "region", time.Hour))
	if err := call(t, address, as(gateway, address, "region")); err == nil {
		t.Fatal("a certificate that has ended is taken")
	}
	own(t, ca, file, "gateway", time.Hour)
	until(t, "a new certificate", func() bool { return call(t, address, as(gateway, address, "region")) == nil })
}

// What is put in place of a good certificate and is of no use isn't taken.
func TestPeersKeepWhatIsGood(t *testing.T) {
	t.Parallel() // it waits for files to be looked at
	ca, caFile := newAuthority(t)
	foreign, _ := newAuthority(t)
	file := filepath.Join(t.TempDir(), "gateway.pem")
	own(t, ca, file, "gateway", time.Hour)
	gateway, err := OpenPeer(caFile, Files{Certificate: file}, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	good := gateway.Certificate()
	told := func(part string) func() bool {
		return func() bool {
			if !gateway.Certificate().Equal(good) {
				t.Fatal("another certificate is shown")
			}
			gateway.pair.mu.Lock()
			defer gateway.pair.mu.Unlock()
			return strings.Contains(gateway.pair.told, part)
		}
	}
	own(t, ca, file, "login", time.Hour)
	until(t, "of another role", told("needs the URI mpr://gateway"))
	own(t, foreign, file, "gateway", time.Hour)
	until(t, "of another CA", told("unknown authority"))
	own(t, ca, file, "gateway", -time.Minute)
	until(t, "one that has ended", told("has ended"))
	later, err := ca.Issue(Leaf{Name: "gateway", Roles: []string{"gateway"}, Hosts: []string{"127.0.0.1"}, Now: time.Now().Add(Backdate + 3*time.Second), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePair(file, later); err != nil {
		t.Fatal(err)
	}
	until(t, "one whose time has come", func() bool { return gateway.Certificate().Equal(later.Leaf) })
	if time.Now().Before(later.Leaf.NotBefore) {
		t.Error("a certificate is shown before its time has come")
	}
}

// One CA takes over from another without a call that fails: each process reads its files when it
// gets to it.
func TestACATakesOver(t *testing.T) {
	t.Parallel() // it waits for files to be looked at
	ca, caFile := newAuthority(t)
	keyFile := filepath.Join(filepath.Dir(caFile), "ca-key.pem")
	files := map[string]string{"gateway": filepath.Join(t.TempDir(), "gateway.pem"), "region": filepath.Join(t.TempDir(), "region.pem")}
	peers := map[string]*Peer{}
	for role, file := range files {
		own(t, ca, file, role, time.Hour)
		p, err := OpenPeer(caFile, Files{Certificate: file}, role)
		if err != nil {
			t.Fatal(err)
		}
		peers[role] = p
	}
	first, old := ca.Certificate, peer(t, ca, caFile, "gateway", time.Hour)
	address := region(t, peers["region"])
	calls := func() bool {
		if err := call(t, address, as(peers["gateway"], address, "region")); err != nil {
			t.Fatal(err)
		}
		return true
	}
	rotate := func(want Stage) {
		t.Helper()
		next, err := ca.Rotate(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Write(caFile, keyFile); err != nil {
			t.Fatal(err)
		}
		if ca, err = ReadAuthority(caFile, keyFile); err != nil || ca.Stage() != want {
			t.Fatalf("%q, %v; want %q", ca.Stage(), err, want)
		}
		for role := range peers {
			until(t, "the CAs are read", func() bool {
				calls()
				pool := peers[role].roots.get()
				return len(pool.Subjects()) == map[Stage]int{Announced: 2, Signing: 2, Settled: 1}[want] //nolint:staticcheck // they are in no system's pool
			})
		}
	}
	rotate(Announced)
	if !ca.Certificate.Equal(first) {
		t.Error("the next CA signs before it is trusted everywhere")
	}
	rotate(Signing)
	for _, role := range []string{"region", "gateway"} { // one after the other, as it happens
		own(t, ca, files[role], role, time.Hour)
		until(t, "the certificate is read", func() bool { return calls() && peers[role].Certificate().CheckSignatureFrom(ca.Certificate) == nil })
	}
	rotate(Settled)
	if err := call(t, address, as(old, address, "region")); err == nil {
		t.Error("the CA before is still trusted")
	}
}

func TestPeersNeedFittingFiles(t *testing.T) {
	ca, caFile := newAuthority(t)
	_, foreignFile := newAuthority(t)
	keyFile := filepath.Join(filepath.Dir(caFile), "ca-key.pem")
	file, door, region := filepath.Join(t.TempDir(), "gateway.pem"), filepath.Join(t.TempDir(), "door.pem"), filepath.Join(t.TempDir(), "region.pem")
	own(t, ca, file, "gateway", time.Hour)
	own(t, ca, region, "region", time.Hour)
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
		"mpr://gateway":          {caFile, region},
		"holds a private key":    {keyFile, file},
		"isn't that of a CA":     {cutCA(t, file, "-----BEGIN PRIVATE"), file},
		"cut off":                {cutCA(t, caFile, "-----END"), file},
	} {
		if _, err := OpenPeer(files[0], Files{Certificate: files[1]}, "gateway"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v; want %q", files, err, says)
		}
	}
}

// cutCA is a file with what another one holds up to a place.
func cutCA(t *testing.T, file, before string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(data), before)
	cut := filepath.Join(t.TempDir(), "cut.pem")
	if err := os.WriteFile(cut, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return cut
}

// Whatever stands in the files of a CA, it is one or it is refused.
func FuzzParseAuthority(f *testing.F) {
	ca, err := NewAuthority(AuthorityOptions{Name: "a CA", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	for range 3 {
		if err := ca.Write(certificateFile, keyFile); err != nil {
			f.Fatal(err)
		}
		certificates, err := os.ReadFile(certificateFile)
		if err != nil {
			f.Fatal(err)
		}
		keys, err := os.ReadFile(keyFile)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(certificates, keys)
		f.Add(keys, certificates)
		if ca, err = ca.Rotate(time.Now()); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, certificates, keys []byte) {
		a, err := parseAuthority(certificates, keys)
		if err != nil {
			return
		}
		if !a.Certificate.IsCA || !a.key.PublicKey.Equal(a.Certificate.PublicKey) || a.next != nil && a.former != nil {
			t.Errorf("%+v is no CA", a)
		}
	})
}
