package login

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mpr/company"
	"mpr/directory"
)

// indexConsumer is the durable name under which all login services of an environment
// read the changes: each change goes to one of them.
const indexConsumer = "index"

// indexSignal wakes those who wait for the index, in this process.
type indexSignal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (i *indexSignal) wait() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ch == nil {
		i.ch = make(chan struct{})
	}
	return i.ch
}

func (i *indexSignal) broadcast() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ch != nil {
		close(i.ch)
		i.ch = nil
	}
}

// applyChanges applies changes to the index. Each row keeps the version that it came
// with, and an older one never replaces it: repeats and late arrivals change nothing.
func (s *Service) applyChanges(ctx context.Context, changes []directory.Change) error {
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, c := range changes {
			if err := applyChange(ctx, tx, c); err != nil {
				return fmt.Errorf("change %d of company %d: %w", c.Version, c.Company, err)
			}
		}
		return nil
	})
	if err == nil {
		s.indexed.broadcast()
	}
	return err
}

func applyChange(ctx context.Context, tx *sql.Tx, c directory.Change) error {
	var err error
	switch c.Kind {
	case directory.ChangeCompany:
		name, ok := companyName(c)
		if !ok {
			// It would fail for ever and hold up what stands behind it.
			slog.ErrorContext(ctx, "leaving out a change of a company without a name", "company", c.Company, "version", c.Version)
			break
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO index_companies (company_id, name, deleted, version, since) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (company_id) DO UPDATE SET name = excluded.name, deleted = excluded.deleted, version = excluded.version WHERE index_companies.version < excluded.version`,
			int64(c.Company), name, flag(c.Deleted), c.Version, c.Since)
		if err == nil && c.Since > 0 { // also where a later change has come before
			_, err = tx.ExecContext(ctx, `UPDATE index_companies SET since = $2 WHERE company_id = $1 AND since < $2`, int64(c.Company), c.Since)
		}
		if err == nil {
			err = searchedCompanies.learn(ctx, tx, int64(c.Company))
		}
	case directory.ChangeLost:
		// The version stays: whoever has one of them all the same says so, before or after.
		_, err = tx.ExecContext(ctx, `UPDATE index_companies SET name = '', deleted = 1 WHERE company_id > $1 AND company_id <= $2 AND version < $3`,
			int64(c.Company), c.Key, c.Version)
		return err
	case directory.ChangeMembership:
		_, err = tx.ExecContext(ctx, `INSERT INTO index_memberships (user_id, company_id, deleted, version) VALUES ($1, $2, $3, $4)
			ON CONFLICT (user_id, company_id) DO UPDATE SET deleted = excluded.deleted, version = excluded.version WHERE index_memberships.version < excluded.version`,
			c.Key, int64(c.Company), flag(c.Deleted), c.Version)
	case directory.ChangeInstallation:
		_, err = tx.ExecContext(ctx, `INSERT INTO index_installations (app_id, company_id, deleted, version) VALUES ($1, $2, $3, $4)
			ON CONFLICT (app_id, company_id) DO UPDATE SET deleted = excluded.deleted, version = excluded.version WHERE index_installations.version < excluded.version`,
			c.Key, int64(c.Company), flag(c.Deleted), c.Version)
	}
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO index_versions (company_id, version) VALUES ($1, $2)
		ON CONFLICT (company_id) DO UPDATE SET version = excluded.version WHERE index_versions.version < excluded.version`,
		int64(c.Company), c.Version)
	return err
}

// companyName reads the data of a change of a company.
func companyName(c directory.Change) (name string, ok bool) {
	if c.Deleted {
		return "", true
	}
	var data struct {
		Name string `json:"name"`
	}
	err := json.Unmarshal(c.Data, &data)
	return data.Name, err == nil && storable(data.Name)
}

// waitForIndex waits until the index has applied a version of a company; it says false
// where that takes too long.
func (s *Service) waitForIndex(ctx context.Context, id company.ID, version int64, atMost time.Duration) (bool, error) {
	// The time limits the waiting, never a look at the store: a query that it cuts off
	// would be an error, not a "no".
	limit := time.NewTimer(atMost)
	defer limit.Stop()
	for {
		changed := s.indexed.wait() // before looking, so that nothing is missed in between
		var applied int64
		err := s.DB.Read().QueryRowContext(ctx, `SELECT version FROM index_versions WHERE company_id = $1`, int64(id)).Scan(&applied)
		if err == nil && applied >= version {
			return true, nil
		}
		if err != nil && !isNoRows(err) {
			return false, fmt.Errorf("read the index: %w", err)
		}
		// Another login service may have applied it: look again even if nobody says so.
		again := time.NewTimer(100 * time.Millisecond)
		select {
		case <-ctx.Done():
			again.Stop()
			return false, ctx.Err()
		case <-limit.C:
			again.Stop()
			return false, nil
		case <-changed:
			again.Stop()
		case <-again.C:
		}
	}
}
