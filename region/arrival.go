package region

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mpr/company"
	"mpr/problem"
	"mpr/snapshot"
	"mpr/store"
)

// The destination's side of a move. Rows are copied while the source goes on to write, so
// they are of different moments; then all changes since the copying began are applied in
// their order, and the last word on each row is right.

// moveArrive begins an arrival, or goes on with the one that this move has begun. What is left of a
// company that was here before is taken for a start where Version says up to which version
// it is right; otherwise it is deleted.
func (s *Service) moveArrive(ctx context.Context, c *moveCall) (any, error) {
	var a *arrival
	clear := false
	err := s.act(ctx, c, func(tx *sql.Tx) error {
		var err error
		if a, err = readArrival(ctx, tx, c.company); err != nil {
			return err
		}
		if clear = false; a != nil && a.Move == c.Move {
			clear = !a.Copied && a.Table == "" // what an earlier one has left may still be there
			return nil
		}
		if a, err = s.newArrival(ctx, tx, c, a); err != nil {
			return err
		}
		if clear = !a.Copied; clear {
			if err := notePurge(ctx, tx, c.company); err != nil {
				return err
			}
		}
		// What has come and what is changed since is compared by the log, whenever that is.
		if err := keepLogAfter(ctx, tx, c.company, a.Version); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO arrivals (company_id, load_id, started, epoch, table_name, after_key, copied, version, settled)
			VALUES ($1, $2, $3, $4, '', '', $5, $6, $6)
			ON CONFLICT (company_id) DO UPDATE SET load_id = excluded.load_id, started = excluded.started, epoch = excluded.epoch,
				table_name = '', after_key = '', copied = excluded.copied, version = excluded.version, settled = excluded.settled`,
			int64(c.company), c.Move, store.Micros(a.Started), int64(c.Epoch), number(a.Copied), a.Version)
		if err != nil {
			return fmt.Errorf("begin the arrival: %w", err)
		}
		return nil
	})
	if err != nil || !clear {
		return a, err
	}
	return a, s.clearArrival(ctx, c)
}

// newArrival says where an arrival begins. before is one of another move, whose place it takes; nil
// where there is none.
func (s *Service) newArrival(ctx context.Context, tx *sql.Tx, c *moveCall, before *arrival) (*arrival, error) {
	var abandoned int64
	if err := tx.QueryRowContext(ctx, `SELECT abandoned FROM moves WHERE company_id = $1`, int64(c.company)).Scan(&abandoned); err != nil {
		return nil, fmt.Errorf("read the move: %w", err)
	}
	if abandoned != 0 { // the request was on its way for long, or has come twice
		return nil, problem.New(problem.Conflict, "The move %s of company %d was given up.", c.Move, c.company)
	}
	a := &arrival{Move: c.Move, Started: s.Now(), Epoch: c.Epoch, Version: c.Version, Settled: c.Version}
	f, err := lockFence(ctx, tx, c.company) // or its rows might be purged meanwhile
	switch {
	case errors.Is(err, problem.New(problem.NotFound, "")):
	case err != nil:
		return nil, err
	case f.State != gone || f.GoneEpoch > c.Epoch:
		return nil, f.refused(c.company)
	case f.Version == c.Version && !f.Purged && c.Reuse && before.leaves(c.Version):
		a.Copied = true // all rows of that version are here
	}
	return a, nil
}

// leaves says whether the rows are still those of a version, after an arrival that was begun and
// not ended.
func (a *arrival) leaves(version int64) bool {
	return a == nil || a.Copied && a.Version == version && a.Settled == version
}

// notePurge notes that rows of a company that is gone are being deleted.
func notePurge(ctx context.Context, tx *sql.Tx, id company.ID) error {
	if _, err := tx.ExecContext(ctx, `UPDATE fence SET purged = 1 WHERE company_id = $1 AND state = 'gone'`, int64(id)); err != nil {
		return fmt.Errorf("note the purge: %w", err)
	}
	return nil
}

// clearArrival deletes, in short transactions, what is here of a company that is about to
// be copied anew.
func (s *Service) clearArrival(ctx context.Context, c *moveCall) error {
	for left := true; left; {
		err := s.arrive(ctx, c, func(tx *sql.Tx, _ *arrival) (err error) {
			_, left, err = deleteSome(ctx, tx, c.company, clearAtOnce)
			return err
		})
		if err != nil {
			return fmt.Errorf("clear what is left of company %d: %w", c.company, err)
		}
	}
	return nil
}

// arrive is act for a move that has begun to arrive here.
func (s *Service) arrive(ctx context.Context, c *moveCall, f func(*sql.Tx, *arrival) error) error {
	return s.act(ctx, c, func(tx *sql.Tx) error {
		a, err := readArrival(ctx, tx, c.company)
		if err != nil {
			return err
		}
		if a == nil || a.Move != c.Move {
			return problem.New(problem.Conflict, "Company %d isn't arriving by this move.", c.company)
		}
		return f(tx, a)
	})
}

// moveTakeRows takes a page of rows, and notes up to where they have come. A page that has
// come already is left out.
func (s *Service) moveTakeRows(ctx context.Context, c *moveCall) (any, error) {
	t, err := movingTable(c.Table)
	if err != nil {
		return nil, err
	}
	if _, ok := t.readKey(c.After); !ok && (c.After != "" || len(c.Rows) > 0) {
		return nil, problem.New(problem.Invalid, "The member after isn't a key of %s.", t.name)
	}
	if c.After == "" && !c.Last {
		return nil, problem.New(problem.Invalid, "A page that isn't the last one ends with the key of a row, in the member after.")
	}
	if err := s.admitBytes(ctx, c.size); err != nil {
		return nil, err
	}
	var now *arrival
	err = s.arrive(ctx, c, func(tx *sql.Tx, a *arrival) error {
		if now = a; a.Copied || !t.follows(a, c) {
			return nil
		}
		batch := make([]snapshot.Row, len(c.Rows))
		for i, row := range c.Rows {
			batch[i] = snapshot.Row{Table: t.name, Data: row}
		}
		// A row may take the place of one that was copied earlier and is deleted or changed
		// since: the changes that follow say so. Until then it is left out.
		if _, err := s.inserter.InsertOrLeave(ctx, tx, t.name, batch, map[string]int64{"company_id": int64(c.company)}); err != nil {
			return err
		}
		a.Table, a.After = t.name, c.After
		list := moving()
		if c.Last {
			if i := slices.Index(list, t); i+1 < len(list) {
				a.Table, a.After = list[i+1].name, ""
			} else {
				a.Copied = true
			}
		}
		// The page was read at Version: up to there, rows may be newer than the changes.
		a.Settled = max(a.Settled, c.Version)
		_, err := tx.ExecContext(ctx, `UPDATE arrivals SET table_name = $2, after_key = $3, copied = $4, settled = $5 WHERE company_id = $1`,
			int64(c.company), a.Table, a.After, number(a.Copied), a.Settled)
		return err
	})
	return now, err
}

// follows says whether a page is the one that comes next.
func (t *table) follows(a *arrival, c *moveCall) bool {
	list := moving()
	want := a.Table
	if want == "" {
		want = list[0].name
	}
	return t.name == want && c.Since == a.After
}

// moveTakeChanges applies changes in their order; those that were applied already are left
// out.
func (s *Service) moveTakeChanges(ctx context.Context, c *moveCall) (any, error) {
	if err := s.admitBytes(ctx, c.size); err != nil {
		return nil, err
	}
	var now *arrival
	err := s.arrive(ctx, c, func(tx *sql.Tx, a *arrival) error {
		now = a
		if !a.Copied {
			return problem.New(problem.Conflict, "Not all rows of company %d have been copied yet.", c.company)
		}
		for _, change := range c.Changes {
			if change.Version <= a.Version {
				continue
			}
			if change.Version != a.Version+1 {
				return problem.New(problem.Invalid, "The change after version %d of company %d is missing.", a.Version, c.company)
			}
			if err := s.apply(ctx, tx, c.company, a, &change); err != nil {
				return fmt.Errorf("apply version %d of company %d: %w", change.Version, c.company, err)
			}
			a.Version = change.Version
		}
		_, err := tx.ExecContext(ctx, `UPDATE arrivals SET version = $2 WHERE company_id = $1`, int64(c.company), a.Version)
		return err
	})
	return now, err
}

// apply makes one change, and notes it in the change log: a move back needs it.
func (s *Service) apply(ctx context.Context, tx *sql.Tx, id company.ID, a *arrival, change *loggedChange) error {
	t, err := movingTable(change.Table)
	if err != nil {
		return err
	}
	key, err := t.keyIn(change.Row, id)
	if err != nil {
		return err
	}
	conditions := make([]string, len(t.key))
	for i, column := range t.key {
		conditions[i] = fmt.Sprintf("%s = $%d", column, i+1)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM `+t.name+` WHERE `+strings.Join(conditions, " AND "), key...); err != nil {
		return err
	}
	if !change.Deleted {
		n, err := s.inserter.InsertOrLeave(ctx, tx, t.name, []snapshot.Row{{Table: t.name, Data: change.Row}}, map[string]int64{"company_id": int64(id)})
		if err != nil {
			return err
		}
		// Up to settled, a copied row may be from later and hold what is unique; then a later
		// change of this row follows.
		if n == 0 && change.Version > a.Settled {
			return problem.New(problem.Conflict, "A row of %s stands in the way of another one.", t.name)
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO change_log (company_id, version, name, deleted, data, at, published) VALUES ($1, $2, $3, $4, $5, $6, 1)
		ON CONFLICT (company_id, version) DO NOTHING`,
		int64(id), change.Version, t.name, number(change.Deleted), string(change.Row), store.Micros(s.Now()))
	return err
}

// keyIn reads the key of a row.
func (t *table) keyIn(row json.RawMessage, id company.ID) ([]any, error) {
	var columns map[string]json.RawMessage
	if err := json.Unmarshal(row, &columns); err != nil {
		return nil, problem.New(problem.Invalid, "A row of %s is no JSON object.", t.name).Because(err)
	}
	key := make([]any, len(t.key))
	for i, column := range t.key {
		var n int64
		dec := json.NewDecoder(bytes.NewReader(columns[column]))
		if err := dec.Decode(&n); err != nil {
			return nil, problem.New(problem.Invalid, "A row of %s lacks the key column %s.", t.name, column).Because(err)
		}
		if i == 0 && n != int64(id) {
			return nil, problem.New(problem.Invalid, "A row of %s is of company %d, not %d.", t.name, n, id)
		}
		key[i] = n
	}
	return key, nil
}

// moveActivate has the region own the company: the directory says so, at this epoch.
func (s *Service) moveActivate(ctx context.Context, c *moveCall) (any, error) {
	now := ownership{}
	err := s.act(ctx, c, func(tx *sql.Tx) error {
		f, err := readFence(ctx, tx, c.company)
		var unknown *notOwned
		switch {
		case errors.As(err, &unknown):
		case err != nil:
			return err
		case f.State == owned && f.Epoch >= c.Epoch:
			now = f.ownership() // it was done before
			return nil
		case f.State != gone || f.GoneEpoch >= c.Epoch:
			return f.refused(c.company)
		}
		a, err := readArrival(ctx, tx, c.company)
		if err != nil {
			return err
		}
		if a == nil || a.Move != c.Move || !a.Copied || a.Version != c.Version || c.Epoch <= a.Epoch {
			return problem.New(problem.Conflict, "Company %d hasn't arrived at version %d for epoch %d.", c.company, c.Version, c.Epoch)
		}
		now = ownership{owned, c.Epoch, a.Version}
		_, err = tx.ExecContext(ctx, `INSERT INTO fence (company_id, epoch, state, version, gone_region, gone_epoch, purged) VALUES ($1, $2, 'owned', $3, '', 0, 0)
			ON CONFLICT (company_id) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, version = excluded.version, gone_region = '', gone_epoch = 0, purged = 0`,
			int64(c.company), int64(c.Epoch), a.Version)
		if err != nil {
			return fmt.Errorf("own the company: %w", err)
		}
		if err := publishArrived(ctx, tx, c.company, a.Version); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM arrivals WHERE company_id = $1`, int64(c.company)); err != nil {
			return fmt.Errorf("end the arrival: %w", err)
		}
		return keepLogAfter(ctx, tx, c.company, a.Version) // for a move back
	})
	return now, err
}

// moveAbandon gives an arrival up, and deletes what has come. What was here before is gone
// as well where it was built on.
func (s *Service) moveAbandon(ctx context.Context, c *moveCall) (any, error) {
	begun := false
	err := s.act(ctx, c, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE moves SET abandoned = 1 WHERE company_id = $1`, int64(c.company)); err != nil {
			return fmt.Errorf("note that the move was given up: %w", err)
		}
		a, err := readArrival(ctx, tx, c.company)
		if begun = a != nil && a.Move == c.Move; err != nil || !begun {
			return err
		}
		return notePurge(ctx, tx, c.company)
	})
	if err != nil || !begun {
		return struct{}{}, err
	}
	if err := s.clearArrival(ctx, c); err != nil {
		return nil, err
	}
	return struct{}{}, s.arrive(ctx, c, func(tx *sql.Tx, _ *arrival) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM arrivals WHERE company_id = $1`, int64(c.company)); err != nil {
			return fmt.Errorf("end the arrival: %w", err)
		}
		return keepLogAfter(ctx, tx, c.company, -1)
	})
}

// moveSettle says that nobody will move the company back by what the change log has of the
// time since it came.
func (s *Service) moveSettle(ctx context.Context, c *moveCall) (any, error) {
	return struct{}{}, s.act(ctx, c, func(tx *sql.Tx) error { return keepLogAfter(ctx, tx, c.company, -1) })
}
