package move

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"mpr/intercom"
)

// source is a region whose pages have one row each, by the key after which they come.
func source(t *testing.T) (s *side, asked chan string) {
	t.Helper()
	asked = make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		asked <- q.Get("table") + q.Get("after") + "-" + q.Get("until")
		_ = json.NewEncoder(w).Encode(rowPage{Rows: []json.RawMessage{json.RawMessage(q.Get("after"))}, After: "[9]", End: "[99]"})
	}))
	t.Cleanup(server.Close)
	caller := intercom.NewCaller(nil, "")
	t.Cleanup(func() { _ = caller.Close() })
	return &side{caller: caller, base: server.URL, move: &Move{Company: 5}}, asked
}

func TestPagesAreReadAhead(t *testing.T) {
	s, asked := source(t)
	pages := &pageReader{side: s, most: 1, end: map[string]string{}}
	want := func(after string) {
		t.Helper()
		page, err := pages.read(t.Context(), "rfis", after)
		if err != nil || len(page.Rows) != 1 || string(page.Rows[0]) != after {
			t.Fatalf("read %+v, %v after %s", page, err, after)
		}
	}
	saw := func(query string) {
		t.Helper()
		if got := <-asked; got != query {
			t.Fatalf("asked for %s, expected %s", got, query)
		}
	}
	want("[1]")
	saw("rfis[1]-")
	pages.ahead(t.Context(), "rfis", "[2]")
	saw("rfis[2]-[99]") // while nobody has asked for it, and up to the end as it was at first
	want("[2]")
	pages.ahead(t.Context(), "rfis", "[3]")
	want("[7]") // the destination wants another page than the one that is read ahead
	pages.ahead(t.Context(), "rfis", "[8]")
	pages.close()
	pages.close()
	close(asked)
	for query := range asked {
		if query == "rfis[2]-[99]" {
			t.Error("the page that was read ahead was read again")
		}
	}
	if pages.next != nil {
		t.Error("something is still being read")
	}
	if pages.end["rfis"] != "[99]" {
		t.Errorf("the end of the table is %v", pages.end)
	}
}
