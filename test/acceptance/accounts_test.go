package acceptance

import (
	"testing"
	"time"
)

// The tokens of whoever is disabled are refused by gateways, soon, and not only by whom they ask;
// those of others go on.
func TestTokensOfDisabledAccounts(t *testing.T) {
	s := newTopology(t)
	s.start(t, "control", "login", "gateway", "US01", "US02", "EU01")
	s.populate(t)
	foreign := s.in(t, foreignRegion).ID // where nobody but the gateway verifies tokens
	theirs, machine := s.userTokens(t), s.machineToken(t, s.app(t, "developer_managed"))
	eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), theirs.Access, foreign)
		return a.Status == 200, a.String()
	})
	u, web := s.everywhereUser(t), s.app(t, "web")

	var change struct {
		Disabled bool
		Ended    struct{ Sessions, Grants int }
	}
	s.run(t, &change, "user", "disable", u.Login)
	if !change.Disabled || change.Ended.Grants == 0 || change.Ended.Sessions == 0 {
		t.Errorf("%+v", change)
	}
	took := eventually(t, 5*time.Second, func() (bool, string) {
		a := s.projects(t.Context(), theirs.Access, foreign)
		return a.Status == 401, a.String()
	})
	t.Logf("the gateway refuses the token after %v", took)
	s.exchange(t, refreshForm(web, theirs.Refresh)).wantCode(t, 400, "invalid_grant")
	s.projects(t.Context(), machine, s.in(t, "US01").ID).want(t, 200)

	s.run(t, &object{}, "user", "enable", u.Login)
	s.projects(t.Context(), theirs.Access, foreign).want(t, 401)
	again := s.userTokens(t) // who signs in again is let in
	eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), again.Access, foreign)
		return a.Status == 200, a.String()
	})
}
