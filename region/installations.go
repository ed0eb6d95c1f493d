package region

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"mpr/company"
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
}

const installationColumns = `app_id, name, client_id, kind, permits_all, created, updated`

// appKinds are the kinds of apps. Only a developer-managed one can be limited to projects.
var appKinds = []string{"web", "installed", "traditional", kindDeveloperManaged}

const kindDeveloperManaged = "developer_managed"

// maxPermitted bounds how long a change of permitted projects holds up the region's other
// writes.
const maxPermitted = 5000

func scanInstallation(row scanner) (*installationRow, error) {
	var i installationRow
	var permitsAll bool
	var created, updated int64
	err := row.Scan(&i.ID, &i.Name, &i.ClientID, &i.Kind, &permitsAll, &created, &updated)
	i.CreatedAt, i.UpdatedAt = stamp(created), stamp(updated)
	if !permitsAll {
		i.PermittedProjects = &[]int64{}
	}
	return &i, err
}

func (s *Service) listInstallations(ctx context.Context, c *call) (int, any, error) {
	rows, err := list(ctx, s, c, selection{
		columns: installationColumns, table: installations, where: `company_id = $1`, id: `app_id`, args: []any{int64(c.company)},
	}, scanInstallation)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, rows, readPermitted(ctx, s.DB.Read(), c.company, rows...)
}

// readPermitted fills in the permitted projects of those that are limited.
func readPermitted(ctx context.Context, q querier, id company.ID, all ...*installationRow) (err error) {
	limited := map[int64]*[]int64{}
	for _, i := range all {
		if i.PermittedProjects != nil {
			limited[i.ID] = i.PermittedProjects
		}
	}
	if len(limited) == 0 {
		return nil
	}
	rows, err := q.QueryContext(ctx, `SELECT app_id, project_id FROM permitted_projects WHERE company_id = $1 ORDER BY project_id`, int64(id))
	if err != nil {
		return fmt.Errorf("read permitted projects: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var app, project int64
		if err := rows.Scan(&app, &project); err != nil {
			return fmt.Errorf("read permitted projects: %w", err)
		}
		if to := limited[app]; to != nil {
			*to = append(*to, project)
		}
	}
	return rows.Err()
}

func readInstallation(ctx context.Context, q querier, id company.ID, appID int64) (*installationRow, error) {
	i, err := found(scanInstallation(q.QueryRowContext(ctx, `SELECT `+installationColumns+` FROM installations WHERE company_id = $1 AND app_id = $2`, int64(id), appID)))
	if err != nil {
		return nil, err
	}
	return i, readPermitted(ctx, q, id, i)
}

// pathInstallation reads the installation that the path names.
func pathInstallation(ctx context.Context, q querier, c *call) (*installationRow, error) {
	id, err := pathID(c, "app_id")
	if err != nil {
		return nil, err
	}
	return readInstallation(ctx, q, c.company, id)
}

func (s *Service) showInstallation(ctx context.Context, c *call) (int, any, error) {
	i, err := pathInstallation(ctx, s.DB.Read(), c)
	return http.StatusOK, i, err
}

// onlyPeople keeps installations for the company's people: a service account could
// otherwise widen its own limits, or disconnect others.
func onlyPeople(c *call) error {
	if c.claims.Kind.ServiceAccount() {
		return problem.New(problem.Forbidden, "Only a user of the company can change its app installations.")
	}
	return nil
}

func (s *Service) updateInstallation(ctx context.Context, c *call) (int, any, error) {
	return s.update(ctx, c, "app_installation", "app_id", saveInstallation)
}

// saveInstallation changes which projects a developer-managed service account may see.
func saveInstallation(ctx context.Context, w *writer, c *call, in object, id int64) (any, error) {
	if err := onlyPeople(c); err != nil {
		return nil, err
	}
	i, err := readInstallation(ctx, w, c.company, id)
	if err != nil {
		return nil, err
	}
	f := in.fields()
	if f.has("permitted_projects") {
		i.PermittedProjects = f.ids("permitted_projects")
	}
	return i, w.saveInstallation(ctx, f, i)
}

// saveInstallation checks what was read, and writes an installation, new or not, with its
// permitted projects.
func (w *writer) saveInstallation(ctx context.Context, f *fields, i *installationRow) error {
	if err := w.checkPermitted(ctx, f, i); err != nil {
		return err
	}
	if err := f.problem(); err != nil {
		return err
	}
	i.UpdatedAt = stamp(w.now)
	if i.CreatedAt == "" {
		i.CreatedAt = i.UpdatedAt
	}
	_, err := w.ExecContext(ctx, `INSERT INTO installations (company_id, app_id, client_id, name, kind, permits_all, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
		ON CONFLICT (company_id, app_id) DO UPDATE SET client_id = excluded.client_id, name = excluded.name, kind = excluded.kind, permits_all = excluded.permits_all, updated = excluded.updated`,
		int64(w.company), i.ID, i.ClientID, i.Name, i.Kind, number(i.PermittedProjects == nil), w.now)
	if err != nil {
		return fmt.Errorf("save an installation: %w", err)
	}
	if err := w.savePermitted(ctx, i); err != nil {
		return err
	}
	return w.changed(ctx, installations, i.ID)
}

// checkPermitted wants limits for those only that can have them, and projects of the
// company.
func (w *writer) checkPermitted(ctx context.Context, f *fields, i *installationRow) error {
	if i.PermittedProjects == nil {
		return nil
	}
	if i.Kind != kindDeveloperManaged {
		f.fail("permitted_projects", "must be null: only developer-managed service accounts are limited to projects")
		return nil
	}
	if len(*i.PermittedProjects) > maxPermitted {
		f.fail("permitted_projects", fmt.Sprintf("must have at most %d projects; null permits all", maxPermitted))
		return nil
	}
	for _, id := range *i.PermittedProjects {
		var here bool
		err := w.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM projects WHERE company_id = $1 AND project_id = $2)`, int64(w.company), id).Scan(&here)
		if err != nil {
			return fmt.Errorf("look for a project: %w", err)
		}
		if !here {
			f.fail("permitted_projects", fmt.Sprintf("%d is not a project of this company", id))
		}
	}
	return nil
}

// savePermitted makes the permitted projects those of the installation.
func (w *writer) savePermitted(ctx context.Context, i *installationRow) error {
	before := installationRow{ID: i.ID, PermittedProjects: &[]int64{}}
	if err := readPermitted(ctx, w, w.company, &before); err != nil {
		return err
	}
	var after []int64
	if i.PermittedProjects != nil {
		after = *i.PermittedProjects
	}
	for _, id := range *before.PermittedProjects {
		if slices.Contains(after, id) {
			continue
		}
		if err := w.remove(ctx, permittedProjects, `app_id = $2 AND project_id = $3`, i.ID, id); err != nil {
			return err
		}
	}
	for _, id := range after {
		if slices.Contains(*before.PermittedProjects, id) {
			continue
		}
		_, err := w.ExecContext(ctx, `INSERT INTO permitted_projects (company_id, app_id, project_id) VALUES ($1, $2, $3)`, int64(w.company), i.ID, id)
		if err != nil {
			return fmt.Errorf("permit a project: %w", err)
		}
		if err := w.changed(ctx, permittedProjects, i.ID, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) deleteInstallation(ctx context.Context, c *call) (int, any, error) {
	return s.remove(ctx, c, func(ctx context.Context, w *writer, c *call) (any, error) {
		if err := onlyPeople(c); err != nil {
			return nil, err
		}
		i, err := pathInstallation(ctx, w, c)
		if err != nil {
			return nil, err
		}
		return i, w.removeInstallation(ctx, i.ID)
	})
}

// removeInstallation disconnects an app, if it is connected.
func (w *writer) removeInstallation(ctx context.Context, id int64) error {
	if err := w.remove(ctx, permittedProjects, `app_id = $2`, id); err != nil {
		return err
	}
	return w.remove(ctx, installations, `app_id = $2`, id)
}
