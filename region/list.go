package region

import (
	"context"
	"errors"
	"fmt"

	"mpr/paging"
)

// selection is what a list shows: columns of a table's rows that match, in the order of
// their ids. The arguments are those of the condition, $1 and on.
type selection struct {
	columns, where, id string
	table              *table
	args               []any
}

// scanner is a row: [sql.Row] or [sql.Rows].
type scanner interface{ Scan(...any) error }

// list answers the page of a selection that the call asks for, and sets the headers.
func list[T any](ctx context.Context, s *Service, c *call, q selection, scan func(scanner) (T, error)) (items []T, err error) {
	p, err := paging.Read(c.query, s.MaxPerPage)
	if err != nil {
		return nil, err
	}
	var total int
	err = s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM `+q.table.name+` WHERE `+q.where, q.args...).Scan(&total)
	if err != nil {
		return nil, fmt.Errorf("count %s: %w", q.table.name, err)
	}
	n := len(q.args)
	rows, err := s.DB.Read().QueryContext(ctx,
		fmt.Sprintf(`SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT $%d OFFSET $%d`, q.columns, q.table.name, q.where, q.id, n+1, n+2),
		append(q.args[:n:n], p.Size, p.Offset())...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", q.table.name, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	items = []T{}
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", q.table.name, err)
		}
		items = append(items, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list %s: %w", q.table.name, err)
	}
	p.SetHeaders(c.w, c.r, total)
	return items, nil
}
