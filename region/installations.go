package region

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
)

// installationRow is an app that is connected to a company.
type installationRow struct {
	ID       int64  `json:"id"` // the app's
	Name     string `json:"name"`
	ClientID string `json:"client_id"`
	Kind     string `json:"kind"`
	// PermittedProjects limits a developer-managed service account; null: all projects.
	PermittedProjects *[]int64 `json:"permitted_projects"`
	CreatedAt         string   `json:"created_at"`
	UpdatedAt         string   `json:"updated_at"`

	permitsAll bool
}

const installationColumns = `app_id, name, client_id, kind, permits_all, created, updated`

// kindDeveloperManaged is the kind of app that can be limited to projects.
const kindDeveloperManaged = "developer_managed"

func scanInstallation(scan func(...any) error) (*installationRow, error) {
	var i installationRow
	var created, updated int64
	if err := scan(&i.ID, &i.Name, &i.ClientID, &i.Kind, &i.permitsAll, &created, &updated); err != nil {
		return nil, err
	}
	i.CreatedAt, i.UpdatedAt = stamp(created), stamp(updated)
	return &i, nil
}

func (s *Service) listInstallations(ctx context.Context, c *call) (int, any, error) {
	return list(ctx, s, c, selection{
		columns: installationColumns, from: `installations`, where: `company_id = $1`, order: `app_id`, args: []any{int64(c.company)},
	}, func(scan func(...any) error) (*installationRow, error) {
		i, err := scanInstallation(scan)
		if err == nil {
			err = s.readPermitted(ctx, s.DB.Read(), c.company, i)
		}
		return i, err
	})
}

// readPermitted fills in the permitted projects.
func (s *Service) readPermitted(ctx context.Context, q rowsQuerier, id company.ID, i *installationRow) error {
	if i.permitsAll {
		return nil
	}
	ids, err := ids(ctx, q, `SELECT project_id FROM permitted_projects WHERE company_id = $1 AND app_id = $2 ORDER BY project_id`, int64(id), i.ID)
	i.PermittedProjects = &ids
	return err
}

func (s *Service) readInstallation(ctx context.Context, q rowsQuerier, id company.ID, appID int64) (*installationRow, error) {
	i, err := scanInstallation(q.QueryRowContext(ctx, `SELECT `+installationColumns+` FROM installations WHERE company_id = $1 AND app_id = $2`, int64(id), appID).Scan)
	if isNoRows(err) {
		return nil, errNothingHere
	}
	if err != nil {
		return nil, fmt.Errorf("read installation: %w", err)
	}
	return i, s.readPermitted(ctx, q, id, i)
}

func (s *Service) showInstallation(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "app_id")
	if err != nil {
		return 0, nil, err
	}
	i, err := s.readInstallation(ctx, s.DB.Read(), c.company, id)
	return http.StatusOK, i, err
}

// updateInstallation changes which projects a developer-managed service account may see.
// That is for the company's people: an account can't widen its own limits.
func (s *Service) updateInstallation(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "app_id")
	if err != nil {
		return 0, nil, err
	}
	if c.claims.Kind.ServiceAccount() {
		return 0, nil, problem.New(problem.Forbidden, "Only a person can change what an app may see.")
	}
	in, err := c.body.member("app_installation")
	if err != nil {
		return 0, nil, err
	}
	f := in.fields()
	permitted, err := f.permittedProjects()
	if err != nil {
		return 0, nil, err
	}
	var i *installationRow
	err = s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		if i, err = s.readInstallation(ctx, w, c.company, id); err != nil {
			return err
		}
		if i.Kind != kindDeveloperManaged {
			return problem.New(problem.Invalid, "Only developer-managed service accounts are limited to projects.")
		}
		i.PermittedProjects = permitted
		return w.saveInstallation(ctx, i, false)
	})
	return http.StatusOK, i, err
}

// permittedProjects reads the list of projects; null is all of them.
func (f *fields) permittedProjects() (*[]int64, error) {
	var list *[]int64
	if !f.has("permitted_projects") {
		f.fail("permitted_projects", "must be sent: a list of project ids, or null for all")
	} else if err := json.Unmarshal(f.object["permitted_projects"], &list); err != nil {
		f.fail("permitted_projects", "must be a list of project ids, or null for all")
	}
	return list, f.problem()
}

// saveInstallation writes an installation, new or not, with its permitted projects.
func (w *writer) saveInstallation(ctx context.Context, i *installationRow, isNew bool) error {
	i.permitsAll = i.PermittedProjects == nil
	i.UpdatedAt = stamp(w.now)
	statement := `UPDATE installations SET client_id = $3, name = $4, kind = $5, permits_all = $6, updated = $7 WHERE company_id = $1 AND app_id = $2`
	if isNew {
		i.CreatedAt = i.UpdatedAt
		statement = `INSERT INTO installations (company_id, app_id, client_id, name, kind, permits_all, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)`
	}
	if _, err := w.ExecContext(ctx, statement, int64(w.company), i.ID, i.ClientID, i.Name, i.Kind, number(i.permitsAll), w.now); err != nil {
		return err
	}
	if _, err := w.ExecContext(ctx, `DELETE FROM permitted_projects WHERE company_id = $1 AND app_id = $2`, int64(w.company), i.ID); err != nil {
		return err
	}
	if i.PermittedProjects != nil {
		for _, projectID := range *i.PermittedProjects {
			// Only a project of this company, and each once.
			_, err := w.ExecContext(ctx, `INSERT INTO permitted_projects (company_id, app_id, project_id)
				SELECT company_id, $2, id FROM projects WHERE company_id = $1 AND id = $3 ON CONFLICT DO NOTHING`, int64(w.company), i.ID, projectID)
			if err != nil {
				return err
			}
		}
		var err error
		if *i.PermittedProjects, err = w.ids(ctx, `SELECT project_id FROM permitted_projects WHERE company_id = $1 AND app_id = $2 ORDER BY project_id`, int64(w.company), i.ID); err != nil {
			return err
		}
	}
	_, err := w.log(ctx, directory.ChangeInstallation, i.ID, i)
	return err
}

func (s *Service) deleteInstallation(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "app_id")
	if err != nil {
		return 0, nil, err
	}
	var i *installationRow
	err = s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		i, err = s.removeInstallation(ctx, w, id)
		return err
	})
	return http.StatusOK, i, err
}

func (s *Service) removeInstallation(ctx context.Context, w *writer, id int64) (*installationRow, error) {
	i, err := s.readInstallation(ctx, w, w.company, id)
	if err != nil {
		return nil, err
	}
	for _, table := range []string{"permitted_projects", "installations"} {
		if _, err := w.ExecContext(ctx, `DELETE FROM `+table+` WHERE company_id = $1 AND app_id = $2`, int64(w.company), id); err != nil {
			return nil, err
		}
	}
	_, err = w.log(ctx, directory.ChangeInstallation, id, nil)
	return i, err
}

// ids reads a column of ids.
func (w *writer) ids(ctx context.Context, query string, args ...any) ([]int64, error) {
	return ids(ctx, w, query, args...)
}

func ids(ctx context.Context, q rowsQuerier, query string, args ...any) (found []int64, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found = []int64{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		found = append(found, id)
	}
	return found, rows.Err()
}
