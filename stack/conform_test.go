package stack

import (
	"context"
	"errors"
	"testing"

	"mpr/conform"
)

// conforms runs the suite against a region, and answers what came of each check that didn't
// pass.
func (s *site) conforms(internal, door string, only ...string) (*conform.Summary, map[string]conform.Result) {
	s.t.Helper()
	wrong := map[string]conform.Result{}
	summary, err := conform.Run(s.t.Context(), conform.Options{
		URL: internal, Secret: siteSecret, Company: s.company, Region: "ZZ99", API: door, Token: s.token, CompanyHeader: "Procore-Company-Id", Only: only,
	}, func(r conform.Result) {
		if r.Outcome != conform.Pass {
			wrong[r.Name] = r
		}
	})
	s.check(err)
	return summary, wrong
}

// Whatever happens, the company is served again at the end, with the rows that it had.
func TestConformStopsHalfWay(t *testing.T) {
	for _, at := range []string{"rows.own", "freeze", "leave", "arrive.reuse", "changes.apply", "activate", "purge", "import.page"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.more()
			before := s.projects()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			last := ""
			summary, err := conform.Run(ctx, conform.Options{URL: s.internal["US02"], Secret: siteSecret, Company: s.company, Region: "ZZ99"}, func(r conform.Result) {
				if last = r.Name; last == at {
					stop()
				}
			})
			if !errors.Is(err, context.Canceled) || last != at || !summary.Serving || summary.Trouble != "" {
				t.Errorf("it ended after %s: %+v, %v", last, summary, err)
			}
			if after := s.projects(); after != before {
				t.Errorf("it had %s, and has %s", before, after)
			}
		})
	}
}

// projects are those that the gateway answers: it hears from the region at which epoch.
func (s *site) projects() string {
	s.t.Helper()
	status, data, err := send("GET", s.api+"/rest/v1.0/projects", s.token, s.company, "")
	s.check(err)
	if status != 200 {
		s.t.Fatalf("%d %s", status, data)
	}
	return string(data)
}

// The suite begins with what is served, and changes nothing otherwise.
func TestConformRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good := conform.Options{URL: s.internal["US02"], Secret: siteSecret, Company: s.company, Region: "ZZ99"}
	for name, change := range map[string]func(*conform.Options){
		"a company that lives elsewhere": func(o *conform.Options) { o.URL = s.internal["EU01"] },
		"another secret":                 func(o *conform.Options) { o.Secret = "another secret, of somebody else" },
		"no region":                      func(o *conform.Options) { o.URL = s.urls["US02"] },
		"nobody there":                   func(o *conform.Options) { o.URL = "http://127.0.0.1:1" },
		"a check that isn't there":       func(o *conform.Options) { o.Only = []string{"rows", "nothing"} },
	} {
		o := good
		change(&o)
		if summary, err := conform.Run(t.Context(), o, func(r conform.Result) { t.Errorf("%s: %+v", name, r) }); err == nil || summary != nil {
			t.Errorf("%s: %+v, %v", name, summary, err)
		}
	}
	s.projects()
}
