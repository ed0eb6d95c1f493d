package login

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSignInAndOut(t *testing.T) {
	w := newWorld(t)
	w.newPerson(t, "a@example.com")
	w.newUser(t, "invited@example.com") // has no password yet
	b := w.browser(t).open(t, "/login")
	for _, wrong := range [][2]string{{"a@example.com", "wrong"}, {"nobody@example.com", password}, {"invited@example.com", "x"}, {"a\x00@example.com", password}, {"a@example.com", password + " "}} {
		b.signIn(t, wrong[0], wrong[1]).want(t, http.StatusUnprocessableEntity)
		// Whether the account exists can't be told.
		if !strings.Contains(string(b.body), "The e-mail address or the password is wrong.") || strings.Contains(string(b.body), wrong[1]+`"`) {
			t.Errorf("%q: %s", wrong, b.body)
		}
	}
	for _, missing := range [][2]string{{"", ""}, {"a@example.com", ""}, {"", password}, {strings.Repeat("a", 300), "x"}, {"a@example.com", strings.Repeat("x", 2000)}} {
		b.signIn(t, missing[0], missing[1]).want(t, http.StatusUnprocessableEntity)
	}
	b.signIn(t, "a@example.com", password).want(t, 200)
	if !strings.Contains(string(b.body), "You are signed in as <strong>A person</strong>") {
		t.Errorf("after sign-in: %s", b.body)
	}
	if b.open(t, "/login"); b.at.Path != "/" {
		t.Errorf("whoever has signed in gets %s", b.at)
	}

	b.open(t, "/logout").want(t, 200)
	r := newRequest(t, http.MethodPost, w.door+"/logout", strings.NewReader("csrf=x"), "Content-Type", formType)
	send(t, b.client, r).want(t, http.StatusForbidden)
	cookies := b.client.Jar.Cookies(b.at)
	if b.submit(t); !strings.Contains(string(b.body), "Sign in") {
		t.Errorf("after sign-out: %s", b.body)
	}
	// The session has ended, not just the browser's memory of it.
	again := newRequest(t, http.MethodGet, w.door+"/logout", nil)
	again.AddCookie(cookies[0])
	send(t, noRedirects, again).want(t, http.StatusSeeOther)
	w.browser(t).open(t, "/logout").want(t, 200) // nobody has signed in: home
}

func TestSessionsExpire(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback)
	w.newPerson(t, "a@example.com")
	b := w.browser(t).open(t, authorizeURL(a, callback)).signIn(t, "a@example.com", password)
	w.clock.advance(12*time.Hour + time.Second)
	if b.submit(t, "decision", "allow"); b.at.Path != "/login" || b.away != nil {
		t.Errorf("an ended session led to %s, away to %v", b.at, b.away)
	}
	// The request has not been forgotten.
	if b.signIn(t, "a@example.com", password).submit(t, "decision", "allow"); b.away == nil {
		t.Errorf("after signing in again: %v", b.reply)
	}
}

func TestCookies(t *testing.T) {
	w := newWorld(t)
	w.newPerson(t, "a@example.com")
	form := url.Values{"login": {"a@example.com"}, "password": {password}}
	for name, c := range map[string]struct {
		header []string
		secure bool
	}{
		"https":             {[]string{"X-Forwarded-Host", "login.procore.com", "X-Forwarded-Proto", "https"}, true},
		"an unknown host":   {[]string{"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http"}, true},
		"plain development": {nil, false},
	} {
		planted := &http.Cookie{Name: "__Host-mpr_session", Value: "planted"}
		r := newRequest(t, http.MethodPost, w.door+"/login", strings.NewReader(form.Encode()), append(c.header, "Content-Type", formType)...)
		r.AddCookie(planted)
		got := send(t, noRedirects, r).want(t, http.StatusSeeOther)
		cookie := got.Cookies()[0]
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.Secure != c.secure {
			t.Errorf("%s: %v", name, cookie)
		}
		if strings.HasPrefix(cookie.Name, "__Host-") != c.secure || cookie.Value == "planted" || len(cookie.Value) != 43 {
			t.Errorf("%s: %v", name, cookie)
		}
	}
}

// A page of another site can't sign a person in as somebody else.
func TestForgedSignIn(t *testing.T) {
	w := newWorld(t)
	w.newPerson(t, "a@example.com")
	form := url.Values{"login": {"a@example.com"}, "password": {password}}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		if got := w.post(t, "/login", form, header...).want(t, http.StatusForbidden); len(got.Cookies()) != 0 {
			t.Errorf("%v: %v", header, got)
		}
	}
}

// "Login attempts are limited."
func TestGuessing(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.AttemptsPerMinute = 3 })
	w.newPerson(t, "a@example.com")
	w.newPerson(t, "b@example.com")
	try := func(login, password string) reply {
		return w.post(t, "/login", url.Values{"login": {login}, "password": {password}})
	}
	// Successes don't count.
	for range 5 {
		try("a@example.com", password).want(t, http.StatusSeeOther)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 12 { // many at once don't slip through
		r := newRequest(t, http.MethodPost, w.door+"/login", strings.NewReader(url.Values{"login": {"A@example.com"}, "password": {"guess"}}.Encode()), "Content-Type", formType)
		wg.Go(func() {
			got, err := sendE(noRedirects, r)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[got.StatusCode]++
		})
	}
	wg.Wait()
	if statuses[422] != 3 || statuses[429] != 9 {
		t.Errorf("twelve guesses: %v", statuses)
	}
	// The right password is not told from a wrong one.
	limited := try("a@example.com", password).want(t, http.StatusTooManyRequests)
	if limited.Header.Get("Retry-After") == "" {
		t.Error("it isn't said when to try again")
	}
	try("b@example.com", password).want(t, http.StatusSeeOther) // another account
	w.clock.advance(21 * time.Second)                           // a third of a minute: one attempt
	try("a@example.com", password).want(t, http.StatusSeeOther)
}

// Guesses from one address lock nobody else out, and many addresses together have an end.
func TestLockingOut(t *testing.T) {
	now := time.Now()
	w := newWorld(t, func(o *Options) {
		o.Now = func() time.Time { return now } // however long the guesses take
		o.AttemptsPerMinute = 1
		o.ForwardedFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	w.newPerson(t, "a@example.com")
	try := func(password, from string) int {
		return w.post(t, "/login", url.Values{"login": {"a@example.com"}, "password": {password}}, "X-Forwarded-For", from).StatusCode
	}
	if first, second := try("guess", "203.0.113.1"), try("guess", "203.0.113.1"); first != 422 || second != 429 {
		t.Errorf("guesses: %d, %d", first, second)
	}
	if got := try(password, "203.0.113.2"); got != http.StatusSeeOther {
		t.Errorf("the person: %d", got)
	}
	for i := range peerFactor - 1 {
		if got := try("guess", "198.51.100."+strconv.Itoa(i+1)); got != 422 {
			t.Fatalf("guess %d: %d", i, got)
		}
	}
	if got := try("guess", "198.51.100.99"); got != 429 {
		t.Errorf("a guess too many: %d", got)
	}
}

// An attempt that nobody had time to look at isn't held against the account.
func TestOverloadIsNoFailedAttempt(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.AttemptsPerMinute = 1 })
	w.newPerson(t, "a@example.com")
	try := func() reply {
		return w.post(t, "/login", url.Values{"login": {"a@example.com"}, "password": {password}})
	}
	for range cap(w.service.queue) {
		w.service.queue <- struct{}{}
	}
	try().want(t, http.StatusServiceUnavailable)
	for range cap(w.service.queue) {
		<-w.service.queue
	}
	try().want(t, http.StatusSeeOther)
}

// Guessing one password for many accounts is limited by address.
func TestSpraying(t *testing.T) {
	now := time.Now()
	w := newWorld(t, func(o *Options) {
		o.Now = func() time.Time { return now } // however long the guesses take
		o.AttemptsPerMinute = 1
		o.ForwardedFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	try := func(login, from string) int {
		return w.post(t, "/login", url.Values{"login": {login}, "password": {"guess"}}, "X-Forwarded-For", from).StatusCode
	}
	for i := range peerFactor {
		if got := try(strings.Repeat("x", i+1)+"@example.com", "203.0.113.9, 2001:db8:1:2::"+string(rune('1'+i%9))); got != 422 {
			t.Fatalf("attempt %d: %d", i, got)
		}
	}
	if got := try("y@example.com", "198.51.100.7, 2001:db8:1:2::ffff"); got != 429 {
		t.Errorf("an attempt too many from one network: %d", got)
	}
	if got := try("z@example.com", "2001:db8:1:3::1"); got != 422 {
		t.Errorf("from another network: %d", got)
	}
}

func TestPeer(t *testing.T) {
	s := &Service{Options: Options{ForwardedFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:1234", nil, "192.0.2.1"},
		{"192.0.2.1:1234", []string{"198.51.100.1"}, "192.0.2.1"}, // nobody believes it
		{"10.0.0.1:1234", nil, "10.0.0.1"},
		{"10.0.0.1:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:1234", []string{"6.6.6.6, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"10.0.0.1:1234", []string{"6.6.6.6", "198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:1234", []string{"198.51.100.1:99"}, "198.51.100.1"},
		{"10.0.0.1:1234", []string{"rubbish"}, "10.0.0.1"},
		{"[::ffff:192.0.2.1]:1", nil, "192.0.2.1"},
		{"[2001:db8::1]:1", nil, "2001:db8::/64"},
		{"[fe80::1%eth0]:1", nil, "fe80::/64"},
		{"@", nil, "@"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := s.peer(r); got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

// What is remembered of attempts is for all login services, and for no longer than it matters.
func TestAttemptsAreCountedTogether(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.AttemptsPerMinute = 3 })
	second, err := New(t.Context(), w.service.Options)
	must(t, err)
	t.Cleanup(func() { must(t, second.Close()) })
	services := []*Service{w.service, second}
	left := func(peer, login string) (n int) {
		for ; n < 1000; n++ {
			r, _, err := services[n%2].takeAttempt(t.Context(), peer, login)
			if must(t, err); r != nil {
				if r.wait <= 0 || r.wait > time.Minute {
					t.Errorf("the wait is %v", r.wait)
				}
				return n
			}
		}
		return n
	}
	if n := left("203.0.113.1", "a@example.com\x00"); n != 3 {
		t.Errorf("%d attempts at two services, want 3", n)
	}
	// One that is given back is there for others, at once.
	w.clock.advance(time.Minute)
	for range 10 {
		r, giveBack, err := second.takeAttempt(t.Context(), "203.0.113.1", "a@example.com\x00")
		if must(t, err); r != nil {
			t.Fatalf("refused: %+v", r)
		}
		giveBack()
	}
	w.clock.advance(time.Minute)
	if n := left("203.0.113.2", "a@example.com\x00"); n != 3 {
		t.Errorf("%d attempts from another address, want 3", n)
	}
	must(t, w.service.sweepAttempts(t.Context()))
	if n := w.count(t, "signin_attempts"); n != 3 {
		t.Errorf("%d rows are left of one account and one address, want 3", n)
	}
	w.clock.advance(time.Minute + time.Second)
	must(t, second.sweepAttempts(t.Context()))
	if n := w.count(t, "signin_attempts"); n != 0 {
		t.Errorf("%d rows are left that nobody needs", n)
	}
}
