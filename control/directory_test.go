package control_test

import (
	"errors"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"mpr/company"
	"mpr/control"
	"mpr/directory"
	"mpr/move"
	"mpr/operator"
	"mpr/problem"
	"mpr/store"
	"mpr/test/engine"
)

const adminToken = "an-admin-token-for-tests"

// system is a control role over a real directory, with the regions that a test adds.
type system struct {
	directory *directory.Directory
	replica   *directory.Replica
	client    *control.Client
}

func start(t *testing.T) *system {
	t.Helper()
	server, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn, err := server.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	d, err := directory.Open(t.Context(), conn, "production", 1)
	if err != nil {
		t.Fatal(err)
	}
	replica, err := directory.OpenReplica(conn, "production", filepath.Join(t.TempDir(), "replica"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := replica.Close(); err != nil {
			t.Error(err)
		}
	})
	db, err := store.Open(t.Context(), engine.Store(t), operator.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	operators := operator.New(operator.Options{DB: db, Environment: "production", Lifetime: time.Hour, Idle: time.Hour, Kept: 24 * time.Hour, Now: time.Now})
	t.Cleanup(func() {
		if err := errors.Join(operators.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	service, err := control.New(t.Context(), control.Options{
		Environments: []*control.Environment{{
			Name: "production", DefaultRegion: "US01", Placements: d, Regions: d, Pages: replica,
		}},
		Secret: "internal-secret", AdminToken: adminToken, SignIn: control.SignIn{Operators: operators}, Moves: openMoves(t),
		Now: func() time.Time { return time.Date(2018, 11, 1, 12, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	doors := httptest.NewServer(problem.Handler(service.Handler()))
	t.Cleanup(func() {
		doors.Close()
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	return &system{directory: d, replica: replica, client: control.NewClient(doors.URL, adminToken, "production")}
}

// openMoves opens an empty queue.
func openMoves(t *testing.T) *move.Queue {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "moves.db"), move.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &move.Queue{DB: db, Now: time.Now}
}

func want(t *testing.T, err error, code problem.Code) {
	t.Helper()
	if problem.From(err).Code != code || err == nil {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestRegionsKeepTheirNumbers(t *testing.T) {
	s := start(t)
	eu := control.NewRegion{Code: "EU01", Number: 17, Upstreams: []string{"http://127.0.0.1:1"}}
	if _, err := s.client.AddRegion(t.Context(), eu); err != nil {
		t.Fatal(err)
	}
	eu.Upstreams = []string{"http://127.0.0.1:2", "http://127.0.0.1:3"} // it may get other addresses
	if _, err := s.client.AddRegion(t.Context(), eu); err != nil {
		t.Fatal(err)
	}
	_, err := s.client.AddRegion(t.Context(), control.NewRegion{Code: "EU01", Number: 18, Upstreams: eu.Upstreams})
	want(t, err, problem.Conflict)
	_, err = s.client.AddRegion(t.Context(), control.NewRegion{Code: "EU02", Number: 17, Upstreams: eu.Upstreams})
	want(t, err, problem.Conflict)
	regions, err := s.client.Regions(t.Context())
	if err != nil || len(regions) != 1 || len(regions[0].Upstreams) != 2 || regions[0].Number != 17 {
		t.Errorf("regions: %+v, %v", regions, err)
	}
}

// A foreign service stands in for a region: it gives the ids, and its companies' members
// and apps are its own affair.
func TestCompaniesOfForeignRegions(t *testing.T) {
	s := start(t)
	if _, err := s.client.AddRegion(t.Context(), control.NewRegion{Code: "US01", Upstreams: []string{"http://127.0.0.1:1"}}); err != nil {
		t.Fatal(err)
	}
	_, err := s.client.CreateCompany(t.Context(), control.NewCompany{Name: "No id"})
	want(t, err, problem.Invalid)
	_, err = s.client.CreateCompany(t.Context(), control.NewCompany{Name: "No region", Region: "EU01", ID: 7})
	want(t, err, problem.Invalid)
	made, err := s.client.CreateCompany(t.Context(), control.NewCompany{Name: "Foreign", ID: 7})
	if err != nil {
		t.Fatal(err)
	}
	if want := (control.Company{ID: 7, Name: "Foreign", Region: "US01", Epoch: 1, Onboarded: "2018-11-01"}); made != want {
		t.Errorf("made %+v, want %+v", made, want)
	}
	_, err = s.client.CreateCompany(t.Context(), control.NewCompany{Name: "Again", ID: 7, Onboarded: "2016-01-01"})
	want(t, err, problem.Conflict)
	shown, err := s.client.Company(t.Context(), 7)
	if err != nil || shown.Region != "US01" || shown.Unknown == "" {
		t.Errorf("shown %+v, %v", shown, err)
	}
	_, err = s.client.Company(t.Context(), 8)
	want(t, err, problem.NotFound)
	_, err = s.client.CreateUser(t.Context(), control.NewUser{Login: "a@example.com", Name: "A", Companies: []company.ID{7}})
	want(t, err, problem.Conflict)
}

// What the directory knows is shown even where the region is down, and a company that
// can't be made leaves no placement.
func TestRegionIsDown(t *testing.T) {
	s := start(t)
	_, err := s.client.AddRegion(t.Context(), control.NewRegion{Code: "US01", Upstreams: []string{"http://127.0.0.1:1"}, Internal: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.client.CreateCompany(t.Context(), control.NewCompany{Name: "Lost"})
	want(t, err, problem.RegionUnavailable)
	if n := s.replica.Len(); n != 0 {
		t.Errorf("%d placements", n)
	}
	_, err = s.client.CreateCompany(t.Context(), control.NewCompany{Name: "Own id", ID: 7})
	want(t, err, problem.Invalid)
	p := company.Placement{Company: 7, Region: "US01", Epoch: 3, Onboarded: time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := s.directory.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	shown, err := s.client.Company(t.Context(), 7)
	if err != nil || shown.Epoch != 3 || shown.Onboarded != "2016-01-01" || shown.Fence != nil || shown.Unknown == "" {
		t.Errorf("shown %+v, %v", shown, err)
	}
}
