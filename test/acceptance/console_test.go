package acceptance

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// asOf is a day on which the legacy door is open, and its end is near.
const asOf = "2019-04-20"

// console is a browser whose user has signed in at the control role.
type console struct {
	*browser
	d *dev
}

// openConsole signs a user in at a path of the control role.
func (d *dev) openConsole(t *testing.T, b *browser, u user, path string) *console {
	t.Helper()
	c := &console{b, d}
	b.do(t, chromedp.Navigate(d.Admin.URL+path))
	b.signIn(t, u)
	b.do(t, chromedp.Click(allowButton), chromedp.WaitVisible(chromedp.CSS(`main#content`)))
	return c
}

// open opens a page.
func (c *console) open(t *testing.T, format string, args ...any) {
	t.Helper()
	c.do(t, chromedp.Navigate(c.d.Admin.URL+fmt.Sprintf(format, args...)), chromedp.WaitVisible(chromedp.CSS(`main#content`)))
}

// text is what an element of the page shows.
func (c *console) text(t *testing.T, selector string) string {
	t.Helper()
	return eval[string](t, c.browser, `document.querySelector(`+strconv.Quote(selector)+`)?.innerText ?? ""`)
}

// shows waits until the page shows a text, without being loaded again.
func (c *console) shows(t *testing.T, selector, text string) {
	t.Helper()
	eventually(t, stepWithin, func() (bool, string) {
		got := c.text(t, selector)
		return strings.Contains(got, text), fmt.Sprintf("%s says %q, not %q; the page is %s", selector, got, text, c.page())
	})
}

// fill types into fields, and presses a button.
func (c *console) fill(t *testing.T, button string, pairs ...string) {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		// A field for a time takes keys by the browser's own language: its value is set as it is.
		eval[bool](t, c.browser, fmt.Sprintf(`((e, v) => { e.closest("details")?.setAttribute("open", ""); e.value = v; return true })(document.querySelector(%q), %q)`, pairs[i], pairs[i+1]))
	}
	c.leads(t, chromedp.Click(chromedp.CSS(button)))
}

// leads does something that leads to a page, and waits for it: the one before is marked.
func (c *console) leads(t *testing.T, step chromedp.Action[chromedp.Void]) {
	t.Helper()
	eval[string](t, c.browser, `document.documentElement.id = "before"`)
	c.do(t, step, chromedp.WaitVisible(chromedp.CSS(`html:not(#before) main#content`)))
}

// press clicks on what leads to a page.
func (c *console) press(t *testing.T, selector string) {
	t.Helper()
	c.leads(t, chromedp.Click(chromedp.CSS(selector)))
}

// An operator signs in, makes a company, moves it and watches it finish, sees an app that breaks, and
// plans a brownout.
func TestConsole(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	c := d.openConsole(t, newBrowser(t), d.Users[0], "/console/")
	c.shows(t, ".tiles", "Companies\n3")
	c.wantGoodConsole(t, "console-overview")

	c.open(t, "/console/production/companies")
	c.press(t, `a[href$="/companies/new"]`)
	c.fill(t, `form.lines button.primary`, "#name", "Alpine Works Ltd", "#region", "US02", "#onboarded", "2016-05-01")
	c.shows(t, ".note.good", "The company was made.")
	c.shows(t, "h1", "Alpine Works Ltd")
	id := eval[string](t, c.browser, `location.pathname.split("/").pop()`)

	c.open(t, "/console/production/companies?q=alp+work")
	c.shows(t, "tbody", id)
	c.press(t, `tbody a`)
	c.fill(t, `form[method="get"] button`, "#to", "EU01")
	c.shows(t, "#plan", "Nothing keeps it from beginning.")
	c.wantGoodConsole(t, "console-move")
	c.press(t, `#b-start`)
	// The page follows by itself what becomes of the move.
	c.shows(t, "#phase", "retained")
	c.shows(t, "#standing", "EU01")
	c.shows(t, "#standing", "now")
	c.shows(t, "#steps", "owns the company at epoch 2")
	c.press(t, `#b-back`)
	c.shows(t, "#moving", "EU01 →")
	c.shows(t, "#phase", "retained")
	c.open(t, "/console/production/companies/%s/proof", id)
	c.shows(t, "main", "lives there")

	c.seesAnAppThatBreaks(t)
	c.plansABrownout(t)
	c.comparesTheDirectory(t)
	c.wantAudited(t, "POST /companies", "POST /moves", "PUT /policy", "POST /directory/verification")
}

// seesAnAppThatBreaks: calls of an app come in, and the overview and the app's page tell of them.
func (c *console) seesAnAppThatBreaks(t *testing.T) {
	t.Helper()
	c.open(t, "/console/production/")
	machine := c.d.app(t, "developer_managed")
	token := c.d.machineToken(t, machine)
	at := c.d.in(t, "US01").ID
	for range 3 {
		call{URL: c.d.Environments[0].Legacy + fmt.Sprintf("/rest/v1.0/projects?company_id=%d", at), Token: token}.send(t).want(t, 200)
	}
	call{URL: c.d.apiURL("/rest/v1.0/projects?company_id=%d", at), Token: token}.send(t).want(t, 400)
	c.shows(t, `[aria-labelledby="h-sunset"]`, machine.Name) // live
	c.press(t, `[aria-labelledby="h-sunset"] tbody a`)
	c.shows(t, "h1", machine.Name)
	c.shows(t, ".changes", "Send API calls to https://api.procore.com.")
	c.shows(t, `[aria-labelledby="h-calls"]`, "/rest/v1.0/projects")
	c.shows(t, `[aria-labelledby="h-calls"]`, "400 refused")
	c.wantGoodConsole(t, "console-app")
	c.fill(t, "#b-rehearse", "#to", "2019-05-01T12:00")
	c.shows(t, `[aria-labelledby="h-rehearsal"]`, "until 2019-05-01 12:00:00")
	eventually(t, stepWithin, func() (bool, string) {
		got := call{URL: c.d.Environments[0].Legacy + fmt.Sprintf("/rest/v1.0/projects?company_id=%d", at), Token: token}.send(t)
		return got.Status == 410, got.String()
	})
	c.press(t, `button[name="end"]`)
	c.shows(t, `[aria-labelledby="h-rehearsal"]`, "No rehearsal is planned.")
}

func (c *console) plansABrownout(t *testing.T) {
	t.Helper()
	c.open(t, "/console/production/policy")
	c.fill(t, "#b-plan", "#b-name", "may-1", "#b-from", "2019-05-06T14:00", "#b-to", "2019-05-06T13:00", "#b-share", "25")
	c.shows(t, `[role="alert"]`, "must be after from")
	if kept := eval[string](t, c.browser, `document.querySelector("#b-name").value`); kept != "may-1" {
		t.Errorf("what was typed is gone: %q", kept)
	}
	c.fill(t, "#b-plan", "#b-to", "2019-05-06T15:00")
	c.shows(t, `[aria-label="Brownouts"]`, "may-1")
	c.shows(t, `[aria-label="Brownouts"]`, "25 %")
	if n := eval[int](t, c.browser, `document.querySelectorAll(".calendar .brown").length`); n != 1 {
		t.Errorf("the calendar shows %d days of brownouts", n)
	}
	c.press(t, `button[aria-label="Pause may-1"]`)
	c.shows(t, `[aria-label="Brownouts"]`, "paused")
	c.wantGoodConsole(t, "console-policy")
}

func (c *console) comparesTheDirectory(t *testing.T) {
	t.Helper()
	c.open(t, "/console/production/directory")
	c.press(t, `#b-verify`)
	c.shows(t, "#verdict", "they agree")
}

// wantAudited wants the audit log's page to tell of these.
func (c *console) wantAudited(t *testing.T, actions ...string) {
	t.Helper()
	c.open(t, "/console/production/audit?by=%s", url.QueryEscape(c.d.Users[0].Login))
	for _, action := range actions {
		c.shows(t, "tbody", action)
	}
}

// wantGoodConsole wants what each page of the console has, and takes its picture.
func (c *console) wantGoodConsole(t *testing.T, name string) {
	t.Helper()
	c.shot(t, name)
	for what, expression := range map[string]string{
		"one first heading":      `document.querySelectorAll("h1").length === 1`,
		"a title":                `document.title !== ""`,
		"no style in the page":   `document.querySelectorAll("style, [style]").length === 0`,
		"one script of our own":  `document.scripts.length === 1 && document.scripts[0].src.startsWith(location.origin)`,
		"nothing that runs":      `[...document.querySelectorAll("*")].every(e => [...e.attributes].every(a => !a.name.startsWith("on")))`,
		"nothing of others":      `performance.getEntriesByType("resource").every(r => r.name.startsWith(location.origin))`,
		"a label on each field":  `[...document.querySelectorAll("input:not([type=hidden]), select, textarea")].every(e => e.labels.length > 0 || e.ariaLabel)`,
		"nothing wider than it":  `document.documentElement.scrollWidth <= window.innerWidth`,
		"a form's own secret":    `[...document.querySelectorAll("form[method=post]")].every(f => f.elements.csrf?.value)`,
		"a style that is loaded": `getComputedStyle(document.body).margin === "0px"`,
	} {
		if !eval[bool](t, c.browser, expression) {
			t.Errorf("%s lacks %s", name, what)
		}
	}
}

// A developer, who is no operator, registers an app and gets a token with its credentials.
func TestDeveloperPortal(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	bob := d.Users[1]
	c := d.openConsole(t, newBrowser(t), bob, "/developers/")
	c.shows(t, "main", "You have no app yet.")
	c.press(t, `a.button[href="/developers/new"]`)
	c.do(t, chromedp.Click(chromedp.CSS(`input[value="developer_managed"]`)))
	c.fill(t, `form.lines button.primary`, "#name", "Site Diary", "#redirect_uris", "")
	c.shows(t, "h1", "Site Diary is registered")
	c.wantGoodConsole(t, "portal-registered")
	made := app{Name: "Site Diary", Kind: "developer_managed", ClientID: c.text(t, "#client-id"), ClientSecret: c.text(t, "#client-secret")}
	token := d.machineToken(t, made)

	c.open(t, "/developers/")
	c.shows(t, ".apps", "Site Diary")
	c.open(t, "/developers/apps/%s", made.ClientID)
	c.shows(t, "main", "The app is compliant")
	at := d.in(t, "US01").ID
	d.install(t, &made, at)
	call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", at), Token: token}.send(t).want(t, 400)
	eventually(t, stepWithin, func() (bool, string) {
		c.open(t, "/developers/apps/%s", made.ClientID)
		return strings.Contains(c.text(t, ".changes"), "Procore-Company-Id"), c.page()
	})
	c.wantGoodConsole(t, "portal-health")
	c.open(t, "/developers/apps/%s/installations", made.ClientID)
	c.shows(t, "tbody", strconv.FormatInt(at, 10))

	// A new secret, with the old one beside it for an hour; then one that replaces it at once.
	c.open(t, "/developers/apps/%s/settings", made.ClientID)
	c.wantGoodConsole(t, "portal-settings")
	c.fill(t, "#b-rotate", "#overlap", "1")
	second := made
	second.ClientSecret = c.text(t, "#client-secret")
	d.machineToken(t, made)
	d.machineToken(t, second)
	c.open(t, "/developers/apps/%s/settings", made.ClientID)
	c.fill(t, "#b-rotate", "#overlap", "0")
	d.exchange(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {made.ClientID}, "client_secret": {second.ClientSecret}}).want(t, 401)
	c.open(t, "/developers/apps/%s", made.ClientID)
	c.fill(t, "#b-rehearse", "#to", "2019-04-22T12:00")
	c.shows(t, `[aria-labelledby="h-rehearsal"]`, "until 2019-04-22")

	// Nothing of others, and nothing of operators.
	for path, status := range map[string]int{
		"/developers/apps/" + d.app(t, "web").ClientID: 404, "/developers/apps/nobody": 404, "/console/production/": 403, "/console/production/apps/" + made.ClientID + "/limits": 405, "/console/production/policy": 403,
		"/console/": 200, // which leads to the portal
	} {
		c.open(t, "%s", path)
		if got := eval[int](t, c.browser, `performance.getEntriesByType("navigation")[0].responseStatus`); got != status {
			t.Errorf("%s: %d, want %d: %s", path, got, status, c.page())
		}
	}
}

// Everything that can be clicked can be reached by Tab, is seen when it is, and answers Enter.
func TestConsoleByKeyboard(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	c := d.openConsole(t, newBrowser(t), d.Users[0], "/console/production/companies")
	c.do(t, chromedp.KeyEvent(kb.Tab))
	if !eval[bool](t, c.browser, `document.activeElement.matches(".skip")`) {
		t.Error("the first Tab doesn't lead past the navigation")
	}
	c.do(t, chromedp.KeyEvent(kb.Enter))
	c.tabTo(t, `#q`)
	c.do(t, chromedp.KeyEvent("granite"))
	c.leads(t, chromedp.KeyEvent(kb.Enter))
	c.shows(t, "tbody", "Granite Builders")
	for _, selector := range []string{`a[href="/console/production/"]`, `.places a`, `.me summary`, `.menu a[href$="/audit"]`, `#q`, `#region`, `form button.primary`, `tbody a`} {
		c.reaches(t, selector)
	}
	c.leads(t, chromedp.KeyEvent(kb.Enter))
	c.shows(t, "h1", "Granite Builders")
}

// reaches presses Tab, often enough for a whole page, until an element has the focus.
func (c *console) reaches(t *testing.T, selector string) {
	t.Helper()
	for range 80 {
		if eval[bool](t, c.browser, `document.activeElement.matches(`+strconv.Quote(selector)+`) && getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
			return
		}
		c.do(t, chromedp.KeyEvent(kb.Tab))
	}
	t.Fatalf("Tab doesn't lead to %s, or nobody sees it: %s", selector, c.page())
}

// consolePages are all pages, as far as they can be opened by their path.
func consolePages(d *dev, t *testing.T) []string {
	company, app := d.in(t, "US01").ID, d.app(t, "developer_managed").ClientID
	pages := []string{"/developers/", "/developers/new", "/console/production/nowhere"}
	for _, path := range []string{
		"/", "/companies", "/companies?q=zzz", "/companies/new", fmt.Sprintf("/companies/%d?to=EU01", company), fmt.Sprintf("/companies/%d/proof", company), "/moves", "/apps", "/apps?tab=all", "/apps/new",
		"/apps/" + app, "/apps/" + app + "/settings", "/apps/" + app + "/installations", "/apps/" + app + "/events", "/policy", "/audit", "/directory", "/keys", "/sandbox", "/operators",
	} {
		pages = append(pages, "/console/production"+path)
	}
	return append(pages, "/console/monthly-sandbox/", "/console/development-sandbox/policy")
}

// axe-core finds no serious fault on any page, in light and in dark; and no page is wider than a phone.
func TestConsoleForEverybody(t *testing.T) {
	need(t, "chromium")
	axe, err := os.ReadFile(filepath.FromSlash("axe/node_modules/axe-core/axe.min.js"))
	if err != nil {
		lacking(t, "the npm package of test/acceptance/axe is missing: run make test where npm is")
	}
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	d.fillForPictures(t)
	for name, scheme := range map[string]string{"dark": "preferredColorScheme=0", "light": "preferredColorScheme=1"} {
		t.Run(name, func(t *testing.T) {
			c := d.openConsole(t, newBrowser(t, chromedp.Flag("blink-settings", scheme)), d.Users[0], "/console/production/")
			for _, path := range consolePages(d, t) {
				c.open(t, "%s", path)
				if status := eval[int](t, c.browser, `performance.getEntriesByType("navigation")[0].responseStatus`); status != 200 && !strings.HasSuffix(path, "/nowhere") {
					t.Errorf("%s: %d", path, status)
				}
				c.isForEverybody(t, axe, path)
			}
			c.open(t, "/console/production/policy")
			d.mpr(t, "policy", "set", "--legacy-sunset", "2019-09-30")
			c.fill(t, `form[action$="/dates"] button.primary`, "#legacy_sunset", "2019-07-31", "#note", "what I wanted")
			c.shows(t, `[aria-labelledby="h-dates"]`, "what I wanted")
			c.isForEverybody(t, axe, "a form that a colleague has overtaken")
			c.press(t, `form[action$="/dates"] button.primary`)
			c.shows(t, `[aria-labelledby="h-dates"]`, "2019-09-30") // a second press has overwritten nothing
			c.open(t, "/console/production/companies/%d?to=EU01", d.in(t, "US01").ID)
			c.fill(t, "#b-start", "#rate", "7", "#not_before", "2019-05-06T14:00", "#not_after", "2019-05-06T13:00")
			c.shows(t, `.why`, "must come after not_before")
			c.isForEverybody(t, axe, "a move that was refused")
		})
	}
}

// isForEverybody has axe-core look at a page, all of it unfolded, and wants it to be no wider than a phone.
func (c *console) isForEverybody(t *testing.T, axe []byte, page string) {
	t.Helper()
	eval[int](t, c.browser, `document.querySelectorAll("details").forEach(d => { d.open = !d.matches(".me") }) ?? 0`)
	eval[int](t, c.browser, string(axe)+"; 0")
	found := read(t, c.browser, chromedp.Evaluate[[]string](`axe.run().then(r => r.passes.length === 0 ? ["axe looked at nothing"] : r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
		.flatMap(v => v.nodes.map(n => v.id + ": " + n.target + " " + n.failureSummary)))`, chromedp.EvalAwaitPromise))
	for _, fault := range found {
		t.Errorf("%s: %s", page, fault)
	}
	c.do(t, chromedp.EmulateViewport(360, 640, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait))
	if wide := eval[float64](t, c.browser, `document.documentElement.scrollWidth - window.innerWidth`); wide > 0 {
		t.Errorf("%s is %v pixels wider than a phone", page, wide)
	}
	c.do(t, chromedp.EmulateViewport(1280, 900))
}

// fillForPictures makes what the pages have something to show of.
func (d *dev) fillForPictures(t *testing.T) {
	t.Helper()
	machine := d.app(t, "developer_managed")
	token := d.machineToken(t, machine)
	at := d.in(t, "US01").ID
	for range 5 {
		call{URL: d.Environments[0].Legacy + fmt.Sprintf("/rest/v1.0/projects?company_id=%d", at), Token: token}.send(t).want(t, 200)
		call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", at), Token: token}.send(t).want(t, 400)
	}
	d.mpr(t, "brownout", "add", "may-1", "--from", "2019-05-06T14:00:00Z", "--to", "2019-05-08T15:00:00Z", "--share", "0.25")
	d.mpr(t, "app", "rehearse", machine.ClientID, "--to", "2019-05-01T00:00:00Z")
	moved := d.newCompany(t, "US02", "2016-03-01")
	d.move(t, "start", strconv.FormatInt(moved.ID, 10), "--to", "EU01")
	eventually(t, stepWithin, func() (bool, string) {
		out := d.mpr(t, "ledger")
		return slices.Contains(strings.Fields(string(out)), machine.ClientID), string(out)
	})
}
