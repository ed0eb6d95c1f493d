package ledger

import (
	"time"

	"mpr/company"
	"mpr/rules"
)

// Kind says in which way a call is non-compliant. Kinds are part of the admin API.
type Kind string

// The kinds of non-compliant calls.
const (
	// LegacyLoginHost: authentication through the legacy door.
	LegacyLoginHost Kind = "legacy_login_host"
	// LegacyAPIHost: an API call through the legacy door.
	LegacyAPIHost Kind = "legacy_api_host"
	// MissingHeader: no company header, refused at the api door, or filled in at the
	// legacy door.
	MissingHeader Kind = "missing_header"
	// CompanyMismatch: the header and a company_id that differ.
	CompanyMismatch Kind = "company_mismatch"
	// RefusedForRegion: a company that the legacy door doesn't reach.
	RefusedForRegion Kind = "refused_for_region"
	// RefusedInBrownout: refused in a planned brownout.
	RefusedInBrownout Kind = "refused_in_brownout"
	// WrongEnvironment: credentials or a token of another environment.
	WrongEnvironment Kind = "wrong_environment"
)

// Change says what the developer of an app must change so that calls of a kind become
// compliant.
func (k Kind) Change(p *rules.Policy) string {
	changes := p.RequiredChanges()
	switch k {
	case LegacyLoginHost:
		return changes[0]
	case LegacyAPIHost, RefusedInBrownout:
		return changes[1]
	case MissingHeader:
		return changes[2]
	case CompanyMismatch:
		return "Send the same company in " + p.CompanyHeader + " and in company_id."
	case RefusedForRegion:
		return "Make all required changes before you work for companies in other regions, and for new ones."
	case WrongEnvironment:
		return "Use each environment's own hosts, client credentials and tokens."
	}
	return ""
}

// Call is a non-compliant call.
type Call struct {
	Kind Kind
	// App and ClientID are the app's, from its token or, for requests for authentication,
	// as the request names it. Without either, the call is counted by Host and UserAgent.
	App      int64
	ClientID string
	Company  company.ID // 0 where unknown
	Method   string
	// Path is the path as the client sent it, without the query.
	Path string
	// Status is the answer's; Refused says that it is a refusal for this kind.
	Status  int
	Refused bool
	// Also says that the very call is counted under another kind, too.
	Also bool

	Host, UserAgent string
}

// row is what calls are counted by.
type row struct {
	Day      day        `json:"day"`
	Kind     Kind       `json:"kind"`
	App      int64      `json:"app,omitempty"`
	ClientID string     `json:"client_id,omitempty"`
	Company  company.ID `json:"company,omitempty"`
	Method   string     `json:"method,omitempty"`
	Route    string     `json:"route,omitempty"`
	Status   int        `json:"status,omitempty"`
	Refused  bool       `json:"refused,omitempty"`
	Also     bool       `json:"also,omitempty"`
	Host     string     `json:"host,omitempty"`
	Agent    string     `json:"agent,omitempty"`
}

// day counts the days in UTC since 1970.
type day int64

func dayOf(t time.Time) day { return day(t.Unix() / (24 * 60 * 60)) }

func (d day) time() time.Time { return time.Unix(int64(d)*24*60*60, 0).UTC() }

func (d day) String() string { return d.time().Format(time.DateOnly) }

// counted is a row and how many calls it stands for.
type counted struct {
	row
	Count int64 `json:"count"`
}

// batch is what a counter ships: number Seq of the counter Boot.
type batch struct {
	Boot string    `json:"boot"`
	Seq  int64     `json:"seq"`
	Rows []counted `json:"rows"`
	// Calls are all calls since the batch before, compliant or not, and Day is theirs.
	Calls int64 `json:"calls,omitempty"`
	Day   day   `json:"day,omitempty"`
}
