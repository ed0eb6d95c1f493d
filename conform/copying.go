package conform

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// copyChecks are about a company whose rows come anew.
var copyChecks = []Check{
	{Name: "purge", stage: left, run: purge,
		Rule: "`purge` deletes some rows; `left` says whether to call it again, and after the last call none is there."},
	{Name: "purge.repeat", stage: purged, run: purgeRepeat,
		Rule: "Where nothing is left `purge` answers `deleted` 0 and `left` false, as often as it is called."},
	{Name: "arrive.purged", stage: purged, run: arrivePurged,
		Rule: "Where the rows of that version aren't all there, `reuse` is of no consequence: `copied` is false."},
	{Name: "arrive.fresh", stage: left, run: arriveFresh,
		Rule: "Without `reuse` the region deletes what is left of the company before it answers, and waits for the first page of the first table."},
	{Name: "import.changes-early", stage: empty, run: importChangesEarly,
		Rule: "`changes` and `activate` before the last page of the last table are answered `409` with `conflict`."},
	{Name: "import.unknown-table", stage: empty, run: importUnknownTable,
		Rule: "Pages of another table are answered `422` with `invalid`."},
	{Name: "import.values", stage: empty, run: importValues,
		Rule: "A page with a row of another company, a row that lacks a column or has one too many, or a value that isn't of its column's type is answered `422` with `invalid`, and none of its rows is taken."},
	{Name: "import.cursor", stage: empty, run: importCursor,
		Rule: "An `after` that isn't a key of the table is answered `422` with `invalid`."},
	{Name: "import.order", stage: empty, run: importOrder,
		Rule: "A page that isn't the next one changes nothing: the answer says up to where rows have come."},
	{Name: "import.other-move", stage: empty, run: importOtherMove,
		Rule: "`rows`, `changes` and `activate` of another move than the one that arrives are answered `409` with `conflict`."},
	{Name: "import.page", stage: empty, run: importPage,
		Rule: "`rows` answers the arrival, whose `table` and `after` say which page is next."},
	{Name: "import.repeat", stage: empty, run: importRepeat,
		Rule: "A page that has come already answers the arrival as it stands, and is left out."},
	{Name: "import.whole", stage: copied, run: importWhole,
		Rule: "With the last page of the last table `copied` is true, and the rows are those that were sent."},
	{Name: "abandon", stage: copied, run: abandon,
		Rule: "`abandon` deletes what has come, and ends the arrival."},
	{Name: "abandon.repeat", stage: underway, run: abandonRepeat,
		Rule: "`abandon` of a move that doesn't arrive here changes nothing, and answers `{}` as ever."},
	{Name: "abandon.late-arrive", stage: underway, run: abandonLateArrive,
		Rule: "After `abandon`, `arrive` of the same move is answered `409` with `conflict`."},
	{Name: "import.activate", stage: copied, run: importActivate,
		Rule: "After `activate` the company is served with the rows that have come, and no others."},
	{Name: "log.shortened", stage: serving, run: logShortened,
		Rule: "Where the change log doesn't reach back to the entry after `after`, the answer is `410` with `log_shortened`, and no part of it."},
}

// endChecks come last.
var endChecks = []Check{
	{Name: "settle", stage: serving, run: settle,
		Rule: "`settle` is allowed in every state, and answers `{}`."},
	{Name: "company.restored", stage: serving, run: companyRestored,
		Rule: "Nothing is lost on the way, and nothing is added."},
}

// purge deletes all rows, in as many calls as it takes.
func (s *suite) purge(ctx context.Context) (total int64, err error) {
	const most = 100_000
	for range most {
		var said struct {
			Deleted *int64 `json:"deleted"`
			Left    *bool  `json:"left"`
		}
		a, err := s.post(ctx, "purge", nil)
		if err != nil {
			return total, err
		}
		if err := a.fine(&said); err != nil {
			return total, err
		}
		if said.Deleted == nil || said.Left == nil || *said.Deleted < 0 {
			return total, found(a, "how many rows are deleted, and whether some are left")
		}
		if total += *said.Deleted; !*said.Left {
			return total, nil
		}
	}
	return total, &finding{"an end of purge", fmt.Sprintf("%d calls that say that there are more", most)}
}

func purge(ctx context.Context, s *suite, _ state) error {
	total, err := s.purge(ctx)
	if err != nil {
		return err
	}
	if total < s.twin.total() {
		return &finding{fmt.Sprintf("%d rows or more to be deleted", s.twin.total()), fmt.Sprint(total)}
	}
	return s.nothing(ctx)
}

// nothing wants no rows of the company to be there, and its fence to tell where it went.
func (s *suite) nothing(ctx context.Context) error {
	var st state
	if err := s.ask(ctx, &st, "state", "rows", "1"); err != nil {
		return err
	}
	for name, n := range st.Rows {
		if n != 0 {
			return &finding{"no rows of " + name, fmt.Sprint(n)}
		}
	}
	if st.Fence == nil || st.Fence.State != "gone" || st.Fence.GoneEpoch != s.epoch || !st.Fence.Purged {
		return found(st, "gone at epoch %d, and purged", s.epoch)
	}
	return nil
}

func purgeRepeat(ctx context.Context, s *suite, _ state) error {
	for range 2 {
		if total, err := s.purge(ctx); err != nil || total != 0 {
			if err == nil {
				err = &finding{"0 rows deleted", fmt.Sprint(total)}
			}
			return err
		}
	}
	return s.nothing(ctx)
}

func arrivePurged(ctx context.Context, s *suite, _ state) error {
	s.begin()
	s.reusing = false
	at, err := s.arrives(ctx, "arrive", members{"epoch": s.epoch, "version": s.twin.version, "reuse": true})
	if err != nil {
		return err
	}
	if at.Copied {
		return &finding{"copied to be false", fmt.Sprintf("%+v", at)}
	}
	return nil
}

func arriveFresh(ctx context.Context, s *suite, _ state) error {
	s.begin()
	s.reusing = false
	m := members{"epoch": s.epoch, "version": s.twin.version, "reuse": false}
	at, err := s.arrives(ctx, "arrive", m)
	if err != nil {
		return err
	}
	if at.Copied || at.After != "" || at.Table != "" && at.Table != schema[0].name || at.Version != s.twin.version || at.Move != s.move {
		return &finding{fmt.Sprintf("an arrival of %s that waits for the first page, at version %d", s.move, s.twin.version), fmt.Sprintf("%+v", at)}
	}
	var st state
	if err := s.ask(ctx, &st, "state", "rows", "1"); err != nil {
		return err
	}
	for name, n := range st.Rows {
		if n != 0 {
			return &finding{"no rows of " + name, fmt.Sprint(n)}
		}
	}
	return s.twice(ctx, "arrive", m)
}

func importChangesEarly(ctx context.Context, s *suite, st state) error {
	return s.refuse(ctx, st, conflict, append(ops("changes", members{"changes": []entry{}}, changesOf(s.twin.version+1, "projects", samples(s.Company)["projects"])),
		ops("activate", members{"epoch": s.epoch + 1, "version": s.twin.version})...)...)
}

func importUnknownTable(ctx context.Context, s *suite, st state) error {
	for _, name := range []string{"", "fence", "moves", "COMPANIES"} {
		m := members{"table": name, "since": "", "after": "[]", "last": true, "rows": []any{samples(s.Company)["companies"]}, "version": s.twin.version}
		if err := s.refuse(ctx, st, invalid, ops("rows", m)...); err != nil {
			return err
		}
	}
	return nil
}

func importValues(ctx context.Context, s *suite, st state) error {
	good := samples(s.Company)["companies"]
	wrong := wrongRows(schema[0], good)
	for _, what := range slices.Sorted(maps.Keys(wrong)) {
		for _, rows := range [][]any{{wrong[what]}, {good, wrong[what]}} {
			m := members{"table": "companies", "since": "", "after": "[]", "last": true, "rows": rows, "version": s.twin.version}
			if err := s.refuse(ctx, st, invalid, ops("rows", m)...); err != nil {
				return named(what, err)
			}
		}
	}
	return s.hasNone(ctx, "companies", "no rows of pages that were refused")
}

func importCursor(ctx context.Context, s *suite, st state) error {
	for _, after := range []string{"x", "[1]", "{}", "null", "[", `["a"]`} {
		m := members{"table": "companies", "since": "", "after": after, "last": false, "rows": []any{samples(s.Company)["companies"]}, "version": s.twin.version}
		if err := s.refuse(ctx, st, invalid, ops("rows", m)...); err != nil {
			return err
		}
	}
	return nil
}

func importOrder(ctx context.Context, s *suite, st state) error {
	for _, m := range []members{
		{"table": "rfis", "since": "", "after": cursor([]int64{madeProject, firstRFI}), "last": true, "rows": []any{samples(s.Company)["rfis"]}, "version": s.twin.version},
		{"table": "companies", "since": "[]", "after": "[]", "last": true, "rows": []any{}, "version": s.twin.version},
	} {
		at, err := s.arrives(ctx, "rows", m)
		if err != nil {
			return err
		}
		if at != *st.Arrival {
			return &finding{fmt.Sprintf("%+v", *st.Arrival), fmt.Sprintf("%+v", at)}
		}
	}
	return s.hasNone(ctx, "rfis", "no rows of a page that wasn't the next one")
}

// hasNone wants a table to have no rows of the company's.
func (s *suite) hasNone(ctx context.Context, table, want string) error {
	now, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	if now.Rows[table] != 0 {
		return &finding{want, fmt.Sprint(now.Rows)}
	}
	return nil
}

func importOtherMove(ctx context.Context, s *suite, st state) error {
	other := *s
	other.move += "-other"
	return other.refuse(ctx, st, conflict, other.ofArrivals()...)
}

// next is where an arrival stands once a page has come.
func next(m members) (table, after string) {
	name, _ := m["table"].(string)
	after, _ = m["after"].(string)
	if last, _ := m["last"].(bool); !last {
		return name, after
	}
	i := slices.Index(tableNames(), name)
	if i+1 < len(schema) {
		return schema[i+1].name, ""
	}
	return name, after
}

func importPage(ctx context.Context, s *suite, st state) error {
	at := *st.Arrival
	for range 4 { // some tables, and some pages of one of them
		m := s.pageFor(&at, 1)
		now, err := s.arrives(ctx, "rows", m)
		if err != nil {
			return err
		}
		if name, after := next(m); now.Table != name || now.After != after || now.Copied {
			return &finding{fmt.Sprintf("the table %s, after %q", name, after), fmt.Sprintf("%+v", now)}
		}
		at = now
	}
	return nil
}

func importRepeat(ctx context.Context, s *suite, st state) error {
	at := *st.Arrival
	for range 3 {
		m := s.pageFor(&at, 1)
		if err := s.twice(ctx, "rows", m); err != nil {
			return err
		}
		now, _, err := s.look(ctx)
		if err != nil {
			return err
		}
		if now.Arrival == nil {
			return found(now, "an arrival")
		}
		at = *now.Arrival
	}
	return nil
}

func importWhole(ctx context.Context, s *suite, st state) error {
	for _, t := range schema {
		if want := int64(len(s.twin.rows[t.name])); st.Rows[t.name] != want {
			return &finding{fmt.Sprintf("%d rows of %s", want, t.name), fmt.Sprint(st.Rows[t.name])}
		}
	}
	return s.summed(ctx, s.twin)
}

func abandon(ctx context.Context, s *suite, _ state) error {
	if err := s.do(ctx, "abandon", nil, nil); err != nil {
		return err
	}
	var st state
	if err := s.ask(ctx, &st, "state"); err != nil {
		return err
	}
	if st.Arrival != nil {
		return found(st, "no arrival")
	}
	return s.nothing(ctx)
}

func abandonRepeat(ctx context.Context, s *suite, _ state) error {
	return s.twice(ctx, "abandon", nil)
}

func abandonLateArrive(ctx context.Context, s *suite, _ state) error {
	if err := s.do(ctx, "abandon", nil, nil); err != nil {
		return err
	}
	st, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	return s.refuse(ctx, st, conflict, ops("arrive", members{"epoch": s.epoch, "version": s.twin.version, "reuse": false})...)
}

func importActivate(ctx context.Context, s *suite, _ state) error {
	want := ownership{"owned", s.epoch + 1, s.twin.version}
	if err := s.owns(ctx, "activate", members{"epoch": want.Epoch, "version": want.Version}, want); err != nil {
		return err
	}
	return s.has(ctx, s.twin, "the rows that were sent")
}

// logShortened reads the log from the beginning, which after all that has been is rarely
// there. Some of it may be; then comes the end, or the refusal.
func logShortened(ctx context.Context, s *suite, st state) error {
	for after := int64(0); ; {
		a, err := s.get(ctx, "changes", "after", fmt.Sprint(after))
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return a.refused(shortened)
		}
		var log changes
		if err := a.fine(&log); err != nil {
			return err
		}
		for _, e := range log.Changes {
			if after++; e.Version != after {
				return found(a, "the entry of version %d, or 410 log_shortened", after)
			}
		}
		if len(log.Changes) == 0 && after < st.Fence.Version {
			return found(a, "the entry of version %d, or 410 log_shortened", after+1)
		}
		if len(log.Changes) == 0 {
			return nil
		}
	}
}

func settle(ctx context.Context, s *suite, _ state) error {
	for _, g := range []stage{serving, frozen, left, returning} {
		st, err := s.reach(ctx, g)
		if err != nil {
			return &blocked{fmt.Sprintf("the company can't be made %s: %v", g, err)}
		}
		if err := s.twice(ctx, "settle", nil); err != nil {
			return err
		}
		if err := s.unchanged(ctx, st, "settle"); err != nil {
			return err
		}
	}
	return nil
}

func companyRestored(ctx context.Context, s *suite, _ state) error {
	if s.first == nil {
		return &blocked{"its rows couldn't be read at the beginning"}
	}
	return s.asFound(ctx)
}
