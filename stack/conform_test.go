package stack

import (
	"testing"

	"mpr/conform"
)

// conforms runs the suite against a region, and answers what came of each check that didn't
// pass.
func (s *site) conforms(internal, door string) (*conform.Summary, map[string]conform.Result) {
	s.t.Helper()
	wrong := map[string]conform.Result{}
	summary, err := conform.Run(s.t.Context(), conform.Options{
		URL: internal, Secret: siteSecret, Company: s.company, Region: "ZZ99", API: door, Token: s.token, CompanyHeader: "Procore-Company-Id",
	}, func(r conform.Result) {
		if r.Outcome != conform.Pass {
			wrong[r.Name] = r
		}
	})
	s.check(err)
	return summary, wrong
}

// "Our region is its first implementation, and a conformance test suite for the contract can
// be pointed at any URL."
func TestOurRegionConforms(t *testing.T) {
	s := newSite(t)
	summary, wrong := s.conforms(s.internal["US02"], s.doors["US02"])
	for name, r := range wrong {
		t.Errorf("%s: %s: expected %s, and got %s %s", name, r.Outcome, r.Want, r.Got, r.Why)
	}
	if !summary.Conforms() || summary.Passed != len(conform.Checks()) {
		t.Errorf("%+v", summary)
	}
}
