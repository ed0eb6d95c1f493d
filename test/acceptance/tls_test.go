package acceptance

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// secured gives each process a certificate of a CA that `mpr pki` makes, by a configuration of
// its own, and answers the CA's folder.
func (s *topology) secured(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	mpr := func(args ...string) {
		t.Helper()
		if out, err := s.command(append([]string{"pki"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("mpr pki %v: %v\n%s", args, err, out)
		}
	}
	mpr("init", dir)
	common, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range s.processes {
		mpr("issue", dir, "--role", p.args[0], "--name", name, "--host", "127.0.0.1")
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

// The whole system works with certificates on both sides of each internal connection, and
// lets nobody in without one.
func TestRolesShowOneAnotherCertificates(t *testing.T) {
	s := newTopology(t)
	dir := s.secured(t)
	s.start(t, "control", "login", "US01", "US02", "EU01", "gateway")
	s.populate(t)
	person := s.userTokens(t)
	s.works(t, person.Access)
	s.listed(t, person.Access, s.everywhere(t)...)
	call{URL: s.apiURL("/rest/v1.0/me"), Token: person.Access}.send(t).want(t, 200)
	// A client that knows only one host gets its tokens by way of the gateway.
	call{URL: s.apiURL("/.well-known/jwks.json")}.send(t).want(t, 200)

	address := s.internalAddresses(t)
	for name, show := range map[string]string{"nobody": "", "a gateway": "gateway", "the control role": "control"} {
		for what, at := range address {
			config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // who is let in is what is looked at
			if show != "" {
				pair := filepath.Join(dir, show+".pem")
				c, err := tls.LoadX509KeyPair(pair, pair)
				if err != nil {
					t.Fatal(err)
				}
				config.Certificates = []tls.Certificate{c}
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: time.Minute}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			let := show == "gateway" && what != "internal" || show == "control" && what != "listen"
			if (err == nil) != let {
				t.Errorf("%s at %s: %v; let in: %v", name, what, err, let)
			}
			if err != nil && !strings.Contains(err.Error(), "tls:") {
				t.Errorf("%s at %s: %v", name, what, err)
			}
		}
	}

	// Certificates are renewed under the running system, a region starts again, and a company moves.
	if out, err := s.command("pki", "renew", dir, "--all").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.kill(t, "EU01")
	s.start(t, "EU01")
	eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), person.Access, s.in(t, "EU01").ID)
		return a.Status == 200, a.String()
	})
	s.works(t, person.Access)
	s.stop(t, "gateway", "EU01", "US01", "US02", "login", "control")
}

// internalAddresses are those of the first region's two listeners, and of the identity.
func (s *topology) internalAddresses(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(data)) {
		read := func(key string) string {
			_, rest, ok := strings.Cut(line, key+`: "`)
			if !ok {
				return ""
			}
			value, _, _ := strings.Cut(rest, `"`)
			return value
		}
		switch {
		case strings.Contains(line, "identity:"):
			found["identity"] = read("internal")
		case strings.Contains(line, "code: US01"):
			found["listen"], found["internal"] = read("listen"), read("internal")
		}
	}
	return found
}
