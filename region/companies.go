package region

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"mpr/company"
	"mpr/paging"
	"mpr/problem"
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
	c.CreatedAt, c.UpdatedAt = stamp(created), stamp(updated)
	return found(c, err)
}

func (s *Service) showCompany(ctx context.Context, c *call) (int, any, error) {
	row, err := readCompany(ctx, s.DB.Read(), c.company)
	return http.StatusOK, row, err
}

// companyBaseURL tells where the company lives and where its API is: on the host that the
// client called, since no address names a region.
func (s *Service) companyBaseURL(_ context.Context, c *call) (int, any, error) {
	return http.StatusOK, map[string]string{"zone": strings.ToLower(string(s.Code)), "web_base_url": paging.Called(c.r).String()}, nil
}

func (s *Service) updateCompany(ctx context.Context, c *call) (int, any, error) {
	return s.update(ctx, c, "company", "company_id", saveCompany)
}

// saveCompany changes the company of the call, whose id is that in the path.
func saveCompany(ctx context.Context, w *writer, c *call, in object, _ int64) (any, error) {
	row, err := readCompany(ctx, w, c.company)
	if err != nil {
		return nil, err
	}
	f := in.fields()
	f.name("name", &row.Name)
	if err := f.problem(); err != nil {
		return nil, err
	}
	row.UpdatedAt = stamp(w.now)
	if _, err := w.ExecContext(ctx, `UPDATE companies SET name = $2, updated = $3 WHERE company_id = $1`, int64(c.company), row.Name, w.now); err != nil {
		return nil, fmt.Errorf("change a company: %w", err)
	}
	return row, w.changed(ctx, companies)
}

// birth is a company that was made, or that the same key made before.
type birth struct {
	ID      company.ID    `json:"id"`
	Epoch   company.Epoch `json:"epoch"`
	Version int64         `json:"version"`
}

// newCompany is what a company is made of.
type newCompany struct {
	name, onboarded string
	// key makes it safe to repeat: the same key is the same company.
	key string
	// projects are those that it has from the start.
	projects []object
	// closed says that the region takes no new companies: only one that the key has made before
	// is answered.
	closed bool
}

// bear makes a company: owned at epoch 1 from the start. No gateway sends calls for it
// before the directory knows it. The same key answers the same company, whatever has
// become of it since.
func (s *Service) bear(ctx context.Context, n newCompany) (b *birth, isNew bool, err error) {
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		b, isNew = &birth{}, false
		err := born(ctx, tx, n.key, b)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if n.closed {
			return problem.New(problem.RegionDraining, "Region %s is being drained and takes no new companies. Name another region, or open it with `mpr region open %s`.", s.Code, s.Code)
		}
		isNew = true
		return s.insertCompany(ctx, tx, n, b)
	})
	if store.IsDuplicate(err) { // another request with this key was faster
		isNew, err = false, born(ctx, s.DB.Read(), n.key, b)
	}
	if err != nil {
		return nil, false, fmt.Errorf("make a company: %w", err)
	}
	s.wakePump()
	return b, isNew, nil
}

// born reads the company that a key made.
func born(ctx context.Context, q querier, key string, b *birth) error {
	return q.QueryRowContext(ctx, `SELECT f.company_id, f.epoch, f.version FROM creations n JOIN fence f ON f.company_id = n.company_id
		WHERE n.idempotency_key = $1`, key).Scan(&b.ID, &b.Epoch, &b.Version)
}

func (s *Service) insertCompany(ctx context.Context, tx *sql.Tx, n newCompany, b *birth) error {
	id, err := s.nextID(ctx, tx)
	if err != nil {
		return err
	}
	fed, err := readFeed(ctx, tx)
	if err != nil {
		return err
	}
	w := &writer{Tx: tx, company: company.ID(id), now: store.Micros(s.Now())}
	for _, insert := range []struct {
		statement string
		args      []any
	}{
		{`INSERT INTO creations (idempotency_key, company_id) VALUES ($1, $2)`, []any{n.key, id}},
		{`INSERT INTO fence (company_id, epoch, state, version, gone_region, gone_epoch) VALUES ($1, 1, 'owned', $2, '', 0)`, []any{id, fed.floor}},
		{`INSERT INTO companies (company_id, name, onboarded, created, updated) VALUES ($1, $2, $3, $4, $4)`, []any{id, n.name, n.onboarded, w.now}},
	} {
		if _, err := tx.ExecContext(ctx, insert.statement, insert.args...); err != nil {
			return err
		}
	}
	if err := w.changed(ctx, companies); err != nil {
		return err
	}
	*b = birth{ID: w.company, Epoch: 1, Version: w.indexed}
	return s.insertProjects(ctx, w, n.projects)
}

// insertProjects makes the projects that a company has from the start, with their RFIs.
func (s *Service) insertProjects(ctx context.Context, w *writer, list []object) error {
	c := &call{company: w.company, epoch: anyEpoch}
	for _, in := range list {
		saved, err := s.saveProject(ctx, w, c, in, 0)
		if err != nil {
			return err
		}
		p, _ := saved.(*projectRow) // what saveProject saves
		rfis, _ := in.objects("rfis")
		for _, in := range rfis {
			if _, err := s.saveRFIOf(ctx, w, c, p, in, 0); err != nil {
				return err
			}
		}
	}
	return nil
}
