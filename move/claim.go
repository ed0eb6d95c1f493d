package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mpr/company"
	"mpr/store"
)

// held is a mover's hold on a move: its turn, and until when it is taken to be alive.
type held struct{ turn, until int64 }

// leases are those of the moves that have a mover, alive or not, by the id of the move.
func (q *Queue) leases(ctx context.Context) (map[string]held, error) {
	rows, err := q.DB.Read().QueryContext(ctx, `SELECT id, turn, lease FROM moves WHERE waits = 1 AND lease > 0`)
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	defer rows.Close()
	all := map[string]held{}
	for rows.Next() {
		var id string
		var h held
		if err := rows.Scan(&id, &h.turn, &h.until); err != nil {
			return nil, fmt.Errorf("read leases: %w", err)
		}
		all[id] = h
	}
	return all, rows.Err()
}

// claim takes up a move that waits and that no living mover has, with the next turn; nil
// where there is none. No region gets more than limit moves at the same time. dead are leases
// that are over, whatever the clock says.
func (q *Queue) claim(ctx context.Context, lease time.Duration, limit int, dead map[string]held) (*Move, error) {
	claimed, err := q.tryClaim(ctx, lease, limit, dead)
	if err != nil {
		return nil, fmt.Errorf("take up a move: %w", err)
	}
	return claimed, nil
}

func (q *Queue) tryClaim(ctx context.Context, lease time.Duration, limit int, dead map[string]held) (claimed *Move, _ error) {
	if len(dead) == 0 { // most looks find nothing, and hold up nobody
		if m, err := q.due(ctx, q.DB.Read(), limit); err != nil || m == nil {
			return nil, err
		}
	}
	err := q.DB.Write(ctx, func(tx *sql.Tx) error {
		claimed = nil
		// One after the other: two movers that count at the same time would both find room.
		if _, err := tx.ExecContext(ctx, `UPDATE move_claims SET claims = claims + 1`); err != nil {
			return err
		}
		for id, h := range dead {
			if _, err := tx.ExecContext(ctx, `UPDATE moves SET lease = 0 WHERE id = $1 AND turn = $2 AND lease = $3`, id, h.turn, h.until); err != nil {
				return err
			}
		}
		m, err := q.due(ctx, tx, limit)
		if err != nil || m == nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `UPDATE moves SET turn = turn + 1, lease = $3 WHERE id = $1 AND turn = $2`, m.ID, m.turn, store.Micros(q.Now())+lease.Microseconds())
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err // somebody else was faster
		}
		m.turn++
		claimed = m
		return nil
	})
	return claimed, err
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

const (
	// isDue is the condition for a move that has something to do and no mover, at $1. Only what is
	// kept waits until after $2: a wait that does is one of a clock that jumped.
	isDue = ` AND lease < $1 AND (wake <= $1 OR wake > $2)`
	// goesOn is the condition for a move that is paused or not: what has begun to change over, or to
	// be given up, goes on to where the company has an owner who serves it.
	goesOn = ` AND (paused = 0 OR aborting = 1 OR phase IN ('cutting over', 'committed', 'purging', 'aborting'))`
)

// due finds the move to take up next: one that has begun before one that waits for its turn, and
// the deletion of what is kept last; of two that wait the older one. Its queries read a
// few rows of an index each, however many moves wait for their turn or are kept.
func (q *Queue) due(ctx context.Context, from querier, limit int) (*Move, error) {
	now := q.Now()
	at, jumped := store.Micros(now), store.Micros(now.Add(longestRetry))
	for _, where := range []string{
		`phase <> 'queued' AND phase <> 'retained'` + isDue + goesOn + ` ORDER BY seq`,
		`phase = 'queued' AND aborting = 1` + isDue + ` ORDER BY seq`,
	} {
		m, err := first(from.QueryRowContext(ctx, `SELECT `+columns+` FROM moves WHERE waits = 1 AND `+where+` LIMIT 1`, at, jumped))
		if m != nil || err != nil {
			return m, err
		}
	}
	m, err := q.queued(ctx, from, limit, at, jumped)
	if m != nil || err != nil {
		return m, err
	}
	// What is deleted takes turns with what is written in its region, so there is a limit as well.
	return first(from.QueryRowContext(ctx, `SELECT `+columns+` FROM moves m WHERE waits = 1 AND phase = 'retained' AND lease < $1 AND wake <= $1
		AND (SELECT COUNT(*) FROM moves o WHERE o.waits = 1 AND o.lease > 0 AND o.lease >= $1 AND o.phase IN ('retained', 'purging') AND o.environment = m.environment AND o.source = m.source) < $2
		ORDER BY wake LIMIT 1`, at, limit))
}

func first(row *sql.Row) (*Move, error) {
	m, err := scan(row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	return m, err
}

// way is from where to where a move goes, end one end of it.
type (
	way struct {
		environment string
		from, to    company.Region
	}
	end struct {
		environment string
		region      company.Region
	}
)

// busy counts the moves that have a place in each region: those that have begun, and those that a
// mover has just taken up. Those that only wait, for their time or for an operator, have none.
func busy(rows *sql.Rows, err error) (map[end]int, error) {
	if err != nil {
		return nil, fmt.Errorf("count the moves that have begun: %w", err)
	}
	defer rows.Close()
	all := map[end]int{}
	for rows.Next() {
		var w way
		var n int
		if err := rows.Scan(&w.environment, &w.from, &w.to, &n); err != nil {
			return nil, fmt.Errorf("count the moves that have begun: %w", err)
		}
		all[end{w.environment, w.from}] += n
		all[end{w.environment, w.to}] += n
	}
	return all, rows.Err()
}

// queued finds the oldest move that waits for its turn, and whose regions both may take part in
// another one.
func (q *Queue) queued(ctx context.Context, from querier, limit int, at, jumped int64) (*Move, error) {
	places, err := busy(from.QueryContext(ctx, `SELECT environment, source, destination, COUNT(*) FROM moves
		WHERE active = 1 AND paused = 0 AND NOT (phase = 'ready' AND lease < $1 AND wake > $1) AND (phase <> 'queued' OR lease > 0) AND (phase <> 'queued' OR lease >= $1) GROUP BY environment, source, destination`, at))
	if err != nil {
		return nil, err
	}
	id, oldest := "", int64(0)
	for w := (way{}); ; {
		// From one way to the next, without looking at the moves of each.
		err := from.QueryRowContext(ctx, `SELECT environment, source, destination FROM moves WHERE waits = 1 AND phase = 'queued' AND (environment, source, destination) > ($1, $2, $3)
			ORDER BY environment, source, destination LIMIT 1`, w.environment, string(w.from), string(w.to)).Scan(&w.environment, &w.from, &w.to)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the ways of moves: %w", err)
		}
		if places[end{w.environment, w.from}] >= limit || places[end{w.environment, w.to}] >= limit {
			continue
		}
		var one string
		var seq int64
		err = from.QueryRowContext(ctx, `SELECT id, seq FROM moves WHERE waits = 1 AND phase = 'queued' AND environment = $3 AND source = $4 AND destination = $5 AND paused = 0`+isDue+` ORDER BY seq LIMIT 1`,
			at, jumped, w.environment, string(w.from), string(w.to)).Scan(&one, &seq)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("find a move that waits: %w", err)
		}
		if err == nil && (id == "" || seq < oldest) {
			id, oldest = one, seq
		}
	}
	return first(from.QueryRowContext(ctx, `SELECT `+columns+` FROM moves WHERE id = $1`, id))
}
