package acceptance

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestSignInAndAllow(t *testing.T) {
	d := shared(t)
	server := newAppServer(t)
	web := d.newApp(t, "web", server.uri)
	query := authorizeQuery(web, server.uri)
	query.Set("state", `a "state" & more`)

	b := newBrowser(t)
	b.do(t, chromedp.Navigate(d.loginURL("/oauth/authorize?%s", query.Encode())))
	b.wantGoodPage(t, "login")
	b.signIn(t, d.everywhereUser(t))
	b.wantGoodPage(t, "consent")
	if text := b.page(); !strings.Contains(text, web.Name) {
		t.Errorf("the consent page doesn't name the app: %s", text)
	}
	b.do(t, chromedp.Click(allowButton))
	back := server.arrival(t, b)
	if back.Get("state") != query.Get("state") {
		t.Errorf("state %q came back as %q", query.Get("state"), back.Get("state"))
	}
	if len(back["code"]) != 1 || back.Has("error") {
		t.Fatalf("came back with %v", back)
	}
	token := d.pair(t, codeForm(web, server.uri, back.Get("code"))).Access
	call{URL: d.apiURL("/rest/v1.0/me"), Token: token}.send(t).want(t, 200)

	// Signed in already: the next app has only to be allowed.
	b.do(t, chromedp.Navigate(d.loginURL("/oauth/authorize?%s", query.Encode())), chromedp.WaitVisible(allowButton))
}

func TestSignInAndDeny(t *testing.T) {
	d := shared(t)
	server := newAppServer(t)
	web := d.newApp(t, "web", server.uri)
	query := authorizeQuery(web, server.uri)
	query.Set("state", "kept")

	b := newBrowser(t)
	b.do(t, chromedp.Navigate(d.loginURL("/oauth/authorize?%s", query.Encode())))
	b.signIn(t, d.everywhereUser(t))
	b.do(t, chromedp.Click(denyButton))
	back := server.arrival(t, b)
	// RFC 6749 section 4.1.2.1
	if back.Get("error") != "access_denied" || back.Get("state") != "kept" || back.Has("code") {
		t.Errorf("came back with %v", back)
	}
}

func TestWrongPassword(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	u := d.newUser(t, "forgetful", d.in(t, "US01").ID)
	b := newBrowser(t)
	b.do(t, chromedp.Navigate(d.loginURL("/oauth/authorize?%s", authorizeQuery(web, web.redirectURI(t)).Encode())),
		chromedp.SendKeys(loginField, u.Login), chromedp.SendKeys(passwordField, "not this one"), chromedp.Click(signInButton),
		chromedp.WaitVisible(chromedp.CSS(`[role="alert"]`)))
	b.wantGoodPage(t, "login-wrong-password")
	if kept := read(t, b, chromedp.Value(loginField)); kept != u.Login {
		t.Errorf("the login %q has to be typed again; the field holds %q", u.Login, kept)
	}
	if kept := read(t, b, chromedp.Value(passwordField)); kept != "" {
		t.Error("the page sends the wrong password back")
	}
	b.do(t, chromedp.SendKeys(passwordField, u.Password), chromedp.Click(signInButton), chromedp.WaitVisible(allowButton))
}

// urn:ietf:wg:oauth:2.0:oob: "the code is shown on a page of ours to copy".
func TestCodeToCopy(t *testing.T) {
	d := shared(t)
	web := d.newApp(t, "web", outOfBand)
	b := newBrowser(t, chromedp.WindowSize(360, 640))
	b.do(t, chromedp.Navigate(d.loginURL("/oauth/authorize?%s", authorizeQuery(web, outOfBand).Encode())))
	b.signIn(t, d.everywhereUser(t))
	b.do(t, chromedp.Click(allowButton), chromedp.WaitVisible(shownCode))
	b.wantGoodPage(t, "code")
	d.pair(t, codeForm(web, outOfBand, eval[string](t, b, `(e => e.value ?? e.textContent)(document.getElementById("authorization-code"))`)))
}

func TestKeyboardOnly(t *testing.T) {
	d := shared(t)
	server := newAppServer(t)
	web := d.newApp(t, "web", server.uri)
	u := d.everywhereUser(t)
	b := newBrowser(t)
	b.do(t, chromedp.Navigate(d.loginURL("/oauth/authorize?%s", authorizeQuery(web, server.uri).Encode())), chromedp.WaitVisible(loginField))
	b.tabTo(t, `input[name="login"]`)
	b.do(t, chromedp.KeyEvent(u.Login))
	b.tabTo(t, `input[name="password"]`)
	b.do(t, chromedp.KeyEvent(u.Password), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(allowButton))
	b.tabTo(t, `button[name="decision"][value="deny"]`)
	b.tabTo(t, `button[name="decision"][value="allow"]`)
	b.do(t, chromedp.KeyEvent(kb.Enter))
	if back := server.arrival(t, b); !back.Has("code") {
		t.Errorf("came back with %v", back)
	}
}

// tabTo presses Tab until the element has the focus, and wants the focus to be seen.
func (b *browser) tabTo(t *testing.T, selector string) {
	t.Helper()
	for range 20 {
		if eval[bool](t, b, `document.activeElement.matches('`+selector+`')`) {
			if !eval[bool](t, b, `(s => s.outlineStyle !== "none" || s.boxShadow !== "none")(getComputedStyle(document.activeElement))`) {
				t.Errorf("the focus on %s can't be seen", selector)
			}
			return
		}
		b.do(t, chromedp.KeyEvent(kb.Tab))
	}
	t.Fatalf("twenty times Tab didn't lead to %s on the page %s", selector, b.page())
}

func TestPagesOnAPhone(t *testing.T) {
	d := shared(t)
	web := d.newApp(t, "web", outOfBand)
	for name, scheme := range map[string]string{"dark": "preferredColorScheme=0", "light": "preferredColorScheme=1"} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, chromedp.Flag("blink-settings", scheme))
			b.do(t, chromedp.EmulateViewport(360, 640, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait, chromedp.EmulateScale(2)),
				chromedp.Navigate(d.loginURL("/oauth/authorize?%s", authorizeQuery(web, outOfBand).Encode())), chromedp.WaitVisible(loginField))
			b.wantPhonePage(t, "phone-"+name+"-login")
			b.signIn(t, d.everywhereUser(t))
			b.wantPhonePage(t, "phone-"+name+"-consent")
			b.do(t, chromedp.Click(allowButton), chromedp.WaitVisible(shownCode))
			b.wantPhonePage(t, "phone-"+name+"-code")
		})
	}
}

// wantPhonePage wants nothing to stick out of a phone's screen, and all that is touched
// to be large enough for a finger and not to make the phone zoom in.
func (b *browser) wantPhonePage(t *testing.T, name string) {
	t.Helper()
	b.wantGoodPage(t, name)
	if wide := eval[float64](t, b, `document.documentElement.scrollWidth - window.innerWidth`); wide > 0 {
		t.Errorf("%s is %v pixels wider than the screen", name, wide)
	}
	for _, small := range eval[[]string](t, b, `[...document.querySelectorAll("input:not([type=hidden]), button")]
		.filter(e => e.getBoundingClientRect().height < 40 || parseFloat(getComputedStyle(e).fontSize) < 16).map(e => e.outerHTML)`) {
		t.Errorf("%s: too small for a finger or an eye: %s", name, small)
	}
}

// wantGoodPage wants what every page must have, and takes its picture.
func (b *browser) wantGoodPage(t *testing.T, name string) {
	t.Helper()
	b.shot(t, name)
	for what, expression := range map[string]string{
		"a language":                     `document.documentElement.lang !== ""`,
		"a title":                        `document.title !== ""`,
		"one first heading":              `document.querySelectorAll("h1").length === 1`,
		"a label on each field":          `[...document.querySelectorAll("input:not([type=hidden])")].every(e => e.labels.length > 0 || e.ariaLabel)`,
		"a name on each button":          `[...document.querySelectorAll("button")].every(e => e.innerText.trim() !== "")`,
		"a style that the policy allows": `[...document.styleSheets].length > 0 && getComputedStyle(document.body).fontFamily !== "Times New Roman"`,
		"no script":                      `document.scripts.length === 0`,
	} {
		if !eval[bool](t, b, expression) {
			t.Errorf("%s lacks %s", name, what)
		}
	}
}

func TestPagesAreLockedDown(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	page := newPerson(t, d).open(t, "/oauth/authorize?"+authorizeQuery(web, web.redirectURI(t)).Encode()).answer.want(t, 200)
	policy := page.Header.Get("Content-Security-Policy")
	for _, words := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, words) {
			t.Errorf("the policy lacks %s: %s", words, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is unsafe: %s", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if got := page.Header.Get(name); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A browser test that can't see a violation would hold nothing.
func TestTheConsoleTellsOfViolations(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>Blocked</title><script>document.title = "ran"</script>`))
	}))
	defer page.Close()
	b := startBrowser(t)
	b.do(t, chromedp.Navigate(page.URL))
	eventually(t, stepWithin, func() (bool, string) { return len(b.complaints()) > 0, "no complaint on the console" })
}
