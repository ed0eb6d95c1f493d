package stack

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"mpr/company"
	"mpr/move"
	"mpr/test/engine"
)

// Companies move between regions of either engine, there and back, while they are in use; what
// is read afterwards is what was written. scripts/test.sh runs this once without PostgreSQL,
// when only SQLite is to be had, and once with it.
func TestMovesBetweenEngines(t *testing.T) {
	engines := map[string]func(*testing.T) string{
		"SQLite": func(t *testing.T) string { return engine.SQLite(t) },
	}
	if engine.Server() != "" {
		engines["PostgreSQL"] = func(t *testing.T) string { return engine.Store(t) }
	}
	for from, source := range engines {
		for to, destination := range engines {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				s := newSiteOf(t, siteOptions{stores: map[company.Region]string{"US02": source(t), "EU01": destination(t)}, queue: source(t)})
				s.extremes("US02")
				x := s.write()
				first := s.written(x, 0)
				mover := s.mover(0, nil)
				there := s.request("EU01")
				mover.Wake()
				if ended := s.over(there.ID); ended.Phase != move.Retained || ended.Reused {
					t.Errorf("ended as %+v", ended)
				}
				s.read(first)
				s.wantExtremes("EU01")
				second := s.written(x, 1) // by the other engine, and comes back by the change log
				back := s.request("US02")
				mover.Wake()
				if ended := s.over(back.ID); ended.Phase != move.Retained || !ended.Reused {
					t.Errorf("ended as %+v", ended)
				}
				x.end()
				s.read(first)
				s.read(second)
				s.wantExtremes("US02")
				s.one(x)
				again := s.request("EU01") // without any writes: both sides stay as they are
				mover.Wake()
				s.over(again.ID)
				s.check(mover.Close())
				s.same()
			})
		}
	}
}

// texts are what a client may write and an engine, a driver or an encoding might change.
func texts() map[string]string {
	var all strings.Builder // every code point of the first plane but NUL, which is refused
	for r := rune(1); r < 0x4000; r++ {
		all.WriteRune(r)
	}
	return map[string]string{
		"empty": "", "blank": " \t\r\n ", "quotes": `'"\ $1 ? :a @b %s`, "bytes": all.String(), "escapes": "\u0001\u001f\u007f\u0085\u2028\u2029\ufeff\ufffd\uffff",
		"composed": "\u00e9", "decomposed": "e\u0301", "wide": "\U0001f3d7 \U0010ffff", "right to left": "\u202e\u05d0\u0627", "number": "00123456789012345678901234567890.10",
		"truth": "true", "null": "null", "time": "2026-02-29T25:61:00+99:99", "JSON": `{"a":[1,"<&>"]}`, "SQL": "'); DROP TABLE rfis; --", "trailing": "x  ",
	}
}

// written makes an RFI for each text, and answers them by path.
func (s *site) written(x *siteTraffic, round int) map[string]string {
	s.t.Helper()
	status, body, err := send("POST", s.api+"/rest/v1.0/projects", s.token, s.company, fmt.Sprintf(`{"project":{"name":"texts %d","active":false}}`, round))
	var made struct{ ID int64 }
	if err != nil || status != 201 || json.Unmarshal(body, &made) != nil {
		s.t.Fatalf("%d %s %v", status, body, err)
	}
	x.mu.Lock()
	x.made[made.ID] = true
	x.mu.Unlock()
	base, all := fmt.Sprintf("%s/rest/v1.0/projects/%d/rfis", s.api, made.ID), map[string]string{}
	for name, text := range texts() {
		in, err := json.Marshal(map[string]any{"rfi": map[string]string{"subject": name, "question": text}})
		s.check(err)
		status, body, err := send("POST", base, s.token, s.company, string(in))
		var rfi struct{ ID int64 }
		if err != nil || status != 201 || json.Unmarshal(body, &rfi) != nil {
			s.t.Fatalf("%s: %d %s %v", name, status, body, err)
		}
		all[fmt.Sprintf("%s/%d", base, rfi.ID)] = text
	}
	if status, body, err := send("POST", base, s.token, s.company, `{"rfi":{"subject":"NUL","question":"a\u0000b"}}`); err != nil || status != 422 {
		s.t.Errorf("NUL: %d %s %v", status, body, err)
	}
	return all
}

// read wants the texts to be as they were written.
func (s *site) read(written map[string]string) {
	s.t.Helper()
	for path, want := range written {
		status, body, err := send("GET", path, s.token, s.company, "")
		var got struct{ Question *string }
		if err != nil || status != 200 || json.Unmarshal(body, &got) != nil || got.Question == nil || *got.Question != want {
			s.t.Errorf("%s: %d %s %v, expected %q", path, status, body, err, want)
		}
	}
}

// extreme are numbers, times and truths at their ends: number, created, updated by rfi_id.
var extreme = map[int64][3]int64{
	math.MaxInt64: {math.MaxInt64, math.MaxInt64, math.MinInt64}, 1<<53 + 1: {1<<53 + 1, -1, 0}, 1: {math.MinInt64, time.Date(1582, 10, 15, 0, 0, 0, 1000, time.UTC).UnixMicro(), 1},
	math.MinInt64: {0, time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC).UnixMicro(), 1<<62 + 1},
}

// extremes writes such rows into the store itself, before anything is copied.
func (s *site) extremes(code company.Region) {
	s.t.Helper()
	s.check(s.regions[code].Write(s.t.Context(), func(tx *sql.Tx) error {
		for id, n := range extreme {
			if _, err := tx.Exec(`INSERT INTO rfis (company_id, project_id, rfi_id, number, subject, question, status, created, updated) VALUES ($1, $2, $3, $4, '', '', 'open', $5, $6)`,
				int64(s.company), int64(math.MaxInt64), id, n[0], n[1], n[2]); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`UPDATE memberships SET job_title = 'x', created = $2 WHERE company_id = $1`, int64(s.company), int64(1_700_000_000_123_456))
		return err
	}))
}

func (s *site) wantExtremes(code company.Region) {
	s.t.Helper()
	for id, want := range extreme {
		var got [3]int64
		s.check(s.regions[code].Read().QueryRowContext(s.t.Context(), `SELECT number, created, updated FROM rfis WHERE company_id = $1 AND project_id = $2 AND rfi_id = $3`,
			int64(s.company), int64(math.MaxInt64), id).Scan(&got[0], &got[1], &got[2]))
		if got != want {
			s.t.Errorf("at %s row %d is %v, expected %v", code, id, got, want)
		}
	}
	var created, active int64
	s.check(s.regions[code].Read().QueryRowContext(s.t.Context(), `SELECT created, is_active FROM memberships WHERE company_id = $1`, int64(s.company)).Scan(&created, &active))
	if created != 1_700_000_000_123_456 || active != 1 {
		s.t.Errorf("at %s the member was made at %d, and is active: %d", code, created, active)
	}
}

// same wants both regions to sum up to the same, table by table, by the contract.
func (s *site) same() {
	s.t.Helper()
	type sums struct {
		Version int64
		Tables  map[string]move.Sum
	}
	var all []sums
	for _, base := range s.internal {
		var one sums
		s.put("GET", fmt.Sprintf("%s/contract/v1/companies/%d/checksum", base, s.company), "", &one)
		all = append(all, one)
	}
	if len(all) != 2 || !reflect.DeepEqual(all[0], all[1]) || all[0].Tables["rfis"].Rows < 30 {
		s.t.Errorf("the regions sum up to\n%+v", all)
	}
}
