package ledger

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"mpr/rules"
)

// latest keeps the last report of all apps: that of many apps takes a second to make.
type latest struct {
	mu     sync.Mutex
	report *Report
	policy *rules.Policy
	took   time.Duration
	made   time.Time
	making bool // in the background
}

const (
	// reportShare is how much of the time may go into making reports, one in so many, and
	// reportFor for how long one is good at the least.
	reportShare = 20
	reportFor   = 500 * time.Millisecond
	// quick is how long somebody who looks may wait for a newer report. What takes longer is made
	// in the background, while the one before is good enough.
	quick = 50 * time.Millisecond
)

// Latest is the report of all apps, made now or, where that takes its time, a while ago; it says
// when. It must not be changed.
func (b *Book) Latest(ctx context.Context, policy *rules.Policy) (*Report, error) {
	l := &b.latest
	l.mu.Lock()
	defer l.mu.Unlock()
	switch good := max(reportFor, reportShare*l.took); {
	case l.report != nil && l.policy == policy && time.Since(l.made) < good:
		return l.report, nil
	case l.report == nil || l.took < quick:
		return b.produce(ctx, policy)
	case !l.making:
		l.making = true
		b.loops.Go(func() { b.remakeOrSay(policy) })
	}
	return l.report, nil
}

// Prepare begins to make the report of all apps, so that whoever looks first needn't wait for it.
func (b *Book) Prepare(policy *rules.Policy) {
	l := &b.latest
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.making && l.report == nil {
		l.making = true
		b.loops.Go(func() { b.remakeOrSay(policy) })
	}
}

// produce makes the report while others wait for it.
func (b *Book) produce(ctx context.Context, policy *rules.Policy) (*Report, error) {
	began := time.Now()
	r, err := b.Report(ctx, policy, "")
	if err == nil {
		b.latest.keep(r, policy, began)
	}
	return r, err
}

func (b *Book) remakeOrSay(policy *rules.Policy) {
	if err := b.remake(policy); err != nil && b.ctx.Err() == nil {
		slog.Warn("the ledger's report stays as it was", "environment", b.environment, "error", err)
	}
}

// remake makes the report while others are answered the one before.
func (b *Book) remake(policy *rules.Policy) error {
	began := time.Now()
	r, err := b.Report(b.ctx, policy, "")
	b.latest.mu.Lock()
	defer b.latest.mu.Unlock()
	b.latest.making = false
	if err == nil {
		b.latest.keep(r, policy, began)
	}
	return err
}

func (l *latest) keep(r *Report, policy *rules.Policy, began time.Time) {
	l.report, l.policy, l.made, l.took = r, policy, time.Now(), time.Since(began)
}
