package acceptance

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// stepWithin is how long one step in the browser may take.
const stepWithin = 30 * time.Second

// browser is a headless Chromium with an empty profile and one tab.
type browser struct {
	ctx context.Context

	mu      sync.Mutex
	console []chromedp.ConsoleMessage
}

// newBrowser starts Chromium and, at the end of the test, holds the pages to their
// content security policy: nothing may have been blocked, nothing may have thrown.
func newBrowser(t *testing.T, options ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	b := startBrowser(t, options...)
	t.Cleanup(func() {
		for _, m := range b.complaints() {
			t.Errorf("the browser's console says: %v", m)
		}
	})
	return b
}

func startBrowser(t *testing.T, options ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	need(t, "chromium")
	all := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	if os.Geteuid() == 0 {
		all = append(all, chromedp.NoSandbox) // Chromium's sandbox refuses to run as root
	}
	allocator, release := chromedp.NewExecAllocator(context.Background(), append(all, options...)...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &browser{ctx: ctx}
	messages := chromedp.Console(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.console = append(b.console, m)
			b.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		release()
	})
	return b
}

// complaints are the console's messages about blocked content and uncaught exceptions.
func (b *browser) complaints() []chromedp.ConsoleMessage {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []chromedp.ConsoleMessage
	for _, m := range b.console {
		if m.IsException() || m.Source == "security" || strings.Contains(m.Text, "Content Security Policy") {
			found = append(found, m)
		}
	}
	return found
}

// do runs steps in the tab.
func (b *browser) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepWithin)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("in the browser: %v\nthe page is %s", err, b.page())
	}
}

// read runs one step that answers something.
func read[T any](t *testing.T, b *browser, step chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepWithin)
	defer cancel()
	v, err := chromedp.Run(ctx, step)
	if err != nil {
		t.Fatalf("in the browser: %v\nthe page is %s", err, b.page())
	}
	return v
}

// eval evaluates an expression in the page.
func eval[T any](t *testing.T, b *browser, expression string) T {
	t.Helper()
	return read(t, b, chromedp.Evaluate[T](expression))
}

// page describes where the browser is, for the message of a failure.
func (b *browser) page() string {
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body?.innerText ?? "")`))
	if err != nil {
		return err.Error()
	}
	return text
}

// shot writes a picture of the whole page to the folder MPR_SCREENSHOTS, where it is set.
func (b *browser) shot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("MPR_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture := read(t, b, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The parts of the login door's pages.
const (
	loginField    = chromedp.CSS(`input[name="login"]`)
	passwordField = chromedp.CSS(`input[name="password"]`)
	signInButton  = chromedp.CSS(`form button[type="submit"], form input[type="submit"]`)
	allowButton   = chromedp.CSS(`button[name="decision"][value="allow"]`)
	denyButton    = chromedp.CSS(`button[name="decision"][value="deny"]`)
	shownCode     = chromedp.ID(`authorization-code`)
)

// signIn fills the login page and waits for the consent page.
func (b *browser) signIn(t *testing.T, u user) {
	t.Helper()
	b.do(t, chromedp.SendKeys(loginField, u.Login), chromedp.SendKeys(passwordField, u.Password), chromedp.Click(signInButton),
		chromedp.WaitVisible(allowButton))
}

// throughTheProxy lets Chromium reach the hard-coded hosts: by the proxy, and trusting
// the development CA and, beyond what it trusts anyway, nobody else.
func throughTheProxy(t *testing.T, d *dev) []chromedp.ExecAllocatorOption {
	t.Helper()
	text, err := os.ReadFile(d.CA)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s holds no certificate", d.CA)
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return []chromedp.ExecAllocatorOption{
		chromedp.ProxyServer(d.Proxy),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
	}
}

// appServer is the web server of an app that people are sent back to.
type appServer struct {
	uri      string
	arrivals chan url.Values
}

func newAppServer(t *testing.T) *appServer {
	t.Helper()
	s := &appServer{arrivals: make(chan url.Values, 1)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/callback" {
			http.NotFound(w, r)
			return
		}
		select {
		case s.arrivals <- r.URL.Query():
		default:
			t.Errorf("somebody was sent back a second time: %s", r.URL)
		}
		_, _ = w.Write([]byte("Welcome back."))
	}))
	t.Cleanup(server.Close)
	s.uri = server.URL + "/callback"
	return s
}

// arrival is the query with which the person came back.
func (s *appServer) arrival(t *testing.T, b *browser) url.Values {
	t.Helper()
	select {
	case query := <-s.arrivals:
		return query
	case <-time.After(stepWithin):
		t.Fatalf("nobody came back to the app; the page is %s", b.page())
		return nil
	}
}
