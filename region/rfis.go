package region

import (
	"context"
	"fmt"
	"net/http"
)

// rfiRow is a request for information within a project.
type rfiRow struct {
	ID        int64  `json:"id"`
	ProjectID int64  `json:"project_id"`
	Number    int64  `json:"number"`
	Subject   string `json:"subject"`
	Question  string `json:"question"`
	Status    string `json:"status"`
	CreatedAt string `json:"created_at"`
	UpdatedAt string `json:"updated_at"`
}

const rfiColumns = `rfi_id, project_id, number, subject, question, status, created, updated`

func scanRFI(row scanner) (*rfiRow, error) {
	var r rfiRow
	var created, updated int64
	err := row.Scan(&r.ID, &r.ProjectID, &r.Number, &r.Subject, &r.Question, &r.Status, &created, &updated)
	r.CreatedAt, r.UpdatedAt = stamp(created), stamp(updated)
	return &r, err
}

func (s *Service) listRFIs(ctx context.Context, c *call) (int, any, error) {
	p, err := pathProject(ctx, s.DB.Read(), c)
	if err != nil {
		return 0, nil, err
	}
	rows, err := list(ctx, s, c, selection{
		columns: rfiColumns, table: rfis, where: `company_id = $1 AND project_id = $2`, id: `rfi_id`, args: []any{int64(c.company), p.ID},
	}, scanRFI)
	return http.StatusOK, rows, err
}

func readRFI(ctx context.Context, q querier, c *call, p *projectRow, id int64) (*rfiRow, error) {
	return found(scanRFI(q.QueryRowContext(ctx, `SELECT `+rfiColumns+` FROM rfis WHERE company_id = $1 AND project_id = $2 AND rfi_id = $3`,
		int64(c.company), p.ID, id)))
}

// pathRFI reads the RFI that the path names.
func pathRFI(ctx context.Context, q querier, c *call) (*rfiRow, error) {
	p, err := pathProject(ctx, q, c)
	if err != nil {
		return nil, err
	}
	id, err := pathID(c, "rfi_id")
	if err != nil {
		return nil, err
	}
	return readRFI(ctx, q, c, p, id)
}

func (s *Service) showRFI(ctx context.Context, c *call) (int, any, error) {
	r, err := pathRFI(ctx, s.DB.Read(), c)
	return http.StatusOK, r, err
}

func (s *Service) createRFI(ctx context.Context, c *call) (int, any, error) {
	return s.create(ctx, c, "rfi", s.saveRFI)
}

func (s *Service) updateRFI(ctx context.Context, c *call) (int, any, error) {
	return s.update(ctx, c, "rfi", "rfi_id", s.saveRFI)
}

func (s *Service) syncRFIs(ctx context.Context, c *call) (int, any, error) {
	return s.sync(ctx, c, s.saveRFI)
}

// saveRFI saves an RFI of the project in the path.
func (s *Service) saveRFI(ctx context.Context, w *writer, c *call, in object, id int64) (any, error) {
	p, err := pathProject(ctx, w, c)
	if err != nil {
		return nil, err
	}
	return s.saveRFIOf(ctx, w, c, p, in, id)
}

// saveRFIOf saves an RFI of a project.
func (s *Service) saveRFIOf(ctx context.Context, w *writer, c *call, p *projectRow, in object, id int64) (_ *rfiRow, err error) {
	r := &rfiRow{ProjectID: p.ID, Status: "open", CreatedAt: stamp(w.now)}
	if id != 0 {
		if r, err = readRFI(ctx, w, c, p, id); err != nil {
			return nil, err
		}
	}
	f := in.fields()
	f.name("subject", &r.Subject)
	f.text("question", &r.Question, maxText)
	f.choice("status", &r.Status, "open", "closed")
	if err := f.problem(); err != nil {
		return nil, err
	}
	r.UpdatedAt = stamp(w.now)
	if id == 0 {
		if err := s.numberRFI(ctx, w, r); err != nil {
			return nil, err
		}
	}
	_, err = w.ExecContext(ctx, `INSERT INTO rfis (company_id, project_id, rfi_id, number, subject, question, status, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
		ON CONFLICT (company_id, project_id, rfi_id) DO UPDATE SET subject = excluded.subject, question = excluded.question, status = excluded.status, updated = excluded.updated`,
		int64(c.company), p.ID, r.ID, r.Number, r.Subject, r.Question, r.Status, w.now)
	if err != nil {
		return nil, fmt.Errorf("save an RFI: %w", err)
	}
	return r, w.changed(ctx, rfis, p.ID, r.ID)
}

// numberRFI gives a new RFI its id, and the next number of its project. The fence's row is
// locked, so no other write of the company takes the same number.
func (s *Service) numberRFI(ctx context.Context, w *writer, r *rfiRow) (err error) {
	err = w.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) + 1 FROM rfis WHERE company_id = $1 AND project_id = $2`,
		int64(w.company), r.ProjectID).Scan(&r.Number)
	if err != nil {
		return fmt.Errorf("number an RFI: %w", err)
	}
	r.ID, err = s.nextID(ctx, w.Tx)
	return err
}

func (s *Service) deleteRFI(ctx context.Context, c *call) (int, any, error) {
	return s.remove(ctx, c, removeRFI)
}

func removeRFI(ctx context.Context, w *writer, c *call) (any, error) {
	r, err := pathRFI(ctx, w, c)
	if err != nil {
		return nil, err
	}
	return r, w.remove(ctx, rfis, `project_id = $2 AND rfi_id = $3`, r.ProjectID, r.ID)
}
