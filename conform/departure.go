package conform

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// departureChecks are about the source's side of a move.
var departureChecks = []Check{
	{Name: "depart", stage: serving, run: depart,
		Rule: "`depart` answers the fence as it stands; the company is served on."},
	{Name: "depart.epoch", stage: serving, run: departEpoch,
		Rule: "`depart` and `freeze` need the fence's own epoch; at another one they are answered `409` with `conflict`."},
	{Name: "turns.highest", stage: serving, run: turnsHighest,
		Rule: "`turn` is the highest that the region has heard for this company."},
	{Name: "turns.lower", stage: serving, run: turnsLower,
		Rule: "A lower turn is answered `409` with `mover_replaced`, whatever state the company is in, and has no effect."},
	{Name: "serving.refusals", stage: serving, run: servingRefusals,
		Rule: "An operation in a state in which it isn't allowed is answered `409` with `conflict`, and has no effect."},
	{Name: "freeze", stage: serving, run: freeze,
		Rule: "`freeze` answers with the state `frozen`, and with the version at which the company stays."},
	{Name: "freeze.repeat", stage: frozen, run: freezeRepeat,
		Rule: "`freeze` of a company that is frozen at this epoch answers the same again."},
	{Name: "frozen.reads", stage: frozen, run: frozenReads,
		Rule: "A frozen company can be read by `rows`, `changes` and `checksum`, all at the version at which it froze."},
	{Name: "frozen.refusals", stage: frozen, run: frozenRefusals,
		Rule: "While a company is frozen nothing is allowed but to read it, `depart`, `freeze`, `thaw`, `leave`, `abandon` and `settle`."},
	{Name: "thaw", stage: frozen, run: thaw,
		Rule: "`thaw` has the region own the company at `epoch`, with all its rows."},
	{Name: "thaw.repeat", stage: frozen, run: thawRepeat,
		Rule: "`thaw` at the epoch at which the region owns the company answers the same again."},
	{Name: "thaw.newer", stage: frozen, run: thawNewer,
		Rule: "`thaw` of a frozen company needs a newer epoch than the fence's; at another one it is answered `409` with `conflict`."},
	{Name: "thaw.late-freeze", stage: frozen, run: thawLateFreeze,
		Rule: "A request to freeze that was on its way for long finds a newer epoch after a thaw, and is answered `409` with `conflict`."},
	{Name: "thaw.owned", stage: serving, run: thawOwned,
		Rule: "`thaw` of a company that isn't frozen takes the newer epoch all the same."},
	{Name: "leave.region", stage: frozen, run: leaveRegion,
		Rule: "A `region` that is no region code is answered `422` with `invalid`."},
	{Name: "leave.epoch", stage: frozen, run: leaveEpoch,
		Rule: "`leave` needs a newer epoch than the fence's; at another one it is answered `409` with `conflict`."},
	{Name: "leave", stage: left, run: leave,
		Rule: "After `leave` the state is `gone`, and `gone_region` and `gone_epoch` say where the company lives."},
	{Name: "leave.repeat", stage: left, run: leaveRepeat,
		Rule: "`leave` of a company that is gone at this epoch or a newer one answers the fence and changes nothing."},
	{Name: "gone.refusals", stage: left, run: goneRefusals,
		Rule: "Of a company that is gone `rows` and `changes` can't be read, and `depart`, `freeze` and `thaw` can't be done: `409` with `conflict`."},
	{Name: "gone.keeps", stage: left, run: goneKeeps,
		Rule: "A region keeps the rows of a company that is gone until `purge`; `checksum` tells that they are there."},
}

// ownership is what operations on the fence answer.
type ownership struct {
	State   string `json:"state"`
	Epoch   int64  `json:"epoch"`
	Version int64  `json:"version"`
}

func (f *fence) ownership() ownership { return ownership{f.State, f.Epoch, f.Version} }

func (o ownership) String() string {
	return fmt.Sprintf("%s at epoch %d and version %d", o.State, o.Epoch, o.Version)
}

// owns wants an operation on the fence to answer this.
func (s *suite) owns(ctx context.Context, verb string, m members, want ownership) error {
	var got ownership
	if err := s.do(ctx, verb, m, &got); err != nil {
		return err
	}
	if got != want {
		return found(got, "%s to answer %s", verb, want)
	}
	return nil
}

// twice wants an operation to answer the same when it is repeated, and to change nothing then.
func (s *suite) twice(ctx context.Context, verb string, m members) error {
	first, err := s.post(ctx, verb, m)
	if err != nil {
		return err
	}
	if err := first.fine(nil); err != nil {
		return err
	}
	st, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	second, err := s.post(ctx, verb, m)
	if err != nil {
		return err
	}
	if err := same(first, second); err != nil {
		return err
	}
	return s.unchanged(ctx, st, "a %s that is repeated", verb)
}

// refuse wants operations to be refused, and to have no effect.
func (s *suite) refuse(ctx context.Context, st state, want refusal, ops ...operation) error {
	for _, op := range ops {
		var a answer
		var err error
		if op.method == http.MethodGet {
			verb, query, _ := strings.Cut(op.verb, "?")
			name, value, _ := strings.Cut(query, "=")
			a, err = s.get(ctx, verb, name, value)
		} else {
			a, err = s.post(ctx, op.verb, op.members)
		}
		if err != nil {
			return err
		}
		if err := a.refused(want); err != nil {
			return err
		}
		if err := s.unchanged(ctx, st, "%s", a); err != nil {
			return err
		}
	}
	return nil
}

func ops(verb string, all ...members) []operation {
	list := make([]operation, len(all))
	for i, m := range all {
		list[i] = operation{http.MethodPost, verb, m}
	}
	return list
}

func depart(ctx context.Context, s *suite, st state) error {
	m := members{"epoch": s.epoch, "version": st.Fence.Version}
	if err := s.owns(ctx, "depart", m, st.Fence.ownership()); err != nil {
		return err
	}
	return s.twice(ctx, "depart", m)
}

func departEpoch(ctx context.Context, s *suite, st state) error {
	for _, verb := range []string{"depart", "freeze"} {
		epochs := []members{{"epoch": s.epoch + 1}}
		if s.epoch > 1 {
			epochs = append(epochs, members{"epoch": s.epoch - 1})
		}
		if err := s.refuse(ctx, st, conflict, ops(verb, epochs...)...); err != nil {
			return err
		}
	}
	return nil
}

func turnsHighest(ctx context.Context, s *suite, _ state) error {
	s.turn += 5
	if err := s.do(ctx, "depart", members{"epoch": s.epoch}, nil); err != nil {
		return err
	}
	var st state
	if err := s.ask(ctx, &st, "state"); err != nil {
		return err
	}
	if st.Turn != s.turn {
		return &finding{fmt.Sprintf("the turn %d", s.turn), fmt.Sprint(st.Turn)}
	}
	return nil
}

func turnsLower(ctx context.Context, s *suite, st state) error {
	s.turn++
	if err := s.do(ctx, "depart", members{"epoch": s.epoch}, nil); err != nil {
		return err
	}
	older := *s // a mover that has been asleep
	older.turn--
	for _, op := range s.operations() {
		if op.method == http.MethodGet || op.verb == "purge" {
			continue
		}
		if err := older.refuse(ctx, st, replaced, op); err != nil {
			return err
		}
	}
	return nil
}

// ofArrivals are the operations that need an arrival.
func (s *suite) ofArrivals() []operation {
	return []operation{
		{http.MethodPost, "rows", members{"table": "companies", "since": "", "after": "", "last": true, "rows": []any{}, "version": 0}},
		{http.MethodPost, "changes", members{"changes": []any{}}},
		{http.MethodPost, "activate", members{"epoch": s.epoch + 1, "version": 0}},
	}
}

func servingRefusals(ctx context.Context, s *suite, st state) error {
	list := append(s.ofArrivals(), operation{http.MethodPost, "purge", nil},
		operation{http.MethodPost, "leave", members{"epoch": s.epoch + 1, "region": s.Region}},
		operation{http.MethodPost, "arrive", members{"epoch": s.epoch, "version": st.Fence.Version}},
		operation{http.MethodPost, "arrive", members{"epoch": s.epoch + 1, "version": st.Fence.Version, "reuse": true}})
	if s.epoch > 1 {
		list = append(list, operation{http.MethodPost, "thaw", members{"epoch": s.epoch - 1}})
	}
	return s.refuse(ctx, st, conflict, list...)
}

func freeze(ctx context.Context, s *suite, st state) error {
	want := st.Fence.ownership()
	want.State = "frozen"
	if err := s.owns(ctx, "freeze", members{"epoch": s.epoch}, want); err != nil {
		return err
	}
	return s.stands(ctx, want)
}

// stands wants the fence to be so.
func (s *suite) stands(ctx context.Context, want ownership) error {
	var st state
	if err := s.ask(ctx, &st, "state"); err != nil {
		return err
	}
	if st.Fence == nil || st.Fence.ownership() != want {
		return found(st, "a fence that is %s", want)
	}
	return nil
}

func freezeRepeat(ctx context.Context, s *suite, _ state) error {
	return s.twice(ctx, "freeze", members{"epoch": s.epoch})
}

func frozenReads(ctx context.Context, s *suite, st state) error {
	rows, version, err := s.readAll(ctx)
	if err != nil {
		return err
	}
	var log changes
	if err := s.ask(ctx, &log, "changes", "after", fmt.Sprint(st.Fence.Version)); err != nil {
		return err
	}
	if version != st.Fence.Version || log.Version != st.Fence.Version || len(log.Changes) > 0 {
		return &finding{fmt.Sprintf("rows and changes at version %d, and none after it", st.Fence.Version), fmt.Sprintf("rows at %d, and %d changes up to %d", version, len(log.Changes), log.Version)}
	}
	var said checksum
	if err := s.ask(ctx, &said, "checksum"); err != nil {
		return err
	}
	if said.Version != version || len(said.Tables) != len(rows) {
		return &finding{fmt.Sprintf("a checksum of %d tables at version %d", len(rows), version), fmt.Sprintf("of %d at %d", len(said.Tables), said.Version)}
	}
	return nil
}

func frozenRefusals(ctx context.Context, s *suite, st state) error {
	return s.refuse(ctx, st, conflict, append(s.ofArrivals(), operation{http.MethodPost, "purge", nil},
		operation{http.MethodPost, "arrive", members{"epoch": s.epoch + 1, "version": st.Fence.Version, "reuse": true}})...)
}

func thaw(ctx context.Context, s *suite, st state) error {
	want := ownership{"owned", s.epoch + 1, st.Fence.Version}
	if err := s.owns(ctx, "thaw", members{"epoch": want.Epoch}, want); err != nil {
		return err
	}
	return s.stands(ctx, want)
}

func thawRepeat(ctx context.Context, s *suite, _ state) error {
	return s.twice(ctx, "thaw", members{"epoch": s.epoch + 1})
}

func thawNewer(ctx context.Context, s *suite, st state) error {
	epochs := []members{{"epoch": s.epoch}}
	if s.epoch > 1 {
		epochs = append(epochs, members{"epoch": s.epoch - 1})
	}
	return s.refuse(ctx, st, conflict, ops("thaw", epochs...)...)
}

func thawLateFreeze(ctx context.Context, s *suite, _ state) error {
	old := s.epoch
	if err := s.thaw(ctx); err != nil {
		return err
	}
	st, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	return s.refuse(ctx, st, conflict, ops("freeze", members{"epoch": old})...)
}

func thawOwned(ctx context.Context, s *suite, st state) error {
	want := ownership{"owned", s.epoch + 1, st.Fence.Version}
	return s.owns(ctx, "thaw", members{"epoch": want.Epoch}, want)
}

func leaveRegion(ctx context.Context, s *suite, st state) error {
	return s.refuse(ctx, st, invalid, ops("leave", members{"epoch": s.epoch + 1}, members{"epoch": s.epoch + 1, "region": "eu01"},
		members{"epoch": s.epoch + 1, "region": "E"}, members{"epoch": s.epoch + 1, "region": "EU 01"}, members{"epoch": s.epoch + 1, "region": strings.Repeat("E", 17)})...)
}

func leaveEpoch(ctx context.Context, s *suite, st state) error {
	return s.refuse(ctx, st, conflict, ops("leave", members{"epoch": s.epoch, "region": s.Region})...)
}

func leave(_ context.Context, s *suite, st state) error {
	if st.Fence.GoneRegion != string(s.Region) || st.Fence.GoneEpoch != s.epoch || st.Arrival != nil {
		return found(st, "gone to %s at epoch %d", s.Region, s.epoch)
	}
	if st.Fence.Version != s.leftAt || st.Fence.Purged {
		return found(st, "version %d, and not purged", s.leftAt)
	}
	return nil
}

func leaveRepeat(ctx context.Context, s *suite, st state) error {
	if err := s.twice(ctx, "leave", members{"epoch": s.epoch, "region": s.Region}); err != nil {
		return err
	}
	return s.unchanged(ctx, st, "a leave that is repeated")
}

func goneRefusals(ctx context.Context, s *suite, st state) error {
	list := []operation{{http.MethodGet, "rows?table=companies", nil}, {http.MethodGet, "changes?after=0", nil}}
	for _, epoch := range []int64{st.Fence.Epoch, s.epoch, s.epoch + 1, s.epoch + 100} {
		for _, verb := range []string{"depart", "freeze", "thaw"} {
			list = append(list, operation{http.MethodPost, verb, members{"epoch": epoch}})
		}
	}
	return s.refuse(ctx, st, conflict, append(list, s.ofArrivals()...)...)
}

func goneKeeps(ctx context.Context, s *suite, _ state) error {
	return s.summed(ctx, &twin{version: s.leftAt, rows: s.twin.rows})
}
