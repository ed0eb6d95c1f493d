package region

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mpr/problem"
	"mpr/store"
)

// page is a part of a list.
type page struct{ number, size int }

const (
	defaultPerPage = 100
	maxPageNumber  = 1_000_000
)

// readPage reads the parameters page and per_page.
func (s *Service) readPage(c *call) (page, error) {
	p := page{1, min(defaultPerPage, s.MaxPerPage)}
	query := c.r.URL.Query()
	for _, parameter := range []struct {
		name string
		to   *int
		most int
	}{{"page", &p.number, maxPageNumber}, {"per_page", &p.size, s.MaxPerPage}} {
		if !query.Has(parameter.name) {
			continue
		}
		n, err := strconv.Atoi(strings.Join(query[parameter.name], ",")) // one value, or no number
		if err != nil || n < 1 || n > parameter.most {
			return p, problem.New(problem.BadRequest, "The parameter %s must be a number from 1 to %d.", parameter.name, parameter.most)
		}
		*parameter.to = n
	}
	return p, nil
}

// setHeaders tells the client how to go on (RFC 8288): absolute URLs on the host that it
// called, with all other parameters as they were.
func (p page) setHeaders(c *call, total int) error {
	u, err := url.ParseRequestURI(c.r.RequestURI)
	if err != nil {
		return fmt.Errorf("read the request's target: %w", err)
	}
	u.Scheme, u.Host = c.r.Header.Get("X-Forwarded-Proto"), c.r.Header.Get("X-Forwarded-Host")
	if u.Host == "" {
		u.Host = c.r.Host
	}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
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

// selection is what a list shows: columns of tables that match, in an order. The
// arguments are those of the condition, $1 and on.
type selection struct {
	columns, from, where, order string
	args                        []any
}

// list answers a page of a selection.
func list[T any](ctx context.Context, s *Service, c *call, q selection, scan func(func(...any) error) (T, error)) (status int, body any, err error) {
	p, err := s.readPage(c)
	if err != nil {
		return 0, nil, err
	}
	var total int
	if err := s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM `+q.from+` WHERE `+q.where, q.args...).Scan(&total); err != nil {
		return 0, nil, fmt.Errorf("count %s: %w", q.from, err)
	}
	n := len(q.args)
	rows, err := s.DB.Read().QueryContext(ctx,
		fmt.Sprintf(`SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT $%d OFFSET $%d`, q.columns, q.from, q.where, q.order, n+1, n+2),
		append(q.args, p.size, (p.number-1)*p.size)...)
	if err != nil {
		return 0, nil, fmt.Errorf("list %s: %w", q.from, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found := []T{}
	for rows.Next() {
		row, err := scan(rows.Scan)
		if err != nil {
			return 0, nil, fmt.Errorf("list %s: %w", q.from, err)
		}
		found = append(found, row)
	}
	if err := rows.Err(); err != nil {
		return 0, nil, fmt.Errorf("list %s: %w", q.from, err)
	}
	return http.StatusOK, found, p.setHeaders(c, total)
}

// pathID reads an id from the path. What isn't one names nothing.
func pathID(c *call, name string) (int64, error) {
	id, err := strconv.ParseInt(c.r.PathValue(name), 10, 64)
	if err != nil || id <= 0 {
		return 0, errNothingHere
	}
	return id, nil
}

// stamp is how a time is shown.
func stamp(micros int64) string { return store.Time(micros).Format(time.RFC3339) }

// number is how a truth is stored.
func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
