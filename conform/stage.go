package conform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// stage is how far a company is between the region under test and the one that the suite
// plays.
type stage int

const (
	// serving: the region owns it.
	serving stage = iota + 1
	// frozen: it is about to leave.
	frozen
	// left: it lives with the suite, and the region keeps its rows.
	left
	// purged: it lives with the suite, and the region has nothing of it.
	purged
	// returning: it is on its way back, by the changes since.
	returning
	// empty: it is on its way back from nothing, and no row has come.
	empty
	// underway: some rows have come.
	underway
	// copied: all rows have come.
	copied
)

func (g stage) String() string {
	return map[stage]string{serving: "owned", frozen: "frozen", left: "gone", purged: "gone and purged", returning: "on its way back by the changes since",
		empty: "on its way back, with no row there yet", underway: "on its way back, with some rows there", copied: "on its way back, with all rows there"}[g]
}

// pageRows and batchRows are how much the suite sends at a time, at the most.
const (
	pageRows   = 1000
	batchBytes = 4 << 20
)

// look asks the region how things stand, and comes after all turns that it knows.
func (s *suite) look(ctx context.Context) (state, stage, error) {
	var st state
	if err := s.ask(ctx, &st, "state", "rows", "1"); err != nil {
		return st, 0, err
	}
	s.turn = max(s.turn, st.Turn)
	switch {
	case st.Fence == nil:
		return st, 0, errors.New("the region has never had the company")
	case st.Fence.State == "owned" && st.Arrival == nil:
		s.epoch = st.Fence.Epoch
		return st, serving, nil
	case st.Fence.State == "frozen" && st.Arrival == nil:
		s.epoch = st.Fence.Epoch
		return st, frozen, nil
	case st.Fence.State != "gone":
		return st, 0, fmt.Errorf("the fence is %q, with an arrival or without", st.Fence.State)
	}
	s.epoch = max(s.epoch, st.Fence.GoneEpoch, st.Fence.Epoch)
	switch a := st.Arrival; {
	case a == nil && st.Fence.Purged:
		return st, purged, nil
	case a == nil:
		return st, left, nil
	case a.Move != s.move:
		return st, underway, nil // of a move that nobody carries on
	case a.Copied && s.reusing:
		return st, returning, nil
	case a.Copied:
		return st, copied, nil
	case a.Table == "" || a.Table == schema[0].name && a.After == "":
		return st, empty, nil
	}
	return st, underway, nil
}

// reach brings the company to a stage, by calls that other checks judge.
func (s *suite) reach(ctx context.Context, want stage) (state, error) {
	const most = 12 // the longest way has eight steps
	for range most {
		st, now, err := s.look(ctx)
		if err != nil || now == want {
			return st, err
		}
		if err := s.step(ctx, st, now, want); err != nil {
			return st, err
		}
	}
	return state{}, fmt.Errorf("the company doesn't come to be %s", want)
}

// step does what comes next on the way from one stage to another.
func (s *suite) step(ctx context.Context, st state, now, want stage) error {
	switch now {
	case serving:
		return s.freeze(ctx)
	case frozen:
		if want == serving {
			return s.thaw(ctx)
		}
		return s.leave(ctx, st)
	case left, purged:
		switch want {
		case returning:
			if now == purged || s.leftAt != st.Fence.Version {
				return s.comeHome(ctx, st)
			}
			return s.arrive(ctx, st, true)
		case empty, underway, copied:
			return s.arrive(ctx, st, false)
		case purged:
			_, err := s.purge(ctx)
			return err
		default:
			return s.comeHome(ctx, st)
		}
	}
	// It is on its way back.
	switch {
	case st.Arrival.Move != s.move, want == empty, want == purged, want == underway && now != empty, want == copied && now == returning:
		return s.abandon(ctx)
	case want == underway:
		return s.do(ctx, "rows", s.pageFor(st.Arrival, pageRows), nil)
	case want == copied:
		return s.copyRows(ctx, st.Arrival)
	}
	return s.comeHome(ctx, st)
}

// elsewhere takes the company away, has change do something to its twin, and brings the company
// back. what is what comes with it.
func (s *suite) elsewhere(ctx context.Context, what string, change func() error) error {
	if _, err := s.reach(ctx, left); err != nil {
		return &blocked{fmt.Sprintf("the company can't be taken away: %v", err)}
	}
	if err := change(); err != nil {
		return err
	}
	if _, err := s.reach(ctx, serving); err != nil {
		return &blocked{fmt.Sprintf("%s can't be brought: %v", what, err)}
	}
	return nil
}

// has wants the region to have a twin's rows, and no others. want says which those are.
func (s *suite) has(ctx context.Context, w *twin, want string) error {
	rows, _, err := s.readAll(ctx)
	if err != nil {
		return err
	}
	if difference := w.differences(rows); difference != "" {
		return &finding{want, difference}
	}
	return nil
}

// begin begins another move.
func (s *suite) begin() {
	s.moves++
	s.move, s.turn = fmt.Sprintf("conform-%s-%d", s.run, s.moves), s.turn+1
}

func (s *suite) freeze(ctx context.Context) error {
	s.begin()
	if err := s.do(ctx, "depart", members{"epoch": s.epoch, "version": 0}, nil); err != nil {
		return err
	}
	return s.do(ctx, "freeze", members{"epoch": s.epoch}, nil)
}

func (s *suite) thaw(ctx context.Context) error {
	return s.do(ctx, "thaw", members{"epoch": s.epoch + 1}, nil)
}

// leave has the suite own the company. It wants to have all rows first: the region may delete
// them from then on.
func (s *suite) leave(ctx context.Context, st state) error {
	rows, version, err := s.readAll(ctx)
	if err != nil {
		return fmt.Errorf("the rows can't be read, and so it isn't taken away: %w", err)
	}
	for name, n := range st.Rows {
		if int64(len(rows[name])) != n {
			return fmt.Errorf("of %d rows of %s only %d can be read, and so it isn't taken away", n, name, len(rows[name]))
		}
	}
	var log []entry // of a company that nobody has changed since it was brought back it is still right
	if s.twin != nil && s.twin.version == version {
		log = s.twin.log
	}
	s.twin, s.leftAt = &twin{version, rows, log}, version
	return s.do(ctx, "leave", members{"epoch": s.epoch + 1, "region": s.Region}, nil)
}

// readAll reads all rows by pages, and the version at which the last page was read.
func (s *suite) readAll(ctx context.Context) (all map[string][]row, version int64, err error) {
	all = map[string][]row{}
	for _, t := range schema {
		var rows []row
		if rows, version, err = s.readTable(ctx, t, pageRows); err != nil {
			return nil, 0, err
		}
		all[t.name] = rows
	}
	return all, version, nil
}

// maxRows is how many rows of a table, and entries of the change log, the suite keeps: a
// throwaway company has few, and a region mustn't fill the suite's memory.
const maxRows = 100_000

// readTable reads a table by pages of so many rows.
func (s *suite) readTable(ctx context.Context, t table, limit int) (all []row, version int64, err error) {
	after := ""
	for {
		var p page
		if err := s.ask(ctx, &p, "rows", "table", t.name, "after", after, "limit", strconv.Itoa(limit)); err != nil {
			return nil, 0, err
		}
		for _, data := range p.Rows {
			r, err := t.readRow(data)
			if err != nil {
				return nil, 0, &finding{"rows as the contract writes them", err.Error()}
			}
			all = append(all, r)
		}
		if p.Last {
			return all, p.Version, nil
		}
		if len(all) > maxRows {
			return nil, 0, &finding{fmt.Sprintf("a throwaway company, with at most %d rows of %s", maxRows, t.name), "more"}
		}
		if p.After == after || len(p.Rows) == 0 {
			return nil, 0, &finding{"pages of " + t.name + " that come to an end", fmt.Sprintf("no row after %s, and no last page", after)}
		}
		after = p.After
	}
}

// arrive begins the way back.
func (s *suite) arrive(ctx context.Context, st state, reuse bool) error {
	s.begin()
	s.reusing = reuse
	version := s.twin.version
	if reuse {
		version = st.Fence.Version
	}
	return s.do(ctx, "arrive", members{"epoch": s.epoch, "version": version, "reuse": reuse}, nil)
}

// abandon gives the way back up.
func (s *suite) abandon(ctx context.Context) error {
	st, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	if st.Arrival != nil {
		s.move, s.turn = st.Arrival.Move, s.turn+1
	}
	return s.do(ctx, "abandon", nil, nil)
}

// comeHome has the region own the company again, with all that was changed meanwhile.
func (s *suite) comeHome(ctx context.Context, st state) error {
	if s.twin == nil {
		return errors.New("the company left before this run, and its rows aren't here")
	}
	if st.Arrival == nil {
		if err := s.arrive(ctx, st, !st.Fence.Purged && s.leftAt == st.Fence.Version); err != nil {
			return err
		}
	}
	if err := s.ask(ctx, &st, "state"); err != nil {
		return err
	}
	if st.Arrival == nil {
		return errors.New("the region has forgotten the arrival")
	}
	if err := s.copyRows(ctx, st.Arrival); err != nil {
		return err
	}
	if err := s.sendChanges(ctx, s.since(st.Arrival.Version)); err != nil {
		return err
	}
	return s.do(ctx, "activate", members{"epoch": s.epoch + 1, "version": s.twin.version}, nil)
}

// copyRows sends the rows that the arrival lacks.
func (s *suite) copyRows(ctx context.Context, at *arrival) error {
	for !at.Copied {
		before := *at
		if err := s.do(ctx, "rows", s.pageFor(at, pageRows), at); err != nil {
			return err
		}
		if before == *at {
			return &finding{"the next page to be taken", "an arrival that stands still at " + at.Table + " " + at.After}
		}
	}
	return nil
}

// pageFor is the page that an arrival waits for, with so many rows and bytes at the most.
func (s *suite) pageFor(at *arrival, most int) members {
	name := at.Table
	if name == "" {
		name = schema[0].name
	}
	rows, start := s.twin.rows[name], 0
	if at.After != "" {
		var key []int64
		_ = json.Unmarshal([]byte(at.After), &key) // it is what we have sent
		i, there := find(rows, key)
		if start = i; there {
			start++
		}
	}
	after, sent, bytes := at.After, []json.RawMessage{}, 0
	for _, r := range rows[start:] {
		if len(sent) == most || bytes >= batchBytes {
			break
		}
		sent, bytes, after = append(sent, r.data), bytes+len(r.data), cursor(r.key)
	}
	return members{"table": name, "since": at.After, "after": after, "last": start+len(sent) == len(rows), "rows": sent, "version": s.twin.version}
}

// since are the changes that were made here after a version.
func (s *suite) since(version int64) []entry {
	i := slices.IndexFunc(s.twin.log, func(e entry) bool { return e.Version > version })
	if i < 0 {
		return nil
	}
	return s.twin.log[i:]
}

// sendChanges sends entries in batches.
func (s *suite) sendChanges(ctx context.Context, log []entry) error {
	for len(log) > 0 {
		n, bytes := 0, 0
		for n < len(log) && n < pageRows && bytes < batchBytes {
			bytes += len(log[n].Row)
			n++
		}
		if err := s.do(ctx, "changes", members{"changes": log[:n]}, nil); err != nil {
			return err
		}
		log = log[n:]
	}
	return nil
}
