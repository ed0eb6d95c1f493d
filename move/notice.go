package move

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"mpr/company"
	"mpr/store"
)

// Kind is what a notice tells.
type Kind string

// What apps hear of a move: that it waits for its time, that the copying has begun, and that
// the company has changed over or stays where it was.
const (
	Scheduled  Kind = "scheduled"
	Started    Kind = "started"
	Finished   Kind = "finished"
	GivenUp    Kind = "aborted"
	noticeStep      = 4 // sequences of one move: more than there are notices of it
)

// noticed is what a phase is to be told as, and where that comes in the order of a move's notices.
func noticed(p Phase) (kind Kind, place int64) {
	switch p {
	case Queued:
		return Scheduled, 0
	case Copying:
		return Started, 1
	case Retained:
		return Finished, 2
	case Aborted:
		return GivenUp, 2
	}
	return "", 0
}

// Notice is something that apps hear of a move.
type Notice struct {
	// ID stays the same, however often the notice is told.
	ID          string
	Move        string
	Environment string
	Company     company.ID
	Kind        Kind
	At          time.Time
	Data        json.RawMessage
}

// NoticeData is what apps are told of a move.
type NoticeData struct {
	Company company.ID `json:"company_id"`
	Move    string     `json:"move_id"`
	// Sequence grows with the notices of a company.
	Sequence int64          `json:"sequence"`
	From     company.Region `json:"from"`
	To       company.Region `json:"to"`
	// NotBefore and NotAfter bound the time of the change-over, where the operator bounds it.
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// Epoch is the company's once it has changed over, and ChangedOver when it did.
	Epoch       company.Epoch `json:"epoch,omitempty"`
	ChangedOver time.Time     `json:"changed_over_at,omitzero"`
	// Reason is why the company stays.
	Reason Reason `json:"reason,omitempty"`
}

// Reason is why a move was given up. Apps are told no more than that: what has failed, and
// where, is the operator's business.
type Reason string

// The reasons.
const (
	// ByOperator says that an operator has asked for it.
	ByOperator Reason = "requested"
	// OutOfWindow says that the move wasn't ready within its window.
	OutOfWindow Reason = "window_missed"
	// Failed says that the company couldn't be moved.
	Failed Reason = "failed"
)

// tell writes the notice of the move's phase, where there is one and it isn't written yet. It
// comes with every change of the move, since whoever enters a phase may not be the one who
// writes it: a mover's sign of life does so as well.
func (q *Queue) tell(ctx context.Context, tx *sql.Tx, m *Move) (written bool, err error) {
	kind, place := noticed(m.Phase)
	if kind == "" {
		return false, nil
	}
	data := NoticeData{Company: m.Company, Move: m.ID, From: m.From, To: m.To, NotBefore: m.NotBefore, NotAfter: m.NotAfter}
	switch kind {
	case Finished:
		data.Epoch, data.ChangedOver = m.Epoch+1, m.Committed
	case GivenUp:
		data.Reason = m.Reason
	}
	var seq int64
	if err := tx.QueryRowContext(ctx, `SELECT seq FROM moves WHERE id = $1`, m.ID).Scan(&seq); err != nil {
		return false, fmt.Errorf("write a notice: %w", err)
	}
	data.Sequence = seq*noticeStep + place
	text, err := json.Marshal(data)
	if err != nil {
		return false, fmt.Errorf("write a notice: %w", err)
	}
	done, err := tx.ExecContext(ctx, `INSERT INTO move_notices (id, move_id, environment, company_id, kind, sequence, at, data, told, heard)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0) ON CONFLICT (move_id, kind) DO NOTHING`,
		rand.Text(), m.ID, m.Environment, int64(m.Company), string(kind), data.Sequence, store.Micros(q.Now()), string(text))
	if err != nil {
		return false, fmt.Errorf("write a notice: %w", err)
	}
	n, err := done.RowsAffected()
	return n > 0, err
}

// Untold reads notices that weren't passed on, the oldest first, but for those of some
// environments.
func (q *Queue) Untold(ctx context.Context, limit int, except []string) (list []Notice, err error) {
	where, args := ``, []any{limit}
	for _, environment := range except {
		args = append(args, environment)
		where += fmt.Sprintf(` AND environment <> $%d`, len(args))
	}
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT id, move_id, environment, company_id, kind, at, data FROM move_notices WHERE told = 0`+where+` ORDER BY at, sequence LIMIT $1`, args...)
	if err != nil {
		return nil, fmt.Errorf("read notices: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var n Notice
		var at int64
		var data string
		if err := rows.Scan(&n.ID, &n.Move, &n.Environment, &n.Company, &n.Kind, &at, &data); err != nil {
			return nil, fmt.Errorf("read notices: %w", err)
		}
		n.At, n.Data = store.Time(at), json.RawMessage(data)
		list = append(list, n)
	}
	return list, rows.Err()
}

// Told notes, in the transaction of whoever passes it on, that a notice was passed on.
func (q *Queue) Told(ctx context.Context, tx *sql.Tx, id string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE move_notices SET told = 1 WHERE id = $1`, id); err != nil {
		return fmt.Errorf("note that a notice was passed on: %w", err)
	}
	return nil
}

// Heard notes, in the transaction of whoever tells it, that each app was tried once. A move
// that is ready may go on.
func (q *Queue) Heard(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `UPDATE move_notices SET heard = 1 WHERE id = $1`, id)
	if err == nil {
		_, err = tx.ExecContext(ctx, `UPDATE moves SET wake = 0 WHERE phase = 'ready' AND lease = 0 AND id = (SELECT move_id FROM move_notices WHERE id = $1)`, id)
	}
	if err != nil {
		return fmt.Errorf("note that a notice was heard: %w", err)
	}
	return nil
}

// Forget deletes old notices. Those of a move that has something left to do stay: they say
// what was told.
func (q *Queue) Forget(ctx context.Context, before time.Time) error {
	return q.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM move_notices WHERE heard = 1 AND at < $1 AND NOT EXISTS (SELECT 1 FROM moves m WHERE m.id = move_id AND m.waits = 1)`, store.Micros(before))
		return err
	})
}
