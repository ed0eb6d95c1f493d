package region

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"mpr/company"
	"mpr/directory"
	"mpr/store"
)

// writer is a write to a company's data: a transaction that has taken the fence.
type writer struct {
	*sql.Tx
	company company.ID
	epoch   company.Epoch
	code    company.Region
	now     int64 // Unix microseconds, the same for all that the write changes
}

// write runs f in a transaction that commits only where the fence owns the company at
// this epoch. It takes the fence's row first: a freeze waits for the writes before it,
// and the writes after it find the company frozen.
func (s *Service) write(ctx context.Context, id company.ID, epoch company.Epoch, f func(*writer) error) error {
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		w := &writer{Tx: tx, company: id, epoch: epoch, code: s.Code, now: store.Micros(s.Now())}
		if _, err := w.nextVersion(ctx, 0); err != nil {
			return err
		}
		return f(w)
	})
	if err == nil {
		s.wakePump()
	}
	return err
}

// nextVersion takes the company's next version, or with 0 only the fence's lock.
func (w *writer) nextVersion(ctx context.Context, by int) (version int64, err error) {
	err = w.QueryRowContext(ctx, `UPDATE fence SET version = version + $3 WHERE company_id = $1 AND epoch = $2 AND state = 'owned' RETURNING version`,
		int64(w.company), int64(w.epoch), by).Scan(&version)
	if isNoRows(err) {
		f, err := readFence(ctx, w, w.company)
		if err != nil {
			return 0, err
		}
		if err := f.check(w.code, w.company, w.epoch); err != nil {
			return 0, err
		}
		return 0, errors.New("the fence changed while it was read")
	}
	if err != nil {
		return 0, fmt.Errorf("take the fence: %w", err)
	}
	return version, nil
}

// The kinds of rows in the change log that the global index doesn't want. The others are
// those of package directory.
const (
	changeProject     = "project"
	changeProjectUser = "project_user"
	changeRFI         = "rfi"
)

// log appends a change to the change log and answers its version. data is the row after
// the change; nil where it was deleted.
func (w *writer) log(ctx context.Context, kind string, key int64, data any) (version int64, err error) {
	if version, err = w.nextVersion(ctx, 1); err != nil {
		return 0, err
	}
	text := ""
	if data != nil {
		encoded, err := json.Marshal(data)
		if err != nil {
			return 0, fmt.Errorf("log a change: %w", err)
		}
		text = string(encoded)
	}
	indexed := kind == directory.ChangeCompany || kind == directory.ChangeMembership || kind == directory.ChangeInstallation
	_, err = w.ExecContext(ctx, `INSERT INTO change_log (company_id, version, kind, key, deleted, data, at, published) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		int64(w.company), version, kind, key, number(data == nil), text, w.now, number(!indexed))
	if err != nil {
		return 0, fmt.Errorf("log a change: %w", err)
	}
	return version, nil
}

// publishAtOnce is how many changes go to the global index in one step.
const publishAtOnce = 200

// publishSome publishes the oldest changes that the global index doesn't have, notes that
// it has, and says whether there may be more. Where it dies in between they are published
// again: the index drops what it has.
func (s *Service) publishSome(ctx context.Context) (more bool, err error) {
	changes, err := s.unpublished(ctx)
	if err != nil || len(changes) == 0 {
		return false, err
	}
	if err := s.Publisher.Publish(ctx, changes); err != nil {
		return false, err
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
		return false, fmt.Errorf("note what was published: %w", err)
	}
	return len(changes) == publishAtOnce, nil
}

func (s *Service) unpublished(ctx context.Context) (changes []directory.Change, err error) {
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT company_id, version, kind, key, deleted, data FROM change_log
		WHERE published = 0 ORDER BY at, company_id, version LIMIT $1`, publishAtOnce)
	if err != nil {
		return nil, fmt.Errorf("read the change log: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c directory.Change
		var data string
		if err := rows.Scan(&c.Company, &c.Version, &c.Kind, &c.Key, &c.Deleted, &data); err != nil {
			return nil, fmt.Errorf("read the change log: %w", err)
		}
		if data != "" {
			c.Data = json.RawMessage(data)
		}
		changes = append(changes, c)
	}
	return changes, rows.Err()
}
