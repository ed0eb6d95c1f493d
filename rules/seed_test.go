package rules_test

import (
	"reflect"
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

// The sentences that the tests show, verbatim, line breaks included. A case names the
// one that it shows in its field seed, and its failure prints it.
const (
	useLoginHost = "all authentication-related requests (i.e., requesting an authorization code, retrieving an access token, and refreshing an access token) must uselogin.procore.com\n" +
		"as their base domain."
	useAPIHost         = "you will need to ensure that all the Procore API calls you make from your application to the production Procore environment use this new base domain."
	headerOnEachCall   = "Each call your application makes to the Procore API must contain a request header that includes the Procore-Company-Id field."
	headerNamesCompany = "This request header field specifies the id of the company into which you are making the call."
	companyIDIsNoHelp  = "It is important to note that even though an endpoint might require the company_id\n" +
		"as a path or query parameter, MPR still requires you to include the Procore-Company-Id\n" +
		"field in the request header."
	theMessage   = "If you do not supply the required request header, the following error message is displayed."
	exemptRoutes = "Note: The following Procore API endpoints do not require a request header containing the Procore-Company-Id\n" +
		"field:"
	showUserInfo   = "- Show User Info - (GET /rest/v1.0/me)"
	listCompanies  = "- List Companies - (GET /rest/v1.0/companies)"
	exception      = "The exception to this rule is when you are using Service Accounts with the OAuth 2.0 Client Credentials grant type."
	serveExisting  = "To continue serving existing Procore customers, you will need to make the above described changes by June 30, 2019, beyond which your apps and integrations may not work."
	onboardNew     = "To onboard new Procore customers, you will need to make these changes by October 31, 2018."
	untilSunset    = "non-compliant applications will continue to function as expected for existing Procore Customers until June 30, 2019."
	noNewCustomers = "However, you will not be able to access data from new Procore customers."
	newCustomers   = "New customers would not be able to access their company data without implementing the Procore-Company-Id request header field, and adopting the new API gateway domain (api.procore.com) and the new Authentication gateway (login.procore.com)."
	migrated       = "Assuming the customer is in the US01 Region (the default region), they will not experience any adverse effects until June 30, 2019 unless they are requested to migrate to a different region prior to that time."
	otherRegions   = "their integrations will not support any new Procore users who are placed in a region other than US01 until the Procore-Company-Id request header field is implemented and the new API gateway (api.procore.com) and the new Authentication gateway (login.procore.com) is adopted."
	threeChanges   = "In order for your application to be compliant with the new MPR architecture, you will need to implement a number of changes as described below."
	sandboxHeader  = "When making API calls to a sandbox environment, you must include the\n" +
		"Procore-Company-Id\n" +
		"request header as described above."
)

// Sentences of the public facts about the same system, verbatim.
const (
	oneOfTheRegions = "API Gateway (api.procore.com)  --6-->  one of the regions EU01, US02, US01"
	everyCall       = "With a client_credentials token the `Procore-Company-Id` header is required on **every** call, `/rest/v1.0/me` and\n" +
		"  `/rest/v1.0/companies` included."
	traditional      = "Traditional: made by one company's administrator, its own client_id/client_secret, tied to that company."
	developerManaged = "Developer managed (DMSA): one client_id/client_secret per app, valid in every company where the app is installed,"
	notConnected     = "403 \"App is not connected to this company\""
	mayNotSee        = "404, not 403, for a resource that the caller may not see."
	largeIDs         = "Ids in new regions exceed 32 bits: clients are told to store them in 64-bit integers."
	realID           = "A real company id in a new region:\n598134325779301, which is (17 << 45) + 269157"
	otherEnvironment = "an operator must be able to add such an environment by configuration alone."
	knowingApp       = "knowing which app still makes which non-compliant call, for which companies, is what lets an operator keep a deadline."
)

// directory answers placements from memory.
type directory map[company.ID]company.Placement

func (d directory) Placement(id company.ID) (company.Placement, bool) {
	placement, ok := d[id]
	return placement, ok
}

// Companies of the tests' directory, and one that isn't in it.
const (
	existing   company.ID = 4711            // a customer since long before the regions
	lastBefore company.ID = 4712            // a customer since the day before the regions
	firstNew   company.ID = 4713            // a customer since the first day of the regions, in US01
	moved      company.ID = 4714            // a customer since long before the regions, moved to US02
	newInEU    company.ID = 598134325779301 // a new customer in EU01
	largest    company.ID = 1<<63 - 1
	unknown    company.ID = 4799
)

var placements = directory{
	existing:   {Company: existing, Region: "US01", Epoch: 1, Onboarded: date(2012, time.May, 2)},
	lastBefore: {Company: lastBefore, Region: "US01", Epoch: 1, Onboarded: date(2018, time.October, 30)},
	firstNew:   {Company: firstNew, Region: "US01", Epoch: 1, Onboarded: date(2018, time.October, 31)},
	moved:      {Company: moved, Region: "US02", Epoch: 2, Onboarded: date(2012, time.May, 2)},
	newInEU:    {Company: newInEU, Region: "EU01", Epoch: 3, Onboarded: date(2019, time.February, 1)},
	largest:    {Company: largest, Region: "EU01", Epoch: 1, Onboarded: date(2019, time.February, 1)},
}

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// during is a time at which the legacy door still works.
var during = time.Date(2019, time.March, 1, 12, 0, 0, 0, time.UTC)

// kinds are all kinds of tokens.
var kinds = map[string]rules.TokenKind{
	"a user's token":                              rules.UserToken,
	"a traditional service account's token":       rules.TraditionalToken,
	"a developer-managed service account's token": rules.DeveloperManagedToken,
}

// header is the company header, sent once.
func header(id company.ID) []string { return []string{id.String()} }

// decided is a decision without its message. The placement must be the directory's where
// the call is forwarded.
type decided struct {
	action  rules.Action
	company company.ID
	code    problem.Code
	filled  bool
}

func refused(code problem.Code, id company.ID) decided {
	return decided{action: rules.Refuse, code: code, company: id}
}

func forwarded(id company.ID) decided { return decided{action: rules.Forward, company: id} }

// filledIn is a forwarded call whose company came from somewhere else than the header.
func filledIn(id company.ID) decided {
	return decided{action: rules.Forward, company: id, filled: true}
}

// answered is a call that the identity answers; id is 0 where it named no company.
func answered(id company.ID) decided { return decided{action: rules.Identity, company: id} }

// decisionCase is a call and what is decided on it.
type decisionCase struct {
	name string
	seed string
	call rules.Call
	want decided
}

// decide runs cases at one door. Cases that don't say otherwise are GET requests by a
// user, at a time when the legacy door still works.
func decide(t *testing.T, policy rules.Policy, door rules.Door, cases []decisionCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.seed == "" {
				t.Fatal("the case quotes no sentence")
			}
			call := c.call
			call.Door = door
			if call.Method == "" {
				call.Method = "GET"
			}
			if call.Path == "" {
				call.Path = "/rest/v1.0/projects"
			}
			if call.Token == 0 {
				call.Token = rules.UserToken
			}
			if call.Now.IsZero() {
				call.Now = during
			}
			decision := policy.Decide(call, placements)
			got := decided{action: decision.Action, company: decision.Company, filled: decision.Filled}
			if decision.Problem != nil {
				got.code = decision.Problem.Code
			}
			if got != c.want {
				t.Errorf("%+v\n got %+v\nwant %+v\nseed: %s", call, got, c.want, c.seed)
			}
			var at company.Placement
			if decision.Action != rules.Refuse {
				at = placements[decision.Company]
			}
			if !reflect.DeepEqual(decision.Placement, at) {
				t.Errorf("%+v\n got placement %+v\nwant placement %+v\nseed: %s", call, decision.Placement, at, c.seed)
			}
		})
	}
}
