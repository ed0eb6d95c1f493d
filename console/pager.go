package console

import (
	"net/url"
	"strconv"

	"mpr/problem"
)

// perPage is how many entries a page of a list has.
const perPage = 50

// pager leads through pages by number.
type pager struct {
	Page, Pages, Total int
	Back, Next         string
}

// pagerOf makes the pager of a list with so many entries in all.
func (q *request) pagerOf(number, total int) pager {
	p := pager{Page: number, Pages: max((total+perPage-1)/perPage, 1), Total: total} // the page may be one that isn't there
	at := func(n int) string {
		v := q.r.URL.Query()
		v.Del("done")
		v.Set("page", strconv.Itoa(n))
		return q.r.URL.Path + "?" + v.Encode()
	}
	if p.Page > 1 {
		p.Back = at(min(p.Page-1, p.Pages))
	}
	if p.Page < p.Pages {
		p.Next = at(p.Page + 1)
	}
	return p
}

// pageNumber reads which page is asked for.
func (q *request) pageNumber() (int, error) {
	text := q.r.URL.Query().Get("page")
	if text == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1_000_000 {
		return 0, problem.New(problem.BadRequest, "There is no page %q.", text)
	}
	return n, nil
}

// link is a path with a query of what isn't "".
func link(path string, pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}
