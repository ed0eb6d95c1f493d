package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"mpr/problem"
)

const (
	// pageRows is how many rows are brought at a time.
	pageRows = 1000
	// closeEnough is how many changes the destination may be behind when the company changes
	// over: they are brought while its calls wait. Where a company is written to without a
	// pause there is no moment without any.
	closeEnough = 50
	// followEvery is how often changes are brought while a move waits for its time.
	followEvery = time.Second
)

// copy brings all rows.
func (j *journey) copy(ctx context.Context) error {
	if j.Phase == Queued {
		if err := j.findRoom(ctx); err != nil {
			return err
		}
	}
	if err := j.depart(ctx); err != nil {
		return err
	}
	from, err := j.from.state(ctx, true)
	if err != nil {
		return err
	}
	to, err := j.to.state(ctx, true)
	if err != nil {
		return err
	}
	if to.Arrival == nil {
		return fmt.Errorf("region %s has forgotten the arrival", j.To)
	}
	j.note(func(m *Move) { m.Rows, m.Copied = total(from.Rows), total(to.Rows) })
	limiter, most := rate.NewLimiter(rate.Inf, pageRows), pageRows
	if j.Rate > 0 {
		// Pages of what a second may bring: whoever limits the rate doesn't want a burst.
		most = min(j.Rate, pageRows)
		limiter = rate.NewLimiter(rate.Limit(j.Rate), most)
	}
	pages := &pageReader{side: j.from, most: most, end: map[string]string{}}
	defer pages.close()
	for at := *to.Arrival; !at.Copied; {
		if err := j.mayGoOn(); err != nil {
			return err
		}
		if at.Table == "" {
			at.Table = from.Tables[0]
		}
		page, err := pages.read(ctx, at.Table, at.After)
		if err != nil {
			return err
		}
		if err := limiter.WaitN(ctx, len(page.Rows)); err != nil {
			return err
		}
		if err := j.step(ctx, "rows"); err != nil {
			return err
		}
		if !page.Last {
			pages.ahead(ctx, at.Table, page.After)
		}
		err = j.to.post(ctx, "rows", map[string]any{
			"table": at.Table, "since": at.After, "after": page.After, "last": page.Last, "rows": page.Rows, "version": page.Version,
		}, &at)
		if err != nil {
			return err
		}
		j.note(func(m *Move) { m.Copied += int64(len(page.Rows)) })
	}
	return j.enter(ctx, Following, "%d rows are copied", j.Copied)
}

func total(rows map[string]int64) (sum int64) {
	for _, n := range rows {
		sum += n
	}
	return sum
}

// depart has the source keep its change log and the destination expect the company.
func (j *journey) depart(ctx context.Context) error {
	d, err := j.directory()
	if err != nil {
		return err
	}
	p, _, err := d.Get(ctx, j.Company)
	if err != nil {
		return err
	}
	if p.Region != j.From {
		return &errAbort{why: fmt.Sprintf("the company lives in %s, not in %s", p.Region, j.From)}
	}
	from, err := j.from.state(ctx, false)
	if err != nil {
		return err
	}
	to, err := j.to.state(ctx, false)
	if err != nil {
		return err
	}
	if err := j.overtake(ctx, max(from.Turn, to.Turn, p.Turn)); err != nil {
		return err
	}
	if from.Fence == nil || from.Fence.State == "gone" || from.Fence.Epoch != p.Epoch {
		return fmt.Errorf("the fence of %s and the directory differ on company %d", j.From, j.Company)
	}
	version, reuse := from.Fence.Version, false
	if to.Arrival != nil && to.Arrival.Move == j.ID {
		version = to.Arrival.Version // the move was begun before
	} else if f := to.Fence; f != nil && f.State == "gone" && !f.Purged {
		_, err := j.from.changes(ctx, f.Version, f.Version+1)
		if reuse = err == nil; reuse {
			version = f.Version
		} else if !errors.Is(err, problem.New(problem.LogShortened, "")) {
			return err
		}
	}
	if err := j.step(ctx, "depart"); err != nil {
		return err
	}
	if err := j.from.post(ctx, "depart", map[string]any{"epoch": p.Epoch, "version": version}, nil); err != nil {
		return err
	}
	if err := j.step(ctx, "arrive"); err != nil {
		return err
	}
	if err := j.to.post(ctx, "arrive", map[string]any{"epoch": p.Epoch, "version": version, "reuse": reuse}, nil); err != nil {
		return err
	}
	j.note(func(m *Move) {
		m.Epoch, m.Reused = p.Epoch, m.Reused || reuse
		if m.Started.IsZero() {
			m.Started = j.Queue.Now().UTC()
		}
	})
	if j.Phase == Queued {
		return j.enter(ctx, Copying, "epoch %d, version %d", p.Epoch, version)
	}
	return nil
}

// step is where tests let a mover die.
func (j *journey) step(ctx context.Context, name string) error {
	if j.Step == nil {
		return nil
	}
	return j.Step(ctx, j.Move, name)
}

// catchUp brings changes until the destination is at most so many behind, or has those up to
// a version; 0 for all. It answers how far the destination is.
func (j *journey) catchUp(ctx context.Context, behind, until int64) (int64, error) {
	st, err := j.to.state(ctx, false)
	if err != nil {
		return 0, err
	}
	if st.Arrival == nil || st.Arrival.Move != j.ID {
		return 0, fmt.Errorf("region %s has forgotten the arrival", j.To)
	}
	for at := st.Arrival.Version; ; {
		if until > 0 && at >= until {
			return at, nil
		}
		batch, err := j.from.changes(ctx, at, until)
		if errors.Is(err, problem.New(problem.LogShortened, "")) {
			return 0, &errAbort{why: "the source's change log doesn't reach back far enough"}
		}
		if err != nil {
			return 0, err
		}
		j.note(func(m *Move) { m.Lag = batch.Version - at })
		if len(batch.Changes) == 0 || until == 0 && batch.Version-at <= behind {
			return at, nil
		}
		if err := j.step(ctx, "changes"); err != nil {
			return 0, err
		}
		var now arrival
		if err := j.to.post(ctx, "changes", map[string]any{"changes": batch.Changes}, &now); err != nil {
			return 0, err
		}
		at = now.Version
		if until == 0 {
			if err := j.mayGoOn(); err != nil {
				return 0, err
			}
		}
	}
}

// follow brings the changes since the copying began, and compares both sides as a whole.
func (j *journey) follow(ctx context.Context) error {
	if _, err := j.catchUp(ctx, closeEnough, 0); err != nil {
		return err
	}
	from, err := j.from.checksum(ctx, -1)
	if err != nil {
		return err
	}
	if _, err := j.catchUp(ctx, 0, from.Version); err != nil {
		return err
	}
	to, err := j.to.checksum(ctx, -1)
	if err != nil {
		return err
	}
	if err := compare(from, to); err != nil {
		return err
	}
	j.note(func(m *Move) { m.Verified, m.Compared, m.Checksums = from.Version, from.Version, from.Tables })
	return j.enter(ctx, Ready, "both sides are the same at version %d", from.Version)
}

// compare gives the move up where both sides differ.
func compare(from, to checksum) error {
	if from.Version != to.Version {
		return fmt.Errorf("compared version %d with version %d", from.Version, to.Version)
	}
	for table, sum := range from.Tables {
		if other := to.Tables[table]; other != sum {
			return &errAbort{why: fmt.Sprintf("table %s differs at version %d: the source has %d rows with the checksum %s, the destination %d with %s",
				table, from.Version, sum.Rows, sum.Sum, other.Rows, other.Sum)}
		}
	}
	if len(to.Tables) != len(from.Tables) {
		return &errAbort{why: "the destination has other tables than the source"}
	}
	return nil
}

// keepUp brings the changes since, and compares what they touched, so that little is left for the
// moment in which calls wait: a company may be written to for long while its move waits for its
// time, or while many rows are compared.
func (j *journey) keepUp(ctx context.Context) error {
	at, err := j.catchUp(ctx, closeEnough, 0)
	if err != nil || at-j.Compared <= closeEnough {
		return err
	}
	from, err := j.from.checksum(ctx, j.Compared)
	if err != nil {
		return err
	}
	if _, err := j.catchUp(ctx, 0, from.Version); err != nil {
		return err
	}
	to, err := j.to.checksum(ctx, j.Compared)
	if err != nil {
		return err
	}
	if err := compare(from, to); err != nil {
		return err
	}
	j.note(func(m *Move) { m.Compared = from.Version })
	return nil
}

// ready follows on until the time of the change-over has come: the planned one, and that of
// the apps that have asked for a delay.
func (j *journey) ready(ctx context.Context) error {
	if err := j.keepUp(ctx); err != nil {
		return err
	}
	until, err := j.Queue.waitsForApps(ctx, j.Move, j.Notice)
	if err != nil {
		return err
	}
	if until.Before(j.NotBefore) {
		until = j.NotBefore
	}
	if now := j.Queue.Now(); now.Before(until) {
		j.note(func(m *Move) { m.wake = now.Add(min(followEvery, until.Sub(now))) })
		return errWaits
	}
	if err := j.mayGoOn(); err != nil { // catching up may have taken long
		return err
	}
	if err := j.provesItself(ctx); err != nil {
		return err
	}
	err = j.commence(ctx)
	if errors.Is(err, errWaitsForApps) {
		return nil // one has asked for it just now
	}
	if err != nil {
		return err
	}
	return j.enter(ctx, Cutting, "the change-over begins")
}

// commence begins the change-over. The beat, which writes the phase as it knows it, mustn't
// come in between.
func (j *journey) commence(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.Queue.commence(ctx, j.Move)
	if err == nil {
		j.Phase = Cutting
	}
	return err
}
