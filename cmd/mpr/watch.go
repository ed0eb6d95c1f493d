package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"mpr/company"
	"mpr/control"
)

// movePassed is a state in which a move was, and isn't any more.
type movePassed struct {
	ID      string         `json:"id"`
	Company company.ID     `json:"company"`
	From    company.Region `json:"from"`
	To      company.Region `json:"to"`
	control.MoveEvent
}

// moveState is the state in which a move is.
type moveState struct {
	*control.Move
	// N, At and Note are those of the event by which it has come to be so; none where only
	// something else has changed.
	N    int64     `json:"n,omitempty"`
	At   time.Time `json:"at,omitzero"`
	Note string    `json:"note,omitempty"`
}

// moveWatch shows a move to whoever waits for the end of it: each state as a line of JSON or, where
// lines can't be replaced, of text; otherwise a bar.
type moveWatch struct {
	t      *terminal
	asJSON bool
	seen   int64 // the number of the last event that was shown
	said   string
}

// show shows what has become of the move.
func (w *moveWatch) show(p control.MoveProgress) error {
	m := p.Move
	said := fmt.Sprint(m.Phase, m.Problem, m.Paused, m.Aborting)
	current := moveState{Move: m}
	for i, e := range p.Events {
		w.seen = e.N
		if i == len(p.Events)-1 && e.Phase == m.Phase {
			current.N, current.At, current.Note = e.N, e.At, e.Note
			break
		}
		if err := w.line(movePassed{m.ID, m.Company, m.From, m.To, e}, e); err != nil {
			return err
		}
	}
	if current.N > 0 || said != w.said {
		w.said = said
		if err := w.line(current, control.MoveEvent{At: current.At, Phase: m.Phase, Note: current.Note}); err != nil {
			return err
		}
	}
	if !w.asJSON {
		w.t.progress(moveBar(m))
	}
	return nil
}

func (w *moveWatch) line(v any, e control.MoveEvent) error {
	switch {
	case w.asJSON:
		return writeLine(w.t.out, v)
	case w.t.replacesLines() || e.Note == "":
		return nil
	}
	_, err := fmt.Fprintf(w.t.err, "%s  %s: %s\n", e.At.Format(time.RFC3339), e.Phase, printable([]string{e.Note})[0])
	return err
}

// watchMove shows a move until the company has changed over, or the move is given up: from its
// beginning, or the rest of it.
func watchMove(ctx context.Context, t *terminal, client *control.Client, m *control.Move, rest, asJSON bool) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := &moveWatch{t: t, asJSON: asJSON}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for first := true; first || !m.Phase.Over(); first = false {
		if !first {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
		now, err := client.WatchMove(ctx, m.ID, w.seen)
		if ctx.Err() != nil {
			t.progress("")
			return interruptedError{fmt.Sprintf("stopped watching; the move goes on: see `mpr move status %d`, or give it up by `mpr move abort %d`", m.Company, m.Company)}
		}
		if err != nil {
			t.progress("")
			return fmt.Errorf("%w\nThe move may go on: see `mpr move status %d`", err, m.Company)
		}
		m = now.Move
		if n := len(now.Events); first && rest && n > 0 {
			now.Events = now.Events[n-1:]
		}
		if err := w.show(now); err != nil {
			return err
		}
	}
	t.progress("")
	if !asJSON {
		if err := t.answer(false, m, func(w io.Writer) { showMove(w, m) }); err != nil {
			return err
		}
	}
	if m.Committed.IsZero() {
		why := m.Why
		if why == "" {
			why = "see `mpr move proof " + m.Company.String() + "`"
		}
		return fmt.Errorf("company %d stays in %s: the move was given up: %s", m.Company, m.From, why)
	}
	return nil
}

// moveBar draws how far a move is.
func moveBar(m *control.Move) string {
	const width = 24
	full := 0
	if m.Rows > 0 {
		full = int(min(m.Copied, m.Rows) * width / m.Rows)
	}
	if m.Reused {
		full = width
	}
	text := fmt.Sprintf("[%s%s] %s, %d of %d rows, %d changes behind", strings.Repeat("#", full), strings.Repeat(".", width-full), m.Phase, m.Copied, m.Rows, m.Lag)
	if took := time.Since(m.Started); m.Phase == "copying" && !m.Started.IsZero() && m.Copied > 0 && took > time.Second {
		rate := float64(m.Copied) / took.Seconds()
		text += fmt.Sprintf(", %.0f rows/s, %s left", rate, time.Duration(float64(max(m.Rows-m.Copied, 0))/rate*float64(time.Second)).Round(time.Second))
	}
	if m.Paused {
		text += ", paused"
	}
	if len(m.Delays) > 0 && !m.Undelayed && m.Phase == "ready" {
		text += ", delayed " + printable([]string{delayed(m)})[0]
	}
	if m.Problem != "" {
		text += ": " + printable([]string{m.Problem})[0]
	}
	return text
}
