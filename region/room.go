package region

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"mpr/company"
	"mpr/problem"
	"mpr/snapshot"
)

const (
	// rowHeader is what a row takes besides its values, in bytes, and rowIndexed what it takes in
	// indexes. pageBytes is what SQLite's pages have: as many rows as fit one whole, and the
	// rest of it empty. Measured on both engines; see TestWhatACompanyTakes.
	rowHeader, rowIndexed = 40, 100
	pageBytes             = 4096
	// sampledAt is at how many places of a table rows are looked at, and sampledRows how many
	// at each.
	sampledAt, sampledRows = 8, 32
)

// room is how many more bytes of companies may arrive, besides the reserve that is kept for
// those that live here; nil where that isn't known.
func (s *Service) room(ctx context.Context) (*int64, error) {
	left, err := s.DB.Free(ctx)
	if err != nil {
		return nil, err
	}
	if s.MaxStore > 0 {
		used, err := s.DB.Used(ctx)
		if err != nil {
			return nil, err
		}
		if left < 0 || s.MaxStore-used < left {
			left = s.MaxStore - used
		}
	} else if left < 0 {
		return nil, nil //nolint:nilnil // nobody knows
	}
	return new(max(left-s.Reserve, 0)), nil
}

// admitBytes refuses what arrives where there is no room for it: the reserve is for the
// companies that live here, and for the last step of an arrival.
func (s *Service) admitBytes(ctx context.Context, n int64) error {
	left, err := s.room(ctx)
	if err != nil || left == nil || *left > n {
		return err
	}
	return problem.New(problem.InsufficientStorage, "Region %s has no room for what arrives: %d bytes are left besides the %d that it keeps in reserve. Make room there; the move then goes on by itself.",
		s.Code, *left, s.Reserve)
}

// takes estimates how many bytes a company takes here, or will take elsewhere: from the
// number of its rows, and from some of them at several places of each table.
func takes(ctx context.Context, tx *sql.Tx, id company.ID, counts map[string]int64) (total int64, err error) {
	for _, t := range moving() {
		if counts[t.name] == 0 {
			continue
		}
		mean, err := t.meanRow(ctx, tx, id)
		if err != nil {
			return 0, fmt.Errorf("measure %s: %w", t.name, err)
		}
		total += int64(float64(counts[t.name]) * mean)
	}
	return total, nil
}

// meanRow is how many bytes a row of the company's takes.
func (t *table) meanRow(ctx context.Context, tx *sql.Tx, id company.ID) (float64, error) {
	rows, total := 0, 0
	add := func(row map[string]any) error {
		bytes := rowHeader
		for _, value := range row {
			switch v := value.(type) {
			case string:
				bytes += len(v)
			default:
				bytes += 8
			}
		}
		total += rowIndexed + bytes/16 // what PostgreSQL needs to keep long values apart
		if bytes < pageBytes {
			bytes = pageBytes / (pageBytes / bytes)
		} else {
			bytes += pageBytes / 2 // its last page is half full
		}
		rows, total = rows+1, total+bytes
		return nil
	}
	key, first, last := t.key[len(t.key)-1], int64(0), int64(0)
	if len(t.key) > 1 {
		key = t.key[1]
		if err := tx.QueryRowContext(ctx, `SELECT (SELECT COALESCE(MIN(`+key+`), 0) FROM `+t.name+` WHERE company_id = $1), (SELECT COALESCE(MAX(`+key+`), 0) FROM `+t.name+` WHERE company_id = $1)`, int64(id)).Scan(&first, &last); err != nil {
			return 0, err
		}
	}
	for n := range int64(sampledAt) {
		at := first + (last-first)/sampledAt*n
		found, err := tx.QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE company_id = $1 AND `+key+` >= $2 ORDER BY `+strings.Join(t.key, ", ")+fmt.Sprintf(` LIMIT %d`, sampledRows), int64(id), at)
		if err := snapshot.EachRow(found, err, add); err != nil {
			return 0, err
		}
		if first == last {
			break
		}
	}
	return float64(total) / float64(max(rows, 1)), nil
}
