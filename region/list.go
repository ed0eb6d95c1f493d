package region

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"mpr/problem"
)

// page is a part of a list.
type page struct{ number, size int }

const (
	defaultPerPage = 100
	maxPageNumber  = 1_000_000
)

// readPage reads the parameters page and per_page.
func (s *Service) readPage(query url.Values) (page, error) {
	p := page{1, min(defaultPerPage, s.MaxPerPage)}
	for _, parameter := range []struct {
		name string
		to   *int
		most int
	}{{"page", &p.number, maxPageNumber}, {"per_page", &p.size, s.MaxPerPage}} {
		values := query[parameter.name]
		if len(values) == 0 || len(values) == 1 && values[0] == "" {
			continue
		}
		n, err := strconv.ParseUint(values[0], 10, 31) // unlike Atoi it takes no sign
		if len(values) > 1 || err != nil || n < 1 || int(n) > parameter.most {
			return p, problem.New(problem.BadRequest, "The parameter %s must be one number from 1 to %d.", parameter.name, parameter.most)
		}
		*parameter.to = int(n)
	}
	return p, nil
}

// hostCalled is the base URL that the client called.
func (c *call) hostCalled() *url.URL {
	u := &url.URL{Scheme: c.r.Header.Get("X-Forwarded-Proto"), Host: c.r.Header.Get("X-Forwarded-Host")}
	if u.Host == "" {
		u.Host = c.r.Host
	}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return u
}

// setHeaders tells the client how to go on (RFC 8288): absolute URLs on the host that it
// called, with all other parameters as they were.
func (p page) setHeaders(c *call, total int) error {
	u, err := url.ParseRequestURI(c.r.RequestURI)
	if err != nil {
		return fmt.Errorf("read the request's target: %w", err)
	}
	called := c.hostCalled()
	u.Scheme, u.Host = called.Scheme, called.Host
	last := max((total+p.size-1)/p.size, 1)
	query := u.Query()
	query.Set("per_page", strconv.Itoa(p.size))
	links := ""
	link := func(rel string, number int) {
		query.Set("page", strconv.Itoa(number))
		u.RawQuery = query.Encode()
		if links != "" {
			links += ", "
		}
		links += fmt.Sprintf("<%s>; rel=%q", u, rel)
	}
	link("first", 1)
	if p.number > 1 {
		link("prev", min(p.number-1, last))
	}
	if p.number < last {
		link("next", p.number+1)
	}
	link("last", last)
	h := c.w.Header()
	h.Set("Total", strconv.Itoa(total))
	h.Set("Per-Page", strconv.Itoa(p.size))
	h.Set("Link", links)
	return nil
}

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
	p, err := s.readPage(c.query)
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
		append(q.args[:n:n], p.size, (p.number-1)*p.size)...)
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
	return items, p.setHeaders(c, total)
}
