package ledger

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema of a book's store.
func Migrations() fs.FS { return store.Files(migrations) }

// Stream brings the counters' batches, each at least once.
type Stream interface {
	Consume(ctx context.Context, durable string, apply func(context.Context, [][]byte) error) error
}

const (
	// kept is how long counts are kept.
	kept = 400
	// pruneEvery is how often what is older is deleted.
	pruneEvery = time.Hour
	// bootsKept is for how many days a counter that was stopped is remembered: longer than
	// the stream keeps its batches.
	bootsKept = 10
	// consumer is the name under which all books of an environment read its stream.
	consumer = "ledger"
)

// Book is the ledger of one environment.
type Book struct {
	db          *store.DB
	environment string
	now         func() time.Time

	ctx    context.Context // of what goes on in the background
	cancel context.CancelFunc
	loops  sync.WaitGroup

	latest latest
}

// OpenBook starts to take what comes through the stream into the database, which has the
// schema of [Migrations]. Several books, in several processes, may share both.
func OpenBook(db *store.DB, environment string, stream Stream, now func() time.Time) *Book {
	ctx, cancel := context.WithCancel(context.Background())
	b := &Book{db: db, environment: environment, now: now, ctx: ctx, cancel: cancel}
	b.loops.Go(func() {
		if err := stream.Consume(ctx, consumer, b.apply); err != nil && ctx.Err() == nil {
			slog.Error("the ledger no longer reads its stream", "environment", environment, "error", err)
		}
	})
	b.loops.Go(func() { b.prune(ctx) })
	return b
}

// Close ends the reading. It doesn't close the database.
func (b *Book) Close() error {
	b.cancel()
	b.loops.Wait()
	return nil
}

// apply takes batches into the database in one transaction, leaving out those that it
// has taken before.
func (b *Book) apply(ctx context.Context, messages [][]byte) error {
	batches := make([]batch, 0, len(messages))
	for _, data := range messages {
		var one batch
		if err := json.Unmarshal(data, &one); err != nil || one.Boot == "" {
			// It would fail for ever and block what stands behind it.
			slog.Error("dropping a batch of the ledger that isn't one", "error", err)
			continue
		}
		batches = append(batches, one)
	}
	return b.db.Write(ctx, func(tx *sql.Tx) error {
		for _, one := range batches {
			if err := b.applyOne(ctx, tx, one); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *Book) applyOne(ctx context.Context, tx *sql.Tx, one batch) error {
	result, err := tx.ExecContext(ctx, `INSERT INTO ledger_applied (boot, seq, day) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, one.Boot, one.Seq, int64(dayOf(b.now())))
	if err != nil {
		return fmt.Errorf("note a batch: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err // it was applied before
	}
	// No batch comes again after so many later ones.
	if _, err := tx.ExecContext(ctx, `DELETE FROM ledger_applied WHERE boot = $1 AND seq < $2`, one.Boot, one.Seq-2*directory.MaxInFlight); err != nil {
		return fmt.Errorf("forget old batches: %w", err)
	}
	if one.Calls > 0 {
		_, err := tx.ExecContext(ctx, `INSERT INTO ledger_calls (environment, day, calls) VALUES ($1, $2, $3)
			ON CONFLICT (environment, day) DO UPDATE SET calls = ledger_calls.calls + excluded.calls`, b.environment, int64(one.Day), one.Calls)
		if err != nil {
			return fmt.Errorf("count calls: %w", err)
		}
	}
	add, err := tx.PrepareContext(ctx, `INSERT INTO ledger
		(environment, day, kind, app, client_id, company_id, method, route, status, refused, also, host, agent, count)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (environment, day, client_id, kind, app, company_id, method, route, status, refused, also, host, agent)
		DO UPDATE SET count = ledger.count + excluded.count`)
	if err != nil {
		return fmt.Errorf("count calls: %w", err)
	}
	defer add.Close() //nolint:errcheck // it ends with the transaction
	for _, r := range one.Rows {
		if r.Count <= 0 {
			continue
		}
		if _, err := add.ExecContext(ctx, b.environment, int64(r.Day), string(r.Kind), r.App, r.ClientID, int64(r.Company),
			r.Method, r.Route, r.Status, bit(r.Refused), bit(r.Also), r.Host, r.Agent, r.Count); err != nil {
			return fmt.Errorf("count calls: %w", err)
		}
	}
	return nil
}

// bit is a truth for both engines.
func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (b *Book) prune(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		today := dayOf(b.now())
		err := b.db.Write(ctx, func(tx *sql.Tx) error {
			_, err1 := tx.ExecContext(ctx, `DELETE FROM ledger WHERE environment = $1 AND day < $2`, b.environment, int64(today)-kept)
			_, err2 := tx.ExecContext(ctx, `DELETE FROM ledger_applied WHERE day < $1`, int64(today)-bootsKept)
			_, err3 := tx.ExecContext(ctx, `DELETE FROM ledger_calls WHERE environment = $1 AND day < $2`, b.environment, int64(today)-kept)
			return errors.Join(err1, err2, err3)
		})
		if err != nil && ctx.Err() == nil {
			slog.Warn("old counts of the ledger stay for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Entry is a line of the ledger.
type Entry struct {
	Date     string     `json:"date"`
	Kind     Kind       `json:"kind"`
	App      int64      `json:"app,omitempty"`
	ClientID string     `json:"client_id,omitempty"`
	Company  company.ID `json:"company,omitempty"`
	Method   string     `json:"method"`
	Route    string     `json:"route"`
	Status   int        `json:"status"`
	Refused  bool       `json:"refused"`
	// Also says that the very calls are counted in a line of another kind, too.
	Also bool `json:"also"`
	// Host and UserAgent tell callers apart that have no valid token.
	Host      string `json:"host,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
	Count     int64  `json:"count"`
}

// Query selects lines of the ledger.
type Query struct {
	// ClientID is the app's; empty for all apps.
	ClientID string
	Company  company.ID // 0 for all
	// Days is how many days back the lines go, today among them.
	Days int
}

// Each calls f for each line, by day, the oldest first, until f answers an error.
func (b *Book) Each(ctx context.Context, q Query, f func(Entry) error) error {
	rows, err := b.db.Read().QueryContext(ctx, `SELECT day, kind, app, client_id, company_id, method, route, status, refused, also, host, agent, count
		FROM ledger WHERE environment = $1 AND day > $2 AND (client_id = $3 OR $3 = '') AND (company_id = $4 OR $4 = CAST(0 AS BIGINT))
		ORDER BY day, client_id, kind, company_id, method, route, status, refused, also, host, agent`,
		b.environment, int64(dayOf(b.now()))-int64(q.Days), q.ClientID, int64(q.Company))
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e Entry
		var d day
		var refused, also int64
		if err := rows.Scan(&d, &e.Kind, &e.App, &e.ClientID, &e.Company, &e.Method, &e.Route, &e.Status, &refused, &also, &e.Host, &e.UserAgent, &e.Count); err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		e.Date, e.Refused, e.Also = d.String(), refused != 0, also != 0
		if err := f(e); err != nil {
			return err
		}
	}
	return rows.Err()
}
