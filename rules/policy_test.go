package rules_test

import (
	"strings"
	"testing"

	"mpr/rules"
)

func TestParseRouteReadsMethodAndPath(t *testing.T) {
	for _, c := range []struct {
		seed string
		text string
		want rules.Route
	}{
		{showUserInfo, "GET /rest/v1.0/me", rules.Route{Method: "GET", Path: "/rest/v1.0/me"}},
		{listCompanies, "GET /rest/v1.0/companies", rules.Route{Method: "GET", Path: "/rest/v1.0/companies"}},
		{otherEnvironment, "POST /", rules.Route{Method: "POST", Path: "/"}},
		{otherEnvironment, "GET /me/", rules.Route{Method: "GET", Path: "/me/"}},
		{otherEnvironment, "GET /.well-known/..x/a.b", rules.Route{Method: "GET", Path: "/.well-known/..x/a.b"}},
		{otherEnvironment, "M-SEARCH /a:b@c;d=e,f", rules.Route{Method: "M-SEARCH", Path: "/a:b@c;d=e,f"}},
	} {
		got, err := rules.ParseRoute(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseRoute(%q) = %+v, %v; want %+v\nseed: %s", c.text, got, err, c.want, c.seed)
		}
		if got.String() != c.text {
			t.Errorf("ParseRoute(%q) prints as %q", c.text, got)
		}
	}
}

// A route that no call can have would leave the header required where the operator
// exempted it.
func TestParseRouteRefusesWhatNoCallCanHave(t *testing.T) {
	for name, texts := range map[string][]string{
		"nothing":                  {"", " ", "  "},
		"a method alone":           {"GET", "GET "},
		"a path alone":             {"/rest/v1.0/me", " /rest/v1.0/me"},
		"another order":            {"/rest/v1.0/me GET"},
		"no slash at the start":    {"GET rest/v1.0/me", "GET https://api.procore.com/rest/v1.0/me", "GET *"},
		"a method in lower case":   {"get /me", "Get /me"},
		"a method of other signs":  {"G:T /me", "12 /me", "- /me", "G\u00c9T /me", "GET\n /me", "GET, /me", "* /me"},
		"another space":            {"GET  /me", "GET\t/me", " GET /me", "GET /me ", "GET /a b", "GET /me HTTP/1.1"},
		"a query or fragment":      {"GET /me?", "GET /me?a=b", "GET /me#", "GET /me#a"},
		"percent-encoding":         {"GET /m%65", "GET /%2e%2e/me", "GET /me%2f"},
		"a control character":      {"GET /me\n", "GET /me\x00", "GET /me\t", "GET /\x7f"},
		"a backslash":              {`GET /rest\me`, `GET /\me`},
		"a doubled slash":          {"GET //me", "GET /rest//me", "GET /me//"},
		"a dot segment":            {"GET /.", "GET /..", "GET /./me", "GET /rest/../me", "GET /me/.", "GET /me/.."},
		"a route with its caption": {"Show User Info - (GET /rest/v1.0/me)"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range texts {
				route, err := rules.ParseRoute(text)
				if err == nil || route != (rules.Route{}) {
					t.Errorf("ParseRoute(%q) = %+v, %v\nseed: %s", text, route, err, exemptRoutes)
					continue
				}
				if !strings.Contains(err.Error(), "GET /rest/v1.0/me") {
					t.Errorf("ParseRoute(%q): %q shows no example", text, err)
				}
			}
		})
	}
}

func FuzzParseRoute(f *testing.F) {
	for _, s := range []string{"GET /rest/v1.0/me", "GET /", "GET", " /", "get /me", "GET //", "GET /../me", "GET /me\n", "GET /m%65", "GET  /me"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		route, err := rules.ParseRoute(s)
		if err != nil {
			return
		}
		if route.String() != s || strings.ContainsAny(route.Path, " ?#%\\\x00\n\r\t") || route.Method == "" || !strings.HasPrefix(route.Path, "/") {
			t.Fatalf("ParseRoute(%q) = %+v", s, route)
		}
	})
}

func TestDoorsHaveNames(t *testing.T) {
	for _, c := range []struct {
		seed string
		door rules.Door
		want string
	}{
		{useLoginHost, rules.DoorLogin, "login"},
		{useAPIHost, rules.DoorAPI, "api"},
		{untilSunset, rules.DoorLegacy, "legacy"},
		{newCustomers, 0, "unknown"},
		{newCustomers, rules.DoorLegacy + 1, "unknown"},
	} {
		if got := c.door.String(); got != c.want {
			t.Errorf("Door(%d) is %q; want %q\nseed: %s", c.door, got, c.want, c.seed)
		}
	}
}

func TestServiceAccountsAreTokensOfClientCredentials(t *testing.T) {
	for _, c := range []struct {
		seed string
		kind rules.TokenKind
		want bool
	}{
		{exception, rules.UserToken, false},
		{traditional, rules.TraditionalToken, true},
		{developerManaged, rules.DeveloperManagedToken, true},
		{exception, 0, false},
	} {
		if got := c.kind.ServiceAccount(); got != c.want {
			t.Errorf("TokenKind(%d).ServiceAccount() is %v; want %v\nseed: %s", c.kind, got, c.want, c.seed)
		}
	}
}
