package acceptance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// sdkReport is what jssdk/driver.js prints at its end.
type sdkReport struct {
	Fetch string
	First tokens
	Info  struct {
		ResourceOwnerID  int64 `json:"resource_owner_id"`
		ExpiresIn        int64 `json:"expires_in"`
		ExpiresInSeconds int64 `json:"expires_in_seconds"`
		CreatedAt        int64 `json:"created_at"`
		Application      struct{ UID string }
	}
	Me        sdkAnswer[object]
	Companies sdkAnswer[[]object]
	Missing   sdkAnswer[struct{ Code, Message string }]
	Visits    []struct {
		Company, ID      int64
		Made, Shown      sdkAnswer[object]
		Renamed, Removed sdkAnswer[object]
		Listed           sdkAnswer[[]object]
		Gone             sdkAnswer[struct{ Code string }]
	}
	Other        sdkAnswer[object]
	Second       tokens
	MeAgain      sdkAnswer[object]
	Revoked      map[string]any
	RevokedAfter *float64
	Third        struct{ Error string }
}

type sdkAnswer[T any] struct {
	Status int
	Body   T
	Total  *string
}

// The JavaScript SDK as npm ships it, by three ways to the same doors.
func TestJavaScriptSDK(t *testing.T) {
	need(t, "node", "chromium")
	if _, err := os.Stat("jssdk/node_modules/@procore/js-sdk/package.json"); err != nil {
		lacking(t, "the npm packages of test/acceptance/jssdk are missing: run make test where npm is")
	}
	d := shared(t)
	loopback := map[string]string{"login": d.Environments[0].Login, "api": d.Environments[0].API}
	// The SDK has one host setting; the api door answers /oauth too.
	oneHost := map[string]string{"login": d.Environments[0].API, "api": d.Environments[0].API}
	hosts := map[string]string{"login": "https://login.procore.com", "api": "https://api.procore.com"}

	t.Run("loopback", func(t *testing.T) {
		d.useSDK(t, newBrowser(t), loopback, "node")
	})
	t.Run("one host, older fetch", func(t *testing.T) {
		d.useSDK(t, newBrowser(t), oneHost, "node-fetch", "--require", "./node-fetch.js")
	})
	t.Run("hard-coded hosts", func(t *testing.T) {
		d.useSDK(t, newBrowser(t, throughTheProxy(t, d)...), hosts, "node", "--require", "./through-proxy.js")
	})
}

// useSDK runs the driver, signs a person in where it says so, and checks its report.
func (d *dev) useSDK(t *testing.T, b *browser, doors map[string]string, fetch string, nodeArgs ...string) {
	t.Helper()
	server := newAppServer(t)
	web := d.newApp(t, "web", server.uri)
	companies := d.everywhere(t)
	report := d.runDriver(t, b, server, nodeArgs, map[string]any{
		"login": doors["login"], "api": doors["api"], "clientId": web.ClientID, "clientSecret": web.ClientSecret, "redirectUri": server.uri,
		"companies": []int64{companies[0].ID, companies[1].ID, companies[2].ID},
	})
	if report.Fetch != fetch {
		t.Errorf("the SDK used %s, not %s", report.Fetch, fetch)
	}
	d.checkTokens(t, report, web)
	d.checkVisits(t, report, companies)
}

// runDriver starts the driver, hands it the code that the person brings back, and reads
// its report.
func (d *dev) runDriver(t *testing.T, b *browser, server *appServer, nodeArgs []string, config map[string]any) sdkReport {
	t.Helper()
	settings, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := filepath.Abs(d.CA)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append(slices.Clone(nodeArgs), "driver.js")...)
	cmd.Dir = "jssdk"
	cmd.Env = append(os.Environ(), "SDK_DRIVER="+string(settings), "NODE_EXTRA_CA_CERTS="+ca, "HTTPS_PROXY="+d.Proxy, "NO_PROXY=", "no_proxy=")
	complaints := &logBook{}
	cmd.Stderr = complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	authorize, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("the driver: %v %v", err, complaints)
	}
	b.do(t, chromedp.Navigate(strings.TrimSpace(authorize)))
	b.signIn(t, d.everywhereUser(t))
	b.do(t, chromedp.Click(allowButton))
	if _, err := fmt.Fprintln(stdin, server.arrival(t, b).Get("code")); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the driver: %v %v", err, complaints)
	}
	var report sdkReport
	if err := json.Unmarshal(rest, &report); err != nil {
		t.Fatalf("the driver reported %s: %v", rest, err)
	}
	return report
}

func (d *dev) checkTokens(t *testing.T, r sdkReport, web app) {
	t.Helper()
	if r.First.Type != "bearer" || r.First.ExpiresIn != 5400 || r.First.Refresh == "" || r.First.CreatedAt == 0 {
		t.Errorf("token: %+v", r.First)
	}
	if r.Info.ResourceOwnerID != r.Me.Body.ID || r.Info.Application.UID != web.ClientID || r.Info.CreatedAt != r.First.CreatedAt ||
		r.Info.ExpiresIn <= 5000 || r.Info.ExpiresIn > 5400 {
		t.Errorf("info: %+v; me: %+v", r.Info, r.Me)
	}
	if r.Me.Status != 200 || r.Me.Body.Login != d.everywhereUser(t).Login {
		t.Errorf("me: %+v", r.Me)
	}
	if r.Second.Access == "" || r.Second.Access == r.First.Access || r.Second.Refresh == r.First.Refresh || r.MeAgain.Body.ID != r.Me.Body.ID {
		t.Errorf("refresh: %+v, then me: %+v", r.Second, r.MeAgain)
	}
	if len(r.Revoked) != 0 {
		t.Errorf("revoke: %+v", r.Revoked)
	}
	// "Revocation reaches every gateway in under a second."
	if r.RevokedAfter == nil || *r.RevokedAfter > 1000 {
		t.Errorf("the revoked token was refused after %v ms", r.RevokedAfter)
	}
	if r.Third.Error != "invalid_grant" {
		t.Errorf("refresh after revoke: %+v", r.Third)
	}
}

func (d *dev) checkVisits(t *testing.T, r sdkReport, companies []company) {
	t.Helper()
	if r.Missing.Status != 400 || r.Missing.Body.Code != "missing_company_header" || r.Missing.Body.Message != missingHeader {
		t.Errorf("without the header: %+v", r.Missing)
	}
	if r.Other.Status != 200 || r.Other.Body.ID != companies[1].ID || r.Other.Body.Name != companies[1].Name {
		t.Errorf("another company for one call: %+v", r.Other)
	}
	for i, c := range companies {
		if !slices.Contains(ids(r.Companies.Body), c.ID) {
			t.Errorf("List Companies lacks %+v: %+v", c, r.Companies)
		}
		v, name := r.Visits[i], "By the SDK "+strconv.FormatInt(c.ID, 10)
		if v.Made.Status != 201 || v.Made.Body.Name != name || v.ID>>45 != c.ID>>45 {
			t.Errorf("%s: made %+v", c.Region, v.Made)
		}
		if v.Listed.Status != 200 || !slices.Equal(ids(v.Listed.Body), []int64{v.ID}) || v.Listed.Total == nil {
			t.Errorf("%s: listed %+v", c.Region, v.Listed)
		}
		if v.Shown.Body != v.Made.Body {
			t.Errorf("%s: made %+v, shown %+v", c.Region, v.Made, v.Shown)
		}
		if v.Renamed.Status != 200 || v.Renamed.Body.Name != name+", renamed" {
			t.Errorf("%s: renamed %+v", c.Region, v.Renamed)
		}
		if v.Removed.Status != 200 || v.Removed.Body.ID != v.ID || v.Gone.Status != 404 {
			t.Errorf("%s: removed %+v, then %+v", c.Region, v.Removed, v.Gone)
		}
	}
}
