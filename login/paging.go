package login

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"mpr/problem"
)

// page is a part of a list.
type page struct{ number, size int }

const (
	defaultPageSize = 100
	maxPageSize     = 1000
	maxPageNumber   = 1_000_000
)

func (p page) offset() int { return (p.number - 1) * p.size }

// readPage reads the parameters page and per_page.
func readPage(r *http.Request) (page, error) {
	p := page{1, defaultPageSize}
	for name, into := range map[string]struct {
		to   *int
		most int
	}{"page": {&p.number, maxPageNumber}, "per_page": {&p.size, maxPageSize}} {
		values := r.URL.Query()[name]
		if len(values) == 0 {
			continue
		}
		n, err := strconv.Atoi(strings.Join(values, ",")) // one value, or no number
		if err != nil || n < 1 || n > into.most {
			return p, problem.New(problem.BadRequest, "The parameter %s must be a number from 1 to %d.", name, into.most)
		}
		*into.to = n
	}
	return p, nil
}

// setHeaders tells the client how to go on (RFC 8288), with URLs on the host that it
// called.
func (p page) setHeaders(w http.ResponseWriter, r *http.Request, total int) {
	h := w.Header()
	h.Set("Total", strconv.Itoa(total))
	h.Set("Per-Page", strconv.Itoa(p.size))
	host, scheme := r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-Proto")
	if host == "" {
		host, scheme = r.Host, "http"
	}
	last := max((total+p.size-1)/p.size, 1)
	link := func(rel string, number int) string {
		u := *r.URL
		q := u.Query()
		q.Set("page", strconv.Itoa(number))
		q.Set("per_page", strconv.Itoa(p.size))
		u.Scheme, u.Host, u.RawQuery = scheme, host, q.Encode()
		return fmt.Sprintf("<%s>; rel=%q", u.String(), rel)
	}
	links := link("first", 1) + ", " + link("last", last)
	if p.number > 1 {
		links += ", " + link("prev", min(p.number-1, last))
	}
	if p.number < last {
		links += ", " + link("next", p.number+1)
	}
	h.Set("Link", links)
}
