package conform

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// logChecks are about a company that the region owns after the suite has made many changes.
var logChecks = []Check{
	{Name: "rows.values", stage: serving, run: rowsValues,
		Rule: "What was written comes back as it was: each character of a text, and each digit of a number."},
	{Name: "checksum.values", stage: serving, run: checksumValues,
		Rule: "A digest is the SHA-256 of the row in the canonical form of RFC 8785."},
	{Name: "checksum.since", stage: serving, run: checksumSince,
		Rule: "With `since` it is that of the rows that entries after that version name and that are still there, each once."},
	{Name: "rows.limit", stage: serving, run: rowsLimit,
		Rule: "A page has at most `limit` rows, and never more than 1000."},
	{Name: "rows.until", stage: serving, run: rowsUntil,
		Rule: "With `until` the last row is the one with this key, or the one before it."},
	{Name: "rows.end", stage: serving, run: rowsEnd,
		Rule: "Without `until` the answer has `end`, the key of the last row that the table has now."},
	{Name: "log.kept", stage: serving, run: logKept,
		Rule: "The entries that came by `changes` are in the destination's own change log, under the same versions."},
	{Name: "log.pages", stage: serving, run: logPages,
		Rule: "`changes` answers at most 1000 entries, from the one after `after` on, in their order and without a gap."},
	{Name: "log.until", stage: serving, run: logUntil,
		Rule: "With `until` no entry after that version is answered."},
	{Name: "log.end", stage: serving, run: logEnd,
		Rule: "Where there is no entry after `after` the list is empty; `version` is always that of the company."},
	{Name: "pages.bytes", stage: serving, run: pagesBytes,
		Rule: "A page, and a batch of changes, ends with the row by which its rows come to 4 MiB or more."},
}

// novelties brings the company to have what the suite plays.
func (s *suite) novelties(ctx context.Context) error {
	if s.played {
		return nil
	}
	return s.elsewhere(ctx, "changes", s.play)
}

func rowsValues(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	return s.has(ctx, s.twin, "the rows as they were written")
}

func checksumValues(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	return s.summed(ctx, s.twin)
}

func checksumSince(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	return s.summedSince(ctx)
}

func rowsLimit(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	for limit, most := range map[string]int{"1": 1, "7": 7, "1000": 1000, "5000": 1000, "9223372036854775807": 1000, "": 1000} {
		pairs := []string{"table", "rfis"}
		if limit != "" {
			pairs = append(pairs, "limit", limit)
		}
		var p page
		if err := s.ask(ctx, &p, "rows", pairs...); err != nil {
			return err
		}
		if len(p.Rows) > most || len(p.Rows) == 0 || p.Last {
			return &finding{fmt.Sprintf("1 to %d rows, and not the last page, with the limit %q", most, limit), fmt.Sprintf("%d rows, last: %v", len(p.Rows), p.Last)}
		}
	}
	return nil
}

// large brings rows that are more than a page has, or deletes them again: everything takes
// longer while they are there.
func (s *suite) large(ctx context.Context, deleted bool) error {
	return s.elsewhere(ctx, "large rows", func() error {
		rfis := tableOf("rfis")
		for n := range int64(largeRows) {
			columns := sampleRFI(s.Company, 10*manyRows+n, strings.Repeat("large ", largeText/6))
			if deleted {
				columns = rfis.keyOf(columns)
			}
			if err := s.twin.write(rfis, deleted, columns); err != nil {
				return err
			}
		}
		return nil
	})
}

func pagesBytes(ctx context.Context, s *suite, st state) error {
	if err := s.large(ctx, false); err != nil {
		return err
	}
	err := s.pagesEnd(ctx, st.Fence.Version)
	return cmp.Or(err, s.large(ctx, true))
}

// pagesEnd reads a page of large rows, and a batch of changes after a version.
func (s *suite) pagesEnd(ctx context.Context, after int64) error {
	var p page
	if err := s.ask(ctx, &p, "rows", "table", "rfis", "after", cursor([]int64{madeProject, firstRFI + 10*manyRows - 1})); err != nil {
		return err
	}
	var log changes
	if err := s.ask(ctx, &log, "changes", "after", strconv.FormatInt(after, 10)); err != nil {
		return err
	}
	logged := make([]json.RawMessage, len(log.Changes))
	for i, e := range log.Changes {
		logged[i] = e.Row
	}
	for what, rows := range map[string][]json.RawMessage{"rows": p.Rows, "changes": logged} {
		bytes := 0
		for i, r := range rows {
			if bytes >= batchBytes {
				return &finding{fmt.Sprintf("%s that end where they come to %d bytes", what, batchBytes), fmt.Sprintf("%d of them, %d bytes before number %d", len(rows), bytes, i+1)}
			}
			bytes += len(r)
		}
		if len(rows) == 0 {
			return &finding{"some " + what, "none"}
		}
	}
	return nil
}

func rowsUntil(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	// The row 7 was deleted: a key needn't be that of a row.
	for until, want := range map[int64]int64{6: 6, 7: 6, 8: 8} {
		var p page
		err := s.ask(ctx, &p, "rows", "table", "rfis", "after", cursor([]int64{madeProject, firstRFI + 4}), "until", cursor([]int64{madeProject, firstRFI + until}))
		if err != nil {
			return err
		}
		last := cursor([]int64{madeProject, firstRFI + want})
		if !p.Last || p.After != last || p.End != "" {
			return &finding{fmt.Sprintf("the last page with rows up to %s, and no end", last), fmt.Sprintf("after %s, last %v, end %q", p.After, p.Last, p.End)}
		}
	}
	return nil
}

func rowsEnd(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	for _, t := range schema {
		rows := s.twin.rows[t.name]
		want := ""
		if len(rows) > 0 {
			want = cursor(rows[len(rows)-1].key)
		}
		var p page
		if err := s.ask(ctx, &p, "rows", "table", t.name, "limit", "1"); err != nil {
			return err
		}
		if p.End != want {
			return &finding{fmt.Sprintf("the end %q of %s", want, t.name), fmt.Sprintf("%q", p.End)}
		}
	}
	return nil
}

// readLog reads the change log after a version, by pages.
func (s *suite) readLog(ctx context.Context, after int64) (all []entry, err error) {
	for {
		var log changes
		if err := s.ask(ctx, &log, "changes", "after", strconv.FormatInt(after, 10)); err != nil {
			return nil, err
		}
		if len(all) > maxRows {
			return nil, &finding{fmt.Sprintf("at most %d entries", maxRows), "more"}
		}
		if len(log.Changes) > pageRows {
			return nil, &finding{"at most 1000 entries", fmt.Sprint(len(log.Changes))}
		}
		for _, e := range log.Changes {
			if e.Version != after+1 {
				return nil, &finding{fmt.Sprintf("the entry of version %d", after+1), fmt.Sprint(e.Version)}
			}
			after++
		}
		if all = append(all, log.Changes...); len(log.Changes) == 0 {
			return all, nil
		}
	}
}

func logKept(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	var log changes
	if err := s.ask(ctx, &log, "changes", "after", strconv.FormatInt(s.playedAfter, 10)); err != nil {
		return err
	}
	want := s.since(s.playedAfter)
	if len(log.Changes) == 0 || len(log.Changes) > len(want) {
		return &finding{"some of the entries", fmt.Sprint(len(log.Changes))}
	}
	for i, got := range log.Changes {
		a, err := readColumns(want[i].Row)
		if err != nil {
			return err
		}
		b, err := readColumns(got.Row)
		if err != nil {
			return &finding{"the entry as it was sent", err.Error()}
		}
		here, err := canonical(a)
		if err != nil {
			return err
		}
		if there, err := canonical(b); err != nil || here != there || got.Version != want[i].Version || got.Table != want[i].Table || got.Deleted != want[i].Deleted {
			return &finding{fmt.Sprintf("version %d, %s, deleted %v, %.200s", want[i].Version, want[i].Table, want[i].Deleted, here), fmt.Sprintf("version %d, %s, deleted %v, %.200s", got.Version, got.Table, got.Deleted, there)}
		}
	}
	return nil
}

func logPages(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	log, err := s.readLog(ctx, s.playedAfter)
	if err != nil {
		return err
	}
	if want := s.since(s.playedAfter); len(log) != len(want) {
		return &finding{fmt.Sprintf("%d entries", len(want)), fmt.Sprint(len(log))}
	}
	return nil
}

func logUntil(ctx context.Context, s *suite, _ state) error {
	if err := s.novelties(ctx); err != nil {
		return err
	}
	var log changes
	if err := s.ask(ctx, &log, "changes", "after", strconv.FormatInt(s.playedAfter, 10), "until", strconv.FormatInt(s.playedAfter+3, 10)); err != nil {
		return err
	}
	if len(log.Changes) != 3 || log.Version != s.twin.version {
		return &finding{fmt.Sprintf("3 entries, and version %d", s.twin.version), fmt.Sprintf("%d, and version %d", len(log.Changes), log.Version)}
	}
	return nil
}

func logEnd(ctx context.Context, s *suite, st state) error {
	for _, after := range []int64{st.Fence.Version, st.Fence.Version + 100} {
		a, err := s.get(ctx, "changes", "after", strconv.FormatInt(after, 10))
		if err != nil {
			return err
		}
		var log changes
		if err := a.fine(&log); err != nil {
			return err
		}
		if log.Changes == nil || len(log.Changes) > 0 || log.Version != st.Fence.Version {
			return found(a, "an empty list, and version %d", st.Fence.Version)
		}
	}
	return nil
}
