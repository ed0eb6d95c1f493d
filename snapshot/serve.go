package snapshot

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"mpr/store"
)

const (
	contentType = "application/x-ndjson"
	// stall is how long the other side may make no progress.
	stall = time.Minute
)

// Table names a table and the query for those of its rows that are sent, with all columns
// and in an order that is the same in every database.
type Table struct {
	Name  string
	Query string
	Args  []any
}

// end is the last line: what must have arrived.
type end struct {
	// Rows counts the rows of each table.
	Rows map[string]int64 `json:"rows"`
	// Checksum is the SHA-256 of the rows' lines, with their line feeds.
	Checksum string `json:"checksum"`
}

// Serve answers a request with a snapshot. What looks up the head and the tables in the
// same state of the database as the rows; nothing is sent yet where it fails. An answer
// that fails later breaks off.
func Serve(ctx context.Context, w http.ResponseWriter, db *store.DB, what func(*sql.Tx) (head any, tables []Table, err error)) error {
	control := http.NewResponseController(w)
	defer control.SetWriteDeadline(time.Time{}) //nolint:errcheck // the connection may serve other calls afterwards
	out := &writer{sum: sha256.New(), end: end{Rows: map[string]int64{}}}
	out.to = bufio.NewWriterSize(writerFunc(func(p []byte) (int, error) {
		if err := control.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return 0, err
		}
		return w.Write(p)
	}), 1<<16)
	begun := false
	err := db.Snapshot(ctx, func(tx *sql.Tx) error {
		head, tables, err := what(tx)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", contentType)
		begun = true
		return out.write(ctx, tx, head, tables)
	})
	if err != nil && begun {
		slog.WarnContext(ctx, "a snapshot broke off", "error", err)
		panic(http.ErrAbortHandler) // the status is sent: a stream that breaks off says it as well
	}
	return err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type writer struct {
	to  *bufio.Writer
	sum hash.Hash
	end end
}

func (o *writer) write(ctx context.Context, tx *sql.Tx, head any, tables []Table) error {
	if err := o.line(head); err != nil {
		return err
	}
	for _, t := range tables {
		if err := o.table(ctx, tx, t); err != nil {
			return fmt.Errorf("read %s: %w", t.Name, err)
		}
	}
	o.end.Checksum = hex.EncodeToString(o.sum.Sum(nil))
	if err := o.line(o.end); err != nil {
		return err
	}
	return o.to.Flush()
}

func (o *writer) table(ctx context.Context, tx *sql.Tx, t Table) error {
	o.end.Rows[t.Name] = 0
	rows, err := tx.QueryContext(ctx, t.Query, t.Args...)
	return EachRow(rows, err, func(row map[string]any) error {
		data, err := json.Marshal(row)
		if err != nil {
			return err
		}
		o.end.Rows[t.Name]++
		line := slices.Concat([]byte(`{"table":"`+t.Name+`","row":`), data, []byte("}\n"))
		return o.send(io.MultiWriter(o.sum, o.to), line)
	})
}

func (o *writer) line(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return o.send(o.to, append(data, '\n'))
}

func (o *writer) send(to io.Writer, line []byte) error {
	_, err := to.Write(line)
	return err
}

// EachRow goes through the rows of a query as they are, by column.
func EachRow(rows *sql.Rows, err error, f func(row map[string]any) error) error {
	return EachValues(rows, err, func(columns []string, values []any) error {
		row := make(map[string]any, len(columns))
		for i, column := range columns {
			row[column] = values[i]
		}
		return f(row)
	})
}

// EachValues is EachRow for very many rows: f gets the values in the order of the columns, in a
// slice that the next row overwrites.
func EachValues(rows *sql.Rows, err error, f func(columns []string, values []any) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, targets := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if err := f(columns, values); err != nil {
			return err
		}
	}
	return rows.Err()
}
