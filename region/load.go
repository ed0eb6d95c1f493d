package region

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"mpr/company"
	"mpr/problem"
	"mpr/snapshot"
	"mpr/store"
)

// clearAtOnce is how many rows are deleted in one transaction: on SQLite all writes stand
// in one line, and others want their turn.
const clearAtOnce = 1000

// load is a snapshot on its way into the region.
type load struct {
	*Service
	company company.ID
	id      string // tells it from other loads of the company
	// state is that of the fence once all is there.
	state string
	// replace deletes what is left of the company after it went elsewhere.
	replace bool
	// announce tells the global index of the rows.
	announce bool

	head     snapshotHead
	version  int64 // of the last row that was announced, or the head's
	inserter snapshot.Inserter
}

// internalLoad takes a company's snapshot. The rows are written in many short
// transactions; until the last row has come, and counts and checksum are those that the
// snapshot tells, no fence owns the company, so nothing half-loaded is served. A load
// that broke off is begun anew by the next one.
//
// ?state=owned has the company served here from then on; otherwise it is frozen.
// ?replace=1 lets go of what is left of a company that went elsewhere. ?announce=1 tells
// the global index of the company, where it comes from another environment.
func (s *Service) internalLoad(ctx context.Context, c *call) error {
	l := &load{Service: s, company: c.company, id: rand.Text()}
	if err := l.readOptions(c.r.URL.Query()); err != nil {
		return err
	}
	lines, err := snapshot.Read(c.w, c.r, &l.head)
	if err != nil {
		return err
	}
	if err := l.take(ctx, lines); err != nil {
		return err
	}
	s.run(c.w, c.r, func(context.Context, *call) (int, any, error) {
		return http.StatusOK, map[string]any{"epoch": l.head.Epoch, "version": l.version, "rows": lines.Rows, "checksum": lines.Checksum}, nil
	}, c)
	return nil
}

func (l *load) readOptions(q url.Values) error {
	l.state = q.Get("state")
	if l.state == "" {
		l.state = frozen
	}
	if l.state != owned && l.state != frozen {
		return problem.New(problem.BadRequest, "The parameter state must be owned or frozen.")
	}
	l.replace, l.announce = q.Get("replace") == "1", q.Get("announce") == "1"
	return nil
}

func (l *load) take(ctx context.Context, lines *snapshot.Reader) error {
	if l.head.Format != snapshotFormat || l.head.Company != l.company || l.head.Epoch <= 0 {
		return snapshot.Broken(fmt.Sprintf("its first line isn't that of format %d and company %d", snapshotFormat, l.company), nil)
	}
	if err := l.begin(ctx); err != nil {
		return err
	}
	err := lines.Each(func(name string, batch []snapshot.Row) error {
		t, err := movingTable(name)
		if err != nil {
			return err
		}
		return l.insert(ctx, t, batch)
	})
	if err != nil {
		return fmt.Errorf("load company %d: %w", l.company, err)
	}
	if lines.Rows[companies.name] != 1 {
		return snapshot.Broken("it lacks the company itself", nil)
	}
	if err := l.finish(ctx); err != nil {
		return err
	}
	if l.announce {
		l.wakePump()
	}
	return nil
}

// begin claims the company for this load, and deletes what an earlier one has left.
func (l *load) begin(ctx context.Context) error {
	l.version = l.head.Version
	err := l.DB.Write(ctx, func(tx *sql.Tx) error {
		f, err := readFence(ctx, tx, l.company)
		var unknown *notOwned
		switch {
		case errors.As(err, &unknown):
		case err != nil:
			return err
		case f.State != gone:
			return problem.New(problem.Conflict, "Company %d is here already (%s, epoch %d): what is served is never overwritten.", l.company, f.State, f.Epoch)
		case !l.replace:
			return problem.New(problem.Conflict, "Company %d was here, up to epoch %d. Say replace=1 to let go of what is left of it.", l.company, f.Epoch)
		case l.head.Epoch < max(f.Epoch, f.GoneEpoch):
			return problem.New(problem.Conflict, "The snapshot of company %d is of epoch %d, and this region has heard of epoch %d.", l.company, l.head.Epoch, max(f.Epoch, f.GoneEpoch))
		}
		var logged sql.NullInt64
		if err := tx.QueryRowContext(ctx, `SELECT MAX(version) FROM change_log WHERE company_id = $1`, int64(l.company)).Scan(&logged); err != nil {
			return fmt.Errorf("read the change log: %w", err)
		}
		if l.announce { // what an earlier load announced has had its versions
			fed, err := readFeed(ctx, tx)
			if err != nil {
				return err
			}
			l.version = max(l.head.Version, logged.Int64, fed.floor)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO arrivals (company_id, load_id, started) VALUES ($1, $2, $3)
			ON CONFLICT (company_id) DO UPDATE SET load_id = excluded.load_id, started = excluded.started`, int64(l.company), l.id, store.Micros(l.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("begin to load company %d: %w", l.company, err)
	}
	for _, t := range moving() {
		if err := l.clear(ctx, t); err != nil {
			return fmt.Errorf("clear %s: %w", t.name, err)
		}
	}
	return nil
}

// clear deletes the company's rows of a table.
func (l *load) clear(ctx context.Context, t *table) error {
	for {
		var n int64
		err := l.transact(ctx, func(tx *sql.Tx) (err error) {
			n, err = t.deleteSome(ctx, tx, l.company, clearAtOnce)
			return err
		})
		if err != nil || n < clearAtOnce {
			return err
		}
	}
}

// transact runs f in a transaction that commits only while this load is the company's last.
func (l *load) transact(ctx context.Context, f func(*sql.Tx) error) error {
	return l.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE arrivals SET started = started WHERE company_id = $1 AND load_id = $2`, int64(l.company), l.id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, problem.New(problem.Conflict, "Another load of company %d has begun meanwhile.", l.company))
		}
		return f(tx)
	})
}

// insert writes a batch of rows of one table.
func (l *load) insert(ctx context.Context, t *table, batch []snapshot.Row) error {
	version := l.version
	return l.transact(ctx, func(tx *sql.Tx) error {
		l.version = version // it may run more than once
		if err := l.inserter.Insert(ctx, tx, t.name, batch, map[string]int64{"company_id": int64(l.company)}); err != nil {
			return err
		}
		if !l.announce || t.index == nil {
			return nil
		}
		w := &writer{Tx: tx, company: l.company, now: store.Micros(l.Now())}
		for _, row := range batch {
			l.version++
			if err := w.logAs(ctx, l.version, t, false, string(row.Data)); err != nil {
				return err
			}
		}
		return nil
	})
}

// finish has the region own the company, or hold it frozen.
func (l *load) finish(ctx context.Context) error {
	err := l.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO fence (company_id, epoch, state, version, gone_region, gone_epoch) VALUES ($1, $2, $3, $4, '', 0)
			ON CONFLICT (company_id) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, version = excluded.version, gone_region = '', gone_epoch = 0, purged = 0`,
			int64(l.company), int64(l.head.Epoch), l.state, l.version)
		if err != nil {
			return err
		}
		if l.state == owned {
			if err := publishArrived(ctx, tx, l.company, l.version); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM arrivals WHERE company_id = $1`, int64(l.company))
		return err
	})
	if err != nil {
		return fmt.Errorf("finish loading company %d: %w", l.company, err)
	}
	return nil
}
