package rules_test

import (
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

// The seed's table "Developer Persona / Scenario | MPR Impact", row by row.
const (
	rowExisting   = "Existing Procore Customer w/ custom integration | Assuming the customer is in the US01 Region (the default region), they will not experience any adverse effects until June 30, 2019 unless they are requested to migrate to a different region prior to that time."
	rowNew        = "New Procore Customer w/ custom integration | New customers would not be able to access their company data without implementing the Procore-Company-Id request header field, and adopting the new API gateway domain (api.procore.com) and the new Authentication gateway (login.procore.com)."
	rowIntegrator = "System Integrator | Integrations built by system integrators will continue to work for existing Procore users in the US01 Region until June 30, 2019. However, they will not be able to build integrations for new users without implementing the Procore-Company-Id request header field, and adopting the new API gateway domain (api.procore.com) and the new Authentication gateway (login.procore.com)."
	rowPartner    = "Procore Technology Partner | Marketplace Apps built by Procore Technology Partners will continue to work for their existing Procore users in the US01 Region until June 30, 2019. However, their integrations will not support any new Procore users who are placed in a region other than US01 until the Procore-Company-Id request header field is implemented and the new API gateway (api.procore.com) and the new Authentication gateway (login.procore.com) is adopted."
)

// The dates at which the scenarios are looked at: before and after each of the seed's.
var (
	beforeLive   = time.Date(2018, time.October, 30, 23, 59, 59, 0, time.UTC)
	sinceLive    = time.Date(2018, time.October, 31, 0, 0, 0, 0, time.UTC)
	onLastDay    = time.Date(2019, time.June, 30, 23, 59, 59, 0, time.UTC)
	afterLastDay = time.Date(2019, time.July, 1, 0, 0, 0, 0, time.UTC)
)

// A persona's integration either makes no required change (it calls the legacy door
// without the header) or all three (the api door, with the header). It works or breaks
// by date and by where and since when the company is a customer.
func TestScenarios(t *testing.T) {
	const works = problem.Code("")
	for _, c := range []struct {
		persona string
		row     string
		token   rules.TokenKind
		company company.ID
		// without the changes, at the four dates; with them, it works at all dates.
		without [4]problem.Code
	}{
		{"existing customer", rowExisting, rules.TraditionalToken, existing, [4]problem.Code{works, works, works, problem.LegacySunset}},
		{"existing customer that was moved", rowExisting, rules.TraditionalToken, moved, [4]problem.Code{problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacySunset}},
		{"new customer in US01", rowNew, rules.TraditionalToken, firstNew, [4]problem.Code{problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacySunset}},
		{"new customer in EU01", rowNew, rules.TraditionalToken, newInEU, [4]problem.Code{problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacySunset}},
		{"system integrator, existing user", rowIntegrator, rules.UserToken, existing, [4]problem.Code{works, works, works, problem.LegacySunset}},
		{"system integrator, new user in US01", rowIntegrator, rules.UserToken, firstNew, [4]problem.Code{problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacySunset}},
		{"system integrator, new user in EU01", rowIntegrator, rules.UserToken, newInEU, [4]problem.Code{problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacySunset}},
		{"technology partner, existing user", rowPartner, rules.DeveloperManagedToken, existing, [4]problem.Code{works, works, works, problem.LegacySunset}},
		{"technology partner, new user in US01", rowPartner, rules.DeveloperManagedToken, firstNew, [4]problem.Code{problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacySunset}},
		{"technology partner, new user in EU01", rowPartner, rules.DeveloperManagedToken, newInEU, [4]problem.Code{problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacyForbidden, problem.LegacySunset}},
	} {
		tied := company.ID(0)
		if c.token == rules.TraditionalToken {
			tied = c.company
		}
		for i, now := range []time.Time{beforeLive, sinceLive, onLastDay, afterLastDay} {
			at := c.persona + " at " + now.Format(time.DateOnly)
			want := filledIn(c.company)
			if c.without[i] != works {
				want = refused(c.without[i], c.company)
			}
			decide(t, rules.Seed(), rules.DoorLegacy, []decisionCase{{
				name: at + " without the changes", seed: c.row,
				call: rules.Call{Hinted: c.company, Token: c.token, TokenCompany: tied, Now: now}, want: want,
			}})
			decide(t, rules.Seed(), rules.DoorAPI, []decisionCase{
				{
					name: at + " with the changes", seed: c.row,
					call: rules.Call{Header: header(c.company), Token: c.token, TokenCompany: tied, Now: now}, want: forwarded(c.company),
				},
				{
					name: at + " at the new host, but without the header", seed: companyIDIsNoHelp,
					call: rules.Call{Hinted: c.company, Token: c.token, TokenCompany: tied, Now: now}, want: refused(problem.MissingCompanyHeader, 0),
				},
			})
		}
	}
}

// "[...] any new Procore users who are placed in a region other than US01 [...]": the
// fourth row alone would leave new customers in the default region alone. An operator
// may follow it.
func TestFourthRowByAnOperatorsLeave(t *testing.T) {
	policy := rules.Seed()
	policy.AllowNewInDefault = true
	for now, want := range map[time.Time]decided{
		sinceLive: filledIn(firstNew), onLastDay: filledIn(firstNew), afterLastDay: refused(problem.LegacySunset, firstNew),
	} {
		decide(t, policy, rules.DoorLegacy, []decisionCase{{
			name: now.Format(time.DateOnly), seed: rowPartner,
			call: rules.Call{Hinted: firstNew, Token: rules.DeveloperManagedToken, Now: now}, want: want,
		}})
	}
}
