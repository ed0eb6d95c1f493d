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

const rfiColumns = `id, project_id, number, subject, question, status, created, updated`

func scanRFI(scan func(...any) error) (*rfiRow, error) {
	var r rfiRow
	var created, updated int64
	if err := scan(&r.ID, &r.ProjectID, &r.Number, &r.Subject, &r.Question, &r.Status, &created, &updated); err != nil {
		return nil, err
	}
	r.CreatedAt, r.UpdatedAt = stamp(created), stamp(updated)
	return &r, nil
}

func (s *Service) listRFIs(ctx context.Context, c *call) (int, any, error) {
	p, err := s.pathProject(ctx, s.DB.Read(), c)
	if err != nil {
		return 0, nil, err
	}
	return list(ctx, s, c, selection{
		columns: rfiColumns, from: `rfis`, where: `company_id = $1 AND project_id = $2`, order: `id`, args: []any{int64(c.company), p.ID},
	}, scanRFI)
}

func readRFI(ctx context.Context, q querier, c *call, projectID, id int64) (*rfiRow, error) {
	r, err := scanRFI(q.QueryRowContext(ctx, `SELECT `+rfiColumns+` FROM rfis WHERE company_id = $1 AND project_id = $2 AND id = $3`,
		int64(c.company), projectID, id).Scan)
	if isNoRows(err) {
		return nil, errNothingHere
	}
	if err != nil {
		return nil, fmt.Errorf("read RFI: %w", err)
	}
	return r, nil
}

// pathRFI reads the RFI that the path names.
func (s *Service) pathRFI(ctx context.Context, q querier, c *call) (*rfiRow, error) {
	p, err := s.pathProject(ctx, q, c)
	if err != nil {
		return nil, err
	}
	id, err := pathID(c, "rfi_id")
	if err != nil {
		return nil, err
	}
	return readRFI(ctx, q, c, p.ID, id)
}

func (s *Service) showRFI(ctx context.Context, c *call) (int, any, error) {
	r, err := s.pathRFI(ctx, s.DB.Read(), c)
	return http.StatusOK, r, err
}

func (s *Service) createRFI(ctx context.Context, c *call) (int, any, error) {
	in, err := c.body.member("rfi")
	if err != nil {
		return 0, nil, err
	}
	r, err := s.saveRFI(ctx, c, in, 0)
	return http.StatusCreated, r, err
}

func (s *Service) updateRFI(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "rfi_id")
	if err != nil {
		return 0, nil, err
	}
	in, err := c.body.member("rfi")
	if err != nil {
		return 0, nil, err
	}
	r, err := s.saveRFI(ctx, c, in, id)
	return http.StatusOK, r, err
}

func (s *Service) syncRFIs(ctx context.Context, c *call) (int, any, error) {
	return s.sync(ctx, c, func(in object, id int64) (any, error) { return s.saveRFI(ctx, c, in, id) })
}

// saveRFI makes an RFI in the project of the path, or changes the one with this id.
func (s *Service) saveRFI(ctx context.Context, c *call, in object, id int64) (r *rfiRow, err error) {
	err = s.write(ctx, c.company, c.epoch, func(w *writer) error {
		p, err := s.pathProject(ctx, w, c)
		if err != nil {
			return err
		}
		r = &rfiRow{ProjectID: p.ID, Status: "open", CreatedAt: stamp(w.now)}
		if id != 0 {
			if r, err = readRFI(ctx, w, c, p.ID, id); err != nil {
				return err
			}
		}
		f := in.fields()
		f.text("subject", &r.Subject, maxName)
		f.present("subject", r.Subject)
		f.text("question", &r.Question, maxText)
		f.text("status", &r.Status, maxName)
		if r.Status != "open" && r.Status != "closed" {
			f.fail("status", "must be open or closed")
		}
		if err := f.problem(); err != nil {
			return err
		}
		r.UpdatedAt = stamp(w.now)
		if id == 0 {
			err = s.insertRFI(ctx, w, r)
		} else {
			_, err = w.ExecContext(ctx, `UPDATE rfis SET subject = $2, question = $3, status = $4, updated = $5 WHERE id = $1`, r.ID, r.Subject, r.Question, r.Status, w.now)
		}
		if err != nil {
			return err
		}
		_, err = w.log(ctx, changeRFI, r.ID, r)
		return err
	})
	return r, err
}

// insertRFI gives an RFI its id, and the next number of its project. The fence's row is
// locked, so no other write of the company takes the same number.
func (s *Service) insertRFI(ctx context.Context, w *writer, r *rfiRow) (err error) {
	if r.ID, err = s.nextID(ctx, w.Tx); err != nil {
		return err
	}
	if err := w.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) + 1 FROM rfis WHERE project_id = $1`, r.ProjectID).Scan(&r.Number); err != nil {
		return err
	}
	_, err = w.ExecContext(ctx, `INSERT INTO rfis (id, company_id, project_id, number, subject, question, status, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)`,
		r.ID, int64(w.company), r.ProjectID, r.Number, r.Subject, r.Question, r.Status, w.now)
	return err
}

func (s *Service) deleteRFI(ctx context.Context, c *call) (int, any, error) {
	var r *rfiRow
	err := s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		if r, err = s.pathRFI(ctx, w, c); err != nil {
			return err
		}
		if _, err := w.ExecContext(ctx, `DELETE FROM rfis WHERE id = $1`, r.ID); err != nil {
			return err
		}
		_, err = w.log(ctx, changeRFI, r.ID, nil)
		return err
	})
	return http.StatusOK, r, err
}
