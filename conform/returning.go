package conform

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// returnChecks are about a company that comes back by the changes since.
var returnChecks = []Check{
	{Name: "arrive.epoch", stage: left, run: arriveEpoch,
		Rule: "`arrive` of a company that is gone needs an epoch that isn't below `gone_epoch`."},
	{Name: "arrive.reuse", stage: left, run: arriveReuse,
		Rule: "With `reuse`, where the rows of just this `version` are still there, they are the start: `copied` is true from the beginning."},
	{Name: "arrive.repeat", stage: returning, run: arriveRepeat,
		Rule: "`arrive` of a move that has begun to arrive answers how far it is, and changes nothing."},
	{Name: "purge.returning", stage: returning, run: purgeReturning,
		Rule: "While a company is on its way here `purge` is answered `409` with `conflict`."},
	{Name: "changes.gap", stage: returning, run: changesGap,
		Rule: "An entry that isn't the next one is answered `422` with `invalid`."},
	{Name: "changes.unknown-table", stage: returning, run: changesUnknownTable,
		Rule: "Entries of another table, or of another company, are answered `422` with `invalid`, and none of the batch is applied."},
	{Name: "changes.values", stage: returning, run: changesValues,
		Rule: "An entry whose row lacks a column, has one too many, or a value that isn't of its column's type is answered `422` with `invalid`."},
	{Name: "changes.in-the-way", stage: returning, run: changesInTheWay,
		Rule: "A row that another one stands in the way of, where no later change can make room, is answered `409` with `conflict`."},
	{Name: "changes.apply", stage: returning, run: changesApply,
		Rule: "`changes` answers the arrival, whose `version` is that of the last entry that is applied."},
	{Name: "changes.repeat", stage: returning, run: changesRepeat,
		Rule: "Entries that are applied already are left out."},
	{Name: "arrival.checksum", stage: returning, run: arrivalChecksum,
		Rule: "While a company arrives its checksum is that of the rows that are there, at the `version` of the arrival."},
	{Name: "arrival.checksum-since", stage: returning, run: arrivalChecksumSince,
		Rule: "With `since` it is that of the rows that entries after that version name and that are still there, each once."},
	{Name: "activate.refusals", stage: returning, run: activateRefusals,
		Rule: "`activate` needs the `version` of the arrival, and a newer epoch than that of the arrival; otherwise it is answered `409` with `conflict`."},
	{Name: "activate", stage: returning, run: activate,
		Rule: "`activate` has the region own the company at `epoch`, and ends the arrival."},
	{Name: "activate.repeat", stage: serving, run: activateRepeat,
		Rule: "`activate` of a company that the region owns at this epoch or a newer one answers the fence and changes nothing."},
}

func arriveEpoch(ctx context.Context, s *suite, st state) error {
	s.begin()
	return s.refuse(ctx, st, conflict, ops("arrive", members{"epoch": st.Fence.GoneEpoch - 1, "version": s.leftAt, "reuse": true})...)
}

// arrives wants an operation to answer the arrival, as state tells it.
func (s *suite) arrives(ctx context.Context, verb string, m members) (arrival, error) {
	var said arrival
	if err := s.do(ctx, verb, m, &said); err != nil {
		return said, err
	}
	var st state
	if err := s.ask(ctx, &st, "state"); err != nil {
		return said, err
	}
	if st.Arrival == nil || *st.Arrival != said {
		return said, found(st, "the arrival that %s has answered, %+v", verb, said)
	}
	return said, nil
}

func arriveReuse(ctx context.Context, s *suite, _ state) error {
	s.begin()
	s.reusing = true
	at, err := s.arrives(ctx, "arrive", members{"epoch": s.epoch, "version": s.leftAt, "reuse": true})
	if err != nil {
		return err
	}
	if at.Move != s.move || at.Epoch != s.epoch || at.Version != s.leftAt || !at.Copied {
		return &finding{fmt.Sprintf("the move %s, copied, at epoch %d and version %d", s.move, s.epoch, s.leftAt), fmt.Sprintf("%+v", at)}
	}
	return nil
}

func arriveRepeat(ctx context.Context, s *suite, st state) error {
	if err := s.twice(ctx, "arrive", members{"epoch": s.epoch, "version": st.Arrival.Version, "reuse": true}); err != nil {
		return err
	}
	return s.unchanged(ctx, st, "an arrive that is repeated")
}

func purgeReturning(ctx context.Context, s *suite, st state) error {
	return s.refuse(ctx, st, conflict, ops("purge", nil)...)
}

func changesGap(ctx context.Context, s *suite, st state) error {
	good := samples(s.Company)["projects"]
	return s.refuse(ctx, st, invalid, ops("changes",
		changesOf(st.Arrival.Version+2, "projects", good), members{"changes": []entryOut{{st.Arrival.Version + 1, "projects", false, good}, {st.Arrival.Version + 3, "projects", false, good}}})...)
}

// entryOut is an entry with a row of whatever kind.
type entryOut struct {
	Version int64  `json:"version"`
	Table   string `json:"table"`
	Deleted bool   `json:"deleted"`
	Row     any    `json:"row"`
}

func changesOf(version int64, table string, row any) members {
	return members{"changes": []entryOut{{version, table, false, row}}}
}

func changesUnknownTable(ctx context.Context, s *suite, st state) error {
	next, all := st.Arrival.Version+1, samples(s.Company)
	for _, wrong := range []entryOut{
		{next + 1, "fence", false, all["projects"]}, {next + 1, "", false, all["projects"]},
		{next + 1, "projects", false, with(all["projects"], "company_id", int64(1))}, {next + 1, "rfis", true, with(all["rfis"], "company_id", int64(1))},
	} {
		batch := members{"changes": []entryOut{{next, "projects", false, all["projects"]}, wrong}}
		if err := s.refuse(ctx, st, invalid, ops("changes", batch)...); err != nil {
			return err
		}
	}
	return s.summedAsLeft(ctx)
}

// summedAsLeft wants no rows to have come since the company left.
func (s *suite) summedAsLeft(ctx context.Context) error {
	if s.played {
		return nil // they have come in the meantime
	}
	return s.summed(ctx, &twin{version: s.leftAt, rows: s.twin.rows})
}

func changesValues(ctx context.Context, s *suite, st state) error {
	for _, name := range []string{"projects", "rfis"} {
		wrong := wrongRows(tableOf(name), samples(s.Company)[name])
		for _, what := range slices.Sorted(maps.Keys(wrong)) {
			if err := s.refuse(ctx, st, invalid, ops("changes", changesOf(st.Arrival.Version+1, name, wrong[what]))...); err != nil {
				return named(what, err)
			}
		}
	}
	for _, deleted := range []any{nil, 7, without(samples(s.Company)["rfis"], "rfi_id"), with(samples(s.Company)["rfis"], "rfi_id", "1")} {
		batch := members{"changes": []entryOut{{st.Arrival.Version + 1, "rfis", true, deleted}}}
		if err := s.refuse(ctx, st, invalid, ops("changes", batch)...); err != nil {
			return named("the key of a deleted row", err)
		}
	}
	return s.summedAsLeft(ctx)
}

// named says which case a finding is about.
func named(what string, err error) error {
	if f, is := err.(*finding); is { //nolint:errorlint // nothing wraps them here
		return &finding{f.want + " (" + what + ")", f.got}
	}
	return err
}

func changesInTheWay(ctx context.Context, s *suite, st state) error {
	next := st.Arrival.Version + 1
	one := with(sampleRFI(s.Company, 0, ""), "project_id", madeProject+1) // of a project that nothing else is made of
	return s.refuse(ctx, st, conflict, ops("changes", members{"changes": []entryOut{{next, "rfis", false, one}, {next + 1, "rfis", false, with(one, "rfi_id", firstRFI+1)}}})...)
}

// caughtUp brings all changes that the suite plays.
func (s *suite) caughtUp(ctx context.Context) (arrival, error) {
	if err := s.play(); err != nil {
		return arrival{}, err
	}
	var st state
	if err := s.ask(ctx, &st, "state"); err != nil {
		return arrival{}, err
	}
	if st.Arrival == nil {
		return arrival{}, found(st, "an arrival")
	}
	if err := s.sendChanges(ctx, s.since(st.Arrival.Version)); err != nil {
		return arrival{}, err
	}
	if err := s.ask(ctx, &st, "state"); err != nil {
		return arrival{}, err
	}
	if st.Arrival == nil {
		return arrival{}, found(st, "an arrival")
	}
	return *st.Arrival, nil
}

func changesApply(ctx context.Context, s *suite, st state) error {
	if err := s.play(); err != nil {
		return err
	}
	log := s.since(st.Arrival.Version)
	if len(log) > 0 {
		at, err := s.arrives(ctx, "changes", members{"changes": log[:1]})
		if err != nil {
			return err
		}
		if at.Version != log[0].Version {
			return &finding{fmt.Sprintf("version %d", log[0].Version), fmt.Sprint(at.Version)}
		}
	}
	at, err := s.caughtUp(ctx)
	if err != nil {
		return err
	}
	if at.Version != s.twin.version {
		return &finding{fmt.Sprintf("version %d", s.twin.version), fmt.Sprint(at.Version)}
	}
	// None is allowed as well.
	return s.do(ctx, "changes", members{"changes": []entry{}}, nil)
}

func changesRepeat(ctx context.Context, s *suite, _ state) error {
	at, err := s.caughtUp(ctx)
	if err != nil {
		return err
	}
	log := s.since(s.playedAfter)
	again, err := s.arrives(ctx, "changes", members{"changes": log[:min(len(log), 20)]})
	if err != nil {
		return err
	}
	if again != at {
		return &finding{fmt.Sprintf("the arrival as before, %+v", at), fmt.Sprintf("%+v", again)}
	}
	return nil
}

func arrivalChecksum(ctx context.Context, s *suite, _ state) error {
	if _, err := s.caughtUp(ctx); err != nil {
		return err
	}
	return s.summed(ctx, s.twin)
}

func arrivalChecksumSince(ctx context.Context, s *suite, _ state) error {
	if _, err := s.caughtUp(ctx); err != nil {
		return err
	}
	return s.summedSince(ctx)
}

// summedSince wants the checksum of what was changed to be that of the twin, since several
// versions.
func (s *suite) summedSince(ctx context.Context) error {
	for _, since := range []int64{s.playedAfter, s.twin.version - 4, s.twin.version} {
		var said checksum
		if err := s.ask(ctx, &said, "checksum", "since", fmt.Sprint(since)); err != nil {
			return err
		}
		want, err := s.twin.touched(s.since(since))
		if err != nil {
			return err
		}
		if difference := different(want, said.Tables); difference != "" || said.Version != s.twin.version {
			return &finding{fmt.Sprintf("the sums of what was changed after version %d, at version %d", since, s.twin.version), fmt.Sprintf("at version %d %s", said.Version, difference)}
		}
	}
	return nil
}

func activateRefusals(ctx context.Context, s *suite, st state) error {
	v := st.Arrival.Version
	return s.refuse(ctx, st, conflict, ops("activate", members{"epoch": s.epoch + 1, "version": v + 1}, members{"epoch": s.epoch + 1, "version": max(v-1, 0)},
		members{"epoch": st.Arrival.Epoch, "version": v})...)
}

func activate(ctx context.Context, s *suite, _ state) error {
	if _, err := s.caughtUp(ctx); err != nil {
		return err
	}
	want := ownership{"owned", s.epoch + 1, s.twin.version}
	if err := s.owns(ctx, "activate", members{"epoch": want.Epoch, "version": want.Version}, want); err != nil {
		return err
	}
	var st state
	if err := s.ask(ctx, &st, "state"); err != nil {
		return err
	}
	if st.Fence == nil || st.Fence.ownership() != want || st.Arrival != nil || st.Fence.GoneRegion != "" || st.Fence.GoneEpoch != 0 || st.Fence.Purged {
		return found(st, "%s, without an arrival and without a place where the company went", want)
	}
	return nil
}

func activateRepeat(ctx context.Context, s *suite, st state) error {
	return s.twice(ctx, "activate", members{"epoch": s.epoch, "version": st.Fence.Version})
}
