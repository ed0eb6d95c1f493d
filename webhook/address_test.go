package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

func TestCheckURL(t *testing.T) {
	for text, want := range map[string]string{ // "" is fine, also where private networks aren't allowed
		"https://app.example/hook":               "",
		"https://app.example":                    "",
		"https://app.example:8443/hook?tenant=7": "",
		"https://xn--bcher-kva.example/":         "",
		"https://8.8.8.8/":                       "",
		"https://[2606:4700:4700::1111]/":        "",
		"https://localhost/":                     "", // what it leads to is looked at when it is called
		"http://app.example/hook":                "https://",
		"ftp://app.example/":                     "https://",
		"//app.example/":                         "https://",
		"https:app.example":                      "must be a URL",
		"app.example/hook":                       "must be a URL",
		"https://":                               "must be a URL",
		"https:///hook":                          "must be a URL",
		"https://:443/":                          "must be a URL",
		"":                                       "must be a URL",
		"https://user@app.example/":              "user name",
		"https://user:secret@app.example/":       "user name",
		"https://app.example/#part":              "fragment",
		"https://app.example/#":                  "fragment",
		"https://app.example:0/":                 "port",
		"https://app.example:99999/":             "port",
		"https://app.example:/":                  "port",
		"https://app.example:x/":                 "must be a URL",
		"https://bücher.example/":                "plain ASCII",
		"https://app.example/ hook":              "plain ASCII",
		"https://app.example\\@127.0.0.1/":       "plain ASCII",
		"https://app.example/\x00":               "plain ASCII",
		"https://a%2eexample/":                   "must be a URL",
		"https://a%2fb.example/":                 "must be a URL",
		"https://-app.example/":                  "plain ASCII",
		"https://127.0.0.1/":                     "public internet",
		"https://[::1]/":                         "public internet",
		"https://[::ffff:127.0.0.1]/":            "public internet",
		"https://[::ffff:10.0.0.1]/":             "public internet",
		"https://[fe80::1%25eth0]/":              "public internet",
		"https://10.1.2.3/":                      "public internet",
		"https://169.254.169.254/":               "public internet",
		"https://0.0.0.0/":                       "public internet",
		"https://" + strings.Repeat("a", maxURL): "at most",
	} {
		err := CheckURL(text, false)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"http://127.0.0.1:8080/hook", "https://[::1]/", "http://localhost/", "http://10.0.0.1/"} {
		if err := CheckURL(text, true); err != nil {
			t.Errorf("%q for a test on a laptop: %v", text, err)
		}
	}
	for _, text := range []string{"http://user@127.0.0.1/", "file:///etc/passwd", "http://127.0.0.1/#x"} {
		if CheckURL(text, true) == nil {
			t.Errorf("%q is fine", text)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, text := range []string{
		"127.0.0.1", "127.255.0.3", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "fe80::1", "fe80::1%lo",
		"fc00::1", "fd12::1", "224.0.0.1", "ff02::1", "255.255.255.255", "100.64.0.1", "198.18.0.1", "192.0.0.8", "240.0.0.1", "0.1.2.3",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:1::1", "fec0::1", "2001:db8::1",
	} {
		if err := checkAddress(netip.MustParseAddr(text), false); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"} {
		if err := checkAddress(netip.MustParseAddr(text), false); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What a URL leads to is looked at when it is called: a name that leads to this machine, and the
// addresses that mean it, aren't called. Where that is allowed, they are.
func TestPrivateNetworks(t *testing.T) {
	w := newWorld(t)
	var called atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	t.Cleanup(server.Close)
	// The test's certificate names example.com: so would that of a name which an attacker owns.
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	trust := func(o *Options) { o.TLS = &tls.Config{RootCAs: trusted, ServerName: "example.com"} }
	strict := w.start(trust, func(o *Options) { o.AllowPrivate = false })
	lenient := w.start(trust)
	address, err := url.Parse(server.URL)
	must(t, err)
	_, port, err := net.SplitHostPort(address.Host)
	must(t, err)
	test := func(s *Service, host string) TestResult {
		w.give(7, func(h *Hook) { h.URL = "https://" + host + ":" + port + "/" })
		result, err := s.Test(t.Context(), environment, 7)
		must(t, err)
		return result
	}
	for _, host := range []string{"localhost", "LocalHost", "127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"} {
		if result := test(strict, host); result.Status != 0 || !strings.Contains(result.Problem, "public internet") {
			t.Errorf("%s: %+v", host, result)
		}
	}
	// 127.1 and the like are addresses to some resolvers, and names to others.
	for _, host := range []string{"127.1", "2130706433", "0x7f000001"} {
		if result := test(strict, host); result.Status != 0 || result.Problem == "" {
			t.Errorf("%s: %+v", host, result)
		}
	}
	if n := called.Load(); n != 0 {
		t.Errorf("called %d times", n)
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if result := test(lenient, host); result.Status != 200 || result.Problem != "" {
			t.Errorf("%s, where it is allowed: %+v", host, result)
		}
	}
	stranger := w.start() // which doesn't trust the certificate
	if result := test(stranger, "127.0.0.1"); result.Status != 0 || !strings.Contains(result.Problem, "certificate") {
		t.Errorf("with a certificate that nobody knows: %+v", result)
	}
}

func TestRedirects(t *testing.T) {
	w := newWorld(t)
	var called atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	t.Cleanup(other.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		w.app(7, func(_ int, rw http.ResponseWriter) { rw.Header().Set("Location", other.URL); rw.WriteHeader(status) })
		result, err := w.start().Test(t.Context(), environment, 7)
		must(t, err)
		if result.Status != status || !strings.Contains(result.Problem, "redirects aren't followed") {
			t.Errorf("%d: %+v", status, result)
		}
	}
	if called.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// A proxy that the environment names would connect for us, to wherever.
func TestNoProxy(t *testing.T) {
	direct, ok := newClient(false, nil).Transport.(*http.Transport)
	if !ok || direct.Proxy != nil {
		t.Error("events go by way of a proxy")
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, text := range []string{"https://app.example/hook", "https://[::ffff:7f00:1]:443/", "https://a@b/", "https://a.example#", "https://127.0.0.1", "https://a%00b/", "https://a:1:2/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if CheckURL(text, false) != nil {
			return
		}
		if CheckURL(text, true) != nil {
			t.Errorf("%q is fine only where more is refused", text)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, text, nil)
		if err != nil {
			t.Fatalf("%q can't be called: %v", text, err)
		}
		if req.URL.Scheme != "https" || req.URL.User != nil || req.URL.Fragment != "" || req.URL.Hostname() == "" || strings.ContainsAny(req.URL.Host, "@\\ /%") {
			t.Errorf("%q became %+v", text, req.URL)
		}
		if address, err := netip.ParseAddr(req.URL.Hostname()); err == nil && checkAddress(address, false) != nil {
			t.Errorf("%q leads to %s", text, address)
		}
	})
}
