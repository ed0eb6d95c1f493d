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

// rowsAtOnce is how many rows a statement inserts. PostgreSQL needs a round trip for each
// statement: with 8 rows at a time they hardly count any more. SQLite's driver looks for each
// parameter among all of them, and is slower again from 16 rows on.
const rowsAtOnce = 8

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
	whole := len(rows) / rowsAtOnce * rowsAtOnce
	for _, part := range []struct {
		rows []Row
		each int
	}{{rows[:whole], rowsAtOnce}, {rows[whole:], 1}} {
		if len(part.rows) == 0 {
			continue
		}
		n, err := insertBy(ctx, tx, insertion(table, conflict, columns.names, part.each), part.each, columns, part.rows, want)
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

// insertion is a statement that inserts so many rows.
func insertion(table, conflict string, names []string, rows int) string {
	var text strings.Builder
	text.WriteString(`INSERT INTO ` + table + ` (` + strings.Join(names, ", ") + `) VALUES `)
	for row := range rows {
		for i := range names {
			fmt.Fprintf(&text, "%c$%d", [2]byte{'(', ','}[min(i, 1)], row*len(names)+i+1)
		}
		text.WriteByte(')')
		if row+1 < rows {
			text.WriteByte(',')
		}
	}
	return text.String() + conflict
}

// insertBy inserts rows by a statement that takes so many each time; their number is a multiple of
// that.
func insertBy(ctx context.Context, tx *sql.Tx, statement string, each int, columns columns, rows []Row, want map[string]int64) (written int64, err error) {
	insert, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return 0, err
	}
	defer insert.Close() //nolint:errcheck // it ends with the transaction
	values := make([]any, 0, each*len(columns.names))
	for ; len(rows) > 0; rows = rows[each:] {
		values = values[:0]
		for _, row := range rows[:each] {
			if values, err = appendValues(values, row, columns, want); err != nil {
				return written, err
			}
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

// appendValues appends the values of a row, in the order of the columns.
func appendValues(to []any, from Row, columns columns, want map[string]int64) ([]any, error) {
	start := len(to)
	to, err := columns.read(to, from)
	if err != nil {
		return to, err
	}
	for i, value := range to[start:] {
		if must, fixed := want[columns.names[i]]; fixed && value != must {
			return to, Broken(fmt.Sprintf("it has a row of %s with the %s %v, and not %d", from.Table, columns.names[i], value, must), nil)
		}
	}
	return to, nil
}

// read appends what a row has for the columns. Most rows are plain: to read them as any JSON
// costs more than to write them.
func (c columns) read(to []any, from Row) ([]any, error) {
	start := len(to)
	if to, ok := c.readPlain(to, from.Data); ok {
		return to, nil
	}
	return c.readAny(to[:start], from)
}

// readAny is read, whatever way the row is written.
func (c columns) readAny(to []any, from Row) ([]any, error) {
	row := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(from.Data))
	dec.UseNumber()
	if err := dec.Decode(&row); err != nil {
		return to, Broken("a row of "+from.Table+" is no JSON object", err)
	}
	for i, column := range c.names {
		value, ok := row[column]
		if !ok {
			return to, otherColumns(from.Table, row, c.names)
		}
		if value, ok = valueOf(value, c.numbers[i]); !ok {
			return to, Broken(fmt.Sprintf("it has a row of %s whose %s isn't what that column holds", from.Table, column), nil)
		}
		to = append(to, value)
	}
	if len(row) != len(c.names) {
		return to, otherColumns(from.Table, row, c.names)
	}
	return to, nil
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
