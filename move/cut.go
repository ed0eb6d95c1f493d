package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
)

const (
	// holdFor is how long gateways hold calls, should the mover die.
	holdFor = 8 * time.Second
	// cutWithin is how long a change-over may take before it is undone, and undoWithin how
	// long that may take: less than calls wait.
	cutWithin  = 4 * time.Second
	undoWithin = 10 * time.Second
	// confirmWithin is how long gateways may take to say that they hold.
	confirmWithin = 100 * time.Millisecond
	// maxAttempts is how many change-overs may fail.
	maxAttempts = 4
)

// cut changes the company over. Where that fails before the commit, the source owns the
// company on, under a newer epoch.
func (j *journey) cut(ctx context.Context) error {
	d, err := j.directory()
	if err != nil {
		return err
	}
	p, revision, err := d.Get(ctx, j.Company)
	if err != nil {
		return err
	}
	if p.Region == j.To && p.Epoch > j.Epoch { // it was committed before this mover came
		return j.committed(ctx, d, p)
	}
	if p.Region != j.From {
		return &errAbort{why: fmt.Sprintf("the company lives in %s, not in %s", p.Region, j.From)}
	}
	if err := j.step(ctx, "hold"); err != nil {
		return err
	}
	j.note(func(m *Move) { m.Froze = true }) // each mover that finds the move here says so again
	if err := j.mayGoOn(); err != nil && !errors.Is(err, errPaused) {
		return err // abort gives back what an earlier mover may have frozen
	}
	limited, cancel := context.WithTimeout(ctx, cutWithin)
	committed, err := j.commit(limited, d, p, revision)
	cancel()
	if err == nil {
		return j.committed(ctx, d, committed)
	}
	if errors.Is(err, errReplaced) || ctx.Err() != nil {
		return err // the next mover goes on
	}
	return j.undo(ctx, d, err)
}

// commit holds, freezes, brings the last changes, compares them, and changes the placement.
func (j *journey) commit(ctx context.Context, d Directory, p company.Placement, revision uint64) (company.Placement, error) {
	if err := j.hold(ctx, d); err != nil {
		return p, err
	}
	began := time.Now()
	if err := j.step(ctx, "freeze"); err != nil {
		return p, err
	}
	var frozen fence
	if err := j.from.post(ctx, "freeze", map[string]any{"epoch": p.Epoch}, &frozen); err != nil {
		return p, err
	}
	if err := j.step(ctx, "last changes"); err != nil {
		return p, err
	}
	at, err := j.catchUp(ctx, 0, frozen.Version)
	if err != nil {
		return p, err
	}
	if at != frozen.Version {
		return p, fmt.Errorf("the source is frozen at version %d, and the destination has version %d", frozen.Version, at)
	}
	if err := j.provesItself(ctx); err != nil {
		return p, err
	}
	if frozen.Version > j.Compared {
		if err := j.compareLast(ctx); err != nil {
			return p, err
		}
	}
	if err := j.step(ctx, "commit"); err != nil {
		return p, err
	}
	next := p
	next.Region, next.Epoch = j.To, p.Epoch+1
	if err := j.place(ctx, d, next, revision); err != nil {
		return p, err
	}
	j.note(func(m *Move) { m.Final, m.Epoch = frozen.Version, p.Epoch })
	if err := j.step(ctx, "activate"); err != nil {
		return next, nil //nolint:nilerr // it is committed: the rest is for complete
	}
	if err := j.to.post(ctx, "activate", map[string]any{"epoch": next.Epoch, "version": frozen.Version}, nil); err == nil {
		pause := time.Since(began)
		j.note(func(m *Move) { m.Pause = pause })
		if j.ChangedOver != nil {
			j.ChangedOver(pause)
		}
	}
	return next, nil
}

// hold asks the gateways to hold calls, and waits a moment for their word.
func (j *journey) hold(ctx context.Context, d Directory) error {
	there, err := d.Gateways(ctx)
	if err != nil {
		return err
	}
	confirmed, end, err := d.Hold(ctx, directory.Hold{Company: j.Company, Move: j.ID + "-" + fmt.Sprint(j.turn, "-", j.Attempts), Until: j.Queue.Now().Add(holdFor)})
	if err != nil {
		return err
	}
	defer end()
	missing := map[string]bool{}
	for _, name := range there {
		missing[name] = true
	}
	limit := time.NewTimer(confirmWithin)
	defer limit.Stop()
	held := 0
	for waiting := true; waiting && len(missing) > 0; {
		select {
		case name := <-confirmed:
			held++
			delete(missing, name)
		case <-limit.C:
			waiting = false // the fences keep them harmless
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	j.note(func(m *Move) { m.Gateways, m.Held = len(there), held })
	return nil
}

// compareLast compares the rows that were changed since both sides were compared.
func (j *journey) compareLast(ctx context.Context) error {
	from, err := j.from.checksum(ctx, j.Compared)
	if err != nil {
		return err
	}
	to, err := j.to.checksum(ctx, j.Compared)
	if err != nil {
		return err
	}
	return compare(from, to)
}

// undo has the source own the company on, after a change-over that wasn't committed. The
// directory tells whether it was.
func (j *journey) undo(ctx context.Context, d Directory, why error) error {
	ctx, cancel := context.WithTimeout(ctx, undoWithin)
	defer cancel()
	p, err := j.giveBack(ctx, d)
	if err != nil {
		return errors.Join(why, err)
	}
	if p.Region == j.To {
		return j.committed(ctx, d, p)
	}
	var abort *errAbort
	if errors.As(why, &abort) {
		return abort
	}
	j.note(func(m *Move) { m.Attempts++ })
	if j.Attempts >= maxAttempts {
		return &errAbort{why: fmt.Sprintf("%d change-overs have failed, the last one because of: %v", j.Attempts, why)}
	}
	if err := j.enter(ctx, Following, "the change-over was undone: %v", why); err != nil {
		return err
	}
	j.note(func(m *Move) { m.Problem, m.wake = why.Error(), j.Queue.Now().Add(retryAfter<<(m.Attempts-1)) })
	return errWaits
}

// place changes the placement, unless a mover with a later turn has done so before: one that
// was asleep since must not take the epoch away under which the company is owned.
func (j *journey) place(ctx context.Context, d Directory, p company.Placement, revision uint64) error {
	p.Turn = j.turn
	_, err := d.Update(ctx, p, revision)
	if errors.Is(err, problem.New(problem.MoverReplaced, "")) {
		return fmt.Errorf("%w: %w", errReplaced, err)
	}
	return err
}

// giveBack has the source own the company under a new epoch, where it may have been asked to
// freeze, and answers the placement. That it isn't frozen now is no reason to do without: a
// request that seemed lost may still be on its way, and only a new epoch makes it harmless.
// Where the move turns out to be committed it changes nothing.
func (j *journey) giveBack(ctx context.Context, d Directory) (company.Placement, error) {
	for {
		p, revision, err := d.Get(ctx, j.Company)
		if err != nil || p.Region != j.From {
			return p, err
		}
		st, err := j.from.state(ctx, false)
		if err != nil {
			return p, err
		}
		if st.Fence != nil && (j.Froze || st.Fence.State != "owned" || st.Fence.Epoch != p.Epoch) {
			if err := j.step(ctx, "new epoch"); err != nil {
				return p, err
			}
			p.Epoch = max(p.Epoch, st.Fence.Epoch) + 1
			err := j.place(ctx, d, p, revision)
			if errors.Is(err, problem.New(problem.Conflict, "")) {
				continue // it was changed meanwhile: look again
			}
			if err != nil {
				return p, err
			}
			if err := j.step(ctx, "thaw"); err != nil {
				return p, err
			}
			if err := j.from.post(ctx, "thaw", map[string]any{"epoch": p.Epoch}, nil); err != nil {
				return p, err
			}
		}
		j.note(func(m *Move) { m.Epoch, m.Froze = p.Epoch, false })
		return p, d.Release(ctx, j.ID, p)
	}
}

// committed goes on after the commit.
func (j *journey) committed(ctx context.Context, d Directory, p company.Placement) error {
	j.note(func(m *Move) {
		m.Epoch, m.Reason = p.Epoch-1, ""
		if m.Committed.IsZero() {
			m.Committed = j.Queue.Now().UTC()
		}
	})
	if err := j.settle(ctx, d, p); err != nil {
		return errors.Join(err, j.enter(ctx, Committed, "epoch %d at %s", p.Epoch, j.To))
	}
	return j.over(ctx, p)
}

// settle has the destination own the company, the gateways call it there, and the source
// know of it.
func (j *journey) settle(ctx context.Context, d Directory, p company.Placement) error {
	st, err := j.to.state(ctx, false)
	if err != nil {
		return err
	}
	if st.Fence == nil || st.Fence.State != "owned" || st.Fence.Epoch < p.Epoch {
		if st.Arrival == nil {
			return fmt.Errorf("region %s neither owns company %d nor expects it", j.To, j.Company)
		}
		j.note(func(m *Move) { m.Final = st.Arrival.Version })
		if err := j.to.post(ctx, "activate", map[string]any{"epoch": p.Epoch, "version": st.Arrival.Version}, nil); err != nil {
			return err
		}
	}
	if err := j.step(ctx, "release"); err != nil {
		return err
	}
	if err := d.Release(ctx, j.ID, p); err != nil {
		return err
	}
	if err := j.step(ctx, "leave"); err != nil {
		return err
	}
	return j.from.post(ctx, "leave", map[string]any{"epoch": p.Epoch, "region": j.To}, nil)
}

// complete is settle for a mover that finds the move committed.
func (j *journey) complete(ctx context.Context) error {
	d, err := j.directory()
	if err != nil {
		return err
	}
	p, _, err := d.Get(ctx, j.Company)
	if err != nil {
		return err
	}
	if p.Region == j.To {
		if err := j.settle(ctx, d, p); err != nil {
			return err
		}
	}
	return j.over(ctx, p)
}

func (j *journey) over(ctx context.Context, p company.Placement) error {
	until := j.Queue.Now().Add(j.Retention).UTC()
	j.note(func(m *Move) { m.RetainedUntil, m.wake, m.Lag = until, until, 0 })
	var events []Event
	if p.Region == j.To && j.Phase != Committed { // writing it would have made calls wait for longer
		events = append(events, Event{At: j.Committed, Phase: Committed, Note: fmt.Sprintf("epoch %d at %s", p.Epoch, j.To)})
	}
	j.begin(Retained)
	last := j.event("%s owns the company at epoch %d; %s keeps the rows until %s", p.Region, p.Epoch, j.From, until.Format(time.RFC3339))
	return j.save(ctx, append(events, last)...)
}

// purge deletes, once the time has come, what the source has kept.
func (j *journey) purge(ctx context.Context) error {
	if left := j.RetainedUntil.Sub(j.Queue.Now()); left > 0 {
		j.note(func(m *Move) { m.wake = j.RetainedUntil })
		return errWaits
	}
	if j.Phase == Retained {
		if err := j.enter(ctx, Purging, "the rows at %s are being deleted", j.From); err != nil {
			return err
		}
	}
	for left := true; left; {
		if why, err := j.outlived(ctx); err != nil || why != "" {
			if err == nil {
				err = j.end(ctx, Done, why)
			}
			return err
		}
		var said struct {
			Deleted int64 `json:"deleted"`
			Left    bool  `json:"left"`
		}
		began := time.Now()
		err := j.from.post(ctx, "purge", nil, &said)
		if errors.Is(err, problem.New(problem.Conflict, "")) {
			return j.end(ctx, Done, comeBack(j.From))
		}
		if err != nil {
			return err
		}
		j.note(func(m *Move) { m.Purged += said.Deleted })
		if left = said.Left; left { // the region's other companies have as much time
			if err := directory.Pause(ctx, time.Since(began)); err != nil {
				return err
			}
		}
	}
	// A later move of the company has its own say on the change log. It may have had fewer turns
	// than this one by now, and must not be taken for replaced.
	last, err := j.Queue.Last(ctx, j.Environment, j.Company)
	if err != nil {
		return err
	}
	if last.ID == j.ID {
		if err := j.to.post(ctx, "settle", nil, nil); err != nil && !errors.Is(err, errReplaced) {
			return err
		}
	}
	return j.end(ctx, Done, fmt.Sprintf("%d rows are deleted at %s", j.Purged, j.From))
}

// outlived says why the source has nothing to delete any more of what this move has left there.
func (j *journey) outlived(ctx context.Context) (string, error) {
	st, err := j.from.state(ctx, false)
	switch {
	case err != nil:
		return "", err
	case st.Fence == nil:
		return string(j.From) + " has never had the company, as far as it knows", nil
	case st.Fence.State != "gone":
		return comeBack(j.From), nil
	case st.Fence.Epoch > j.Epoch:
		return "the company has come back to " + string(j.From) + " and left again: its rows are kept for a later move", nil
	}
	return "", nil
}

func comeBack(to company.Region) string {
	return "the company has come back to " + string(to) + ": its rows are in use"
}

// abort gives the move up.
func (j *journey) abort(ctx context.Context) error {
	d, err := j.directory()
	if err != nil {
		return err
	}
	p, err := j.giveBack(ctx, d)
	if err != nil {
		return err
	}
	if p.Region == j.To && p.Epoch > j.Epoch {
		return j.committed(ctx, d, p) // too late
	}
	left := "nothing is left at " + string(j.To)
	if err := j.abandon(ctx); err != nil {
		if !j.leaving() || errors.Is(err, errReplaced) {
			return err
		}
		left = fmt.Sprintf("what was copied may be left at %s: %v", j.To, err)
	}
	if err := j.from.post(ctx, "settle", nil, nil); err != nil {
		return err
	}
	return j.end(ctx, Aborted, left)
}

// abandon has the destination delete what has come.
func (j *journey) abandon(ctx context.Context) error {
	if j.to.base == "" {
		return noAddress(j.To)
	}
	return j.to.post(ctx, "abandon", nil, nil)
}

func (j *journey) end(ctx context.Context, p Phase, text string) error {
	j.note(func(m *Move) { m.Ended = j.Queue.Now().UTC() })
	return j.enter(ctx, p, "%s", text)
}
