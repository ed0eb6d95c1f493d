package paging

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"mpr/problem"
)

// Page is a part of a list.
type Page struct {
	Number int // from 1
	Size   int
}

const (
	defaultSize = 100
	maxNumber   = 1_000_000
)

// Read reads the parameters page and per_page, which is at most that many.
func Read(query url.Values, most int) (Page, error) {
	p := Page{1, min(defaultSize, most)}
	for _, parameter := range []struct {
		name string
		to   *int
		most int
	}{{"page", &p.Number, maxNumber}, {"per_page", &p.Size, most}} {
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

// Offset is how many elements stand before the page.
func (p Page) Offset() int { return (p.Number - 1) * p.Size }

// SetHeaders tells the client how to go on (RFC 8288): absolute URLs on the host that it
// called, with all other parameters as they were.
func (p Page) SetHeaders(w http.ResponseWriter, r *http.Request, total int) {
	u, err := url.ParseRequestURI(r.RequestURI) // handlers below may see a shorter path
	if err != nil {
		own := *r.URL
		u = &own
	}
	called := Called(r)
	u.Scheme, u.Host = called.Scheme, called.Host
	last := max((total+p.Size-1)/p.Size, 1)
	query := u.Query()
	query.Set("per_page", strconv.Itoa(p.Size))
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
	if p.Number > 1 {
		link("prev", min(p.Number-1, last))
	}
	if p.Number < last {
		link("next", p.Number+1)
	}
	link("last", last)
	h := w.Header()
	h.Set("Total", strconv.Itoa(total))
	h.Set("Per-Page", strconv.Itoa(p.Size))
	h.Set("Link", links)
}

// Called is the base URL that the client called. It is for listeners behind gateways, which
// set the headers that it believes.
func Called(r *http.Request) *url.URL {
	u := &url.URL{Scheme: r.Header.Get("X-Forwarded-Proto"), Host: r.Header.Get("X-Forwarded-Host")}
	if u.Host == "" {
		u.Host = r.Host
	}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return u
}
