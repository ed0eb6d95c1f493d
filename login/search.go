package login

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

// People look for companies and apps by the beginnings of words of their names. Each word is a row
// of search_words, which is written with the name; names that are older than that table, or were
// written by an older process, are made up for in the background.

// searched is a table whose rows can be searched by their name.
type searched struct{ kind, table, key, more string }

var (
	searchedCompanies = searched{"company", "index_companies", "company_id", "''"}
	searchedApps      = searched{"app", "apps", "id", "client_id"} // found by their client id as well
)

const (
	// maxWords and maxWord bound what is kept of a name.
	maxWords = 16
	maxWord  = 64
	// maxMatches bounds how many rows with one word are looked through. More common words are
	// looked for by going through the names themselves, maxWalked of them at a time.
	maxMatches = 5000
	maxWalked  = 20_000
	// fillAtOnce is how many names are made up for in a transaction, and fillEvery how often it is
	// looked for such names.
	fillAtOnce = 500
	fillEvery  = time.Minute
)

// wordsOf are the words of a name, in lower case, each once.
func wordsOf(text string) []string {
	var words []string
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) }) {
		for len(w) > maxWord {
			_, size := utf8.DecodeLastRuneInString(w)
			w = w[:len(w)-size]
		}
		if !slices.Contains(words, w) && len(words) < maxWords {
			words = append(words, w)
		}
	}
	return words
}

// matches says whether each of the words begins a word of the name.
func matches(name string, words []string) bool {
	of := wordsOf(name)
	for _, w := range words {
		if !slices.ContainsFunc(of, func(one string) bool { return strings.HasPrefix(one, w) }) {
			return false
		}
	}
	return true
}

// learn writes the words of a row whose name is another one now.
func (t searched) learn(ctx context.Context, tx *sql.Tx, id int64) error {
	var name, more, before string
	err := tx.QueryRowContext(ctx, `SELECT name, `+t.more+`, searched_name FROM `+t.table+` WHERE `+t.key+` = $1`, id).Scan(&name, &more, &before)
	if err != nil || name == before {
		return err
	}
	was, is := wordsOf(before+" "+more), wordsOf(name+" "+more)
	if before == "" {
		was = nil
	}
	if name == "" {
		is = nil
	}
	for _, w := range was {
		if !slices.Contains(is, w) {
			if _, err := tx.ExecContext(ctx, `DELETE FROM search_words WHERE kind = $1 AND word = $2 AND id = $3`, t.kind, hex.EncodeToString([]byte(w)), id); err != nil {
				return err
			}
		}
	}
	for _, w := range is {
		if _, err := tx.ExecContext(ctx, `INSERT INTO search_words (kind, word, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, t.kind, hex.EncodeToString([]byte(w)), id); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE `+t.table+` SET searched_name = name WHERE `+t.key+` = $1`, id)
	return err
}

// fillSearch makes up for names whose words aren't there yet.
func (s *Service) fillSearch(ctx context.Context) {
	t := time.NewTicker(fillEvery)
	defer t.Stop()
	for {
		for _, table := range []searched{searchedCompanies, searchedApps} {
			for more := true; more; {
				var err error
				if more, err = s.fill(ctx, table); err != nil && ctx.Err() == nil {
					slog.Warn("some names can't be searched yet", "of", table.kind, "error", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Service) fill(ctx context.Context, t searched) (more bool, err error) {
	ids, err := store.Column[int64](s.DB.Read().QueryContext(ctx, `SELECT `+t.key+` FROM `+t.table+` WHERE searched_name <> name ORDER BY `+t.key+` LIMIT $1`, fillAtOnce))
	if err != nil || len(ids) == 0 {
		return false, err
	}
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			if err := t.learn(ctx, tx, id); err != nil && !isNoRows(err) {
				return err
			}
		}
		return nil
	})
	return err == nil && len(ids) == fillAtOnce, err
}

// found is a row that was found.
type found struct {
	id   int64
	name string
}

// search lists, by id, rows behind an id in whose name each of the words begins a word, up to limit
// of them. next is where it goes on, 0 where it was all; a part may be short, or empty, and not be
// the last one.
func (s *Service) search(ctx context.Context, t searched, words []string, after int64, limit int) (list []found, next int64, err error) {
	rarest, fewest := "", maxMatches+1
	for _, w := range words {
		var n int
		begin := hex.EncodeToString([]byte(w))
		err := s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM search_words WHERE kind = $1 AND word >= $2 AND word < $3 LIMIT $4) AS counted`, t.kind, begin, begin+"g", maxMatches+1).Scan(&n)
		if err != nil {
			return nil, 0, fmt.Errorf("search: %w", err)
		}
		if n < fewest {
			rarest, fewest = begin, n
		}
	}
	query, args := `SELECT `+t.key+`, name, `+t.more+` FROM `+t.table+` WHERE `+t.key+` > $1 ORDER BY `+t.key+` LIMIT $2`, []any{after, maxWalked}
	if rarest != "" {
		query = `SELECT ` + t.key + `, name, ` + t.more + ` FROM ` + t.table + ` WHERE ` + t.key + ` IN (SELECT id FROM search_words WHERE kind = $3 AND word >= $4 AND word < $5 AND id > $1) ORDER BY ` + t.key + ` LIMIT $2`
		args = []any{after, maxMatches, t.kind, rarest, rarest + "g"}
	}
	rows, err := s.DB.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("search: %w", err)
	}
	defer rows.Close()
	seen := 0
	for ; rows.Next(); seen++ {
		var f found
		var more string
		if err := rows.Scan(&f.id, &f.name, &more); err != nil {
			return nil, 0, fmt.Errorf("search: %w", err)
		}
		if f.name != "" && matches(f.name+" "+more, words) {
			if len(list) == limit {
				return list, next, nil
			}
			list = append(list, f)
		}
		next = f.id
	}
	if rarest != "" || seen < maxWalked {
		next = 0
	}
	return list, next, rows.Err()
}

// readSearch reads what is looked for.
func readSearch(r *http.Request) (words []string, after int64, limit int, err error) {
	q := r.URL.Query()
	wrong := problem.New(problem.BadRequest, "Say what to look for: q has a letter or a digit, after is an id, limit a number from 1 to %d.", maxPageSize)
	if len(q.Get("q")) > 500 || !storable(q.Get("q")) {
		return nil, 0, 0, wrong
	}
	if words = wordsOf(q.Get("q")); len(words) == 0 {
		return nil, 0, 0, wrong
	}
	if q.Has("after") {
		if after, err = strconv.ParseInt(q.Get("after"), 10, 64); err != nil || after < 0 {
			return nil, 0, 0, wrong
		}
	}
	if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > maxPageSize {
		return nil, 0, 0, wrong
	}
	return words, after, limit, nil
}

// searchCompanies answers companies by words of their names.
func (s *Service) searchCompanies(w http.ResponseWriter, r *http.Request) error {
	words, after, limit, err := readSearch(r)
	if err != nil {
		return err
	}
	hits, next, err := s.search(r.Context(), searchedCompanies, words, after, limit)
	if err != nil {
		return err
	}
	list := make([]listedCompany, len(hits))
	for i, f := range hits {
		list[i] = listedCompany{ID: company.ID(f.id), Name: f.name, IsActive: true}
	}
	writeJSON(w, http.StatusOK, map[string]any{"companies": list, "next": next})
	return nil
}

// searchApps answers apps by words of their names, or the beginning of their client id.
func (s *Service) searchApps(w http.ResponseWriter, r *http.Request) error {
	words, after, limit, err := readSearch(r)
	if err != nil {
		return err
	}
	hits, next, err := s.search(r.Context(), searchedApps, words, after, limit)
	if err != nil {
		return err
	}
	list := []*app{}
	if len(hits) > 0 {
		marks, args := make([]string, len(hits)), make([]any, len(hits))
		for i, f := range hits {
			marks[i], args[i] = "$"+strconv.Itoa(i+1), f.id
		}
		if list, err = s.selectApps(r.Context(), `WHERE id IN (`+strings.Join(marks, ", ")+`) ORDER BY id`, args...); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"apps": list, "next": next})
	return nil
}
