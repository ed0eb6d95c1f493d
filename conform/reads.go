package conform

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"

	"mpr/company"
)

// readChecks are about what a region says of a company that it owns.
var readChecks = []Check{
	{Name: "state.owned", stage: serving, run: stateOwned,
		Rule: "`fence`, `arrival`, `turn` and `tables` are always there; `fence` and `arrival` are `null` where there is none."},
	{Name: "state.tables", stage: serving, run: stateTables,
		Rule: "`tables` names the tables of this document, in their order, which is that of copying."},
	{Name: "state.rows", stage: serving, run: stateRows,
		Rule: "With `rows=1` the answer also has `rows`: how many rows each table has."},
	{Name: "never-here.state", stage: serving, run: neverHereState,
		Rule: "Of a company that the region has never had, `fence` and `arrival` are `null`."},
	{Name: "never-here.refusals", stage: serving, run: neverHereRefusals,
		Rule: "Of a company that the region has never had, `rows`, `changes` and `checksum` can't be read, and `depart`, `freeze`, `thaw`, `leave` and `purge` can't be done: `404` with `not_found`."},
	{Name: "rows.complete", stage: serving, run: rowsComplete,
		Rule: "Whoever reads on from the key `after` of each page until `last` gets every row once, in the order of the keys."},
	{Name: "rows.own", stage: serving, run: rowsOwn,
		Rule: "Each row has all columns of its table and no others, and its `company_id` is the company."},
	{Name: "rows.unknown-table", stage: serving, run: rowsUnknownTable,
		Rule: "Another table than those of this document is answered `422` with `invalid`."},
	{Name: "rows.cursors", stage: serving, run: rowsCursors,
		Rule: "An `after` or `until` that isn't a key of the table, and a `limit` that isn't a number from 0 on, are answered `400` with `bad_request`."},
	{Name: "changes.cursors", stage: serving, run: changesCursors,
		Rule: "An `after`, `until` or `since` that isn't a number from 0 on is answered `400` with `bad_request`."},
	{Name: "checksum.whole", stage: serving, run: checksumWhole,
		Rule: "Without `since` the checksum of a table is that of all its rows."},
}

func jsonInto(data []byte, out any) error { return json.Unmarshal(data, out) }

func stateOwned(ctx context.Context, s *suite, _ state) error {
	a, err := s.get(ctx, "state")
	if err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := a.fine(&all); err != nil {
		return err
	}
	for _, name := range []string{"fence", "arrival", "turn", "tables"} {
		if _, ok := all[name]; !ok {
			return found(a, "the member %s", name)
		}
	}
	var st state
	if err := a.fine(&st); err != nil {
		return err
	}
	if st.Fence.Epoch < 1 || st.Fence.Version < 0 || st.Arrival != nil {
		return found(a, "an epoch from 1 on, a version from 0 on, and no arrival")
	}
	return nil
}

func stateTables(_ context.Context, _ *suite, st state) error {
	if !slices.Equal(st.Tables, tableNames()) {
		return &finding{fmt.Sprint(tableNames()), fmt.Sprint(st.Tables)}
	}
	return nil
}

func stateRows(_ context.Context, _ *suite, st state) error {
	for _, name := range tableNames() {
		if n, ok := st.Rows[name]; !ok || n < 0 {
			return &finding{"a number of rows of " + name, fmt.Sprint(st.Rows)}
		}
	}
	if st.Rows["companies"] != 1 {
		return &finding{"1 row of companies", fmt.Sprint(st.Rows)}
	}
	return nil
}

// stranger is the suite on a company that nobody has ever had: the ids of the highest region
// number are given out by none.
func (s *suite) stranger() (*suite, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<company.RegionShift-1))
	if err != nil {
		return nil, err
	}
	other := *s
	other.Company = company.ID(company.FirstID(company.MaxRegionNumber) + 1 + n.Int64())
	other.epoch = 1
	return &other, nil
}

func neverHereState(ctx context.Context, s *suite, _ state) error {
	other, err := s.stranger()
	if err != nil {
		return err
	}
	var st state
	if err := other.ask(ctx, &st, "state"); err != nil {
		return err
	}
	if st.Fence != nil || st.Arrival != nil {
		return &finding{"neither fence nor arrival", st.String()}
	}
	return nil
}

func neverHereRefusals(ctx context.Context, s *suite, _ state) error {
	other, err := s.stranger()
	if err != nil {
		return err
	}
	for _, op := range other.operations() {
		name, _, _ := strings.Cut(op.verb, "?")
		if op.method == http.MethodPost && slices.Contains([]string{"rows", "changes", "arrive", "activate", "abandon", "settle"}, name) || name == "state" {
			continue
		}
		var body []byte
		if op.method == http.MethodPost {
			body = other.body(op.members)
		}
		a, err := other.send(ctx, op.method, other.path(op.verb), other.bearer(), body)
		if err != nil {
			return err
		}
		if err := a.refused(notFound); err != nil {
			return err
		}
	}
	return nil
}

func rowsComplete(ctx context.Context, s *suite, st state) error {
	for _, t := range schema {
		// Small pages, but not thousands of them.
		some, _, err := s.readTable(ctx, t, max(2, int(st.Rows[t.name]/50)))
		if err != nil {
			return err
		}
		all, _, err := s.readTable(ctx, t, pageRows)
		if err != nil {
			return err
		}
		for _, rows := range [][]row{some, all} {
			if int64(len(rows)) != st.Rows[t.name] {
				return &finding{fmt.Sprintf("%d rows of %s, as state counts them", st.Rows[t.name], t.name), fmt.Sprint(len(rows))}
			}
			for i := 1; i < len(rows); i++ {
				if byKey(rows[i-1], rows[i]) >= 0 {
					return &finding{"the rows of " + t.name + " in the order of their keys", cursor(rows[i].key) + " after " + cursor(rows[i-1].key)}
				}
			}
		}
		w := &twin{rows: map[string][]row{t.name: some}}
		if difference := w.differences(map[string][]row{t.name: all}); difference != "" {
			return &finding{"the same rows in small and in large pages", difference}
		}
	}
	return nil
}

func rowsOwn(ctx context.Context, s *suite, _ state) error {
	all, _, err := s.readAll(ctx)
	if err != nil {
		return err
	}
	for _, t := range schema {
		for _, r := range all[t.name] {
			columns, err := readColumns(r.data)
			if err != nil {
				return err
			}
			if fmt.Sprint(columns["company_id"]) != s.Company.String() {
				return &finding{"rows of company " + s.Company.String(), fmt.Sprintf("a row of %s: %.200s", t.name, r.data)}
			}
			if names := columnsOf(columns); names != columnsOf(samples(s.Company)[t.name]) {
				return &finding{"rows of " + t.name + " with the columns " + columnsOf(samples(s.Company)[t.name]), names}
			}
		}
	}
	return nil
}

func rowsUnknownTable(ctx context.Context, s *suite, _ state) error {
	for _, name := range []string{"", "fence", "change_log", "COMPANIES", "rfis; DROP TABLE rfis", "\x00", strings.Repeat("t", 1000)} {
		a, err := s.get(ctx, "rows", "table", name)
		if err != nil {
			return err
		}
		if err := a.refused(invalid); err != nil {
			return err
		}
	}
	return nil
}

// refuseQueries wants each value to be refused as a parameter.
func (s *suite) refuseQueries(ctx context.Context, verb, name string, values []string, more ...string) error {
	for _, value := range values {
		a, err := s.get(ctx, verb, append([]string{name, value}, more...)...)
		if err != nil {
			return err
		}
		if err := a.refused(badRequest); err != nil {
			return err
		}
	}
	return nil
}

var wrongNumbers = []string{"-1", "x", "1.5", "9223372036854775808", "[1]", "1 OR 1=1"}

func rowsCursors(ctx context.Context, s *suite, _ state) error {
	for _, name := range []string{"after", "until"} {
		err := s.refuseQueries(ctx, "rows", name, []string{"x", "1", "[", "[]", "[1]", "[1,2,3]", `["a","b"]`, `[1,"b"]`, "[1.5,2]", "[9223372036854775808,1]", "{}", "null", "[1,2]x"}, "table", "rfis")
		if err != nil {
			return err
		}
	}
	return s.refuseQueries(ctx, "rows", "limit", wrongNumbers, "table", "rfis")
}

func changesCursors(ctx context.Context, s *suite, _ state) error {
	for verb, names := range map[string][]string{"changes": {"after", "until"}, "checksum": {"since"}} {
		for _, name := range names {
			if err := s.refuseQueries(ctx, verb, name, wrongNumbers); err != nil {
				return err
			}
		}
	}
	return nil
}

func checksumWhole(ctx context.Context, s *suite, st state) error {
	rows, _, err := s.readAll(ctx)
	if err != nil {
		return err
	}
	return s.summed(ctx, &twin{version: st.Fence.Version, rows: rows})
}

// summed wants the region's checksum to be that of these rows, at their version.
func (s *suite) summed(ctx context.Context, w *twin) error {
	var said checksum
	if err := s.ask(ctx, &said, "checksum"); err != nil {
		return err
	}
	if difference := different(w.sums(), said.Tables); difference != "" {
		return &finding{"the sums of the rows", difference}
	}
	if said.Version != w.version {
		return &finding{fmt.Sprintf("the checksum at version %d", w.version), fmt.Sprintf("version %d", said.Version)}
	}
	return nil
}
