package webhook

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"mpr/move"
	"mpr/problem"
	"mpr/store"
)

// notices are read so many at a time.
const noticesAtOnce = 100

// eventPrefix is what the types of the events of moves begin with.
const eventPrefix = "company.move."

// passOn makes a delivery of each notice for each app that is to hear of it.
func (s *Service) passOn() {
	for s.ctx.Err() == nil {
		list, err := s.Queue.Untold(s.ctx, noticesAtOnce, s.unanswered())
		if err != nil {
			s.warn("what apps are to hear can't be read; trying again", err)
			return
		}
		passed := 0
		for _, n := range list {
			if _, away := s.silent[n.Environment]; away {
				continue // since just now
			}
			if err := s.tell(n); err != nil {
				s.silent[n.Environment] = time.Now().Add(askAgain)
				s.warn("what apps are to hear isn't passed on; trying again", err, "environment", n.Environment, "move", n.Move)
				continue
			}
			passed++
		}
		if passed == 0 {
			return
		}
	}
}

// unanswered are the environments that are left alone for now.
func (s *Service) unanswered() []string {
	maps.DeleteFunc(s.silent, func(_ string, until time.Time) bool { return !time.Now().Before(until) })
	return slices.Collect(maps.Keys(s.silent))
}

// tell passes a notice on, in one transaction. Of several that do so at the same time one
// writes the event.
func (s *Service) tell(n move.Notice) error {
	hooks, err := s.hooks(n.Environment, n.Company)
	if err != nil {
		return err
	}
	if err := s.step("pass on"); err != nil {
		return err
	}
	kind := eventPrefix + string(n.Kind)
	body, err := json.Marshal(envelope{kind, n.At, n.Data})
	if err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	err = s.db.Write(s.ctx, func(tx *sql.Tx) error {
		if len(hooks) == 0 {
			return errors.Join(s.Queue.Told(s.ctx, tx, n.ID), s.Queue.Heard(s.ctx, tx, n.ID))
		}
		made, err := tx.ExecContext(s.ctx, `INSERT INTO webhook_events (id, environment, company_id, move_id, type, at, body, heard) VALUES ($1, $2, $3, $4, $5, $6, $7, 0)
			ON CONFLICT (id) DO NOTHING`, n.ID, n.Environment, int64(n.Company), n.Move, kind, store.Micros(n.At), string(body))
		if err != nil {
			return err
		}
		if rows, err := made.RowsAffected(); err != nil || rows == 0 {
			return errors.Join(err, s.Queue.Told(s.ctx, tx, n.ID))
		}
		for _, h := range hooks {
			_, err := tx.ExecContext(s.ctx, `INSERT INTO webhook_deliveries (event_id, app_id, environment, state, attempts, step, next, turn, lease, status, problem, last)
				VALUES ($1, $2, $3, 'waiting', 0, 0, $4, 0, 0, 0, '', 0)`, n.ID, h.App, n.Environment, store.Micros(s.Now()))
			if err != nil {
				return err
			}
		}
		return s.Queue.Told(s.ctx, tx, n.ID)
	})
	if err != nil {
		return fmt.Errorf("write deliveries: %w", err)
	}
	if len(hooks) == 0 {
		s.WakeMover()
	}
	wake(s.due)
	return nil
}

// delivery is an event on its way to an app, taken up by us.
type delivery struct {
	event, environment, kind, body, move string
	app                                  int64
	turn, step                           int64
}

// sendDue takes up what is due.
func (s *Service) sendDue() {
	for s.ctx.Err() == nil && len(s.slots) < atOnce {
		d, err := s.claim()
		if err != nil {
			s.warn("what is to be sent to apps can't be read; trying again", err)
		}
		if err != nil || d == nil {
			return
		}
		s.slots <- struct{}{} // only we put any there
		s.sending.Go(func() {
			defer func() { <-s.slots; wake(s.due) }()
			if err := s.attempt(d); err != nil {
				s.warn("what became of a delivery can't be written; it will be made again", err, "event", d.event, "app", d.app)
			}
		})
	}
}

// claim takes up a delivery that is due and that nobody works on, with the next turn; nil
// where there is none. Apps that nobody sends to come before those that somebody does, so that
// many slow ones don't keep the others waiting. A lease or a wait that is longer than any we
// give is one of a clock that jumped.
func (s *Service) claim() (*delivery, error) {
	now := store.Micros(s.Now())
	longest := waits[len(waits)-1]
	for busy := range int64(perApp) {
		var d delivery
		err := s.db.Read().QueryRowContext(s.ctx, `SELECT d.event_id, d.app_id, d.turn, d.step, e.environment, e.type, e.body, e.move_id
			FROM webhook_deliveries d JOIN webhook_events e ON e.id = d.event_id
			WHERE d.state = 'waiting' AND (d.next <= $1 OR d.next > $2) AND (d.lease < $1 OR d.lease > $3)
				AND (SELECT COUNT(*) FROM webhook_deliveries o WHERE o.environment = d.environment AND o.app_id = d.app_id AND o.lease > 0 AND o.lease >= $1 AND o.lease <= $3) <= $4
			ORDER BY d.next, d.event_id, d.app_id LIMIT 1`, now, now+2*longest.Microseconds(), now+2*leaseFor.Microseconds(), busy).
			Scan(&d.event, &d.app, &d.turn, &d.step, &d.environment, &d.kind, &d.body, &d.move)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("take up a delivery: %w", err)
		}
		taken := false
		err = s.db.Write(s.ctx, func(tx *sql.Tx) error {
			done, err := tx.ExecContext(s.ctx, `UPDATE webhook_deliveries SET turn = turn + 1, lease = $4 WHERE event_id = $1 AND app_id = $2 AND turn = $3 AND state = 'waiting'`,
				d.event, d.app, d.turn, now+leaseFor.Microseconds())
			if err != nil {
				return err
			}
			n, err := done.RowsAffected()
			taken = n > 0
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("take up a delivery: %w", err)
		}
		if !taken { // somebody else was faster, and there may be more
			wake(s.due)
			return nil, nil //nolint:nilnil // there is nothing for us
		}
		d.turn++
		return &d, nil
	}
	return nil, nil //nolint:nilnil // nothing is due
}

// attempt sends a delivery once, and notes what came of it.
func (s *Service) attempt(d *delivery) error {
	if s.step("claimed") != nil {
		return nil
	}
	hook, err := s.hook(s.ctx, d.environment, d.app)
	switch {
	case errors.Is(err, problem.New(problem.NotFound, "")):
		return s.end(d, outcome{state: GivenUp, problem: "the webhook was removed"})
	case err != nil && s.ctx.Err() == nil:
		s.warn("an app's webhook can't be asked for; trying again", err, "app", d.app)
		return s.end(d, outcome{state: Waiting, wait: askAgain})
	case err != nil:
		return s.end(d, outcome{state: Waiting})
	}
	answer := s.send(s.ctx, d.environment, hook, d.event, d.body)
	if answer.err != nil && s.ctx.Err() != nil {
		return s.end(d, outcome{state: Waiting}) // we broke it off
	}
	if s.step("answered") != nil {
		return nil
	}
	o := outcome{state: Delivered, tried: true, status: answer.status}
	if answer.err == nil {
		if o.problem, err = s.heed(d, hook, answer.body); err != nil {
			return err
		}
		return s.end(d, o)
	}
	o.problem = answer.err.Error()
	switch {
	case answer.status == http.StatusGone || d.step >= int64(len(waits)):
		o.state = GivenUp
		slog.Warn("an app doesn't hear of an event: it is given up", "event", d.event, "type", d.kind, "client_id", hook.ClientID, "problem", o.problem)
	default:
		o.state, o.wait = Waiting, spread(waits[d.step])
	}
	return s.end(d, o)
}

// spread changes a wait by up to a tenth.
func spread(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

// heed hands over what an app asks for in its answer. It answers what is wrong with that.
func (s *Service) heed(d *delivery, hook Hook, answer []byte) (wrong string, err error) {
	if d.kind != eventPrefix+string(move.Scheduled) && d.kind != eventPrefix+string(move.Started) {
		return "", nil
	}
	seconds, err := delayOf(answer)
	if err != nil {
		return err.Error(), nil
	}
	if seconds == 0 {
		return "", nil
	}
	return "", s.Queue.Delay(s.ctx, move.DelayRequest{Move: d.move, Notice: d.event, ClientID: hook.ClientID, Name: hook.Name, Seconds: seconds}, s.LongestDelay)
}

// State is how far a delivery is.
type State string

// The states of deliveries.
const (
	Waiting   State = "waiting"
	Delivered State = "delivered"
	GivenUp   State = "given up"
)

// outcome is what came of an attempt.
type outcome struct {
	state   State
	tried   bool // the app was called
	status  int
	problem string
	wait    time.Duration
}

// end notes what came of an attempt, unless somebody else has taken the delivery up, and
// whether each app has heard of the event by now.
func (s *Service) end(d *delivery, o outcome) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(s.ctx), attemptWithin)
	defer stop()
	tried := int64(0)
	if o.tried {
		tried = 1
	}
	now, heard := s.Now(), false
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		heard = false
		// One after the other, or none of two that end at the same time would see that all have.
		if _, err := tx.ExecContext(ctx, `UPDATE webhook_events SET heard = heard WHERE id = $1`, d.event); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE webhook_deliveries SET state = $4, attempts = attempts + $5, step = step + $5, next = $6, lease = 0,
			status = CASE WHEN $5 = CAST(1 AS BIGINT) THEN $7 ELSE status END, problem = CASE WHEN $5 = CAST(1 AS BIGINT) OR $8 <> '' THEN $8 ELSE problem END,
			last = CASE WHEN $5 = CAST(1 AS BIGINT) THEN $9 ELSE last END
			WHERE event_id = $1 AND app_id = $2 AND turn = $3`,
			d.event, d.app, d.turn, string(o.state), tried, store.Micros(now.Add(o.wait)), int64(o.status), o.problem, store.Micros(now))
		if err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `UPDATE webhook_events SET heard = 1 WHERE id = $1 AND heard = 0
			AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.event_id = $1 AND d.state = 'waiting' AND d.attempts = 0)`, d.event)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		heard = true
		return s.Queue.Heard(ctx, tx, d.event)
	})
	if err != nil {
		return fmt.Errorf("note what came of a delivery: %w", err)
	}
	if heard {
		s.WakeMover()
	}
	return nil
}

// answered is what an app has answered.
type answered struct {
	status int
	body   []byte
	err    error // nil where the answer is one in the two hundreds
}

// send calls an app once.
func (s *Service) send(ctx context.Context, environment string, hook Hook, id, body string) (a answered) {
	if err := CheckURL(hook.URL, s.AllowPrivate); err != nil { // the configuration may have changed
		return answered{err: fmt.Errorf("the URL can't be called: it %w", err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, strings.NewReader(body))
	if err != nil {
		return answered{err: cause(err)}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mpr")
	if err := s.sign(req.Header, environment, hook, id, body, s.Now()); err != nil {
		return answered{err: err}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answered{err: cause(err)}
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case a.status/100 == 3:
		a.err = fmt.Errorf("answered %d: redirects aren't followed", a.status)
	case a.status/100 != 2:
		a.err = fmt.Errorf("answered %d", a.status)
	case err != nil:
		a.err = fmt.Errorf("the answer broke off: %w", cause(err))
	}
	if len(a.body) > maxAnswer {
		a.body = nil // the rest isn't waited for, and a part of it says nothing
	}
	a.body = bytes.TrimSpace(a.body)
	return a
}
