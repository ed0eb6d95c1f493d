package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"mpr/ledger"
	"mpr/problem"
	"mpr/rules"
)

// tally writes down what the ledger is told.
type tally struct {
	mu   sync.Mutex
	told []ledger.Call
}

func (l *tally) Served() {}

func (l *tally) Count(c ledger.Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, c)
}

func (l *tally) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.told)
}

// since answers what was told after the first n, once there is as much as is wanted.
func (l *tally) since(t *testing.T, n, want int) []string {
	t.Helper()
	var lines []string
	(&gate{t: t}).until(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.told) < n+want {
			return false
		}
		for _, c := range l.told[n:] {
			who := c.ClientID
			if who == "" {
				who = c.Host + " " + c.UserAgent
			}
			lines = append(lines, fmt.Sprintf("%s%s %s %d %s %s %d %v", map[bool]string{true: "+"}[c.Also], c.Kind, who, c.Company, c.Method, c.Path, c.Status, c.Refused))
		}
		return true
	})
	return lines
}

func TestLedgerIsToldOfNonCompliantCalls(t *testing.T) {
	told := &tally{}
	window := rules.Brownout{Name: "b", From: lastDay.AddDate(0, 0, -1), To: firstDay, Share: 1, Apps: []string{"browned"}, Authentication: true}
	g := start(t, handlers{
		"US01": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/mismatch" {
				w.Header().Set("Mpr-Refusal", "company_mismatch")
				problem.Write(w, r, problem.New(problem.CompanyMismatch, "differs"))
			}
			if r.Header.Get("Mpr-Question") == "" {
				w.Header().Set("Mpr-Refusal", "legacy_brownout") // not the region's to say
			}
		},
		"EU01": echo, "identity": echo, "login": echo,
	}, at(lastDay), with(func(p *rules.Policy) { p.Brownouts = []rules.Brownout{window} }), func(o *Options) { o.Ledger = told })
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	agent := http.Header{"User-Agent": {"old/1"}}
	host := g.legacy.Listener.Addr().String()
	for _, c := range []struct {
		door, method, target string
		header               http.Header
		body                 string
		want                 []string
	}{
		{"api", "GET", "/x?company_id=4711", g.header(inUS01), "", nil},
		{"api", "GET", "/rest/v1.0/me", g.header(0), "", nil},
		{"api", "GET", "/x", g.header(nowhere), "", nil},
		{"api", "GET", "/x//y", g.header(inUS01), "", nil},
		{"api", "GET", "/x?company_id=4711", g.header(0), "", []string{"missing_header client 0 GET /x 400 true"}},
		{"api", "GET", "/mismatch", g.header(inUS01), "", []string{"company_mismatch client 4711 GET /mismatch 400 true"}},
		{"legacy", "GET", "/x", g.header(inUS01), "", []string{"legacy_api_host client 4711 GET /x 200 false"}},
		{"legacy", "POST", "/x?company_id=4711", g.header(0), "", []string{"legacy_api_host client 4711 POST /x 200 false", "+missing_header client 4711 POST /x 200 false"}},
		{"legacy", "GET", "/x", g.header(0), "", []string{"legacy_api_host client 0 GET /x 400 false", "+missing_header client 0 GET /x 400 true"}},
		{"legacy", "GET", "/x", g.header(inEU01), "", []string{"legacy_api_host client 598134325779301 GET /x 403 false", "+refused_for_region client 598134325779301 GET /x 403 true"}},
		{"legacy", "GET", "/rest/v1.0/me", g.header(0), "", []string{"legacy_api_host client 0 GET /rest/v1.0/me 200 false"}},
		{"legacy", "GET", "/rest/v1.0/me", agent, "", []string{"legacy_api_host " + host + " old/1 0 GET /rest/v1.0/me 401 false"}},
		{"legacy", "POST", "/oauth/token", form, "client_id=somebody", []string{"legacy_login_host somebody 0 POST /oauth/token 200 false"}},
		{"legacy", "POST", "/oauth/token", form, "client_id=browned", []string{"legacy_login_host browned 0 POST /oauth/token 503 false", "+refused_in_brownout browned 0 POST /oauth/token 503 true"}},
	} {
		before := told.size()
		url := g.api.URL
		if c.door == "legacy" {
			url = g.legacy.URL
		}
		do(t, g.api.Client(), request(t, c.method, url+c.target, c.header, strings.NewReader(c.body)))
		// The next call comes on the same connection, so this one has been accounted for.
		do(t, g.api.Client(), request(t, "GET", url+"/.well-known/oauth-authorization-server", http.Header{"User-Agent": {"fence"}}, nil))
		extra := 0
		if c.door == "legacy" {
			extra = 1
		}
		got := told.since(t, before, len(c.want)+extra)
		if got = got[:len(got)-extra]; !slices.Equal(got, c.want) {
			t.Errorf("%s %s %s:\n got %q\nwant %q", c.door, c.method, c.target, got, c.want)
		}
	}
}
