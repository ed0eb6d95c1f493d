package region

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/store"
)

// A region that was restored from a backup counts its versions from an earlier one on, and the
// global index would drop what comes as old news for as long as that takes. It may also know of
// members that nobody has ever added. So a region looks which stream it feeds the index by: none is
// in a backup, so after a restore it is another one. When it was made is later than anything that
// was published before, and the same for all regions. Versions that are lower are raised to that
// moment, in microseconds, and everything is published again, with the word that what the index
// knows from before is over. What is then heard of a company in which order changes nothing.

const (
	// feedEvery is how often a region looks which stream it feeds.
	feedEvery = 5 * time.Second
	// againAtOnce is how many companies are published again in one step.
	againAtOnce = 100
	// beforeAll stands before the first company, and allAgain behind the last one.
	beforeAll = -1
	allAgain  = math.MaxInt64
)

// feed is the stream that the index is fed by, as far as this region has come with it.
type feed struct{ made, floor, after int64 }

// readFeed answers the zero value where nothing is noted yet.
func readFeed(ctx context.Context, q querier) (f feed, err error) {
	err = q.QueryRowContext(ctx, `SELECT made, floor, after_company FROM index_feed`).Scan(&f.made, &f.floor, &f.after)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return f, fmt.Errorf("read which stream feeds the index: %w", err)
	}
	return f, nil
}

// lookAtFeed notes which stream there is. A region that has noted none before is a new one.
func (s *Service) lookAtFeed(ctx context.Context) error {
	at, err := s.Publisher.Made(ctx)
	if err != nil {
		return err
	}
	made := store.Micros(at)
	known, err := readFeed(ctx, s.DB.Read())
	if err != nil || known.made == made {
		return err
	}
	floor, after := int64(0), int64(allAgain)
	if known.made != 0 {
		// The directory's clock may have been wrong, and floors only grow.
		floor, after = max(made, known.floor+1), beforeAll
		slog.InfoContext(ctx, "the stream to the global index was made anew: publishing all companies again", "region", s.Code)
	}
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO index_feed (id, made, floor, after_company) VALUES (1, $1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET made = excluded.made, floor = excluded.floor, after_company = excluded.after_company WHERE index_feed.made = $4`,
			made, floor, after, known.made); err != nil { // another process of this region may have been faster
			return fmt.Errorf("note which stream feeds the index: %w", err)
		}
		return nil
	})
}

// publishAgain does a step of publishing all companies again, and says whether there is more to do.
// Steps may be repeated, also by several processes of a region.
func (s *Service) publishAgain(ctx context.Context) (more bool, err error) {
	f, err := readFeed(ctx, s.DB.Read())
	if err != nil || f.floor == 0 || f.after == allAgain {
		return false, err
	}
	next := int64(0)
	if f.after == beforeAll {
		err = s.publishLost(ctx, f.floor)
	} else {
		next, err = s.publishCompanies(ctx, f)
	}
	if err != nil {
		return false, err
	}
	if err := s.DB.Write(ctx, func(tx *sql.Tx) error { return f.advance(ctx, tx, next) }); err != nil {
		return false, fmt.Errorf("note what was published again: %w", err)
	}
	return true, nil
}

// advance notes up to which company all are published again; not where somebody else has changed
// that meanwhile, and only up to one that was about to move and is owned now.
func (f feed) advance(ctx context.Context, tx *sql.Tx, next int64) error {
	n, err := affected(tx.ExecContext(ctx, `UPDATE index_feed SET after_company = $1 WHERE made = $2 AND after_company = $3`, next, f.made, f.after))
	if err != nil || n == 0 || next == 0 {
		return err
	}
	var missed sql.NullInt64
	err = tx.QueryRowContext(ctx, `SELECT MIN(company_id) FROM fence WHERE company_id > $1 AND company_id <= $2 AND state = 'owned' AND version < $3`, f.after, next, f.floor).Scan(&missed)
	if err != nil || !missed.Valid {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE index_feed SET after_company = $1`, missed.Int64-1)
	return err
}

// publishLost says which ids of this region haven't been given out: what the index knows of them is
// of companies that the backup doesn't have.
func (s *Service) publishLost(ctx context.Context, floor int64) error {
	var last int64
	if err := s.DB.Read().QueryRowContext(ctx, `SELECT last FROM ids`).Scan(&last); err != nil {
		return fmt.Errorf("read the last id: %w", err)
	}
	end := int64(company.FirstID(s.Number+1)) - 1
	return s.Publisher.Publish(ctx, []directory.Change{{Company: company.ID(last), Version: floor, Kind: directory.ChangeLost, Key: end}})
}

// publishCompanies publishes the next companies again, and answers the last one.
func (s *Service) publishCompanies(ctx context.Context, f feed) (last int64, err error) {
	ids, err := s.ownedAfter(ctx, f.after)
	if err != nil || len(ids) == 0 {
		return allAgain, err
	}
	versions, err := s.raiseVersions(ctx, ids, f.floor)
	if err != nil {
		return 0, err
	}
	var batch []directory.Change
	for _, id := range ids {
		version, ok := versions[id]
		if !ok { // about to move: whoever owns it then publishes it
			continue
		}
		// The company comes last: until its members have come, those from before are right.
		for _, t := range []*table{memberships, installations, companies} {
			if batch, err = s.publishRows(ctx, batch, t, id, version, f.floor); err != nil {
				return 0, err
			}
		}
	}
	return ids[len(ids)-1], s.publishBatch(ctx, batch)
}

func (s *Service) ownedAfter(ctx context.Context, after int64) ([]int64, error) {
	ids, err := store.Column[int64](s.DB.Read().QueryContext(ctx, `SELECT company_id FROM fence WHERE company_id > $1 AND state = 'owned' ORDER BY company_id LIMIT $2`, after, againAtOnce))
	if err != nil {
		return nil, fmt.Errorf("list companies: %w", err)
	}
	return ids, nil
}

// raiseVersions raises the versions of those that are owned to the floor, and answers them. The
// change log has a gap then, and a move that is under way copies all rows.
func (s *Service) raiseVersions(ctx context.Context, ids []int64, floor int64) (versions map[int64]int64, err error) {
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		versions = make(map[int64]int64, len(ids))
		for _, id := range ids {
			var version int64
			err := tx.QueryRowContext(ctx, `UPDATE fence SET version = CASE WHEN version < $2 THEN $2 ELSE version END
				WHERE company_id = $1 AND state = 'owned' RETURNING version`, id, floor).Scan(&version)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return fmt.Errorf("raise the version of company %d: %w", id, err)
			}
			versions[id] = version
		}
		return nil
	})
	return versions, err
}

// publishRows publishes a company's rows of a table again, as of a version. Rows may be newer: what
// has changed since is in the change log, and follows.
func (s *Service) publishRows(ctx context.Context, batch []directory.Change, t *table, id, version, floor int64) ([]directory.Change, error) {
	for after := int64(math.MinInt64); ; {
		rows, err := readRows(s.DB.Read().QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE company_id = $1 AND `+t.index.key+` > $2 ORDER BY `+t.index.key+` LIMIT $3`, id, after, publishAtOnce))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", t.name, err)
		}
		for _, row := range rows {
			data, err := json.Marshal(row)
			if err != nil {
				return nil, fmt.Errorf("publish a row of %s: %w", t.name, err)
			}
			c, err := t.index.change(company.ID(id), version, false, string(data))
			if err != nil {
				return nil, err
			}
			c.Since = since(&c, floor)
			batch, after = append(batch, c), c.Key
		}
		for len(batch) >= publishAtOnce {
			if err := s.publishBatch(ctx, batch[:publishAtOnce]); err != nil {
				return nil, err
			}
			batch = batch[publishAtOnce:]
		}
		if len(rows) < publishAtOnce {
			return batch, nil
		}
	}
}

// since is what a change of a company says of all that the index knows of it; 0 for nothing.
func since(c *directory.Change, floor int64) int64 {
	if c.Kind != directory.ChangeCompany || c.Version < floor {
		return 0
	}
	return floor
}

func (s *Service) publishBatch(ctx context.Context, batch []directory.Change) error {
	if len(batch) == 0 {
		return nil
	}
	return s.Publisher.Publish(ctx, batch)
}

// publishArrived has a company published again that this region comes to own at a version from
// before its floor. It takes the row in any case: who just passes the company by must wait.
func publishArrived(ctx context.Context, tx *sql.Tx, id company.ID, version int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE index_feed SET after_company = CASE WHEN after_company >= $1 THEN $2 ELSE after_company END WHERE floor > $3`, int64(id), int64(id)-1, version)
	if err != nil {
		return fmt.Errorf("have company %d published again: %w", id, err)
	}
	return nil
}
