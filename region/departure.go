package region

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/problem"
	"mpr/snapshot"
)

// The source's side of a move.

// ownership is what operations on the fence answer.
type ownership struct {
	State   string        `json:"state"`
	Epoch   company.Epoch `json:"epoch"`
	Version int64         `json:"version"`
}

func (f *fence) ownership() ownership { return ownership{f.State, f.Epoch, f.Version} }

// refused says that the fence stands otherwise than the operation needs it.
func (f *fence) refused(id company.ID) error {
	p := problem.New(problem.Conflict, "The fence of company %d is %s at epoch %d.", id, f.State, f.Epoch)
	if f.State == gone {
		p = problem.New(problem.Conflict, "Company %d has gone to %s at epoch %d.", id, f.GoneRegion, f.GoneEpoch)
	}
	return p
}

// lockFence reads the fence and keeps its row until the transaction ends.
func lockFence(ctx context.Context, tx *sql.Tx, id company.ID) (*fence, error) {
	var f fence
	err := tx.QueryRowContext(ctx, `UPDATE fence SET version = version WHERE company_id = $1 RETURNING `+fenceColumns, int64(id)).Scan(f.columns()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, neverHere(id)
	}
	if err != nil {
		return nil, fmt.Errorf("take the fence: %w", err)
	}
	return &f, nil
}

func neverHere(id company.ID) error {
	return problem.New(problem.NotFound, "This region has never had company %d.", id)
}

// knownFence reads the fence of a company that the region must have heard of.
func knownFence(ctx context.Context, q querier, id company.ID) (*fence, error) {
	f, err := readFence(ctx, q, id)
	var unknown *notOwned
	if errors.As(err, &unknown) {
		return nil, neverHere(id)
	}
	return f, err
}

// readable is knownFence for what a source answers of its rows: of a company that has gone,
// nothing, since what is left of it is nobody's data any more.
func readable(ctx context.Context, q querier, id company.ID) (*fence, error) {
	f, err := knownFence(ctx, q, id)
	if err == nil && f.State == gone {
		err = f.refused(id)
	}
	return f, err
}

// changeFence reads and locks the fence, has f say what becomes of it, and writes that.
func (s *Service) changeFence(ctx context.Context, c *moveCall, change func(*sql.Tx, *fence) error) (any, error) {
	var now ownership
	err := s.act(ctx, c, func(tx *sql.Tx) error {
		f, err := lockFence(ctx, tx, c.company)
		if err != nil {
			return err
		}
		if err := change(tx, f); err != nil {
			return err
		}
		now = f.ownership()
		_, err = tx.ExecContext(ctx, `UPDATE fence SET epoch = $2, state = $3, gone_region = $4, gone_epoch = $5, purged = $6 WHERE company_id = $1`,
			int64(c.company), int64(f.Epoch), f.State, string(f.GoneRegion), int64(f.GoneEpoch), number(f.Purged))
		if err != nil {
			return fmt.Errorf("change the fence: %w", err)
		}
		return nil
	})
	return now, err
}

// keepLog keeps the change log from the version after this one on.
func keepLogAfter(ctx context.Context, tx *sql.Tx, id company.ID, version int64) error {
	if _, err := tx.ExecContext(ctx, `UPDATE moves SET keep_after = $2 WHERE company_id = $1`, int64(id), version); err != nil {
		return fmt.Errorf("keep the change log: %w", err)
	}
	return nil
}

// moveDepart begins a move away: from now on the change log is kept.
func (s *Service) moveDepart(ctx context.Context, c *moveCall) (any, error) {
	return s.changeFence(ctx, c, func(tx *sql.Tx, f *fence) error {
		if f.State == gone || f.Epoch != c.Epoch {
			return f.refused(c.company)
		}
		return keepLogAfter(ctx, tx, c.company, min(f.Version, max(c.Version, 0)))
	})
}

// moveFreeze has the fence refuse everything: what the region has is all that there will be.
// Writes that are under way end first, since they hold the fence's row.
func (s *Service) moveFreeze(ctx context.Context, c *moveCall) (any, error) {
	return s.changeFence(ctx, c, func(_ *sql.Tx, f *fence) error {
		if f.State == gone || f.Epoch != c.Epoch {
			return f.refused(c.company)
		}
		f.State = frozen
		return nil
	})
}

// moveThaw has the region own the company on, at a newer epoch: the move was given up.
func (s *Service) moveThaw(ctx context.Context, c *moveCall) (any, error) {
	return s.changeFence(ctx, c, func(tx *sql.Tx, f *fence) error {
		if f.State == gone || f.Epoch > c.Epoch || f.State == frozen && f.Epoch == c.Epoch {
			return f.refused(c.company)
		}
		f.State, f.Epoch = owned, c.Epoch
		if err := publishArrived(ctx, tx, c.company, f.Version); err != nil {
			return err
		}
		return keepLogAfter(ctx, tx, c.company, -1)
	})
}

// moveLeave notes where the company went: the destination owns it at this epoch.
func (s *Service) moveLeave(ctx context.Context, c *moveCall) (any, error) {
	if _, err := company.ParseRegion(string(c.Region)); err != nil || c.Region == s.Code {
		return nil, problem.New(problem.Invalid, "The body must name another region.")
	}
	return s.changeFence(ctx, c, func(tx *sql.Tx, f *fence) error {
		if f.State == gone && f.GoneEpoch >= c.Epoch {
			return nil
		}
		if f.State == owned || f.Epoch >= c.Epoch {
			return f.refused(c.company)
		}
		f.State, f.GoneRegion, f.GoneEpoch = gone, c.Region, c.Epoch
		return keepLogAfter(ctx, tx, c.company, -1)
	})
}

// purgeAtOnce is how many rows one call of purge deletes at the most.
const purgeAtOnce = 500

// movePurge deletes some rows of a company that went elsewhere; Left says that there are
// more. The fence stays: it tells gateways where the company went.
func (s *Service) movePurge(ctx context.Context, c *moveCall) (any, error) {
	said := struct {
		Deleted int64 `json:"deleted"`
		Left    bool  `json:"left"`
	}{}
	// No turn is asked for: rows of a company that is neither here nor on its way are of no use
	// to any other move.
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		f, err := lockFence(ctx, tx, c.company)
		if err != nil {
			return err
		}
		a, err := readArrival(ctx, tx, c.company)
		switch {
		case err != nil:
			return err
		case f.State != gone:
			return f.refused(c.company)
		case a != nil:
			return problem.New(problem.Conflict, "Company %d is on its way back here.", c.company)
		}
		if err := notePurge(ctx, tx, c.company); err != nil {
			return err
		}
		said.Deleted, said.Left, err = deleteSome(ctx, tx, c.company, purgeAtOnce)
		return err
	})
	return said, err
}

// deleteSome deletes the first rows of a company in the order of their keys: otherwise
// PostgreSQL reads all of them to find some, each time.
func (t *table) deleteSome(ctx context.Context, tx *sql.Tx, id company.ID, most int64) (int64, error) {
	key := strings.Join(t.key, ", ")
	return affected(tx.ExecContext(ctx, `DELETE FROM `+t.name+` WHERE (`+key+`) IN (SELECT `+key+` FROM `+t.name+` WHERE company_id = $1 ORDER BY `+key+` LIMIT $2)`, int64(id), most))
}

// deleteSome deletes rows of a company, and what the change log has of them that the global
// index has as well.
func deleteSome(ctx context.Context, tx *sql.Tx, id company.ID, most int64) (deleted int64, left bool, err error) {
	for _, t := range moving() {
		n, err := t.deleteSome(ctx, tx, id, most-deleted)
		if err != nil {
			return 0, false, fmt.Errorf("delete from %s: %w", t.name, err)
		}
		if deleted += n; deleted == most {
			return deleted, true, nil
		}
	}
	n, err := affected(tx.ExecContext(ctx, `DELETE FROM change_log WHERE (company_id, version) IN
		(SELECT company_id, version FROM change_log WHERE company_id = $1 AND published = 1 ORDER BY company_id, version LIMIT $2)`, int64(id), most-deleted))
	if err != nil {
		return 0, false, fmt.Errorf("delete from the change log: %w", err)
	}
	deleted += n
	return deleted, deleted == most, nil
}

func affected(done sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// page is some rows of a table.
type page struct {
	// rows are JSON objects with commas between them.
	rows []byte
	// after is where the next page begins.
	after string
	// end is the key of the table's last row, where the reader hasn't said where to stop.
	end string
	// last says that there are no more rows of this table.
	last bool
	// version is the fence's when the page was read.
	version int64
}

// rendered is the page as it is sent. An encoder would look at each byte of the rows again.
func (p *page) rendered() rendered {
	data := append([]byte(`{"rows":[`), p.rows...)
	data = append(data, `],"after":`...)
	data = canonicalText(data, p.after)
	if p.end != "" {
		data = canonicalText(append(data, `,"end":`...), p.end)
	}
	data = fmt.Appendf(data, `,"last":%t,"version":%d}`, p.last, p.version)
	return append(data, '\n')
}

// errPageFull ends the reading of rows.
var errPageFull = errors.New("the page is full")

// moveRows reads rows of ?table= by their keys, from the one after ?after= on, up to the one
// of ?until=. Rows that come while a table is copied are in the change log: a reader that is
// slower than they come would never be done without an end.
func (s *Service) moveRows(ctx context.Context, c *moveCall) (any, error) {
	t, err := movingTable(c.query.Get("table"))
	if err != nil {
		return nil, err
	}
	limit, err := c.number("limit", contractRows)
	if err != nil {
		return nil, err
	}
	where, args, err := t.between(c.company, c.query.Get("after"), c.query.Get("until"))
	if err != nil {
		return nil, err
	}
	var p page
	err = s.DB.Snapshot(ctx, func(tx *sql.Tx) error {
		p = page{after: c.query.Get("after"), last: true, rows: p.rows[:0]}
		f, err := readable(ctx, tx, c.company)
		if err != nil {
			return err
		}
		p.version = f.Version
		if !c.query.Has("until") {
			if p.end, err = t.lastKey(ctx, tx, c.company); err != nil {
				return err
			}
		}
		return t.readPage(ctx, tx, &p, min(max(limit, 1), contractRows), where, args)
	})
	return p.rendered(), err
}

// readPage reads as many rows as a page may have, and says whether there are more.
func (t *table) readPage(ctx context.Context, tx *sql.Tx, p *page, limit int64, where string, args []any) error {
	rows, err := tx.QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE `+where+` ORDER BY `+strings.Join(t.key, ", ")+fmt.Sprintf(` LIMIT %d`, limit+1), args...)
	var line canonical
	n, key := int64(0), make([]int64, len(t.key)-1)
	err = snapshot.EachValues(rows, err, func(columns []string, values []any) error {
		if n == limit || len(p.rows) >= contractBytes {
			p.last = false
			return errPageFull
		}
		data, err := line.of(columns, values)
		if err != nil {
			return err
		}
		if n > 0 {
			p.rows = append(p.rows, ',')
		}
		n, p.rows = n+1, append(p.rows, data...)
		for i, column := range columns {
			if k := slices.Index(t.key[1:], column); k >= 0 {
				key[k], _ = values[i].(int64)
			}
		}
		return nil
	})
	if n > 0 {
		p.after = keyText(key)
	}
	if errors.Is(err, errPageFull) {
		return nil
	}
	return err
}

// keyText is a key, without the company, as a JSON list.
func keyText(key []int64) string {
	text := []byte{'['}
	for i, n := range key {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, n, 10)
	}
	return string(append(text, ']'))
}

// readKey reads what keyText writes.
func (t *table) readKey(text string) (values []int64, ok bool) {
	err := json.Unmarshal([]byte(text), &values)
	return values, err == nil && values != nil && len(values) == len(t.key)-1
}

// between is the condition for the rows of a company whose keys come after one and not after
// another; "" for all.
func (t *table) between(id company.ID, after, until string) (where string, args []any, err error) {
	where, args = `company_id = $1`, []any{int64(id)}
	for _, bound := range []struct{ name, key, is string }{{"after", after, ">"}, {"until", until, "<="}} {
		if bound.key == "" {
			continue
		}
		values, ok := t.readKey(bound.key)
		if !ok {
			return "", nil, problem.New(problem.BadRequest, "The parameter %s isn't a key of %s.", bound.name, t.name)
		}
		if len(values) == 0 { // the company's one row
			if bound.is == ">" {
				where += ` AND 1 = 0`
			}
			continue
		}
		marks := make([]string, len(values))
		for i, v := range values {
			args = append(args, v)
			marks[i] = fmt.Sprintf("$%d", len(args))
		}
		where += ` AND (` + strings.Join(t.key[1:], ", ") + `) ` + bound.is + ` (` + strings.Join(marks, ", ") + `)`
	}
	return where, args, nil
}

// lastKey is the highest key of a company's rows; "" where there are none.
func (t *table) lastKey(ctx context.Context, tx *sql.Tx, id company.ID) (last string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+strings.Join(t.key, ", ")+` FROM `+t.name+` WHERE company_id = $1 ORDER BY `+strings.Join(t.key, " DESC, ")+` DESC LIMIT 1`, int64(id))
	err = snapshot.EachValues(rows, err, func(_ []string, values []any) error {
		key := make([]int64, len(values)-1)
		for i, value := range values[1:] {
			key[i], _ = value.(int64)
		}
		last = keyText(key)
		return nil
	})
	return last, err
}

// loggedChange is an entry of the change log.
type loggedChange struct {
	Version int64           `json:"version"`
	Table   string          `json:"table"`
	Deleted bool            `json:"deleted"`
	Row     json.RawMessage `json:"row"`
}

// moveChanges reads the change log after version ?after=, up to ?until=. It answers
// log_shortened where not all of it is there any more.
func (s *Service) moveChanges(ctx context.Context, c *moveCall) (any, error) {
	after, err := c.number("after", 0)
	if err != nil {
		return nil, err
	}
	until, err := c.number("until", 1<<62)
	if err != nil {
		return nil, err
	}
	said := struct {
		Changes []loggedChange `json:"changes"`
		// Version is the fence's: the last change that there is.
		Version int64 `json:"version"`
	}{}
	err = s.DB.Snapshot(ctx, func(tx *sql.Tx) error {
		said.Changes = []loggedChange{}
		f, err := readable(ctx, tx, c.company)
		if err != nil {
			return err
		}
		said.Version = f.Version
		next, bytes := after+1, 0
		rows, err := tx.QueryContext(ctx, `SELECT version, name, deleted, data FROM change_log WHERE company_id = $1 AND version > $2 AND version <= $3
			ORDER BY version LIMIT $4`, int64(c.company), after, min(until, f.Version), contractRows)
		if err != nil {
			return fmt.Errorf("read the change log: %w", err)
		}
		defer rows.Close()
		for rows.Next() && bytes < contractBytes {
			var l loggedChange
			var data string
			if err := rows.Scan(&l.Version, &l.Table, &l.Deleted, &data); err != nil {
				return fmt.Errorf("read the change log: %w", err)
			}
			if l.Version != next {
				return shortened(c.company, next)
			}
			l.Row, next, bytes = json.RawMessage(data), next+1, bytes+len(data)
			said.Changes = append(said.Changes, l)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("read the change log: %w", err)
		}
		if len(said.Changes) == 0 && after < min(until, f.Version) {
			return shortened(c.company, next)
		}
		return nil
	})
	return said, err
}

func shortened(id company.ID, version int64) error {
	return problem.New(problem.LogShortened, "The change log of company %d doesn't have version %d any more: copy all rows.", id, version)
}
