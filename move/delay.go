package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mpr/store"
)

const (
	// windowMargin is what a delay leaves of a move's window at the least, or half of what there
	// is: a change-over may have to be done again.
	windowMargin = time.Minute
	// LongestDelay is the longest that a setting allows.
	LongestDelay = 24 * time.Hour
)

// Delay is what an app has asked for: that the change-over isn't done before a time.
type Delay struct {
	ClientID string    `json:"client_id"`
	Name     string    `json:"name"`
	Seconds  int64     `json:"seconds"`
	Until    time.Time `json:"until"`
}

// DelayRequest is the wish of an app, which it says in its answer to a notice.
type DelayRequest struct {
	Move, Notice   string
	ClientID, Name string
	Seconds        int64
}

// Delay delays a change-over for an app: once for each move, and at most for so long. What
// comes of it is an event of the move, whatever it is.
func (q *Queue) Delay(ctx context.Context, r DelayRequest, longest time.Duration) error {
	err := q.DB.Write(ctx, func(tx *sql.Tx) error {
		// The change of the row keeps the mover from changing over until we are done, on either engine.
		m, err := scan(tx.QueryRowContext(ctx, `UPDATE moves SET undelayed = undelayed WHERE id = $1 RETURNING `+columns, r.Move))
		if errors.Is(err, sql.ErrNoRows) {
			return nil // it was deleted: there is nothing to delay
		}
		if err != nil {
			return err
		}
		var before string
		err = tx.QueryRowContext(ctx, `SELECT notice_id FROM move_delays WHERE move_id = $1 AND client_id = $2`, r.Move, r.ClientID).Scan(&before)
		if err == nil && before == r.Notice {
			return nil // the answer has come twice
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		asked := fmt.Sprintf("app %s (%s) asks for a delay of %s", r.Name, r.ClientID, period(r.Seconds))
		if refused := m.refusesDelay(err == nil, longest); refused != "" {
			return note(ctx, tx, m.ID, Event{At: q.Now(), Phase: m.Phase, Note: asked + ", which is ignored: " + refused})
		}
		until, cut := m.delayedBy(r.Seconds, q.Now(), longest)
		_, err = tx.ExecContext(ctx, `INSERT INTO move_delays (move_id, client_id, name, notice_id, seconds, until) VALUES ($1, $2, $3, $4, $5, $6)`,
			r.Move, r.ClientID, r.Name, r.Notice, r.Seconds, store.Micros(until))
		if err != nil {
			return err
		}
		return note(ctx, tx, m.ID, Event{At: q.Now(), Phase: m.Phase, Note: asked + cut + ": the change-over isn't done before " + until.Format(time.RFC3339)})
	})
	if err != nil {
		return fmt.Errorf("delay a change-over: %w", err)
	}
	return nil
}

// period writes seconds for people, however many there are.
func period(seconds int64) string {
	if seconds > int64(LongestDelay/time.Second) {
		return fmt.Sprintf("%d seconds", seconds)
	}
	return (time.Duration(seconds) * time.Second).String()
}

// refusesDelay says why a move can't be delayed; nothing if it can.
func (m *Move) refusesDelay(again bool, longest time.Duration) string {
	switch {
	case m.Phase != Queued && m.Phase != Copying && m.Phase != Following && m.Phase != Ready:
		return "it comes too late"
	case longest <= 0:
		return "apps can't delay moves here (moves.longest_delay)"
	case m.Undelayed:
		return "an operator has dropped the delays"
	case again:
		return "an app may delay a move once"
	}
	return ""
}

// delayedBy is until when an app's delay holds, and what was cut from it. It counts from the
// planned time, or from now where that is later.
func (m *Move) delayedBy(seconds int64, now time.Time, longest time.Duration) (until time.Time, cut string) {
	wanted := longest
	if seconds <= int64(longest/time.Second) {
		wanted = time.Duration(seconds) * time.Second
	} else {
		cut = ", which is cut to the longest one, " + longest.String()
	}
	from := now
	if m.NotBefore.After(now) {
		from = m.NotBefore
	}
	until = from.Add(wanted)
	if m.NotAfter.IsZero() {
		return until.UTC(), cut
	}
	left := max(m.NotAfter.Sub(from), 0)
	if latest := from.Add(left - min(windowMargin, left/2)); until.After(latest) {
		until, cut = latest, ", which is cut to what the move's window leaves"
	}
	return until.UTC(), cut
}

// delays reads the delays of a move, the longest first.
func (q *Queue) delays(ctx context.Context, from interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, id string) (list []Delay, err error) {
	rows, err := from.QueryContext(ctx, `SELECT client_id, name, seconds, until FROM move_delays WHERE move_id = $1 ORDER BY until DESC, client_id`, id)
	if err != nil {
		return nil, fmt.Errorf("read delays: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var d Delay
		var until int64
		if err := rows.Scan(&d.ClientID, &d.Name, &d.Seconds, &until); err != nil {
			return nil, fmt.Errorf("read delays: %w", err)
		}
		d.Until = store.Time(until)
		list = append(list, d)
	}
	return list, rows.Err()
}

// withDelays adds its delays to a move.
func (q *Queue) withDelays(ctx context.Context, m *Move, err error) (*Move, error) {
	if err != nil {
		return nil, err
	}
	m.Delays, err = q.delays(ctx, q.DB.Read(), m.ID)
	return m, err
}

// Hurry has a paused move go on, and drops the delays of apps: the change-over waits for none
// of them. By says who asks.
func (q *Queue) Hurry(ctx context.Context, m *Move, by string) error {
	return q.steer(ctx, m, `UPDATE moves SET paused = $2, undelayed = 1, wake = 0 WHERE id = $1 AND active = 1`,
		"resumed by "+by+", who drops the delays of apps", 0)
}

// errWaitsForApps says that apps keep the change-over from being done.
var errWaitsForApps = errors.New("apps have a say first")

// commence has a move that is ready change over, unless an app has asked for a delay. In one
// transaction: an app that asks for it later is told that it comes too late.
func (q *Queue) commence(ctx context.Context, m *Move) error {
	err := q.DB.Write(ctx, func(tx *sql.Tx) error {
		var undelayed int64
		err := tx.QueryRowContext(ctx, `UPDATE moves SET phase = $3 WHERE id = $1 AND turn = $2 RETURNING undelayed`, m.ID, m.turn, string(Cutting)).Scan(&undelayed)
		if errors.Is(err, sql.ErrNoRows) {
			return errReplaced
		}
		if err != nil || undelayed == 1 {
			return err
		}
		all, err := q.delays(ctx, tx, m.ID)
		if err == nil && len(all) > 0 && all[0].Until.After(q.Now()) {
			return errWaitsForApps
		}
		return err
	})
	if err != nil && !errors.Is(err, errWaitsForApps) {
		return fmt.Errorf("begin the change-over of move %s: %w", m.ID, err)
	}
	return err
}

// waitsForApps answers until when the change-over has to wait for apps: for the longest of
// their delays and, as long as one of them may not have been tried yet, for the time that
// they are given to say so. The zero time is no wait.
func (q *Queue) waitsForApps(ctx context.Context, m *Move, notice time.Duration) (until time.Time, err error) {
	var undelayed, unheard int64
	err = q.DB.Read().QueryRowContext(ctx, `SELECT undelayed, (SELECT COUNT(*) FROM move_notices n WHERE n.move_id = m.id AND n.heard = 0 AND n.kind IN ('scheduled', 'started'))
		FROM moves m WHERE id = $1`, m.ID).Scan(&undelayed, &unheard)
	if err != nil {
		return until, fmt.Errorf("ask for delays: %w", err)
	}
	if undelayed == 1 {
		return until, nil
	}
	all, err := q.delays(ctx, q.DB.Read(), m.ID)
	if err != nil {
		return until, err
	}
	if len(all) > 0 {
		until = all[0].Until
	}
	// A time that is further away than any that is given is one of a clock that jumped.
	if given := m.Started.Add(notice); unheard > 0 && given.After(until) && !given.After(q.Now().Add(notice)) {
		until = given
	}
	return until, nil
}
