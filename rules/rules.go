package rules

import (
	"time"

	"mpr/company"
	"mpr/problem"
)

// Door is how a call came in.
type Door uint8

// The doors of an environment.
const (
	DoorLogin  Door = iota + 1 // login.procore.com
	DoorAPI                    // api.procore.com
	DoorLegacy                 // app.procore.com
)

func (d Door) String() string {
	switch d {
	case DoorLogin:
		return "login"
	case DoorAPI:
		return "api"
	case DoorLegacy:
		return "legacy"
	}
	return "unknown"
}

// TokenKind tells whom an access token speaks for.
type TokenKind uint8

// The kinds of access tokens.
const (
	// UserToken speaks for a person: made by the authorization_code grant.
	UserToken TokenKind = iota + 1
	// TraditionalToken speaks for a service account of one company.
	TraditionalToken
	// DeveloperManagedToken speaks for a service account that lives in every company
	// where its app is installed.
	DeveloperManagedToken
)

// ServiceAccount says whether the token was made by the client_credentials grant.
func (k TokenKind) ServiceAccount() bool {
	return k == TraditionalToken || k == DeveloperManagedToken
}

// Call is what the rules need to know about an API call whose access token has been
// verified.
type Call struct {
	Door   Door
	Method string
	// Path is the path as the client sent it, before any decoding or cleaning, without
	// the query.
	Path string
	// Header holds every value of the company header, in order.
	Header []string
	// Hinted is the company that the call names elsewhere (company_id in path, query or
	// body, or by the project in the path); 0 where it names none. Only the legacy door
	// looks at it.
	Hinted company.ID
	// ClientID is the app of the access token.
	ClientID string
	// Lot is drawn for the call: from 0 up to but not 1. It decides where a share of the
	// calls is refused.
	Lot float64
	// Token is the kind of the access token; TokenCompany the company that it is tied
	// to (traditional service accounts), 0 otherwise.
	Token        TokenKind
	TokenCompany company.ID
	// Now is the time at which the rules are applied.
	Now time.Time
}

// Placements answers where a company lives.
type Placements interface {
	Placement(company.ID) (company.Placement, bool)
}

// Action is what is to be done with a call.
type Action uint8

// What a decision may be.
const (
	// Refuse answers the call with Decision.Problem.
	Refuse Action = iota
	// Forward sends the call to the region of Decision.Placement.
	Forward
	// Identity answers the call from identity and directory.
	Identity
)

// Decision is the outcome for one call.
type Decision struct {
	Action Action
	// Company is the company of the call; 0 where it has none.
	Company company.ID
	// Placement is where the company lives, for Forward.
	Placement company.Placement
	// Problem says why the call is refused.
	Problem *problem.Problem
	// Filled says that the company came from somewhere else than the header: a
	// non-compliant call that works through the legacy door only.
	Filled bool
}

// Decide applies the rules to a call.
func (p *Policy) Decide(c Call, placements Placements) Decision {
	switch c.Door {
	case DoorAPI:
		return p.decideAPI(c, placements)
	case DoorLegacy:
		return p.decideLegacy(c, placements)
	}
	return refuse(0, problem.New(problem.NotFound, "This host serves sign-in and tokens only. Send API calls to https://%s.", p.APIHost))
}

// decideAPI holds the rules of the api door.
func (p *Policy) decideAPI(c Call, placements Placements) Decision {
	exempt := p.exempt(c.Method, c.Path)
	id, refusal := p.ReadHeader(c.Header)
	if refusal != nil {
		return refuse(0, refusal)
	}
	if id == 0 {
		// "Each call your application makes to the Procore API must contain a request
		// header that includes the Procore-Company-Id field." It is required even where
		// the company stands in the path or query: "MPR still requires you to include
		// the Procore-Company-Id field in the request header."
		if !exempt || c.Token.ServiceAccount() && p.ServiceAccountsNeedHeader {
			return refuse(0, p.missingHeader())
		}
		return Decision{Action: Identity}
	}
	placement, refusal := p.locate(c, id, placements)
	if refusal != nil {
		return refuse(id, refusal)
	}
	if exempt {
		return Decision{Action: Identity, Company: id, Placement: placement}
	}
	return Decision{Action: Forward, Company: id, Placement: placement}
}

// decideLegacy holds the rules of the legacy door.
func (p *Policy) decideLegacy(c Call, placements Placements) Decision {
	id, refusal := p.ReadHeader(c.Header)
	if closed := p.closed(c.ClientID, c.Lot, false, c.Now); closed != nil {
		if id == 0 && refusal == nil {
			id = c.Hinted
		}
		return refuse(id, closed)
	}
	if refusal != nil {
		return refuse(0, refusal)
	}
	exempt := p.exempt(c.Method, c.Path)
	filled := false
	if id == 0 {
		if exempt {
			return Decision{Action: Identity}
		}
		if c.Hinted == 0 {
			return refuse(0, p.missingHeader())
		}
		id, filled = c.Hinted, true
	}
	placement, refusal := p.locate(c, id, placements)
	if refusal != nil {
		return refuse(id, refusal)
	}
	if !p.legacyReaches(placement) {
		return refuse(id, p.legacyForbidden(placement))
	}
	if exempt {
		return Decision{Action: Identity, Company: id, Placement: placement}
	}
	return Decision{Action: Forward, Company: id, Placement: placement, Filled: filled}
}

// legacyReaches says whether a company can be reached through the legacy door while that
// works.
func (p *Policy) legacyReaches(placement company.Placement) bool {
	// "However, you will not be able to access data from new Procore customers.": it reaches
	// companies of the default region that were customers before the regions, and no others.
	return placement.Region == p.DefaultRegion && (p.AllowNewInDefault || placement.Onboarded.Before(p.RegionsLive))
}

// locate finds the placement of a company that the token may speak for at all.
func (p *Policy) locate(c Call, id company.ID, placements Placements) (company.Placement, *problem.Problem) {
	if c.TokenCompany != 0 && c.TokenCompany != id {
		return company.Placement{}, p.NoAccess(c.Token)
	}
	placement, ok := placements.Placement(id)
	if !ok {
		return company.Placement{}, p.NoAccess(c.Token)
	}
	return placement, nil
}

// ReadHeader reads the values of the company header strictly: none at all is 0; one
// value of 1 to 64 decimal digits, leading zeros included, from 1 to 2^63-1, is that
// company; everything else is refused with the reason.
func (p *Policy) ReadHeader(values []string) (company.ID, *problem.Problem) {
	switch len(values) {
	case 0:
		return 0, nil
	case 1:
		id, err := company.ParseID(values[0])
		if err == nil {
			return id, nil
		}
		if values[0] == "" {
			return 0, problem.New(problem.InvalidCompanyHeader,
				"The %s header is empty. Set it to the id of the company into which you are making the call.", p.CompanyHeader)
		}
		return 0, problem.New(problem.InvalidCompanyHeader,
			"The %s header must be one decimal number from 1 to 9223372036854775807, with no sign, spaces or other characters. Set it to the id of the company into which you are making the call.", p.CompanyHeader)
	}
	return 0, problem.New(problem.InvalidCompanyHeader,
		"The %s header was sent %d times. Send it once, with the id of the company into which you are making the call.", p.CompanyHeader, len(values))
}

func refuse(id company.ID, why *problem.Problem) Decision {
	return Decision{Action: Refuse, Company: id, Problem: why}
}
