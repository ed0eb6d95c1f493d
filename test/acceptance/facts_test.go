package acceptance

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// facts are the JSON that `mpr dev --json` prints.
type facts struct {
	Environments []environment `json:"environments"`
	TLS          string        `json:"tls"`
	Proxy        string        `json:"proxy"`
	CA           string        `json:"ca"`
	Admin        struct {
		URL       string `json:"url"`
		TokenFile string `json:"token_file"`
	} `json:"admin"`
	Users     []user    `json:"users"`
	Apps      []app     `json:"apps"`
	Companies []company `json:"companies"`
}

type environment struct {
	Name   string `json:"name"`
	Login  string `json:"login"`
	API    string `json:"api"`
	Legacy string `json:"legacy"`
}

type user struct {
	Login     string  `json:"login"`
	Password  string  `json:"password"`
	Companies []int64 `json:"companies"`
}

type app struct {
	Name         string   `json:"name"`
	Kind         string   `json:"kind"`
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret"`
	RedirectURIs []string `json:"redirect_uris"`
	Companies    []int64  `json:"companies"`
	// Sandbox is what the app has in the development sandbox.
	Sandbox *sandbox `json:"sandbox"`
}

type sandbox struct {
	Environment  string `json:"environment"`
	LoginURL     string `json:"login_url"`
	APIURL       string `json:"api_url"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Company      int64  `json:"company"`
	Users        []user `json:"users"`
	Incomplete   string `json:"incomplete"`
}

type company struct {
	ID     int64  `json:"id"`
	Name   string `json:"name"`
	Region string `json:"region"`
}

// regions are the three of the seed's diagram.
var regions = []string{"US01", "US02", "EU01"}

// loginURL and apiURL are addresses at production's plain doors.
func (f *facts) loginURL(format string, args ...any) string {
	return f.Environments[0].Login + fmt.Sprintf(format, args...)
}

func (f *facts) apiURL(format string, args ...any) string {
	return f.Environments[0].API + fmt.Sprintf(format, args...)
}

// apiAddr is the address of the api door, for raw connections.
func (f *facts) apiAddr() string { return strings.TrimPrefix(f.Environments[0].API, "http://") }

// at is the same mpr dev as seen from another environment: its doors, its admin API.
func (d *dev) at(t *testing.T, name string) *dev {
	t.Helper()
	for _, e := range d.Environments {
		if e.Name == name {
			there := *d
			there.Environments = []environment{e}
			return &there
		}
	}
	t.Fatalf("there is no environment %q", name)
	return nil
}

// in is the demo company of a region.
func (f *facts) in(t *testing.T, region string) company {
	t.Helper()
	for _, c := range f.Companies {
		if c.Region == region {
			return c
		}
	}
	t.Fatalf("there is no demo company in %s", region)
	return company{}
}

// everywhere are the demo companies of the three regions, in the order of [regions].
func (f *facts) everywhere(t *testing.T) []company {
	t.Helper()
	all := make([]company, len(regions))
	for i, region := range regions {
		all[i] = f.in(t, region)
	}
	return all
}

// everywhereUser is a demo user with a membership in a company of each region.
func (f *facts) everywhereUser(t *testing.T) user {
	t.Helper()
	for _, u := range f.Users {
		if !slices.ContainsFunc(f.everywhere(t), func(c company) bool { return !slices.Contains(u.Companies, c.ID) }) {
			return u
		}
	}
	t.Fatal("no demo user is a member of the companies of all three regions")
	return user{}
}

// app is the demo app of a kind.
func (f *facts) app(t *testing.T, kind string) app {
	t.Helper()
	for _, a := range f.Apps {
		if a.Kind == kind {
			return a
		}
	}
	t.Fatalf("there is no demo app of the kind %q", kind)
	return app{}
}

// redirectURI is one of the app's redirect URIs that a browser can be sent to.
func (a app) redirectURI(t *testing.T) string {
	t.Helper()
	for _, uri := range a.RedirectURIs {
		if strings.HasPrefix(uri, "http") {
			return uri
		}
	}
	t.Fatalf("the app %q has no redirect URI for a browser", a.Name)
	return ""
}

// adminToken is the token of the admin API, from the file that the facts name.
func (f *facts) adminToken(t *testing.T) string {
	t.Helper()
	token, err := os.ReadFile(f.Admin.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}
