package login

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mpr/company"
	"mpr/directory"
)

func named(id company.ID, version int64, name string) directory.Change {
	data, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		panic(err) // a string can be written as JSON
	}
	return directory.Change{Company: id, Version: version, Kind: directory.ChangeCompany, Key: int64(id), Data: data}
}

func member(id company.ID, version, user int64) directory.Change {
	return directory.Change{Company: id, Version: version, Kind: directory.ChangeMembership, Key: user, Data: []byte(`{}`)}
}

func installed(id company.ID, version, app int64) directory.Change {
	return directory.Change{Company: id, Version: version, Kind: directory.ChangeInstallation, Key: app, Data: []byte(`{}`)}
}

func deleted(c directory.Change) directory.Change {
	c.Deleted = true
	return c
}

// apply hands changes to the index as they come, repeats and all: the stream drops
// repeats that come close together.
func (w *world) apply(t *testing.T, changes ...directory.Change) {
	t.Helper()
	must(t, w.service.applyChanges(t.Context(), changes))
}

// call makes a call without a company as the gateway passes it on.
func (w *world) call(t *testing.T, path, token string, header ...string) reply {
	t.Helper()
	header = append([]string{"Authorization", "Bearer " + token, "X-Forwarded-Host", "api.procore.com", "X-Forwarded-Proto", "https"}, header...)
	return send(t, noRedirects, newRequest(t, http.MethodGet, w.internal+path, nil, header...))
}

func (w *world) listed(t *testing.T, token string) (list []listedCompany) {
	t.Helper()
	w.call(t, "/rest/v1.0/companies", token).want(t, 200).json(t, &list)
	return list
}

func TestMe(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	w.verify(t, p.AccessToken)
	var me user
	w.call(t, "/rest/v1.0/me", p.AccessToken).want(t, 200).json(t, &me)
	if me != u {
		t.Errorf("me is %+v, want %+v", me, u)
	}
	machine := w.newApp(t, kindDeveloperManaged)
	raw := w.tokens(t, machineForm(machine)).AccessToken
	w.call(t, "/rest/v1.0/me", raw).want(t, 200).json(t, &me)
	if me.ID != machine.ID || me.Login != machine.ClientID || me.Name != machine.Name {
		t.Errorf("the service account is %+v", me)
	}
	for _, bad := range []string{"", "rubbish", secret} {
		w.call(t, "/rest/v1.0/me", bad).refusedInternally(t, 401, "invalid_token")
	}
	none := newRequest(t, http.MethodGet, w.internal+"/rest/v1.0/me", nil)
	send(t, noRedirects, none).refusedInternally(t, 401, "missing_token")
}

func TestListCompanies(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	machine, tied := w.newApp(t, kindDeveloperManaged), w.newApp(t, kindTraditional)
	w.verify(t, p.AccessToken)
	if list := w.listed(t, p.AccessToken); list == nil || len(list) != 0 {
		t.Errorf("a user without companies sees %v", list)
	}
	const eu = company.ID(598134325779301)
	w.change(t, named(5, 1, "Granite"), member(5, 2, u.ID), member(5, 3, u.ID+1), installed(5, 4, machine.ID), installed(5, 5, tied.ID))
	w.change(t, named(eu, 1, "Nordwerk"), member(eu, 2, u.ID), installed(eu, 3, machine.ID), installed(eu, 4, tied.ID))
	w.change(t, named(6, 1, "Lakeshore"), installed(6, 2, machine.ID), member(6, 3, u.ID), deleted(member(6, 4, u.ID)))
	for id, version := range map[company.ID]int64{5: 5, eu: 4, 6: 4} {
		w.indexed(t, id, version)
	}
	granite, lakeshore, nordwerk := listedCompany{5, "Granite", true}, listedCompany{6, "Lakeshore", true}, listedCompany{eu, "Nordwerk", true}
	for name, c := range map[string]struct {
		token string
		want  []listedCompany
	}{
		"a user":                       {p.AccessToken, []listedCompany{granite, nordwerk}},
		"a developer-managed account":  {w.tokens(t, machineForm(machine)).AccessToken, []listedCompany{granite, lakeshore, nordwerk}},
		"an account of one company":    {w.tokens(t, machineForm(tied)).AccessToken, []listedCompany{granite}}, // though it is installed in another
		"an account that nobody knows": {w.tokens(t, machineForm(w.newApp(t, kindTraditional))).AccessToken, nil},
	} {
		if got := w.listed(t, c.token); !slices.Equal(got, c.want) {
			t.Errorf("%s sees %v, want %v", name, got, c.want)
		}
	}
	raw := w.call(t, "/rest/v1.0/companies", p.AccessToken)
	if !strings.Contains(string(raw.body), `{"id":598134325779301,"name":"Nordwerk","is_active":true}`) {
		t.Errorf("as JSON: %s", raw.body)
	}
}

// With the company header the caller must have a part in that company.
func TestCallsWithACompany(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	machine := w.newApp(t, kindDeveloperManaged)
	w.verify(t, p.AccessToken)
	w.apply(t, named(5, 1, "Granite"), member(5, 2, u.ID), installed(5, 3, machine.ID), named(6, 1, "Lakeshore"))
	raw := w.tokens(t, machineForm(machine)).AccessToken
	for _, path := range []string{"/rest/v1.0/me", "/rest/v1.0/companies"} {
		w.call(t, path, p.AccessToken, "Procore-Company-Id", "5").want(t, 200)
		w.call(t, path, raw, "Procore-Company-Id", "5").want(t, 200)
		w.call(t, path, p.AccessToken, "Procore-Company-Id", "6").refusedInternally(t, 403, "company_forbidden")
		w.call(t, path, p.AccessToken, "Procore-Company-Id", "7").refusedInternally(t, 403, "company_forbidden")
		w.call(t, path, raw, "Procore-Company-Id", "6").refusedInternally(t, 403, "app_not_connected")
		w.call(t, path, p.AccessToken, "Procore-Company-Id", "+5").refusedInternally(t, 400, "invalid_company_header")
	}
}

var linkForm = regexp.MustCompile(`<([^>]*)>; rel="([a-z]+)"`)

func links(header string) map[string]string {
	all := map[string]string{}
	for _, m := range linkForm.FindAllStringSubmatch(header, -1) {
		all[m[2]] = m[1]
	}
	return all
}

func TestPaging(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	w.verify(t, p.AccessToken)
	var changes []directory.Change
	for id := range company.ID(7) {
		changes = append(changes, named(id+1, 1, fmt.Sprint("Company ", id+1)), member(id+1, 2, u.ID))
	}
	w.apply(t, changes...)
	const base = "https://api.procore.com/rest/v1.0/companies?"
	for _, c := range []struct {
		query string
		ids   []company.ID
		links map[string]string
	}{
		{"per_page=3&x=a%20b", []company.ID{1, 2, 3}, map[string]string{"first": base + "page=1&per_page=3&x=a+b", "next": base + "page=2&per_page=3&x=a+b", "last": base + "page=3&per_page=3&x=a+b"}},
		{"per_page=3&page=2", []company.ID{4, 5, 6}, map[string]string{"first": base + "page=1&per_page=3", "prev": base + "page=1&per_page=3", "next": base + "page=3&per_page=3", "last": base + "page=3&per_page=3"}},
		{"per_page=3&page=3", []company.ID{7}, map[string]string{"first": base + "page=1&per_page=3", "prev": base + "page=2&per_page=3", "last": base + "page=3&per_page=3"}},
		{"per_page=3&page=9", nil, map[string]string{"first": base + "page=1&per_page=3", "prev": base + "page=3&per_page=3", "last": base + "page=3&per_page=3"}},
		{"page=&per_page=", []company.ID{1, 2, 3, 4, 5, 6, 7}, map[string]string{"first": base + "page=1&per_page=100", "last": base + "page=1&per_page=100"}}, // as the regions take it
		{"", []company.ID{1, 2, 3, 4, 5, 6, 7}, map[string]string{"first": base + "page=1&per_page=100", "last": base + "page=1&per_page=100"}},
	} {
		got := w.call(t, "/rest/v1.0/companies?"+c.query, p.AccessToken).want(t, 200)
		var list []listedCompany
		got.json(t, &list)
		var ids []company.ID
		for _, one := range list {
			ids = append(ids, one.ID)
		}
		if !slices.Equal(ids, c.ids) || got.Header.Get("Total") != "7" {
			t.Errorf("%s: %v of %s, want %v", c.query, ids, got.Header.Get("Total"), c.ids)
		}
		if l := links(got.Header.Get("Link")); fmt.Sprint(l) != fmt.Sprint(c.links) {
			t.Errorf("%s: links %v\nwant %v", c.query, l, c.links)
		}
	}
	for _, bad := range []string{"page=0", "page=-1", "page=1&page=2", "per_page=&per_page=", "page=%2B1", "page=x", "page=99999999999999999999", "per_page=0", "per_page=1001", "per_page=1e3", "page=1000001"} {
		w.call(t, "/rest/v1.0/companies?"+bad, p.AccessToken).refusedInternally(t, 400, "bad_request")
	}
}

// The stream delivers at least once and, after a redelivery, late: the index ends the same
// whatever the order.
func TestIndexInAnyOrder(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	w.verify(t, p.AccessToken)
	history := []directory.Change{
		named(5, 1, "Granite"), member(5, 2, u.ID), deleted(member(5, 3, u.ID)), member(5, 4, u.ID), named(5, 5, "Granite Builders"),
		named(6, 1, "Lakeshore"), member(6, 2, u.ID), deleted(member(6, 3, u.ID)),
		named(7, 1, "Gone"), member(7, 2, u.ID), deleted(named(7, 3, "")),
	}
	want := []listedCompany{{5, "Granite Builders", true}}
	for seed := range uint64(10) {
		w.listedInAnyOrder(t, seed, p.AccessToken, history, want)
	}
}

// listedInAnyOrder tells the index of changes, twice each, in an order and in pieces that a seed says,
// wants what a token's user is listed then, and empties the index.
func (w *world) listedInAnyOrder(t *testing.T, seed uint64, token string, changes []directory.Change, want []listedCompany) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // an order that can be repeated
	order := append(slices.Clone(changes), changes...)
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for chunk := range slices.Chunk(order, 1+r.IntN(5)) {
		w.apply(t, chunk...)
	}
	if got := w.listed(t, token); !slices.Equal(got, want) {
		t.Fatalf("order %d: %v, want %v", seed, got, want)
	}
	for _, table := range []string{"index_companies", "index_memberships", "index_versions"} {
		clearTable(t, w, table)
	}
}

// An index that is newer than its regions, as a restore may leave it, ends with what the regions say
// again, whatever the order: what they don't know any more is gone.
func TestIndexAfterARestore(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	w.verify(t, p.AccessToken)
	const floor = 1000
	again := func(c directory.Change) directory.Change {
		c.Since = floor
		return c
	}
	lost := directory.Change{Company: 6, Version: floor, Kind: directory.ChangeLost, Key: 20}
	said := []directory.Change{
		member(5, floor, u.ID), again(named(5, floor, "Granite")), deleted(member(5, floor+1, u.ID)), member(5, floor+2, u.ID),
		again(named(6, floor, "Lakeshore")), lost, // nobody knows of the member any more
		member(8, floor, u.ID), again(named(8, floor, "Elsewhere")), // born in the same block, and moved
		again(named(9, floor+1, "New")), // an id that was given out again
	}
	want := []listedCompany{{5, "Granite", true}, {8, "Elsewhere", true}, {21, "Another block", true}}
	for seed := range uint64(10) {
		w.apply(t, named(5, 60, "Granite Builders"), deleted(member(5, 61, u.ID)), named(6, 60, "Lakeshore"), member(6, 61, u.ID), named(7, 1, "Lost"), member(7, 2, u.ID),
			named(8, 1, "Elsewhere"), member(8, 2, u.ID), named(9, 1, "Lost as well"), member(9, 2, u.ID), named(21, 1, "Another block"), member(21, 2, u.ID))
		w.listedInAnyOrder(t, seed, p.AccessToken, said, want)
	}
}

// What an app was installed in before a restore, and isn't any more, is neither listed nor told of moves.
func TestInstallationsAfterARestore(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, "developer_managed")
	w.webhook(t, "PUT", "/internal/apps/"+a.ClientID+"/webhook", map[string]any{"url": "https://app.example.com/moves"})
	w.apply(t, named(5, 60, "Granite"), directory.Change{Company: 5, Version: 61, Kind: directory.ChangeInstallation, Key: a.ID})
	installed := func(want int) {
		t.Helper()
		var list struct{ Companies []listedCompany }
		w.ask(t, "GET", "/internal/apps/"+a.ClientID+"/installations", nil).want(t, 200).json(t, &list)
		var hooks struct{ Webhooks []struct{} }
		w.ask(t, "GET", "/internal/companies/5/webhooks", nil).want(t, 200).json(t, &hooks)
		if len(list.Companies) != want || len(hooks.Webhooks) != want {
			t.Errorf("installed in %v, webhooks %v; want %d of each", list.Companies, hooks.Webhooks, want)
		}
	}
	installed(1)
	back := named(5, 1000, "Granite")
	back.Since = 1000
	w.apply(t, back)
	installed(0)
	w.apply(t, directory.Change{Company: 5, Version: 1001, Kind: directory.ChangeInstallation, Key: a.ID})
	installed(1)
}

// A late older change doesn't bring back what was deleted, nor an old name.
func TestLateChanges(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	w.verify(t, p.AccessToken)
	w.apply(t, named(5, 9, "New"), deleted(member(5, 8, u.ID)))
	w.apply(t, member(5, 7, u.ID), named(5, 1, "Old"), member(5, 8, u.ID))
	if got := w.listed(t, p.AccessToken); len(got) != 0 {
		t.Errorf("a late change brought back %v", got)
	}
	w.apply(t, member(5, 10, u.ID))
	if got := w.listed(t, p.AccessToken); !slices.Equal(got, []listedCompany{{5, "New", true}}) {
		t.Errorf("sees %v", got)
	}
}

// A change that can't be read doesn't hold up those behind it.
func TestUnreadableChanges(t *testing.T) {
	w := newWorld(t)
	_, u, p := w.userTokens(t)
	w.verify(t, p.AccessToken)
	broken := named(5, 2, "")
	broken.Data = []byte(`{"name":7}`)
	empty := named(5, 3, "")
	empty.Data = nil
	strange := directory.Change{Company: 5, Version: 4, Kind: "weather", Key: 1}
	w.change(t, named(5, 1, "Granite"), broken, empty, named(5, 5, "a\x00b"), strange, member(5, 6, u.ID))
	w.indexed(t, 5, 6)
	if got := w.listed(t, p.AccessToken); !slices.Equal(got, []listedCompany{{5, "Granite", true}}) {
		t.Errorf("sees %v", got)
	}
}

func clearTable(t *testing.T, w *world, table string) {
	t.Helper()
	if _, err := w.db.Read().ExecContext(t.Context(), "DELETE FROM "+table); err != nil { //nolint:gosec // a name of ours
		t.Fatal(err)
	}
}
