package region

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"mpr/company"
	"mpr/problem"
)

// internalSetSandbox says whether the monthly sandbox gets a copy of the company.
func (s *Service) internalSetSandbox(ctx context.Context, c *call) (int, any, error) {
	enabled := false
	f := c.body.fields()
	f.flag("enabled", &enabled)
	if err := f.problem(); err != nil {
		return 0, nil, err
	}
	err := s.write(ctx, c.company, c.epoch, func(w *writer) error {
		_, err := w.ExecContext(ctx, `UPDATE companies SET monthly_sandbox = $2, updated = $3 WHERE company_id = $1`, int64(c.company), number(enabled), w.now)
		if err != nil {
			return fmt.Errorf("change a company: %w", err)
		}
		return w.changed(ctx, companies)
	})
	return http.StatusOK, map[string]bool{"monthly_sandbox": enabled}, err
}

// sandboxed is a company whose administrator wants a copy of it in the monthly sandbox.
type sandboxed struct {
	ID   company.ID `json:"id"`
	Name string     `json:"name"`
}

// sandboxedAtOnce is how many companies an answer lists.
const sandboxedAtOnce = 500

// internalSandboxed lists the companies that live here and want a copy in the monthly
// sandbox, by id, from the one after ?after= on.
func (s *Service) internalSandboxed(ctx context.Context, c *call) (_ int, _ any, err error) {
	after := company.ID(0)
	if text := c.r.URL.Query().Get("after"); text != "" {
		if after, err = company.ParseID(text); err != nil {
			return 0, nil, problem.New(problem.BadRequest, "The parameter after must be a company's id.").Because(err)
		}
	}
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT c.company_id, c.name FROM companies c JOIN fence f ON f.company_id = c.company_id AND f.state = 'owned'
		WHERE c.monthly_sandbox = 1 AND c.company_id > $1 ORDER BY c.company_id LIMIT $2`, int64(after), sandboxedAtOnce)
	if err != nil {
		return 0, nil, fmt.Errorf("list companies: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	list := []sandboxed{}
	for rows.Next() {
		var one sandboxed
		if err := rows.Scan(&one.ID, &one.Name); err != nil {
			return 0, nil, fmt.Errorf("list companies: %w", err)
		}
		list = append(list, one)
	}
	return http.StatusOK, map[string]any{"companies": list}, rows.Err()
}

// internalRows counts the rows that a snapshot of the company would have.
func (s *Service) internalRows(ctx context.Context, c *call) (int, any, error) {
	if _, err := readCompany(ctx, s.DB.Read(), c.company); err != nil {
		return 0, nil, err
	}
	counts, err := countRows(ctx, s.DB.Read(), c.company)
	return http.StatusOK, map[string]any{"rows": counts}, err
}

// lastID is the last id that the region has given out.
type lastID struct {
	Last int64 `json:"last"`
}

func (s *Service) internalIDs(ctx context.Context, _ *call) (int, any, error) {
	var ids lastID
	err := s.DB.Read().QueryRowContext(ctx, `SELECT last FROM ids`).Scan(&ids.Last)
	return http.StatusOK, ids, err
}

// internalRaiseIDs has the region give out ids above a number, where it doesn't already: it
// is about to get companies with ids of its block that another copy of it has made.
func (s *Service) internalRaiseIDs(ctx context.Context, c *call) (int, any, error) {
	var last int64
	f := c.body.fields()
	f.id("last", &last)
	if len(f.wrong) == 0 && (last < company.FirstID(s.Number) || last >= company.FirstID(s.Number+1)) {
		f.fail("last", "must be an id of the region's block")
	}
	if err := f.problem(); err != nil {
		return 0, nil, err
	}
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE ids SET last = $1 WHERE last < $1`, last)
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("raise the ids: %w", err)
	}
	return s.internalIDs(ctx, c)
}
