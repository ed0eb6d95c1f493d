package rules

import (
	"strings"
	"time"

	"mpr/company"
	"mpr/problem"
)

// missingHeader is the seed's error message to the letter, with the configured names in
// the seed's places.
func (p *Policy) missingHeader() *problem.Problem {
	return &problem.Problem{Code: problem.MissingCompanyHeader, Message: strings.Join([]string{
		"Missing " + p.CompanyHeader + " header!",
		"Each call your application makes to the " + p.Product + " API must contain a request header that includes the " + p.CompanyHeader + " field.",
		"This request header field specifies the id of the company into which you are making the call.",
	}, "\n")}
}

// NoAccess is the one answer for a company that doesn't exist and for one that the
// caller has no part in, so that nobody can find out which companies exist. Whom the
// token speaks for decides the words.
func (p *Policy) NoAccess(kind TokenKind) *problem.Problem {
	if kind.ServiceAccount() {
		return problem.New(problem.AppNotConnected,
			"App is not connected to this company. Ask an administrator of the company to install it, or check the %s header.", p.CompanyHeader)
	}
	return problem.New(problem.CompanyForbidden,
		"You have no access to this company. Check the %s header, or ask an administrator of the company to add you.", p.CompanyHeader)
}

// RequiredChanges are the seed's three changes ("Required Changes"), in its order.
func (p *Policy) RequiredChanges() []string {
	return []string{
		"Send authentication requests to https://" + p.LoginHost + ".",
		"Send API calls to https://" + p.APIHost + ".",
		"Send the " + p.CompanyHeader + " header, with the id of the company, on each call.",
	}
}

// ChangesPath is where the login door shows the required changes to people.
const ChangesPath = "/required-changes"

// ChangesURL is the page with the required changes.
func (p *Policy) ChangesURL() string { return "https://" + p.LoginHost + ChangesPath }

// Example is the seed's call of the List Projects endpoint.
func (p *Policy) Example() string {
	return `curl -H "Authorization: Bearer <access token>" -H "` + p.CompanyHeader + `: xxxxxxxxx" \
     -X GET https://` + p.APIHost + `/rest/v1.0/projects?company_id=xxxxxxxxx`
}

func (p *Policy) legacyGone() *problem.Problem {
	return problem.New(problem.LegacySunset, "This host stopped serving API calls after %s. %s",
		p.LegacySunset.Format("January 2, 2006"), p.changes())
}

func (p *Policy) legacyRehearsed(r Rehearsal) *problem.Problem {
	return problem.New(problem.LegacySunset,
		"This is a rehearsal for your app, until %s: from the end of %s on, this host won't serve API calls. %s",
		minute(r.To), p.LegacySunset.Format("January 2, 2006"), p.changes())
}

func (p *Policy) legacyBrownout(b Brownout, now time.Time) *problem.Problem {
	return problem.New(problem.LegacyBrownout,
		"This host is in a planned brownout until %s, to show what stops working at the end of %s. %s",
		minute(b.To), p.LegacySunset.Format("January 2, 2006"), p.changes()).After(b.To.Sub(now))
}

func minute(t time.Time) string { return t.UTC().Format("January 2, 2006 15:04 UTC") }

func (p *Policy) legacyForbidden(placement company.Placement) *problem.Problem {
	why := "became a customer after " + p.Product + " introduced regions"
	if placement.Region != p.DefaultRegion {
		why = "lives in another region than " + string(p.DefaultRegion)
	}
	return problem.New(problem.LegacyForbidden, "This host can't reach the company: it %s. %s", why, p.changes())
}

func (p *Policy) changes() string {
	var b strings.Builder
	b.WriteString("Make the required changes: ")
	for i, change := range p.RequiredChanges() {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(byte('1' + i))
		b.WriteString(") ")
		b.WriteString(change)
	}
	return b.String()
}
