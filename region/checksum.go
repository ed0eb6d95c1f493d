package region

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/snapshot"
)

// tableSum is what is compared of a table: how many rows it has, and the sum of their
// digests, in which their order makes no difference.
type tableSum struct {
	Rows int64  `json:"rows"`
	Sum  string `json:"sum"`

	sums [2]uint64
	line canonical
}

func (t *tableSum) add(columns []string, values []any) error {
	data, err := t.line.of(columns, values)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(data)
	t.Rows++
	t.sums[0] += binary.BigEndian.Uint64(digest[:8])
	t.sums[1] += binary.BigEndian.Uint64(digest[8:16])
	return nil
}

// canonical writes rows in the canonical form of RFC 8785: one that every language writes in the
// same way, while each has its own habits of what it escapes besides. Rows have whole numbers
// and text. It is for one row after the other of the same columns: a company has millions.
type canonical struct {
	order []int    // the columns in the order of their names
	names []string // with what stands before and behind them
	line  []byte
}

// of answers a row, which the next one overwrites.
func (c *canonical) of(columns []string, values []any) ([]byte, error) {
	if c.order == nil {
		c.order, c.names = make([]int, len(columns)), make([]string, len(columns))
		for i := range columns {
			c.order[i] = i
		}
		slices.SortFunc(c.order, func(a, b int) int { return strings.Compare(columns[a], columns[b]) })
		for n, i := range c.order {
			c.names[i] = string(canonicalText([]byte{[2]byte{'{', ','}[min(n, 1)]}, columns[i])) + ":"
		}
	}
	c.line = c.line[:0]
	for _, i := range c.order {
		c.line = append(c.line, c.names[i]...)
		switch v := values[i].(type) {
		case int64:
			c.line = strconv.AppendInt(c.line, v, 10)
		case string:
			c.line = canonicalText(c.line, v)
		default:
			return nil, fmt.Errorf("the column %s holds a %T, which has no canonical form here", columns[i], v)
		}
	}
	c.line = append(c.line, '}')
	return c.line, nil
}

// canonicalText appends a text as RFC 8785 section 3.2.2.2 writes it.
func canonicalText(data []byte, text string) []byte {
	data = append(data, '"')
	from := 0 // of what needs no escapes and isn't appended yet
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		data = append(data, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			data = append(data, '\\', c)
		case '\b':
			data = append(data, `\b`...)
		case '\t':
			data = append(data, `\t`...)
		case '\n':
			data = append(data, `\n`...)
		case '\f':
			data = append(data, `\f`...)
		case '\r':
			data = append(data, `\r`...)
		default:
			data = fmt.Appendf(data, `\u%04x`, c)
		}
	}
	return append(append(data, text[from:]...), '"')
}

func (t *tableSum) close() { t.Sum = fmt.Sprintf("%016x%016x", t.sums[0], t.sums[1]) }

// moveChecksum sums up the tables, at the version that it answers. With ?since= it sums up
// only the rows that were made, changed or deleted after that version.
func (s *Service) moveChecksum(ctx context.Context, c *moveCall) (any, error) {
	since, err := c.number("since", 0)
	if err != nil {
		return nil, err
	}
	said := struct {
		Version int64                `json:"version"`
		Tables  map[string]*tableSum `json:"tables"`
	}{}
	err = s.DB.Snapshot(ctx, func(tx *sql.Tx) (err error) {
		said.Tables = map[string]*tableSum{}
		if said.Version, err = versionHere(ctx, tx, c.company); err != nil {
			return err
		}
		for _, t := range moving() {
			sum := &tableSum{}
			if c.query.Has("since") {
				err = t.sumTouched(ctx, tx, c.company, since, sum)
			} else {
				var rows *sql.Rows
				rows, err = tx.QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE company_id = $1`, int64(c.company))
				err = snapshot.EachValues(rows, err, sum.add)
			}
			if err != nil {
				return fmt.Errorf("sum up %s: %w", t.name, err)
			}
			sum.close()
			said.Tables[t.name] = sum
		}
		return nil
	})
	return said, err
}

// versionHere is the version that the rows here are of: the fence's or, while the company
// arrives, that of the last change that was applied.
func versionHere(ctx context.Context, tx *sql.Tx, id company.ID) (int64, error) {
	a, err := readArrival(ctx, tx, id)
	if err != nil {
		return 0, err
	}
	if a != nil {
		return a.Version, nil
	}
	f, err := knownFence(ctx, tx, id)
	if err != nil {
		return 0, err
	}
	return f.Version, nil
}

// sumTouched sums up the rows of a table that the change log names after a version, each
// once.
func (t *table) sumTouched(ctx context.Context, tx *sql.Tx, id company.ID, since int64, sum *tableSum) error {
	rows, err := tx.QueryContext(ctx, `SELECT data FROM change_log WHERE company_id = $1 AND version > $2 AND name = $3`, int64(id), since, t.name)
	if err != nil {
		return err
	}
	touched := map[string][]any{}
	err = snapshot.EachRow(rows, err, func(row map[string]any) error {
		data, _ := row["data"].(string)
		key, err := t.keyIn(json.RawMessage(data), id)
		if err == nil {
			touched[fmt.Sprint(key...)] = key
		}
		return err
	})
	if err != nil {
		return err
	}
	conditions := make([]string, len(t.key))
	for i, column := range t.key {
		conditions[i] = fmt.Sprintf("%s = $%d", column, i+1)
	}
	for _, key := range touched {
		rows, err := tx.QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE `+strings.Join(conditions, " AND "), key...)
		if err := snapshot.EachValues(rows, err, sum.add); err != nil {
			return err
		}
	}
	return nil
}
