package stack

import (
	"fmt"
	"strings"
	"testing"

	"mpr/company"
	"mpr/test/engine"
	"mpr/test/postgres"
)

// The server of a region's database dies under writes, and starts again: nothing that was
// answered is lost, and calls find it again by themselves.
func TestAPostgresPrimaryIsRestarted(t *testing.T) {
	engine.Only(t)
	server := postgres.Start(t)
	s := newSiteOf(t, siteOptions{stores: map[company.Region]string{"US02": server.DSN()}})
	x := s.write()
	for _, end := range []func(){server.Kill, server.Stop, server.Kill} {
		x.atLeast(x.count() + 5)
		end()
		server.Run()
		x.atLeast(x.count() + 5)
	}
	x.end()
	for _, bad := range x.bad {
		if !strings.HasPrefix(bad, "503") {
			t.Errorf("a write was answered %s", bad)
		}
	}
	s.readAll(x)
}

// readAll wants each project that was made to be there.
func (s *site) readAll(x *siteTraffic) {
	s.t.Helper()
	for id := range x.made {
		status, body, err := send("GET", fmt.Sprintf("%s/rest/v1.0/projects/%d", s.api, id), s.token, s.company, "")
		if err != nil || status != 200 {
			s.t.Errorf("project %d, whose making was acknowledged: %d %s %v", id, status, body, err)
		}
	}
	if len(x.made) == 0 {
		s.t.Error("nothing was made")
	}
}
