package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// keep answers with the headers of what the upstream got, for the test to look at.
func keep(into *http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		*into = r.Header.Clone()
		w.WriteHeader(http.StatusNoContent)
	}
}

// "A client can't remove or forge it or our internal headers through Connection: or odd
// spellings."
func TestClientsCannotForge(t *testing.T) {
	var got http.Header
	g := start(t, handlers{"EU01": keep(&got)})
	company, epoch := inEU01.String(), "3"
	for name, lines := range map[string][]string{
		"removed by Connection":        {"Connection: Procore-Company-Id, Mpr-Epoch, X-Request-Id, X-Forwarded-For"},
		"the token removed":            {"Connection: Authorization"},
		"in other letters":             {"mpr-epoch: 9", "MPR-EPOCH: 9"},
		"with underscores":             {"Procore_Company_Id: 4711", "Mpr_Epoch: 9", "X_Forwarded_For: 1.2.3.4", "X_Request_Id: forged"},
		"with dots":                    {"Procore.Company.Id: 4711", "Mpr.Epoch: 9"},
		"the token with an underscore": {"Proxy_Authorization: x", "Content_Length: 5", "Transfer_Encoding: chunked"},
		"unknown ones of ours":         {"Mpr-Admin: yes", "Mpr-Region: US01"},
		"forwarded":                    {"Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 1"},
		"about the connection":         {"Keep-Alive: timeout=9", "Proxy-Connection: close", "Proxy-Authorization: x", "TE: gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			c := g.dial()
			c.head(g, "GET /x", append(lines, "Procore-Company-Id: "+company)...)
			if resp := c.answer("GET"); resp.StatusCode != 204 {
				t.Fatal(resp.Status)
			}
			for name, want := range map[string]string{
				"Procore-Company-Id": company, "Mpr-Epoch": epoch, "X-Forwarded-For": "127.0.0.1",
				"X-Forwarded-Host": "api.procore.com", "X-Forwarded-Proto": "http", "Authorization": "Bearer " + g.user,
			} {
				if values := got[name]; len(values) != 1 || values[0] != want {
					t.Errorf("%s: %q, want %q once", name, values, want)
				}
			}
			if id := got["X-Request-Id"]; len(id) != 1 || len(id[0]) < 20 {
				t.Errorf("X-Request-Id: %q", id)
			}
			for name := range got {
				switch name {
				case "Procore-Company-Id", "Mpr-Epoch", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Authorization", "X-Request-Id", "Via":
				default:
					t.Errorf("%s: %q reaches the upstream", name, got[name])
				}
			}
		})
	}
}

// What a client lists in Connection ends here (RFC 9110 section 7.6.1).
func TestConnectionOptions(t *testing.T) {
	var got http.Header
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Mpr-Epoch", "3")
		w.Header().Set("Alt-Svc", `h2="elsewhere.example:443"`)
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Request-Id", "the upstream's")
	}})
	answer := g.send("GET", "/x", g.header(inEU01, "Connection", "X-Hop, keep-alive", "X-Hop", "1", "X-End", "1", "Accept-Encoding", "gzip"), nil)
	if got.Get("X-Hop") != "" || got.Get("X-End") != "1" || got.Get("Accept-Encoding") != "gzip" {
		t.Errorf("the upstream got %v", got)
	}
	for _, name := range []string{"X-Private", "Keep-Alive", "Mpr-Epoch", "Alt-Svc"} {
		if answer.Header.Get(name) != "" {
			t.Errorf("the client got %s: %s", name, answer.Header.Get(name))
		}
	}
	if answer.Header.Get("Set-Cookie") != "a=b" || answer.Header.Get("X-Request-Id") != got.Get("X-Request-Id") {
		t.Errorf("the client got %v", answer.Header)
	}
}

// Proxies ahead of us are believed only where the operator named them.
func TestForwardedFrom(t *testing.T) {
	var got http.Header
	g := start(t, handlers{"EU01": keep(&got)}, func(o *Options) {
		o.Limits.ForwardedFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	g.send("GET", "/x", g.header(inEU01, "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https"), nil).want(t, 204, "")
	if got.Get("X-Forwarded-For") != "203.0.113.9, 127.0.0.1" || got.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("from a proxy that is trusted: %v", got)
	}
	g.send("GET", "/x", g.header(inEU01, "X-Forwarded-Proto", "gopher"), nil).want(t, 204, "")
	if got.Get("X-Forwarded-For") != "127.0.0.1" || got.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("nonsense from a proxy that is trusted: %v", got)
	}
}

// net/http would send "Go-http-client/1.1", and would repeat a call that the client marked.
func TestNothingIsAdded(t *testing.T) {
	var got http.Header
	g := start(t, handlers{"EU01": keep(&got)})
	c := g.dial()
	c.head(g, "POST /x", "Procore-Company-Id: "+inEU01.String(), "Content-Length: 0", "Idempotency-Key: abc")
	if resp := c.answer("POST"); resp.StatusCode != 204 {
		t.Fatal(resp.Status)
	}
	if _, ok := got["User-Agent"]; ok || got.Get("Accept-Encoding") != "" || got.Get("Idempotency-Key") != "abc" {
		t.Errorf("the upstream got %v", got)
	}
	if via := got.Get("Via"); !strings.HasPrefix(via, "1.1 ") {
		t.Errorf("Via: %q", via)
	}
}

// The company header is read as the rules say, in every letter case, and by HTTP/2 too.
func TestCompanyHeaderSpellings(t *testing.T) {
	var got http.Header
	g := start(t, handlers{"EU01": keep(&got)})
	for _, line := range []string{"procore-company-id: ", "PROCORE-COMPANY-ID: ", "Procore-Company-ID:\t "} {
		c := g.dial()
		c.head(g, "GET /x", line+inEU01.String()+" ")
		if resp := c.answer("GET"); resp.StatusCode != 204 || len(got["Procore-Company-Id"]) != 1 {
			t.Errorf("%q: %s, %v", line, resp.Status, got)
		}
	}
	for _, value := range []string{"", "+5", "-5", "5 5", "5,5", "0x5", "5.0", "0", "9223372036854775808", "٥"} {
		c := g.dial()
		c.head(g, "GET /x", "Procore-Company-Id: "+value)
		if resp := c.answer("GET"); resp.StatusCode != 400 {
			t.Errorf("%q: %s", value, resp.Status)
		}
	}
	client, url := g.secure()
	do(t, client, request(t, "GET", url+"/x", g.header(inEU01), nil)).want(t, 204, "")
	twice := g.header(inEU01)
	twice.Add("Procore-Company-Id", inEU01.String())
	do(t, client, request(t, "GET", url+"/x", twice, nil)).want(t, 400, "invalid_company_header")
}
