package login

import (
	"bytes"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// browser is a person's browser as far as the pages need one: cookies, forms, redirects
// that are followed as long as they stay at the login door.
type browser struct {
	w      *world
	client *http.Client
	at     *url.URL
	reply
	action string     // of the page's form
	fields url.Values // which it holds already
	away   *url.URL   // where the last step led, if it led away
}

func (w *world) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	client := *noRedirects
	client.Jar = jar
	at, err := url.Parse(w.door)
	must(t, err)
	return &browser{w: w, client: &client, at: at}
}

// open goes to a page.
func (b *browser) open(t *testing.T, address string) *browser {
	t.Helper()
	to, err := b.at.Parse(address)
	must(t, err)
	return b.follow(t, newRequest(t, http.MethodGet, to.String(), nil))
}

// submit fills the page's form and sends it, as a browser on our own page does.
func (b *browser) submit(t *testing.T, values ...string) *browser {
	t.Helper()
	if b.action == "" {
		t.Fatalf("there is no form: %v", b.reply)
	}
	form := url.Values{}
	for name, v := range b.fields {
		form[name] = v
	}
	for i := 0; i < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	to, err := b.at.Parse(b.action)
	must(t, err)
	return b.follow(t, newRequest(t, http.MethodPost, to.String(), strings.NewReader(form.Encode()),
		"Content-Type", formType, "Origin", b.w.door, "Sec-Fetch-Site", "same-origin"))
}

// signIn fills the sign-in form.
func (b *browser) signIn(t *testing.T, login, password string) *browser {
	t.Helper()
	return b.submit(t, "login", login, "password", password)
}

func (b *browser) follow(t *testing.T, r *http.Request) *browser {
	t.Helper()
	b.away = nil
	for range 10 {
		b.reply, b.at = send(t, b.client, r), r.URL
		location := b.Header.Get("Location")
		if location == "" {
			b.read(t)
			return b
		}
		to, err := r.URL.Parse(location)
		must(t, err)
		if to.Scheme+"://"+to.Host != b.w.door {
			b.away = to
			return b
		}
		r = newRequest(t, http.MethodGet, to.String(), nil)
	}
	t.Fatalf("ten redirects in a row, the last to %s", r.URL)
	return nil
}

// read finds the page's form.
func (b *browser) read(t *testing.T) {
	t.Helper()
	b.action, b.fields = "", url.Values{}
	doc, err := html.Parse(bytes.NewReader(b.body))
	must(t, err)
	for n := range doc.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "form":
			b.action = attribute(n, "action")
		case n.Data == "input" && attribute(n, "name") != "" && attribute(n, "type") != "password":
			b.fields.Set(attribute(n, "name"), attribute(n, "value"))
		}
	}
}

// text is the text of the element with this id.
func (b *browser) text(t *testing.T, id string) string {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(b.body))
	must(t, err)
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && attribute(n, "id") == id {
			return n.FirstChild.Data
		}
	}
	t.Fatalf("the page has no element with the id %s: %s", id, b.body)
	return ""
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// authorizeURL is where an app sends people.
func authorizeURL(a app, redirectURI string, more ...string) string {
	q := url.Values{"response_type": {"code"}, "client_id": {a.ClientID}, "redirect_uri": {redirectURI}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/oauth/authorize?" + q.Encode()
}
