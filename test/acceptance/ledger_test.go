package acceptance

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// ledgerReport is what `mpr ledger --json` prints.
type ledgerReport struct {
	Apps []struct {
		ClientID string `json:"client_id"`
		State    string
		Since    string
		Trend    []int64
		Calls    int64
		Refused  int64
		Kinds    []struct {
			Kind   string
			Calls  int64
			Change string
		}
	}
	Names map[string]string
}

// "knowing which app still makes which non-compliant call, for which companies, is what
// lets an operator keep a deadline."
func TestLedger(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", "2019-01-15")
	old, eu := d.in(t, "US01"), d.in(t, "EU01")
	machine, web := d.app(t, "developer_managed"), d.app(t, "web")
	good := d.machineToken(t, machine)
	bad := d.tokenAt(t, d.Environments[0].Legacy)
	for range 3 {
		call{URL: d.legacyURL("/rest/v1.0/projects?company_id=%d", old.ID), Token: bad}.send(t).want(t, 200)
	}
	call{URL: d.legacyURL("/rest/v1.0/projects?company_id=%d", eu.ID), Token: bad}.send(t).want(t, 403)
	user := d.userTokens(t).Access
	call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", old.ID), Token: user}.send(t).want(t, 400)
	call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", eu.ID), Token: user, Company: old.ID}.send(t).want(t, 400)
	call{URL: d.apiURL("/rest/v1.0/projects"), Token: good, Company: old.ID}.send(t).want(t, 200) // compliant
	call{URL: d.legacyURL("/rest/v1.0/me"), Header: map[string]string{"User-Agent": "ancient/0.1"}}.send(t).want(t, 401)

	var report ledgerReport
	kinds := func(id string) map[string]int64 {
		found := map[string]int64{}
		for _, a := range report.Apps {
			for _, k := range a.Kinds {
				if a.ClientID == id {
					found[k.Kind] = k.Calls
				}
			}
		}
		return found
	}
	// "at most a second of counts is lost when a gateway is killed": they are on their way
	// within half a second.
	want := fmt.Sprint(map[string]int64{"legacy_login_host": 1, "legacy_api_host": 4, "missing_header": 4, "refused_for_region": 1},
		map[string]int64{"missing_header": 1, "company_mismatch": 1})
	eventually(t, 10*time.Second, func() (bool, string) {
		report = ledgerReport{}
		out := d.mpr(t, "ledger", "--json")
		if err := json.Unmarshal(out, &report); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		got := fmt.Sprint(kinds(machine.ClientID), kinds(web.ClientID))
		for _, a := range report.Apps { // what is counted first, and since when after it
			if a.Since == "" {
				return false, fmt.Sprintf("%+v", a)
			}
		}
		return got == want, got
	})
	for _, a := range report.Apps {
		if a.State != "breaking" || a.Since != "2019-01-15" || len(a.Trend) != 14 || a.Trend[13] != a.Calls || report.Names[a.ClientID] == "" {
			t.Errorf("%+v %v", a, report.Names)
		}
	}
	table := string(d.mpr(t, "ledger"))
	for _, words := range []string{"APP ", "breaking", "·············█", machine.ClientID, "ancient/0.1", "NEXT: mpr ledger --app="} {
		if !strings.Contains(table, words) {
			t.Errorf("no %q in\n%s", words, table)
		}
	}
	one := string(d.mpr(t, "ledger", "--app="+machine.ClientID))
	for _, change := range threeChanges {
		if !strings.Contains(one, change) {
			t.Errorf("no %q in\n%s", change, one)
		}
	}
	lines, err := csv.NewReader(strings.NewReader(string(d.mpr(t, "ledger", "--csv", "-", "--app="+machine.ClientID)))).ReadAll()
	if err != nil || strings.Join(lines[0][:6], ",") != "date,status,method,route,count,company" {
		t.Fatalf("%q, %v", lines, err)
	}
	wantLine := fmt.Sprintf("2019-01-15,200,GET,/rest/v1.0/projects,3,%d", old.ID)
	if text := fmt.Sprint(lines); !strings.Contains(strings.ReplaceAll(text, " ", ","), wantLine) {
		t.Errorf("no %s in %s", wantLine, text)
	}
	for what, c := range map[string]struct {
		args []string
		want bool
	}{
		"on the last day":    {[]string{"--on", "2019-06-30"}, false},
		"on the day after":   {[]string{"--on", "2019-07-01"}, true},
		"a move away":        {[]string{"--move", fmt.Sprint(old.ID), "--to", "EU01"}, true},
		"a move within EU01": {[]string{"--move", fmt.Sprint(eu.ID), "--to", "EU01"}, false},
	} {
		out := string(d.mpr(t, append([]string{"ledger", "impact"}, c.args...)...))
		if strings.Contains(out, machine.ClientID) != c.want || strings.Contains(out, "nothing would break") == c.want {
			t.Errorf("%s: %s", what, out)
		}
	}
	// What was shipped survives a kill, and a restart counts nothing twice.
	if err := d.kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(d.mpr(t, "ledger", "--json"), &report); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(kinds(machine.ClientID), kinds(web.ClientID)); got != want {
		t.Errorf("after a kill: %s, want %s", got, want)
	}
}
