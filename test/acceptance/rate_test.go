package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// "X-Rate-Limit-Limit, X-Rate-Limit-Remaining, X-Rate-Limit-Reset (Unix seconds) on every
// response; 429 with Retry-After. [...] limits per app set by the operator."
func TestRateLimits(t *testing.T) {
	d := startWith(t, "gateway: {rate_limits: {hour: 3600, spike: 100}} # those that the seed's system publishes\n")
	machine := d.app(t, "developer_managed")
	token, at := d.machineToken(t, machine), d.in(t, "EU01").ID

	// The seed's call, as people make it.
	head := filepath.Join(t.TempDir(), "head")
	d.curl(t, "--dump-header", head, "-H", "Authorization: Bearer "+token, "-H", fmt.Sprintf("Procore-Company-Id: %d", at),
		"https://api.procore.com/rest/v1.0/projects").want(t, 200)
	text, err := os.ReadFile(head)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x-rate-limit-limit: 100\r\n", "x-rate-limit-remaining: 9", "x-rate-limit-reset: "} {
		if strings.Count(strings.ToLower(string(text)), name) != 1 {
			t.Errorf("no %q in %s", name, text)
		}
	}

	projects := call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: at}
	limited := func(limit int) answer {
		t.Helper()
		var refused answer
		eventually(t, 30*time.Second, func() (bool, string) {
			refused = projects.send(t)
			return refused.Status == 429 && refused.Header.Get("X-Rate-Limit-Limit") == strconv.Itoa(limit), refused.String()
		})
		refused.wantCode(t, 429, "rate_limited")
		if got := refused.Header.Get("X-Rate-Limit-Remaining"); got != "0" {
			t.Errorf("refused with %s calls left", got)
		}
		now, reset := time.Now().Unix(), number(t, refused, "X-Rate-Limit-Reset")
		after := number(t, refused, "Retry-After")
		if after < 1 || reset < now-1 || reset > now+3601 || after > 3600 {
			t.Errorf("refused at %d until %d: retry after %d", now, reset, after)
		}
		return refused
	}
	d.mpr(t, "app", "limit", "--spike", "0", "--hour", "5", machine.ClientID)
	limited(5)
	d.Stop(t)
	d.Restart(t)
	// What an operator has set survives; what was counted was one gateway's.
	projects.URL = d.apiURL("/rest/v1.0/projects")
	a := projects.send(t).want(t, 200)
	if limit, left := a.Header.Get("X-Rate-Limit-Limit"), a.Header.Get("X-Rate-Limit-Remaining"); limit != "5" || left != "4" {
		t.Errorf("after a restart: %s of %s left", left, limit)
	}
	limited(5)
	d.mpr(t, "app", "limit", "--default", machine.ClientID)
	eventually(t, 10*time.Second, func() (bool, string) {
		a := projects.send(t)
		return a.Status == 200 && a.Header.Get("X-Rate-Limit-Limit") == "100", a.String()
	})
	// Other apps were never touched.
	call{URL: d.apiURL("/rest/v1.0/me"), Token: d.userTokens(t).Access}.send(t).want(t, 200)
}

func number(t *testing.T, a answer, header string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(a.Header.Get(header), 10, 64)
	if err != nil {
		t.Errorf("%s: %q in %v", header, a.Header.Get(header), a)
	}
	return n
}
