package acceptance

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// tokens is the answer of /oauth/token.
type tokens struct {
	Access    string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"`
	Refresh   string `json:"refresh_token"`
	CreatedAt int64  `json:"created_at"`
}

// exchange posts to /oauth/token, as a form.
func (d *dev) exchange(t *testing.T, form url.Values) answer {
	t.Helper()
	return call{Method: "POST", URL: d.loginURL("/oauth/token"), Form: form}.send(t)
}

// machineToken is an access token of a service account (client_credentials).
func (d *dev) machineToken(t *testing.T, a app) string {
	t.Helper()
	return d.pair(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {a.ClientID}, "client_secret": {a.ClientSecret}}).Access
}

// pair exchanges the form for tokens.
func (d *dev) pair(t *testing.T, form url.Values) tokens {
	t.Helper()
	var p tokens
	d.exchange(t, form).want(t, 200).into(t, &p)
	if p.Access == "" {
		t.Fatal("no access token came")
	}
	return p
}

// userTokens are tokens by which the web app speaks for a member of companies in all
// three regions.
func (d *dev) userTokens(t *testing.T) tokens {
	t.Helper()
	web := d.app(t, "web")
	return d.pair(t, codeForm(web, web.redirectURI(t), d.code(t, d.everywhereUser(t), web, web.redirectURI(t))))
}

// codeForm is what an app posts to turn a code into tokens.
func codeForm(a app, redirectURI, code string) url.Values {
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {a.ClientID}, "redirect_uri": {redirectURI}, "code": {code}}
	if a.ClientSecret != "" {
		form.Set("client_secret", a.ClientSecret)
	}
	return form
}

// refreshForm is what an app posts for a new pair of tokens.
func refreshForm(a app, refresh string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {a.ClientID}, "client_secret": {a.ClientSecret}, "refresh_token": {refresh}}
}

// authorizeQuery is the query of /oauth/authorize.
func authorizeQuery(a app, redirectURI string) url.Values {
	return url.Values{"response_type": {"code"}, "client_id": {a.ClientID}, "redirect_uri": {redirectURI}}
}

// The verifier of RFC 7636 appendix B, and its challenge.
const pkceVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

func pkceChallenge() string {
	sum := sha256.Sum256([]byte(pkceVerifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// code signs a person in with nothing but HTTP and HTML forms, allows the app, and
// answers the authorization code. Apps without a secret get theirs with PKCE.
func (d *dev) code(t *testing.T, u user, a app, redirectURI string) string {
	t.Helper()
	query := authorizeQuery(a, redirectURI)
	if a.ClientSecret == "" {
		query.Set("code_challenge", pkceChallenge())
		query.Set("code_challenge_method", "S256")
	}
	consent := newPerson(t, d).open(t, "/oauth/authorize?"+query.Encode()).signIn(t, u)
	consent.answer.want(t, 200)
	after := consent.submit(t, url.Values{"decision": {"allow"}})
	code := ""
	if redirectURI == outOfBand {
		code = after.shownCode(t)
	} else {
		code = after.redirectedOutside(t).Query().Get("code")
	}
	if code == "" {
		t.Fatalf("no code: %v, away to %v", after.answer, after.away)
	}
	return code
}

// outOfBand is the redirect URI of apps that nobody can be sent back to.
const outOfBand = "urn:ietf:wg:oauth:2.0:oob"

// shownCode is the code on the page that shows it, in a field or as text.
func (p *person) shownCode(t *testing.T) string {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(p.answer.want(t, 200).Body))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || attribute(n, "id") != "authorization-code" {
			continue
		}
		if n.FirstChild != nil {
			return n.FirstChild.Data
		}
		return attribute(n, "value")
	}
	t.Fatalf("no code on the page: %v", p.answer)
	return ""
}

// person is somebody at the login door with a browser that has cookies and forms, and
// nothing else.
type person struct {
	door   *url.URL
	client *http.Client
	answer answer
	at     *url.URL
	form   *form
	away   *url.URL // where the last step led, if it led away from the login door
}

// form is the first form of a page.
type form struct {
	action string
	fields url.Values
}

func newPerson(t *testing.T, d *dev) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	door, err := url.Parse(d.loginURL("/"))
	if err != nil {
		t.Fatal(err)
	}
	client := *plain
	client.Jar = jar
	return &person{door: door, at: door, client: &client}
}

// open goes to a page of the login door and follows redirects as long as they stay there.
func (p *person) open(t *testing.T, address string) *person {
	t.Helper()
	return p.follow(t, call{Client: p.client, URL: p.resolve(t, address).String()})
}

// submit fills the page's form, over what it holds already, and sends it.
func (p *person) submit(t *testing.T, values url.Values) *person {
	t.Helper()
	if p.form == nil {
		t.Fatalf("there is no form on this page: %v", p.answer)
	}
	filled := url.Values{}
	for name, v := range p.form.fields {
		filled[name] = v
	}
	for name, v := range values {
		filled[name] = v
	}
	return p.follow(t, call{Client: p.client, Method: "POST", URL: p.resolve(t, p.form.action).String(), Form: filled})
}

func (p *person) signIn(t *testing.T, u user) *person {
	t.Helper()
	return p.submit(t, url.Values{"login": {u.Login}, "password": {u.Password}})
}

func (p *person) follow(t *testing.T, c call) *person {
	t.Helper()
	for range 10 {
		next := &person{door: p.door, client: p.client}
		next.answer = c.send(t)
		var err error
		if next.at, err = url.Parse(c.URL); err != nil {
			t.Fatal(err)
		}
		location := next.answer.Header.Get("Location")
		if location == "" {
			next.form = firstForm(next.answer.Body)
			return next
		}
		to := next.resolve(t, location)
		if to.Host != p.door.Host || to.Scheme != p.door.Scheme {
			next.away = to
			return next
		}
		c = call{Client: p.client, URL: to.String()}
	}
	t.Fatalf("ten redirects in a row, the last one at %s", c.URL)
	return nil
}

// redirectedOutside is where the last step led, away from the login door.
func (p *person) redirectedOutside(t *testing.T) *url.URL {
	t.Helper()
	if p.away == nil {
		t.Fatalf("not redirected to the app; instead %v", p.answer)
	}
	return p.away
}

func (p *person) resolve(t *testing.T, address string) *url.URL {
	t.Helper()
	to, err := p.at.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// firstForm reads the first form of a page, as a browser would send it unchanged.
func firstForm(page []byte) *form {
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		return nil
	}
	var found *form
	for n := range doc.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "form" && found == nil:
			found = &form{action: attribute(n, "action"), fields: url.Values{}}
		case n.Data == "form":
			return found
		case n.Data == "input" && found != nil && attribute(n, "name") != "":
			if kind := strings.ToLower(attribute(n, "type")); kind != "submit" && kind != "button" && kind != "checkbox" {
				found.fields.Add(attribute(n, "name"), attribute(n, "value"))
			}
		}
	}
	return found
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
