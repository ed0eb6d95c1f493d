package webhook

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mpr/move"
	"mpr/test/await"
)

// ask has an app ask for a delay, in its answer to the notice that says the move is scheduled.
func (w *world) ask(m *move.Move, app, notice string, seconds int64, longest time.Duration) *move.Move {
	w.t.Helper()
	must(w.t, w.queue.Delay(w.t.Context(), move.DelayRequest{Move: m.ID, Notice: notice, ClientID: app, Name: "App " + app, Seconds: seconds}, longest))
	now, err := w.queue.Get(w.t.Context(), environment, m.ID)
	must(w.t, err)
	return now
}

// noted is the last event of a move.
func (w *world) noted(m *move.Move) string {
	w.t.Helper()
	events, err := w.queue.Events(w.t.Context(), m.ID, 0)
	must(w.t, err)
	return events[len(events)-1].Note
}

// until is how long the first delay of a move lasts from a time on.
func until(m *move.Move, from time.Time) time.Duration {
	if len(m.Delays) == 0 {
		return 0
	}
	return m.Delays[0].Until.Sub(from).Round(time.Second)
}

func TestDelays(t *testing.T) {
	w := newWorld(t)
	m := w.schedule()
	now := w.ask(m, "a", "n1", 600, time.Hour)
	if len(now.Delays) != 1 || until(now, time.Now()) != 10*time.Minute || now.Delays[0].Name != "App a" || !strings.Contains(w.noted(m), "app App a (a) asks for a delay of 10m0s: the change-over isn't done before") {
		t.Errorf("delayed %+v, %q", now.Delays, w.noted(m))
	}
	events := func() int {
		list, err := w.queue.Events(t.Context(), m.ID, 0)
		must(t, err)
		return len(list)
	}
	before := events()
	if now = w.ask(m, "a", "n1", 900, time.Hour); until(now, time.Now()) != 10*time.Minute || events() != before {
		t.Errorf("the same answer again: %+v, %q", now.Delays, w.noted(m))
	}
	if now = w.ask(m, "a", "n2", 900, time.Hour); until(now, time.Now()) != 10*time.Minute || !strings.Contains(w.noted(m), "ignored: an app may delay a move once") {
		t.Errorf("a second delay: %+v, %q", now.Delays, w.noted(m))
	}
	if now = w.ask(m, "b", "n2", 7200, time.Hour); len(now.Delays) != 2 || now.Delays[0].ClientID != "b" || until(now, time.Now()) != time.Hour || !strings.Contains(w.noted(m), "2h0m0s, which is cut to the longest one, 1h0m0s") {
		t.Errorf("too long: %+v, %q", now.Delays, w.noted(m))
	}
	if now = w.ask(m, "c", "n2", 1<<62, time.Hour); until(now, time.Now()) != time.Hour {
		t.Errorf("far too long: %+v, %q", now.Delays, w.noted(m))
	}
	if now = w.ask(m, "d", "n2", 60, 0); len(now.Delays) != 3 || !strings.Contains(w.noted(m), "ignored: apps can't delay moves here (moves.longest_delay)") {
		t.Errorf("where delays aren't allowed: %+v, %q", now.Delays, w.noted(m))
	}
	must(t, w.queue.Hurry(t.Context(), m, "eva"))
	if now = w.ask(m, "e", "n2", 60, time.Hour); len(now.Delays) != 3 || !now.Undelayed || !strings.Contains(w.noted(m), "ignored: an operator has dropped the delays") {
		t.Errorf("after an operator: %+v, %q", now.Delays, w.noted(m))
	}
	if list, err := w.queue.Events(t.Context(), m.ID, 0); err != nil || !strings.Contains(fmt.Sprint(list), "resumed by eva, who drops the delays of apps") {
		t.Errorf("events %+v %v", list, err)
	}
	if now = w.ask(&move.Move{ID: m.ID}, "f", "n2", 60, time.Hour); now.ID != m.ID {
		t.Error("no move")
	}
	must(t, w.queue.Delay(t.Context(), move.DelayRequest{Move: "nothing", Seconds: 1}, time.Hour))
}

// A delay counts from the planned time, and never makes a move miss its window.
func TestDelaysAndWindows(t *testing.T) {
	for name, c := range map[string]struct {
		before, after time.Duration // from now; 0 for none
		seconds       int64
		want          time.Duration // from now
		cut           bool
	}{
		"planned":                {before: 2 * time.Hour, seconds: 600, want: 2*time.Hour + 10*time.Minute},
		"planned before":         {before: -2 * time.Hour, seconds: 600, want: 10 * time.Minute},
		"within the window":      {before: time.Hour, after: 2 * time.Hour, seconds: 600, want: time.Hour + 10*time.Minute},
		"longer than the window": {before: time.Hour, after: 2 * time.Hour, seconds: 3600, want: 2*time.Hour - time.Minute, cut: true},
		"a short window":         {before: time.Hour, after: time.Hour + 40*time.Second, seconds: 3600, want: time.Hour + 20*time.Second, cut: true},
		"an open window":         {before: -time.Hour, after: 30 * time.Second, seconds: 3600, want: 15 * time.Second, cut: true},
		"a window that is over":  {before: -time.Hour, after: -time.Minute, seconds: 3600, want: 0, cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			now := time.Now()
			m := w.schedule(func(r *move.Request) {
				r.NotBefore = now.Add(c.before)
				if c.after != 0 {
					r.NotAfter = now.Add(c.after)
				}
			})
			got := until(w.ask(m, "a", "n1", c.seconds, time.Hour), now)
			if off := (got - c.want).Abs(); off > 3*time.Second {
				t.Errorf("delayed until %s from now, want %s: %q", got, c.want, w.noted(m))
			}
			if strings.Contains(w.noted(m), "cut to what the move's window leaves") != c.cut {
				t.Errorf("noted %q", w.noted(m))
			}
		})
	}
}

// What an app answers is read, within bounds; what isn't a delay is shown to the operator.
func TestAnswers(t *testing.T) {
	w := newWorld(t)
	a := w.app(7, func(n int, rw http.ResponseWriter) {
		switch n {
		case 0:
			_, _ = rw.Write([]byte(`{"delay_seconds":1800,"more":[1,2]}`))
		case 1:
			_, _ = rw.Write([]byte(`{"delay_seconds":"soon"}`))
		case 2:
			_, _ = fmt.Fprintf(rw, `{"delay_seconds":1800,"more":"%s"}`, strings.Repeat("x", 10*maxAnswer))
		case 3:
			rw.WriteHeader(500)
			_, _ = rw.Write([]byte(`{"delay_seconds":1800}`))
		}
	})
	s := w.start()
	for i, want := range []int{1, 0, 0, 0} {
		m := w.schedule()
		a.wait(i + 1)
		await.That(t, "that the answer is noted", func() bool { return w.heard(m) })
		now, err := w.queue.Get(t.Context(), environment, m.ID)
		must(t, err)
		list, err := s.Deliveries(t.Context(), environment, 7, 10)
		must(t, err)
		if len(now.Delays) != want || (i == 1) != strings.Contains(list[0].Problem, "delay_seconds must be") {
			t.Errorf("answer %d: %+v, %+v", i, now.Delays, list[0])
		}
	}
}
