package snapshot

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"mpr/store"
)

// Inserter writes rows into the tables that they are from. Its zero value is ready, and safe
// for concurrent use.
type Inserter struct {
	mu     sync.Mutex
	tables map[string]columns
}

// columns are those of a table, in its order: what they are called, and which of them take
// numbers. The others take text.
type columns struct {
	names   []string
	numbers []bool
}

// Insert writes rows of one table, whose name the caller has checked. Each must have
// exactly the columns that the table has here, and those of want with these values.
func (i *Inserter) Insert(ctx context.Context, tx *sql.Tx, table string, rows []Row, want map[string]int64) error {
	_, err := i.insert(ctx, tx, table, "", rows, want)
	if store.IsDuplicate(err) {
		return Broken("a row of "+table+" is there already", err)
	}
	return err
}

// InsertOrLeave is Insert, but for rows whose key or what else is unique is there already:
// these it leaves out. It answers how many it has written.
func (i *Inserter) InsertOrLeave(ctx context.Context, tx *sql.Tx, table string, rows []Row, want map[string]int64) (int64, error) {
	return i.insert(ctx, tx, table, " ON CONFLICT DO NOTHING", rows, want)
}

func (i *Inserter) insert(ctx context.Context, tx *sql.Tx, table, conflict string, rows []Row, want map[string]int64) (written int64, err error) {
	columns, err := i.columnsOf(ctx, tx, table)
	if err != nil {
		return 0, err
	}
	marks := make([]string, len(columns.names))
	for n := range marks {
		marks[n] = fmt.Sprintf("$%d", n+1)
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO `+table+` (`+strings.Join(columns.names, ", ")+`) VALUES (`+strings.Join(marks, ", ")+`)`+conflict)
	if err != nil {
		return 0, err
	}
	defer insert.Close() //nolint:errcheck // it ends with the transaction
	for _, row := range rows {
		values, err := valuesOf(row, columns, want)
		if err != nil {
			return written, err
		}
		done, err := insert.ExecContext(ctx, values...)
		if err != nil {
			return written, err
		}
		n, err := done.RowsAffected()
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

func (i *Inserter) columnsOf(ctx context.Context, tx *sql.Tx, table string) (columns, error) {
	i.mu.Lock()
	known, ok := i.tables[table]
	i.mu.Unlock()
	if ok {
		return known, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT * FROM `+table+` WHERE 1 = 0`)
	if err != nil {
		return known, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err := errors.Join(err, rows.Err()); err != nil {
		return known, err
	}
	for _, t := range types {
		known.names = append(known.names, t.Name())
		known.numbers = append(known.numbers, t.DatabaseTypeName() != "TEXT")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.tables == nil {
		i.tables = map[string]columns{}
	}
	i.tables[table] = known
	return known, nil
}

func valuesOf(from Row, columns columns, want map[string]int64) ([]any, error) {
	row := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(from.Data))
	dec.UseNumber()
	if err := dec.Decode(&row); err != nil {
		return nil, Broken("a row of "+from.Table+" is no JSON object", err)
	}
	values := make([]any, len(columns.names))
	for i, column := range columns.names {
		value, ok := row[column]
		if !ok {
			return nil, otherColumns(from.Table, row, columns.names)
		}
		if values[i], ok = valueOf(value, columns.numbers[i]); !ok {
			return nil, Broken(fmt.Sprintf("it has a row of %s whose %s isn't what that column holds", from.Table, column), nil)
		}
		if must, fixed := want[column]; fixed && values[i] != must {
			return nil, Broken(fmt.Sprintf("it has a row of %s with the %s %v, and not %d", from.Table, column, value, must), nil)
		}
	}
	if len(row) != len(columns.names) {
		return nil, otherColumns(from.Table, row, columns.names)
	}
	return values, nil
}

// valueOf is a value of a column of numbers, or of one of text: one engine would refuse the
// other as a failure of ours, and the other would take it and have rows that can't be read. No
// engine that we use but one can keep the character 0.
func valueOf(value any, number bool) (any, bool) {
	switch v := value.(type) {
	case json.Number:
		n, err := v.Int64()
		return n, err == nil && number
	case string:
		return v, !number && !strings.ContainsRune(v, 0)
	}
	return nil, false
}

func otherColumns(table string, row map[string]any, want []string) error {
	got := slices.Sorted(maps.Keys(row))
	return Broken(fmt.Sprintf("its rows of %s have the columns %s, and here they are %s: both sides must be of one version",
		table, strings.Join(got, ", "), strings.Join(want, ", ")), nil)
}
