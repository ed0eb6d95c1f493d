package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mpr/company"
)

// Policy is what an operator may set about the rules. The zero value is not usable; see
// [Seed].
type Policy struct {
	// Product is the name that messages to developers use.
	Product string
	// CompanyHeader is the request header that names the company, in canonical form.
	CompanyHeader string
	// LoginHost and APIHost are the hosts that messages tell developers to use.
	LoginHost, APIHost string
	// DefaultRegion is where all companies lived before there were regions.
	DefaultRegion company.Region
	// Exempt lists the calls that need no company header and are answered from the
	// identity and the directory.
	Exempt []Route
	// ServiceAccountsNeedHeader makes the header required on every call with a
	// client_credentials token, the exempt ones included.
	ServiceAccountsNeedHeader bool
	// Campaign holds the dates, and what the operator does to bring everybody along.
	Campaign
}

// Route is a method and a literal path.
type Route struct{ Method, Path string }

// ParseRoute reads a route written as "GET /rest/v1.0/me".
func ParseRoute(s string) (Route, error) {
	method, path, ok := strings.Cut(s, " ")
	if !ok || !isMethod(method) || !isLiteral(path) {
		return Route{}, fmt.Errorf("%q is not a route: expected a method and a path, such as %q", s, "GET /rest/v1.0/me")
	}
	return Route{method, path}, nil
}

func isMethod(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == "" && strings.Trim(s, "-") != ""
}

// isLiteral says whether a call can have the path at all. The gateway refuses calls whose
// path two servers could read differently, so such a route would never match: better to
// say so while the operator looks than to demand a header where it was exempted.
func isLiteral(path string) bool {
	for i := range len(path) {
		if path[i] <= ' ' || path[i] == 0x7f {
			return false
		}
	}
	ended := path + "/"
	return strings.HasPrefix(path, "/") && !strings.ContainsAny(path, `?#%\`) &&
		!strings.Contains(path, "//") && !strings.Contains(ended, "/./") && !strings.Contains(ended, "/../")
}

func (r Route) String() string { return r.Method + " " + r.Path }

// Seed is the policy of the seed.
func Seed() Policy {
	return Policy{
		Product:       "Procore",
		CompanyHeader: "Procore-Company-Id",
		LoginHost:     "login.procore.com",
		APIHost:       "api.procore.com",
		// "Assuming the customer is in the US01 Region (the default region)"
		DefaultRegion: "US01",
		// "The following Procore API endpoints do not require a request header
		// containing the Procore-Company-Id field:
		//  - Show User Info - (GET /rest/v1.0/me)
		//  - List Companies - (GET /rest/v1.0/companies)"
		Exempt: []Route{{"GET", "/rest/v1.0/me"}, {"GET", "/rest/v1.0/companies"}},
		// "The exception to this rule is when you are using Service Accounts with the
		// OAuth 2.0 Client Credentials grant type."
		ServiceAccountsNeedHeader: true,
		Campaign: Campaign{
			// "To onboard new Procore customers, you will need to make these changes by
			// October 31, 2018."
			RegionsLive: time.Date(2018, time.October, 31, 0, 0, 0, 0, time.UTC),
			// "To continue serving existing Procore customers, you will need to make the
			// above described changes by June 30, 2019"
			LegacySunset: time.Date(2019, time.June, 30, 0, 0, 0, 0, time.UTC),
		},
	}
}

// exempt says whether the route is on the exempt list: by method and by the literal
// path, so that no spelling of another path ("//", "/../", "%2e") matches.
func (p *Policy) exempt(method, path string) bool {
	return slices.Contains(p.Exempt, Route{method, path})
}
