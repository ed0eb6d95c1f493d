package move

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema of a queue's store.
func Migrations() fs.FS { return store.Files(migrations) }

// Queue keeps moves in a database, which several processes may share.
type Queue struct {
	DB  *store.DB
	Now func() time.Time
	// Noticed is called when there is something new to tell apps. It may be nil: whoever tells
	// them looks from time to time.
	Noticed func()
}

const columns = `id, environment, company_id, source, destination, phase, paused, aborting, leaving, undelayed, details, turn, wake`

func scan(row interface{ Scan(...any) error }) (*Move, error) {
	var m Move
	var details string
	var wake int64
	err := row.Scan(&m.ID, &m.Environment, &m.Company, &m.From, &m.To, &m.Phase, &m.Paused, &m.Aborting, &m.Leaving, &m.Undelayed, &details, &m.turn, &wake)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(details), &m.Details); err != nil {
		return nil, fmt.Errorf("read move %s: %w", m.ID, err)
	}
	m.wake = store.Time(wake)
	m.Paused = m.Paused && !m.Phase.Over() // one that came too late says nothing
	m.Details.Company, m.Details.To = m.Company, m.To
	return &m, nil
}

// Add queues a move. A company that moves already is [problem.Conflict].
func (q *Queue) Add(ctx context.Context, environment string, from company.Region, r Request) (*Move, error) {
	m := &Move{ID: rand.Text(), Environment: environment, Company: r.Company, From: from, To: r.To, Phase: Queued, Details: Details{Request: r, Requested: q.Now().UTC()}}
	details, err := json.Marshal(m.Details)
	if err != nil {
		return nil, fmt.Errorf("queue a move: %w", err)
	}
	err = q.DB.Write(ctx, func(tx *sql.Tx) error {
		// Regions know the turns of earlier moves of the company.
		var seq, turn int64
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) + 1 FROM moves`).Scan(&seq); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(turn), 0) FROM moves WHERE environment = $1 AND company_id = $2`, environment, int64(r.Company)).Scan(&turn); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO moves (id, seq, environment, company_id, source, destination, phase, active, waits, turn, lease, wake, paused, aborting, details)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 1, 1, $8, 0, 0, 0, 0, $9)`,
			m.ID, seq, environment, int64(r.Company), string(from), string(r.To), string(Queued), turn, string(details))
		if err != nil {
			return err
		}
		if _, err := q.tell(ctx, tx, m); err != nil {
			return err
		}
		return note(ctx, tx, m.ID, Event{At: q.Now(), Phase: Queued, Note: "asked for by " + r.By})
	})
	if store.IsDuplicate(err) {
		return nil, problem.New(problem.Conflict, "Company %d is moving already. See `mpr move status %d`, and abort that move first.", r.Company, r.Company)
	}
	if err != nil {
		return nil, fmt.Errorf("queue a move: %w", err)
	}
	q.noticed(true)
	return m, nil
}

func (q *Queue) noticed(written bool) {
	if written && q.Noticed != nil {
		q.Noticed()
	}
}

func note(ctx context.Context, tx *sql.Tx, id string, e Event) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO move_events (move_id, n, at, phase, note)
		SELECT $1, COALESCE(MAX(n), 0) + 1, $2, $3, $4 FROM move_events WHERE move_id = $1`, id, store.Micros(e.At), string(e.Phase), e.Note)
	if err != nil {
		return fmt.Errorf("note what became of a move: %w", err)
	}
	return nil
}

// Get reads a move by its id.
func (q *Queue) Get(ctx context.Context, environment, id string) (*Move, error) {
	m, err := scan(q.DB.Read().QueryRowContext(ctx, `SELECT `+columns+` FROM moves WHERE environment = $1 AND id = $2`, environment, id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, problem.New(problem.NotFound, "There is no move %s.", id)
	}
	return q.withDelays(ctx, m, err)
}

// Last reads a company's last move.
func (q *Queue) Last(ctx context.Context, environment string, id company.ID) (*Move, error) {
	m, err := scan(q.DB.Read().QueryRowContext(ctx, `SELECT `+columns+` FROM moves WHERE environment = $1 AND company_id = $2 ORDER BY seq DESC LIMIT 1`, environment, int64(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, problem.New(problem.NotFound, "Company %d has never moved.", id)
	}
	return q.withDelays(ctx, m, err)
}

// List reads the last moves, the newest first; only those that aren't over where active is
// set.
func (q *Queue) List(ctx context.Context, environment string, active bool, limit int) (list []*Move, err error) {
	where := ``
	if active {
		where = ` AND active = 1`
	}
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT `+columns+` FROM moves WHERE environment = $1`+where+` ORDER BY seq DESC LIMIT $2`, environment, limit)
	return collect(rows, err)
}

// Page reads a part of all moves, the newest first, and how many there are.
func (q *Queue) Page(ctx context.Context, environment string, limit, offset int) (list []*Move, total int, err error) {
	if err := q.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM moves WHERE environment = $1`, environment).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count moves: %w", err)
	}
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT `+columns+` FROM moves WHERE environment = $1 ORDER BY seq DESC LIMIT $2 OFFSET $3`, environment, limit, offset)
	list, err = collect(rows, err)
	return list, total, err
}

// OfCompany reads all moves of a company, the oldest first.
func (q *Queue) OfCompany(ctx context.Context, environment string, id company.ID) ([]*Move, error) {
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT `+columns+` FROM moves WHERE environment = $1 AND company_id = $2 ORDER BY seq`, environment, int64(id))
	return collect(rows, err)
}

func collect(rows *sql.Rows, err error) (list []*Move, _ error) {
	if err != nil {
		return nil, fmt.Errorf("list moves: %w", err)
	}
	defer rows.Close()
	list = []*Move{}
	for rows.Next() {
		m, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// Coming is about how many bytes the moves that are copying are still to bring to a region.
func (q *Queue) Coming(ctx context.Context, environment string, to company.Region) (bytes int64, err error) {
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT `+columns+` FROM moves WHERE environment = $1 AND active = 1 AND (phase <> 'queued' OR lease > 0) AND phase = $2 AND destination = $3`,
		environment, string(Copying), string(to))
	list, err := collect(rows, err)
	for _, m := range list {
		bytes += m.toCome()
	}
	return bytes, err
}

// Events tells what became of a move, from the event behind that with the number after; 0 for
// all. A move enters no phase without one.
func (q *Queue) Events(ctx context.Context, id string, after int64) (list []Event, err error) {
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT n, at, phase, note FROM move_events WHERE move_id = $1 AND n > $2 ORDER BY n`, id, after)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	defer rows.Close()
	list = []Event{}
	for rows.Next() {
		var e Event
		var at int64
		if err := rows.Scan(&e.N, &at, &e.Phase, &e.Note); err != nil {
			return nil, fmt.Errorf("list events: %w", err)
		}
		e.At = store.Time(at)
		list = append(list, e)
	}
	return list, rows.Err()
}

// Pause keeps a move from going on, or has it go on. By says who asks.
func (q *Queue) Pause(ctx context.Context, m *Move, paused bool, by string) error {
	word := map[bool]string{true: "paused by ", false: "resumed by "}[paused]
	return q.steer(ctx, m, `UPDATE moves SET paused = $2, wake = 0 WHERE id = $1 AND active = 1 AND aborting = 0`, word+by, bit(paused))
}

// Abort has a move given up, if it hasn't been committed by then. With leave that doesn't wait
// for a destination that is lost: what was copied may be left there, and is no one's.
func (q *Queue) Abort(ctx context.Context, m *Move, leave bool, by string) error {
	text := "abort asked for by " + by
	if leave {
		text += ", without the destination"
	}
	return q.steer(ctx, m, `UPDATE moves SET aborting = 1, leaving = CASE WHEN $2 = 1 THEN 1 ELSE leaving END, paused = 0, wake = 0 WHERE id = $1 AND active = 1`, text, bit(leave))
}

func (q *Queue) steer(ctx context.Context, m *Move, update, text string, value int64) error {
	return q.DB.Write(ctx, func(tx *sql.Tx) error {
		var now Phase
		err := tx.QueryRowContext(ctx, update+` RETURNING phase`, m.ID, value).Scan(&now)
		if errors.Is(err, sql.ErrNoRows) {
			return problem.New(problem.Conflict, "The move is over already, or is being given up.")
		}
		if err != nil {
			return fmt.Errorf("steer a move: %w", err)
		}
		return note(ctx, tx, m.ID, Event{At: q.Now(), Phase: now, Note: text})
	})
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// errReplaced says that another mover has taken the move up.
var errReplaced = errors.New("another mover has taken the move up")

// save writes how the move stands, keeps or ends the lease, and tells what an operator has
// asked for meanwhile.
func (q *Queue) save(ctx context.Context, m *Move, lease time.Duration, events ...Event) error {
	details, err := json.Marshal(m.Details)
	if err != nil {
		return fmt.Errorf("save a move: %w", err)
	}
	written := false
	err = q.DB.Write(ctx, func(tx *sql.Tx) error {
		until := int64(0)
		if lease > 0 {
			until = store.Micros(q.Now()) + lease.Microseconds()
		}
		waits := m.Phase != Done && m.Phase != Aborted
		err := tx.QueryRowContext(ctx, `UPDATE moves SET phase = $3, active = $4, waits = $5, lease = $6, wake = $7, details = $8 WHERE id = $1 AND turn = $2
			RETURNING paused, aborting, leaving`,
			m.ID, m.turn, string(m.Phase), bit(!m.Phase.Over()), bit(waits), until, store.Micros(m.wake), string(details)).Scan(&m.Paused, &m.Aborting, &m.Leaving)
		if errors.Is(err, sql.ErrNoRows) {
			return errReplaced
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := note(ctx, tx, m.ID, e); err != nil {
				return err
			}
		}
		written, err = q.tell(ctx, tx, m)
		return err
	})
	if err != nil {
		return fmt.Errorf("save move %s: %w", m.ID, err)
	}
	q.noticed(written)
	return nil
}

// overtake raises the turn above one that a region knows from a move that the queue has
// forgotten.
func (q *Queue) overtake(ctx context.Context, m *Move, known int64) error {
	if m.turn > known {
		return nil
	}
	err := q.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE moves SET turn = $3 WHERE id = $1 AND turn = $2`, m.ID, m.turn, known+1)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, errReplaced)
		}
		return nil
	})
	if err == nil {
		m.turn = known + 1
	}
	return err
}

// Count is how many moves of an environment are in a phase.
type Count struct {
	Environment string
	Phase       Phase
	// State is paused, aborting, or going on.
	State string
	Moves int64
}

// Counts counts the moves for which there is something left to do.
func (q *Queue) Counts(ctx context.Context) (list []Count, err error) {
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT environment, phase, CASE WHEN aborting = 1 THEN 'aborting' WHEN paused = 1 THEN 'paused' ELSE 'going on' END AS state, COUNT(*)
		FROM moves WHERE waits = 1 GROUP BY 1, 2, 3`)
	if err != nil {
		return nil, fmt.Errorf("count moves: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var c Count
		if err := rows.Scan(&c.Environment, &c.Phase, &c.State, &c.Moves); err != nil {
			return nil, fmt.Errorf("count moves: %w", err)
		}
		list = append(list, c)
	}
	return list, rows.Err()
}
