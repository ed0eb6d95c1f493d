package conform

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mpr/company"
)

// tricky is a text that languages write as JSON in different ways.
const tricky = "<a href='x'>&amp; \"q\" \\ / \b\t\n\f\r\x01\x1f\x7f \u0085\u00a0\u2028\u2029\ufeff é e\u0301 日本 😀 \\u0041"

// Ids of what the suite makes: regions give out none of the highest region number.
var (
	firstMade   = company.FirstID(company.MaxRegionNumber) + 1
	madeProject = firstMade
	madeUser    = firstMade + 1
	madeApp     = firstMade + 2
	firstRFI    = firstMade + 100
)

// How much the suite makes: more than a page of rows, and more than a page of bytes.
const (
	manyRows  = 1100
	largeRows = 12
	largeText = 400 << 10
	aMoment   = int64(1554076800000000) // 2019-04-01T00:00:00Z
)

// samples are a row of each table, with all its columns.
func samples(id company.ID) map[string]map[string]any {
	c := int64(id)
	return map[string]map[string]any{
		"companies":          {"company_id": c, "name": tricky, "onboarded": "2019-04-01", "created": aMoment, "updated": aMoment, "monthly_sandbox": 0},
		"memberships":        {"company_id": c, "user_id": madeUser, "login": "conform@example.com", "name": tricky, "job_title": "", "is_active": 0, "created": aMoment, "updated": aMoment},
		"installations":      {"company_id": c, "app_id": madeApp, "client_id": "conform", "name": tricky, "kind": "web", "permits_all": 0, "created": aMoment, "updated": aMoment},
		"permitted_projects": {"company_id": c, "app_id": madeApp, "project_id": madeProject},
		"projects":           {"company_id": c, "project_id": madeProject, "name": tricky, "project_number": "", "active": 1, "created": aMoment, "updated": aMoment},
		"project_users":      {"company_id": c, "project_id": madeProject, "user_id": madeUser, "created": aMoment},
		"rfis":               sampleRFI(id, 0, tricky),
	}
}

func sampleRFI(id company.ID, n int64, question string) map[string]any {
	return map[string]any{"company_id": int64(id), "project_id": madeProject, "rfi_id": firstRFI + n, "number": n + 1, "subject": fmt.Sprint("RFI ", n),
		"question": question, "status": "open", "created": aMoment + n, "updated": aMoment + n}
}

// with is a row with one column changed.
func with(columns map[string]any, name string, value any) map[string]any {
	changed := maps.Clone(columns)
	changed[name] = value
	return changed
}

// without is a row without one column.
func without(columns map[string]any, name string) map[string]any {
	changed := maps.Clone(columns)
	delete(changed, name)
	return changed
}

// keyOf are the columns of a row's key.
func (t table) keyOf(columns map[string]any) map[string]any {
	key := map[string]any{"company_id": columns["company_id"]}
	for _, name := range t.key {
		key[name] = columns[name]
	}
	return key
}

func columnsOf(columns map[string]any) string {
	return strings.Join(slices.Sorted(maps.Keys(columns)), ", ")
}

// wrongRows are rows of a table that no region may take, by what is wrong with them. Each is
// otherwise a good one.
func wrongRows(t table, good map[string]any) map[string]any {
	wrong := map[string]any{
		"no object": 7, "a list": []any{}, "null": nil,
		"another company": with(good, "company_id", int64(1)), "a company as text": with(good, "company_id", fmt.Sprint(good["company_id"])), "no company": without(good, "company_id"),
		"a column too many": with(good, "a_column", 1), "a missing column": without(good, "created"),
	}
	for name, value := range map[string]any{"text": "x", "a fraction": 1.5, "null": nil, "true": true, "an object": map[string]any{}, "a list": []int{1}, "too large a number": json.Number("9223372036854775808")} {
		wrong["created is "+name] = with(good, "created", value)
	}
	if _, ok := good["name"]; ok {
		for name, value := range map[string]any{"a number": 7, "null": nil, "true": true, "an object": map[string]any{}, "the character 0": "a\x00b"} {
			wrong["name is "+name] = with(good, "name", value)
		}
	}
	for _, name := range t.key {
		wrong["the key as text"] = with(good, name, "1")
	}
	return wrong
}

// play makes, in the part of the other region, the changes that the suite brings back: rows of
// all tables, changed and deleted ones, a number that is given out again, and more rows than a
// page has.
func (s *suite) play() error {
	if s.played {
		return nil
	}
	w, all, rfis := s.twin, samples(s.Company), tableOf("rfis")
	s.playedAfter = w.version
	columns, err := readColumns(w.rows["companies"][0].data)
	if err != nil {
		return err
	}
	type write struct {
		t       table
		deleted bool
		columns map[string]any
	}
	list := []write{{tableOf("companies"), false, with(columns, "name", tricky)}}
	for _, t := range schema[1:] {
		list = append(list, write{t, false, all[t.name]})
	}
	for n := int64(1); n < manyRows; n++ {
		list = append(list, write{rfis, false, sampleRFI(s.Company, n, "")})
	}
	again := with(sampleRFI(s.Company, 5, "again"), "rfi_id", firstRFI+9*manyRows)
	list = append(list,
		write{rfis, false, sampleRFI(s.Company, 3, "changed")}, write{tableOf("projects"), false, with(all["projects"], "name", "changed "+tricky)},
		write{rfis, true, rfis.keyOf(sampleRFI(s.Company, 5, ""))}, write{rfis, false, again}, write{rfis, true, rfis.keyOf(sampleRFI(s.Company, 7, ""))})
	for _, one := range list {
		if err := w.write(one.t, one.deleted, one.columns); err != nil {
			return err
		}
	}
	s.played = true
	return nil
}

// restore makes the changes after which the company is as it was found.
func (s *suite) restore() error {
	for _, t := range schema {
		for _, r := range slices.Clone(s.twin.rows[t.name]) {
			if _, there := find(s.first[t.name], r.key); there {
				continue
			}
			columns, err := readColumns(r.data)
			if err != nil {
				return err
			}
			if err := s.twin.write(t, true, t.keyOf(columns)); err != nil {
				return err
			}
		}
		for _, r := range s.first[t.name] {
			if i, there := find(s.twin.rows[t.name], r.key); there && s.twin.rows[t.name][i].canonical == r.canonical {
				continue
			}
			columns, err := readColumns(r.data)
			if err != nil {
				return err
			}
			if err := s.twin.write(t, false, columns); err != nil {
				return err
			}
		}
	}
	return nil
}
