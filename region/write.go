package region

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"mpr/company"
	"mpr/snapshot"
	"mpr/store"
)

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// writer is a write to a company's data: a transaction that has taken the fence.
type writer struct {
	*sql.Tx
	company company.ID
	now     int64 // Unix microseconds, the same for all that the write changes
	// indexed is the version of the last change that the global index wants; 0 for none.
	indexed int64
}

// write runs f in a transaction that commits only where the fence owns the company at
// this epoch. It takes the fence's row first: a freeze waits for the writes before it,
// and the writes after it find the company frozen. f may run more than once.
func (s *Service) write(ctx context.Context, id company.ID, epoch company.Epoch, f func(*writer) error) error {
	var news bool
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		if err := s.takeFence(ctx, tx, id, epoch); err != nil {
			return err
		}
		w := &writer{Tx: tx, company: id, now: store.Micros(s.Now())}
		err := f(w)
		news = w.indexed > 0
		return err
	})
	if err == nil && news {
		s.wakePump()
	}
	return err
}

// takeFence locks the fence's row until the transaction ends, by an update that changes
// nothing: both engines know that, and one of them nothing else.
func (s *Service) takeFence(ctx context.Context, tx *sql.Tx, id company.ID, epoch company.Epoch) error {
	var f fence
	err := tx.QueryRowContext(ctx, `UPDATE fence SET version = version WHERE company_id = $1 RETURNING `+fenceColumns,
		int64(id)).Scan(f.columns()...)
	if errors.Is(err, sql.ErrNoRows) {
		return &notOwned{}
	}
	if err != nil {
		return fmt.Errorf("take the fence: %w", err)
	}
	return f.admits(s.Code, epoch)
}

// changed notes in the change log how a row is after it was made or changed. The values
// are those of its key, after the company's.
func (w *writer) changed(ctx context.Context, t *table, key ...int64) error {
	conditions := make([]string, len(t.key))
	for i, column := range t.key {
		conditions[i] = fmt.Sprintf("%s = $%d", column, i+1)
	}
	args := []any{int64(w.company)}
	for _, value := range key {
		args = append(args, value)
	}
	rows, err := readRows(w.QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE `+strings.Join(conditions, " AND "), args...))
	if err != nil {
		return fmt.Errorf("read back from %s: %w", t.name, err)
	}
	if len(rows) != 1 {
		return fmt.Errorf("read back from %s: %d rows at %v", t.name, len(rows), args)
	}
	return w.log(ctx, t, false, rows[0])
}

// remove deletes the company's rows that match, and notes it in the change log. The
// condition's arguments start at $2.
func (w *writer) remove(ctx context.Context, t *table, where string, args ...any) error {
	rows, err := readRows(w.QueryContext(ctx, `DELETE FROM `+t.name+` WHERE company_id = $1 AND `+where+` RETURNING `+strings.Join(t.key, ", "),
		append([]any{int64(w.company)}, args...)...))
	if err != nil {
		return fmt.Errorf("delete from %s: %w", t.name, err)
	}
	for _, row := range rows {
		if err := w.log(ctx, t, true, row); err != nil {
			return err
		}
	}
	return nil
}

// log appends to the change log under the company's next version.
func (w *writer) log(ctx context.Context, t *table, deleted bool, row map[string]any) error {
	data, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("log a change: %w", err)
	}
	var version int64
	if err := w.QueryRowContext(ctx, `UPDATE fence SET version = version + 1 WHERE company_id = $1 RETURNING version`, int64(w.company)).Scan(&version); err != nil {
		return fmt.Errorf("take a version: %w", err)
	}
	return w.logAs(ctx, version, t, deleted, string(data))
}

// logAs appends to the change log under a version that nothing else has.
func (w *writer) logAs(ctx context.Context, version int64, t *table, deleted bool, data string) error {
	_, err := w.ExecContext(ctx, `INSERT INTO change_log (company_id, version, name, deleted, data, at, published) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		int64(w.company), version, t.name, number(deleted), data, w.now, number(t.index == nil))
	if err != nil {
		return fmt.Errorf("log a change: %w", err)
	}
	if t.index != nil {
		w.indexed = version
	}
	return nil
}

// readRows reads rows as they are, by column.
func readRows(rows *sql.Rows, err error) (found []map[string]any, _ error) {
	err = snapshot.EachRow(rows, err, func(row map[string]any) error {
		found = append(found, row)
		return nil
	})
	return found, err
}

// number is how a truth is stored.
func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
