package region_test

import (
	"testing"

	"mpr/conform"
)

// "Our region is its first implementation, and a conformance test suite for the contract can
// be pointed at any URL."
func TestOurRegionConforms(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("throwaway")
	a := w.as(w.user(alice), id)
	for _, name := range []string{"one", "two", "three"} {
		a.newProject(name)
	}
	summary, err := conform.Run(t.Context(), conform.Options{
		URL: w.internal, Secret: secret, Company: id, Region: "ZZ99", API: w.door, Token: a.token, CompanyHeader: "Procore-Company-Id",
	}, func(r conform.Result) {
		if r.Outcome != conform.Pass {
			t.Errorf("%s: %s: expected %s, and got %s %s", r.Name, r.Outcome, r.Want, r.Got, r.Why)
		}
	})
	check(t, err)
	if !summary.Conforms() || summary.Passed != len(conform.Checks()) {
		t.Errorf("%+v", summary)
	}
}
