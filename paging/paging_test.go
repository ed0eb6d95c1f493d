package paging

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"mpr/problem"
)

func TestRead(t *testing.T) {
	for query, want := range map[string]Page{
		"": {1, 100}, "page=&per_page=": {1, 100}, "page=3": {3, 100}, "per_page=500": {1, 500}, "page=1000000&per_page=1": {1_000_000, 1}, "page=007": {7, 100},
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(values, 500); err != nil || got != want {
			t.Errorf("%q: %v, %v", query, got, err)
		}
	}
	if got, err := Read(nil, 50); err != nil || got != (Page{1, 50}) {
		t.Errorf("where fewer are answered: %v, %v", got, err)
	}
	for _, query := range []string{
		"page=0", "page=-1", "page=+1", "page=1.0", "page=x", "page=1&page=1", "page=1000001", "page=99999999999999999999", "per_page=0", "per_page=501", "per_page= 1", "per_page=1&per_page=",
	} {
		values, _ := url.ParseQuery(query)
		if query == "page=+1" {
			values = url.Values{"page": {"+1"}}
		}
		if _, err := Read(values, 500); !errors.Is(err, problem.New(problem.BadRequest, "")) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	for _, c := range []struct {
		page  Page
		total int
		link  string
	}{
		{Page{1, 2}, 0, `<https://api.example/l?a=b&page=1&per_page=2>; rel="first", <https://api.example/l?a=b&page=1&per_page=2>; rel="last"`},
		{Page{2, 2}, 5, `<https://api.example/l?a=b&page=1&per_page=2>; rel="first", <https://api.example/l?a=b&page=1&per_page=2>; rel="prev", <https://api.example/l?a=b&page=3&per_page=2>; rel="next", <https://api.example/l?a=b&page=3&per_page=2>; rel="last"`},
		{Page{9, 2}, 4, `<https://api.example/l?a=b&page=1&per_page=2>; rel="first", <https://api.example/l?a=b&page=2&per_page=2>; rel="prev", <https://api.example/l?a=b&page=2&per_page=2>; rel="last"`},
	} {
		r := httptest.NewRequest(http.MethodGet, "/l?a=b&page=77", nil)
		r.URL.Path = "/below"
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Forwarded-Host", "api.example")
		w := httptest.NewRecorder()
		c.page.SetHeaders(w, r, c.total)
		if got := w.Header().Get("Link"); got != c.link {
			t.Errorf("%v of %d: %s", c.page, c.total, got)
		}
	}
	if got := Called(httptest.NewRequest(http.MethodGet, "/", nil)).String(); got != "http://example.com" {
		t.Errorf("without a gateway: %s", got)
	}
}
