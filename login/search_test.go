package login

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// looked are the ids that a search answers, part by part.
func (w *world) looked(t *testing.T, what, text string, limit int) (ids []int64) {
	t.Helper()
	for after := int64(0); ; {
		var page struct {
			Companies []listedCompany
			Apps      []app
			Next      int64
		}
		q := url.Values{"q": {text}, "after": {strconv.FormatInt(after, 10)}, "limit": {strconv.Itoa(limit)}}
		w.ask(t, http.MethodGet, "/internal/"+what+"?"+q.Encode(), nil).want(t, 200).json(t, &page)
		for _, c := range page.Companies {
			ids = append(ids, int64(c.ID))
		}
		for _, a := range page.Apps {
			ids = append(ids, a.ID)
		}
		if len(page.Companies) > limit || len(page.Apps) > limit {
			t.Errorf("%q: a part of %d", text, len(page.Companies)+len(page.Apps))
		}
		if page.Next == 0 {
			return ids
		}
		if page.Next <= after {
			t.Fatalf("%q goes on from %d at %d", text, after, page.Next)
		}
		after = page.Next
	}
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	w.apply(t, named(5, 1, "Granite Builders"), named(7, 1, "Müller & Söhne Bau"), named(9, 1, "Great Northern (Building) Co."), named(11, 1, "O'Neill-Granit 2000"), named(13, 1, "Gone Granite"))
	w.apply(t, deleted(named(13, 2, "")), named(9, 2, "Great Western (Building) Co."))
	for text, want := range map[string][]int64{
		"granit": {5, 11}, "GRANITE": {5}, "buil": {5, 9}, "buil gra": {5}, "müller": {7}, "Mü SÖ": {7}, "northern": nil, "western": {9}, "20": {11}, "neill o": {11}, "ranite": nil, "gr": {5, 9, 11},
		"%": nil, "_": nil, "gone": nil, "bau": {7},
	} {
		if len(wordsOf(text)) == 0 {
			w.ask(t, http.MethodGet, "/internal/companies?limit=5&q="+url.QueryEscape(text), nil).refusedInternally(t, 400, "bad_request")
			continue
		}
		for _, limit := range []int{1, 2, 100} {
			if got := w.looked(t, "companies", text, limit); !slices.Equal(got, want) {
				t.Errorf("%q by %d: %v, want %v", text, limit, got, want)
			}
		}
	}
	web := w.newApp(t, kindWeb, callback)
	for _, text := range []string{web.Name, web.ClientID, strings.ToLower(web.ClientID[:9])} {
		if got := w.looked(t, "apps", text, 10); !slices.Contains(got, web.ID) {
			t.Errorf("%q finds %v, not %d", text, got, web.ID)
		}
	}
	for _, query := range []string{"q=a", "q=a&limit=0", "q=a&limit=100000", "q=a&limit=5&after=x", "q=a&limit=5&after=-1", "q=&limit=5", "q=%00&limit=5", "limit=5&q=" + strings.Repeat("a", 501)} {
		w.ask(t, http.MethodGet, "/internal/companies?"+query, nil).refusedInternally(t, 400, "bad_request")
	}
}

// Names that were written before there was a search, or by a process of an older version, are found
// soon: in the background.
func TestSearchMakesUp(t *testing.T) {
	w := newWorld(t)
	const older = `INSERT INTO index_companies (company_id, name, deleted, version) VALUES ($1, $2, 0, 1) ON CONFLICT (company_id) DO UPDATE SET name = excluded.name, version = 2`
	write := func(name string) {
		must(t, w.db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(context.Background(), older, 5, name)
			return err
		}))
		for more := true; more; {
			var err error
			more, err = w.service.fill(t.Context(), searchedCompanies)
			must(t, err)
		}
	}
	write("Granite Builders")
	if got := w.looked(t, "companies", "granite", 5); !slices.Equal(got, []int64{5}) {
		t.Errorf("%v", got)
	}
	write("Lakeshore Builders")
	if a, b := w.looked(t, "companies", "granite", 5), w.looked(t, "companies", "lake buil", 5); a != nil || !slices.Equal(b, []int64{5}) {
		t.Errorf("the old name finds %v, the new one %v", a, b)
	}
}

// Many companies with one word in common are gone through by their ids, and a word that few have is
// looked up; neither looks at all companies.
func TestSearchAmongMany(t *testing.T) {
	w := newWorld(t)
	const many = maxMatches + 200
	numbers := fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < %d) `, many)
	must(t, w.db.Write(t.Context(), func(tx *sql.Tx) error {
		for _, statement := range []string{
			`INSERT INTO index_companies (company_id, name, searched_name, version) ` + numbers + `SELECT i, 'Construction ' || i, 'Construction ' || i, 1 FROM n`,
			`INSERT INTO search_words (kind, word, id) ` + numbers + `SELECT 'company', '` + hex.EncodeToString([]byte("construction")) + `', i FROM n`,
			fmt.Sprintf(`UPDATE index_companies SET name = 'Construction Alpine' WHERE company_id = %d`, many-3),
		} {
			if _, err := tx.ExecContext(context.Background(), statement); err != nil {
				return err
			}
		}
		return searchedCompanies.learn(context.Background(), tx, many-3)
	}))
	if got := w.looked(t, "companies", "alp constr", 50); !slices.Equal(got, []int64{many - 3}) {
		t.Errorf("%v", got)
	}
	if got := w.looked(t, "companies", "constr", 1000); len(got) != many || !slices.IsSorted(got) {
		t.Errorf("%d companies, want %d", len(got), many)
	}
	if os.Getenv("MPR_TEST_POSTGRES") != "" {
		return // its planner goes by how many rows there are
	}
	for query, want := range map[string]string{
		`SELECT COUNT(*) FROM (SELECT 1 FROM search_words WHERE kind = 'company' AND word >= '61' AND word < '61g' LIMIT 5001)`:                                                                           "SEARCH search_words USING COVERING INDEX",
		`SELECT company_id, name FROM index_companies WHERE company_id IN (SELECT id FROM search_words WHERE kind = 'company' AND word >= '61' AND word < '61g' AND id > 1) ORDER BY company_id LIMIT 50`: "(company_id=?)",
		`SELECT company_id, name FROM index_companies WHERE company_id > 5 ORDER BY company_id LIMIT 50`:                                                                                                  "SEARCH index_companies USING",
		`SELECT company_id FROM index_companies WHERE searched_name <> name ORDER BY company_id LIMIT 500`:                                                                                                "index_companies_unsearched",
		`SELECT id FROM apps WHERE searched_name <> name ORDER BY id LIMIT 500`:                                                                                                                           "apps_unsearched",
	} {
		if plan := w.plan(t, query); !strings.Contains(plan, want) {
			t.Errorf("%s\nis done by\n%s\nwant %s", query, plan, want)
		}
	}
}

// plan is how SQLite goes about a query.
func (w *world) plan(t *testing.T, query string) string {
	t.Helper()
	rows, err := w.db.Read().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query)
	must(t, err)
	defer rows.Close()
	var text strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		must(t, rows.Scan(&id, &parent, &unused, &detail))
		text.WriteString(detail + "\n")
	}
	must(t, rows.Err())
	return text.String()
}

func FuzzWords(f *testing.F) {
	for _, text := range []string{"Granite Builders", "Müller & Söhne", "ſ İstanbul", strings.Repeat("x", 300), "\xff\xfe", "日本 建設", "a a A"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words := wordsOf(text)
		if len(words) > maxWords {
			t.Errorf("%d words", len(words))
		}
		for i, w := range words {
			if w == "" || len(w) > maxWord || slices.Contains(words[:i], w) {
				t.Errorf("%q of %q", w, text)
			}
		}
		if len(words) > 0 && !matches(text, words[:1]) {
			t.Errorf("%q isn't found by its own word %q", text, words[0])
		}
	})
}
