package acceptance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestBadBodies(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	at := d.in(t, "EU01").ID
	other := d.in(t, "US02").ID
	const js = "application/json"
	for name, c := range map[string]struct {
		path, contentType, body string
		status                  int
		code                    string
	}{
		"cut off":            {"/rest/v1.0/projects", js, `{"project":{"name":"x"`, 400, "malformed_json"},
		"two values":         {"/rest/v1.0/projects", js, `{"project":{"name":"x"}} {}`, 400, "malformed_json"},
		"nothing":            {"/rest/v1.0/projects", js, ``, 400, "bad_request"},
		"not UTF-8":          {"/rest/v1.0/projects", js, "{\"project\":{\"name\":\"\xff\xfe\"}}", 400, "malformed_json"},
		"very deep":          {"/rest/v1.0/projects", js, strings.Repeat(`{"project":`, 50_000), 400, "malformed_json"},
		"a list":             {"/rest/v1.0/projects", js, `[]`, 400, "malformed_json"},
		"a name twice":       {"/rest/v1.0/projects", js, `{"project":{"name":"x"},"project":{"name":"y"}}`, 400, "malformed_json"},
		"no project":         {"/rest/v1.0/projects", js, `{}`, 400, "bad_request"},
		"wrong type":         {"/rest/v1.0/projects", js, `{"project":{"name":7}}`, 422, "invalid"},
		"project is text":    {"/rest/v1.0/projects", js, `{"project":"x"}`, 400, "bad_request"},
		"blank name":         {"/rest/v1.0/projects", js, `{"project":{"name":"  "}}`, 422, "invalid"},
		"NUL in the name":    {"/rest/v1.0/projects", js, `{"project":{"name":"a\u0000b"}}`, 422, "invalid"},
		"a long name":        {"/rest/v1.0/projects", js, `{"project":{"name":"` + strings.Repeat("x", 300) + `"}}`, 422, "invalid"},
		"a form":             {"/rest/v1.0/projects", "application/x-www-form-urlencoded", `project[name]=x`, 415, "unsupported_media_type"},
		"no type":            {"/rest/v1.0/projects", "", `{"project":{"name":"x"}}`, 415, "unsupported_media_type"},
		"a strange type":     {"/rest/v1.0/projects", "application/json/../x", `{"project":{"name":"x"}}`, 415, "unsupported_media_type"},
		"another company":    {"/rest/v1.0/projects", js, fmt.Sprintf(`{"company_id":%d,"project":{"name":"x"}}`, other), 400, "company_mismatch"},
		"company as text":    {"/rest/v1.0/projects", js, fmt.Sprintf(`{"company_id":"%d","project":{"name":"x"}}`, other), 400, "company_mismatch"},
		"company in project": {"/rest/v1.0/projects", js, fmt.Sprintf(`{"project":{"company_id":%d,"name":"x"}}`, other), 400, "company_mismatch"},
		"company in query":   {fmt.Sprintf("/rest/v1.0/projects?company_id=%d", other), js, `{"project":{"name":"x"}}`, 400, "company_mismatch"},
		"company in path":    {fmt.Sprintf("/rest/v1.0/companies/%d/users", other), js, `{"user":{"login":"x@example.com"}}`, 400, "company_mismatch"},
		"larger than allowed": {"/rest/v1.0/projects", js, `{"project":{"name":"x","description":"` + strings.Repeat("x", 2<<20) + `"}}`,
			413, "body_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			call{Method: "POST", URL: d.apiURL("%s", c.path), Token: token, Company: at, Body: c.body,
				Header: map[string]string{"Content-Type": c.contentType}}.send(t).wantCode(t, c.status, c.code)
		})
	}
	// Nothing of all that was made.
	for _, project := range (call{URL: d.apiURL("/rest/v1.0/projects?per_page=1000"), Token: token, Company: at}).send(t).want(t, 200).objects(t) {
		if project.Name == "x" || strings.Contains(project.Name, "\x00") {
			t.Errorf("a refused project was made: %+v", project)
		}
	}
}

func TestBadLists(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	at := d.in(t, "US01").ID
	for _, query := range []string{"page=0", "page=-1", "page=x", "page=9223372036854775808", "per_page=0", "per_page=-5", "per_page=1e3", "page=1&page=2"} {
		got := call{URL: d.apiURL("/rest/v1.0/projects?%s", query), Token: token, Company: at}.send(t)
		if got.Status != 400 && got.Status != 422 {
			t.Errorf("%v; want 400 or 422", got)
		}
	}
	// Far beyond the end is an empty page, not an error.
	far := call{URL: d.apiURL("/rest/v1.0/projects?page=1000000"), Token: token, Company: at}.send(t).want(t, 200)
	if len(far.objects(t)) != 0 {
		t.Errorf("page 1000000: %v", far)
	}
}

func TestOversizedHeaders(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	big := strings.Repeat("x", 80<<10)
	for name, c := range map[string]call{
		"a header":  {URL: d.apiURL("/rest/v1.0/me"), Token: token, Header: map[string]string{"X-Big": big}},
		"the token": {URL: d.apiURL("/rest/v1.0/me"), Token: token + big},
		"the path":  {URL: d.apiURL("/rest/v1.0/me?%s", big), Token: token},
		"at login":  {URL: d.loginURL("/oauth/token/info"), Token: token, Header: map[string]string{"X-Big": big}},
	} {
		got := c.send(t)
		if got.Status != 431 && got.Status != 400 && got.Status != 401 && got.Status != 414 {
			t.Errorf("%s: status %d", name, got.Status)
		}
	}
	// A token that is too long to be one is refused as a token.
	call{URL: d.apiURL("/rest/v1.0/me"), Token: strings.Repeat("x", 10<<10)}.send(t).wantCode(t, 401, "invalid_token")
}

func TestBadTokens(t *testing.T) {
	d := shared(t)
	good := d.userTokens(t).Access
	call{URL: d.apiURL("/rest/v1.0/me"), Token: good}.send(t).want(t, 200)
	for name, token := range badTokens(t, d, good) {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/rest/v1.0/me", "/rest/v1.0/projects"} {
				a := call{URL: d.apiURL("%s", path), Token: token, Company: d.in(t, "EU01").ID}.send(t).wantCode(t, 401, "invalid_token")
				// RFC 6750 section 3
				if challenge := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer") || !strings.Contains(challenge, `error="invalid_token"`) {
					t.Errorf("WWW-Authenticate: %q", challenge)
				}
				if words := "The access token is invalid"; !strings.Contains(string(a.Body), words) {
					t.Errorf("%v; want the words %q", a, words)
				}
			}
			if a := (call{URL: d.loginURL("/oauth/token/info"), Token: token}).send(t); a.Status != 401 {
				t.Errorf("%v; want 401", a)
			}
		})
	}
}

// badTokens are tokens made from a good one by somebody without the signing key.
func badTokens(t *testing.T, d *dev, good string) map[string]string {
	t.Helper()
	parts := strings.Split(good, ".")
	if len(parts) != 3 {
		t.Fatalf("the access token has %d parts", len(parts))
	}
	header, payload := decodePart(t, parts[0]), decodePart(t, parts[1])
	with := func(m map[string]any, name string, v any) string {
		changed := map[string]any{}
		for k, old := range m {
			changed[k] = old
		}
		changed[name] = v
		return encodePart(t, changed)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(signature)
	flipped[len(flipped)/2] ^= 1
	signed := parts[0] + "." + parts[1]
	return map[string]string{
		"nonsense":                     "nonsense",
		"two parts":                    signed,
		"unsigned":                     with(header, "alg", "none") + "." + parts[1] + ".",
		"unsigned, signature kept":     with(header, "alg", "none") + "." + parts[1] + "." + parts[2],
		"unsigned, None":               with(header, "alg", "None") + "." + parts[1] + ".",
		"no signature":                 signed + ".",
		"a zero signature":             signed + "." + base64.RawURLEncoding.EncodeToString(make([]byte, len(signature))),
		"a flipped bit":                signed + "." + base64.RawURLEncoding.EncodeToString(flipped),
		"another person":               parts[0] + "." + with(payload, "sub", "1") + "." + parts[2],
		"a longer life":                parts[0] + "." + with(payload, "exp", 9999999999) + "." + parts[2],
		"a foreign key":                foreignToken(t, header, payload, ""),
		"a foreign key in the header":  foreignToken(t, header, payload, "jwk"),
		"a key of nobody":              foreignToken(t, map[string]any{"kid": "nobody", "typ": "JWT"}, payload, ""),
		"the public key as the secret": hmacToken(t, d, header, payload),
		"another issuer":               foreignToken(t, header, withClaim(payload, "iss", "https://login.example.com"), ""),
		"two tokens":                   good + "," + good,
		"with a space":                 parts[0] + ". " + parts[1] + "." + parts[2],
		"padded":                       parts[0] + "=." + parts[1] + "." + parts[2],
	}
}

func withClaim(payload map[string]any, name string, v any) map[string]any {
	changed := map[string]any{name: v}
	for k, old := range payload {
		if k != name {
			changed[k] = old
		}
	}
	return changed
}

// foreignToken is signed with a key that mpr has never seen, under the key id that the
// header names.
func foreignToken(t *testing.T, header, payload map[string]any, embed string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	options := (&jose.SignerOptions{EmbedJWK: embed == "jwk"}).WithType("JWT")
	if embed == "" {
		options = options.WithHeader("kid", header["kid"])
	}
	return sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: key}, options, payload)
}

// hmacToken confuses the algorithms: HS256 with the published key as the secret.
func hmacToken(t *testing.T, d *dev, header, payload map[string]any) string {
	t.Helper()
	published := call{URL: d.loginURL("/oauth/jwks")}.send(t).want(t, 200).Body
	return sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: published}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", header["kid"]), payload)
}

func sign(t *testing.T, key jose.SigningKey, options *jose.SignerOptions, payload map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func decodePart(t *testing.T, part string) map[string]any {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	if err := in.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encodePart(t *testing.T, m map[string]any) string {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// The token of another installation of mpr, with the same hosts and issuer.
func TestTokenOfAnotherInstallation(t *testing.T) {
	d, other := shared(t), startDev(t, t.TempDir())
	token := other.userTokens(t).Access
	call{URL: other.apiURL("/rest/v1.0/me"), Token: token}.send(t).want(t, 200)
	call{URL: d.apiURL("/rest/v1.0/me"), Token: token}.send(t).wantCode(t, 401, "invalid_token")
}

// RFC 6750 section 2.1: the token comes in the header, and nowhere else.
func TestTokenInOtherPlaces(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	for name, c := range map[string]call{
		"nowhere":     {},
		"in a query":  {URL: "?access_token=" + token},
		"Basic":       {Header: map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(token+":"))}},
		"bare":        {Header: map[string]string{"Authorization": token}},
		"empty":       {Header: map[string]string{"Authorization": "Bearer "}},
		"in a cookie": {Header: map[string]string{"Cookie": "access_token=" + token}},
	} {
		c.URL = d.apiURL("/rest/v1.0/me") + c.URL
		a := c.send(t)
		if a.Status != http.StatusUnauthorized || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: %v; WWW-Authenticate %q", name, a, a.Header.Get("WWW-Authenticate"))
		}
	}
	// The scheme is case-insensitive (RFC 9110 section 11.1).
	call{URL: d.apiURL("/rest/v1.0/me"), Header: map[string]string{"Authorization": "bearer " + token}}.send(t).want(t, 200)
}

// "Unknown company and company without membership get the same 403."
func TestStrangersLearnNothing(t *testing.T) {
	d := shared(t)
	stranger := d.newUser(t, "stranger", d.in(t, "US01").ID)
	web := d.app(t, "web")
	token := d.pair(t, codeForm(web, web.redirectURI(t), d.code(t, stranger, web, web.redirectURI(t)))).Access
	words := func(company int64) string {
		var refusal struct{ Code, Message string }
		call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: company}.send(t).want(t, 403).into(t, &refusal)
		return refusal.Code + ": " + refusal.Message
	}
	unknown := words(987654321)
	if theirs := words(d.in(t, "EU01").ID); theirs != unknown {
		t.Errorf("a company of others: %q, an unknown company: %q", theirs, unknown)
	}
	if !strings.HasPrefix(unknown, "company_forbidden: ") {
		t.Errorf("refused with %q", unknown)
	}
}
