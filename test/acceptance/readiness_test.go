package acceptance

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"testing"

	"mpr/test/postgres"
)

// "Nothing crosses": a sandbox's database that is away keeps no calls from production, in a process that serves both.
func TestADatabaseOfOneEnvironmentIsAway(t *testing.T) {
	const sandbox = "development sandbox"
	s := newTopology(t, sandbox)
	server := postgres.Start(t)
	data, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\{code: EU01, number: 17, listen: "([^"]+)", internal: "[^"]+"`).FindAllSubmatch(data, 2)
	if len(found) != 2 {
		t.Fatalf("there aren't two regions EU01: %q", found)
	}
	own := string(found[1][0])
	s.reconfigure(t, own, fmt.Sprintf("%s, store: %q", own, server.DSN()))
	ops := s.observed(t)
	s.start(t, "control", "login", "EU01")
	becomes(t, ops["EU01"], 200)
	production, box := "http://"+string(found[0][1]), "http://"+string(found[1][1])
	becomes(t, production, 200)
	becomes(t, box, 200)

	server.Kill()
	becomes(t, box, 503)
	becomes(t, production, 200)
	var said struct {
		Environments []struct {
			Environment string
			Ready       bool
			Reasons     []string
		}
	}
	call{URL: ops["EU01"] + "/readyz"}.send(t).want(t, 200).into(t, &said)
	for _, e := range said.Environments {
		if e.Ready != (e.Environment == "production") || len(said.Environments) != 2 {
			t.Errorf("environments: %+v", said.Environments)
		}
	}
	call{URL: ops["EU01"] + "/readyz?env=production"}.send(t).want(t, 200)
	call{URL: ops["EU01"] + "/readyz?env=" + url.QueryEscape(sandbox)}.send(t).want(t, 503)

	server.Run()
	becomes(t, box, 200)
	s.stop(t, "control", "login", "EU01")
}
