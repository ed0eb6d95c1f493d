package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"mpr/bench/machine"
)

// get asks for a page.
func (s *system) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return "", err
	}
	req.AddCookie(s.cookie)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %.300s", path, resp.Status, body)
	}
	return string(body), err
}

// measure asks for each page, many times.
func (s *system) measure(ctx context.Context) error {
	const in = "/console/" + environment
	middle := id(s.o.companies / 2)
	fmt.Printf("\n%d companies, %d apps, %d lines of the ledger; each page %d times. Load: %s\n\n| page | median | slowest | KiB |\n|---|---|---|---|\n",
		s.o.companies, s.o.apps, s.o.apps*s.o.lines*14+5000, s.o.rounds, machine.Load())
	slow := 0
	for _, p := range []struct{ what, path string }{
		{"overview", in + "/"}, {"companies, the first page", in + "/companies"}, {"companies, from the middle on", in + "/companies?after=" + middle.String()},
		{"companies of a region, from the middle on", in + "/companies?region=EU01&after=" + middle.String()}, {"companies by an id", in + "/companies?q=" + middle.String()},
		{"companies by a word that one has", in + "/companies?q=" + s.search}, {"companies by a word that half of all have", in + "/companies?q=construction"},
		{"companies by that and one that few have", in + "/companies?q=construction+" + s.search}, {"companies by two words that many have", in + "/companies?q=constr+kestr"}, {"companies by a word that none has", in + "/companies?q=zzz"},
		{"a company", in + "/companies/" + s.sample.String()}, {"moves", in + "/moves"},
		{"apps in the ledger", in + "/apps"}, {"apps in the ledger, page 100", in + "/apps?page=100"}, {"apps that break", in + "/apps?state=breaking"}, {"all apps, page 150", in + "/apps?tab=all&page=150"},
		{"apps by a word", in + "/apps?q=harbour"}, {"an app: health", in + "/apps/" + s.app}, {"an app: calls, page 3", in + "/apps/" + s.app + "?page=3"}, {"an app: settings", in + "/apps/" + s.app + "/settings"},
		{"an app: installed in", in + "/apps/" + s.app + "/installations?page=20"}, {"an app: events", in + "/apps/" + s.app + "/events"},
		{"policy", in + "/policy"}, {"audit log", in + "/audit"}, {"audit log, about something", in + "/audit?subject=nothing"}, {"directory", in + "/directory"}, {"keys", in + "/keys"}, {"operators", in + "/operators"}, {"own apps", "/developers/"},
	} {
		var took []float64
		size := 0
		for range s.o.rounds {
			began := time.Now()
			page, err := s.get(ctx, p.path)
			if err != nil {
				return err
			}
			took, size = append(took, float64(time.Since(began))/float64(time.Millisecond)), len(page)
		}
		worst := machine.At(took, 1)
		if worst > float64(promised.Milliseconds()) {
			slow++
		}
		fmt.Printf("| %s | %.1f ms | %.1f ms | %d |\n", p.what, machine.Median(took), worst, size>>10)
	}
	fmt.Printf("\nLoad: %s. %d pages took longer than %v at their slowest.\n", machine.Load(), slow, promised)
	return nil
}
