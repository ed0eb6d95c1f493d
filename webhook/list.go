package webhook

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

// Delivery is a delivery as operators see it.
type Delivery struct {
	Event    string     `json:"event"`
	Type     string     `json:"type"`
	Company  company.ID `json:"company"`
	Move     string     `json:"move"`
	At       time.Time  `json:"at"`
	State    State      `json:"state"`
	Attempts int64      `json:"attempts"`
	// Status is that of the last answer, 0 where there was none, and Problem what was wrong.
	Status  int       `json:"status"`
	Problem string    `json:"problem,omitempty"`
	Last    time.Time `json:"last_attempt,omitzero"`
	// Next is when the event is sent again.
	Next time.Time `json:"next_attempt,omitzero"`
}

// Deliveries lists what an app was sent, and is to be sent, the newest first.
func (s *Service) Deliveries(ctx context.Context, environment string, app int64, limit int) (list []Delivery, err error) {
	rows, err := s.db.Read().QueryContext(ctx, `SELECT e.id, e.type, e.company_id, e.move_id, e.at, d.state, d.attempts, d.status, d.problem, d.last, d.next
		FROM webhook_deliveries d JOIN webhook_events e ON e.id = d.event_id WHERE d.environment = $1 AND d.app_id = $2 ORDER BY e.at DESC, e.id LIMIT $3`, environment, app, limit)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	defer rows.Close()
	list = []Delivery{}
	for rows.Next() {
		var d Delivery
		var at, last, next int64
		if err := rows.Scan(&d.Event, &d.Type, &d.Company, &d.Move, &at, &d.State, &d.Attempts, &d.Status, &d.Problem, &last, &next); err != nil {
			return nil, fmt.Errorf("list deliveries: %w", err)
		}
		d.At, d.Last = store.Time(at), store.Time(last)
		if d.State == Waiting {
			d.Next = store.Time(next)
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// Redeliver sends an event to an app again, whatever came of it before: under the same id, and
// with all its attempts anew.
func (s *Service) Redeliver(ctx context.Context, environment string, app int64, event string) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE webhook_deliveries SET state = 'waiting', step = 0, next = $4, turn = turn + 1, lease = 0 WHERE event_id = $1 AND app_id = $2 AND environment = $3`,
			event, app, environment, store.Micros(s.Now()))
		if err != nil {
			return fmt.Errorf("send an event again: %w", err)
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, problem.New(problem.NotFound, "There is no event %s for this app. Events are kept for 30 days: see mpr app webhook deliveries.", event))
		}
		return nil
	})
	if err == nil {
		wake(s.due)
	}
	return err
}

// TestResult is what came of an event that was sent for a test.
type TestResult struct {
	Event string `json:"event"`
	// Status is that of the answer; 0 where there was none.
	Status       int   `json:"status"`
	Milliseconds int64 `json:"milliseconds"`
	// Problem is why a real event would be sent again; "" where all is well.
	Problem string `json:"problem,omitempty"`
}

// Test sends an event that says nothing, at once and once.
func (s *Service) Test(ctx context.Context, environment string, app int64) (r TestResult, err error) {
	hook, err := s.hook(ctx, environment, app)
	if err != nil {
		return r, err
	}
	data, err := json.Marshal(map[string]string{"client_id": hook.ClientID})
	if err != nil {
		return r, fmt.Errorf("write an event: %w", err)
	}
	body, err := json.Marshal(envelope{"webhook.test", s.Now().UTC(), data})
	if err != nil {
		return r, fmt.Errorf("write an event: %w", err)
	}
	r.Event = rand.Text()
	began := time.Now()
	answer := s.send(ctx, environment, hook, r.Event, string(body))
	r.Status, r.Milliseconds = answer.status, time.Since(began).Milliseconds()
	if answer.err != nil {
		r.Problem = answer.err.Error()
	}
	return r, nil
}

// sweep deletes what is old. What still waits stays.
func (s *Service) sweep() {
	before := s.Now().Add(-kept)
	err := s.Queue.Forget(s.ctx, before)
	if err == nil {
		err = s.db.Write(s.ctx, func(tx *sql.Tx) error {
			const old = `at < $1 AND NOT EXISTS (SELECT 1 FROM webhook_deliveries w WHERE w.event_id = webhook_events.id AND w.state = 'waiting')`
			if _, err := tx.ExecContext(s.ctx, `DELETE FROM webhook_deliveries WHERE event_id IN (SELECT id FROM webhook_events WHERE `+old+`)`, store.Micros(before)); err != nil {
				return err
			}
			_, err := tx.ExecContext(s.ctx, `DELETE FROM webhook_events WHERE `+old, store.Micros(before))
			return err
		})
	}
	if err != nil {
		s.warn("delete old events of webhooks", err)
	}
}
