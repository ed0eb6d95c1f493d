package region

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/store"
)

const (
	// publishEvery is how often the change log is looked at without being told.
	publishEvery = time.Second
	// publishAtOnce is how many changes go to the global index in one step.
	publishAtOnce = 200
	// keepLog is how long published changes are kept. A move needs those since its
	// snapshot, and takes minutes.
	keepLog = 7 * 24 * time.Hour
	// forgetEvery and forgetAtOnce are how often, and by how many rows, the change log is
	// shortened. Short transactions: on SQLite all writes stand in one line.
	forgetEvery  = time.Minute
	forgetAtOnce = 1000
)

// wakePump tells the pump that the change log has grown.
func (s *Service) wakePump() {
	select {
	case s.wakeUp <- struct{}{}:
	default: // it has been woken already
	}
}

// runPump feeds the global index from the change log until the context ends, and shortens
// the log.
func (s *Service) runPump(ctx context.Context) {
	look, forget := time.NewTicker(publishEvery), time.NewTicker(forgetEvery)
	defer look.Stop()
	defer forget.Stop()
	var looked time.Time // at which stream is fed
	failing := false
	for {
		if time.Since(looked) >= feedEvery && s.lookAtFeed(ctx) == nil { // else publishing fails as well
			looked = time.Now()
		}
		err := s.publishAll(ctx)
		more := false
		if err == nil {
			more, err = s.publishAgain(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			slog.WarnContext(ctx, "changes can't be published; trying again until they can", "region", s.Code, "error", err)
		case err == nil && failing:
			slog.InfoContext(ctx, "changes are published again", "region", s.Code)
		}
		failing = err != nil
		if more {
			continue
		}
		woken := s.wakeUp
		if failing {
			woken = nil // more writes don't make trying more promising: wait for the ticker
		}
		select {
		case <-ctx.Done():
			return
		case <-woken:
		case <-look.C:
		case <-forget.C:
			if err := s.forgetOld(ctx); err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, "the change log can't be shortened", "region", s.Code, "error", err)
			}
		}
	}
}

func (s *Service) publishAll(ctx context.Context) error {
	for {
		n, err := s.publishSome(ctx)
		if err != nil || n < publishAtOnce {
			return err
		}
	}
}

// publishSome publishes changes that the global index doesn't have, each company's in
// their order, and notes that it has them. Where it dies in between they are published
// again: the index drops what it has.
func (s *Service) publishSome(ctx context.Context) (n int, err error) {
	changes, err := s.unpublished(ctx)
	if err != nil || len(changes) == 0 {
		return 0, err
	}
	if err := s.Publisher.Publish(ctx, changes); err != nil {
		return 0, err
	}
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, c := range changes {
			_, err := tx.ExecContext(ctx, `UPDATE change_log SET published = 1 WHERE company_id = $1 AND version = $2`, int64(c.Company), c.Version)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("note what was published: %w", err)
	}
	return len(changes), nil
}

func (s *Service) unpublished(ctx context.Context) (changes []directory.Change, err error) {
	fed, err := readFeed(ctx, s.DB.Read())
	if err != nil {
		return nil, err
	}
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT company_id, version, name, deleted, data FROM change_log
		WHERE published = 0 ORDER BY company_id, version LIMIT $1`, publishAtOnce)
	if err != nil {
		return nil, fmt.Errorf("read the change log: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id company.ID
		var version int64
		var name, data string
		var deleted bool
		if err := rows.Scan(&id, &version, &name, &deleted, &data); err != nil {
			return nil, fmt.Errorf("read the change log: %w", err)
		}
		x, err := indexedTable(name)
		if err != nil {
			return nil, err
		}
		c, err := x.change(id, version, deleted, data)
		if err != nil {
			return nil, err
		}
		c.Since = since(&c, fed.floor)
		changes = append(changes, c)
	}
	return changes, rows.Err()
}

// logEntry names an entry of the change log.
type logEntry struct{ company, version, at int64 }

// forgetOld deletes what stands in the change log longer than anybody needs it. What is kept for
// moves may be most of what is old: it is passed by, once, by a reader that holds up no writer.
func (s *Service) forgetOld(ctx context.Context) error {
	before := store.Micros(s.Now().Add(-keepLog))
	for from := int64(math.MinInt64); ; {
		old, err := s.forgettable(ctx, from, before)
		if err != nil || len(old) == 0 {
			return err
		}
		from = old[len(old)-1].at // others may be of the same moment
		err = s.DB.Write(ctx, func(tx *sql.Tx) error {
			forget, err := tx.PrepareContext(ctx, `DELETE FROM change_log WHERE company_id = $1 AND version = $2
				AND NOT EXISTS (SELECT 1 FROM moves m WHERE m.company_id = $1 AND m.keep_after >= 0 AND $2 > m.keep_after)`)
			if err != nil {
				return err
			}
			defer forget.Close() //nolint:errcheck // it ends with the transaction
			for _, e := range old {
				if _, err := forget.ExecContext(ctx, e.company, e.version); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(old) < forgetAtOnce {
			return err
		}
	}
}

// forgettable reads the oldest entries from a moment on that nobody needs any more.
func (s *Service) forgettable(ctx context.Context, from, before int64) (old []logEntry, err error) {
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT company_id, version, at FROM change_log WHERE at >= $1 AND at < $2 AND published = 1
		AND NOT EXISTS (SELECT 1 FROM moves m WHERE m.company_id = change_log.company_id AND m.keep_after >= 0 AND change_log.version > m.keep_after)
		ORDER BY at LIMIT $3`, from, before, forgetAtOnce)
	if err != nil {
		return nil, fmt.Errorf("read the change log: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e logEntry
		if err := rows.Scan(&e.company, &e.version, &e.at); err != nil {
			return nil, fmt.Errorf("read the change log: %w", err)
		}
		old = append(old, e)
	}
	return old, rows.Err()
}
