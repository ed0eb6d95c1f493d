package gateway

import (
	"net/http"

	"mpr/ledger"
	"mpr/problem"
	"mpr/rules"
)

// Ledger counts calls that lack what the seed requires. Counting never waits.
type Ledger interface {
	Count(ledger.Call)
	// Served counts a call of any kind.
	Served()
}

// refusalHeader names the code of a refusal that the ledger counts and only a region can
// tell: company_mismatch. Clients don't see it.
const refusalHeader = "Mpr-Refusal"

// kinds of refusals that the ledger counts.
var kinds = map[problem.Code]ledger.Kind{
	problem.MissingCompanyHeader: ledger.MissingHeader,
	problem.CompanyMismatch:      ledger.CompanyMismatch,
	problem.LegacyForbidden:      ledger.RefusedForRegion,
	problem.LegacyBrownout:       ledger.RefusedInBrownout,
	problem.WrongEnvironment:     ledger.WrongEnvironment,
}

// account tells the ledger of a call that was answered.
func (c *call) account() {
	if c.service.ledger != nil && c.refusal != problem.RateLimited {
		c.service.ledger.Served()
	}
	legacy := c.door == rules.DoorLegacy
	// What was too much says nothing of how an app calls, and comes again.
	if c.service.ledger == nil || !legacy && c.refusal == "" || c.refusal == problem.RateLimited {
		return
	}
	entry := ledger.Call{Company: c.company, Method: c.r.Method, Path: c.target.path, Status: c.status}
	switch {
	case c.claims != nil:
		entry.App, entry.ClientID = c.claims.App, c.claims.ClientID
	case c.client != "" && c.status != http.StatusUnauthorized: // or anybody could be named
		entry.ClientID = c.client
	default:
		entry.Host, entry.UserAgent = c.r.Host, c.r.Header.Get("User-Agent")
	}
	count := func(kind ledger.Kind, refused bool) {
		entry.Kind, entry.Refused = kind, refused
		c.service.ledger.Count(entry)
		entry.Also = true // for the next kind
	}
	if legacy {
		kind := ledger.LegacyAPIHost
		if isAuthentication(c.target.path) {
			kind = ledger.LegacyLoginHost
		}
		count(kind, c.refusal == problem.LegacySunset)
	}
	if kind, ok := kinds[c.refusal]; ok {
		count(kind, true)
	}
	// What is refused for something else lacks the header all the same: whoever follows the
	// report must not find that out next.
	if c.filled || c.bare && c.refusal != "" && c.refusal != problem.MissingCompanyHeader {
		count(ledger.MissingHeader, c.refusal != "")
	}
}
