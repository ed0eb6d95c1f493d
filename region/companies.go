package region

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"

	"mpr/company"
	"mpr/directory"
	"mpr/store"
)

// companyRow is a company.
type companyRow struct {
	ID        company.ID `json:"id"`
	Name      string     `json:"name"`
	IsActive  bool       `json:"is_active"`
	CreatedAt string     `json:"created_at"`
	UpdatedAt string     `json:"updated_at"`
}

func readCompany(ctx context.Context, q querier, id company.ID) (*companyRow, error) {
	c := &companyRow{ID: id, IsActive: true}
	var created, updated int64
	err := q.QueryRowContext(ctx, `SELECT name, created, updated FROM companies WHERE company_id = $1`, int64(id)).Scan(&c.Name, &created, &updated)
	if isNoRows(err) {
		return nil, errNothingHere
	}
	if err != nil {
		return nil, fmt.Errorf("read company: %w", err)
	}
	c.CreatedAt, c.UpdatedAt = stamp(created), stamp(updated)
	return c, nil
}

func (s *Service) showCompany(ctx context.Context, c *call) (int, any, error) {
	row, err := readCompany(ctx, s.DB.Read(), c.company)
	return http.StatusOK, row, err
}

func (s *Service) updateCompany(ctx context.Context, c *call) (int, any, error) {
	in, err := c.body.member("company")
	if err != nil {
		return 0, nil, err
	}
	var row *companyRow
	err = s.write(ctx, c.company, c.epoch, func(w *writer) error {
		if row, err = readCompany(ctx, w, c.company); err != nil {
			return err
		}
		f := in.fields()
		f.text("name", &row.Name, maxName)
		f.present("name", row.Name)
		if err := f.problem(); err != nil {
			return err
		}
		row.UpdatedAt = stamp(w.now)
		if _, err := w.ExecContext(ctx, `UPDATE companies SET name = $2, updated = $3 WHERE company_id = $1`, int64(c.company), row.Name, w.now); err != nil {
			return err
		}
		_, err := w.log(ctx, directory.ChangeCompany, int64(c.company), row)
		return err
	})
	return http.StatusOK, row, err
}

// newCompany is what the control role asks for.
type newCompany struct {
	Name           string `json:"name"`
	Onboarded      string `json:"onboarded"`
	IdempotencyKey string `json:"idempotency_key"`
}

// birth is a company that was made, or that the same key made before.
type birth struct {
	ID      company.ID    `json:"id"`
	Epoch   company.Epoch `json:"epoch"`
	Version int64         `json:"version"`
}

// bear makes a company: owned at epoch 1 from the start. No gateway sends calls for it
// before the directory knows it.
func (s *Service) bear(ctx context.Context, in newCompany, onboarded int64) (b birth, err error) {
	in.Name = strings.TrimSpace(in.Name)
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		b = birth{Epoch: 1}
		err := tx.QueryRowContext(ctx, `SELECT c.company_id, f.version FROM companies c JOIN fence f ON f.company_id = c.company_id WHERE c.idempotency_key = $1`,
			in.IdempotencyKey).Scan(&b.ID, &b.Version)
		if err == nil || !isNoRows(err) {
			return err
		}
		id, err := s.nextID(ctx, tx)
		if err != nil {
			return err
		}
		b.ID = company.ID(id)
		w := &writer{Tx: tx, company: b.ID, epoch: 1, code: s.Code, now: store.Micros(s.Now())}
		if _, err := tx.ExecContext(ctx, `INSERT INTO fence (company_id, epoch, state, version, gone_region, gone_epoch) VALUES ($1, 1, 'owned', 0, '', 0)`, id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO companies (company_id, name, onboarded, idempotency_key, created, updated) VALUES ($1, $2, $3, $4, $5, $5)`,
			id, in.Name, onboarded, in.IdempotencyKey, w.now)
		if err != nil {
			return err
		}
		b.Version, err = w.log(ctx, directory.ChangeCompany, id, companyRow{b.ID, in.Name, true, stamp(w.now), stamp(w.now)})
		return err
	})
	if err == nil {
		s.wakePump()
	}
	return b, err
}
