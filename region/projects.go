package region

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"mpr/company"
	"mpr/problem"
)

// projectRow is a project.
type projectRow struct {
	ID            int64      `json:"id"`
	CompanyID     company.ID `json:"company_id"`
	Name          string     `json:"name"`
	DisplayName   string     `json:"display_name"`
	ProjectNumber string     `json:"project_number"`
	Active        bool       `json:"active"`
	CreatedAt     string     `json:"created_at"`
	UpdatedAt     string     `json:"updated_at"`
}

const projectColumns = `project_id, company_id, name, project_number, active, created, updated`

func scanProject(row scanner) (*projectRow, error) {
	var p projectRow
	var created, updated int64
	err := row.Scan(&p.ID, &p.CompanyID, &p.Name, &p.ProjectNumber, &p.Active, &created, &updated)
	p.DisplayName, p.CreatedAt, p.UpdatedAt = p.Name, stamp(created), stamp(updated)
	return &p, err
}

// visible is the condition for the projects that a caller may see: $1 is the company, $2
// the app whose permitted projects they are, 0 for all.
const visible = `company_id = $1 AND (CAST($2 AS BIGINT) = 0 OR EXISTS
	(SELECT 1 FROM permitted_projects p WHERE p.company_id = $1 AND p.app_id = $2 AND p.project_id = projects.project_id))`

func (s *Service) listProjects(ctx context.Context, c *call) (int, any, error) {
	q := selection{columns: projectColumns, table: projects, where: visible, id: `project_id`, args: []any{int64(c.company), c.limitedTo}}
	if name := c.query.Get("filters[name]"); name != "" {
		if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return 0, nil, problem.New(problem.BadRequest, "The parameter filters[name] must be text in UTF-8.") // PostgreSQL can't even compare it
		}
		// Lower case is the engine's on both sides: SQLite's knows ASCII only.
		q.where += ` AND LOWER(name) = LOWER($3)`
		q.args = append(q.args, name)
	}
	rows, err := list(ctx, s, c, q, scanProject)
	return http.StatusOK, rows, err
}

// readProject answers a project that the caller may see, and otherwise that there is
// none.
func readProject(ctx context.Context, q querier, c *call, id int64) (*projectRow, error) {
	return found(scanProject(q.QueryRowContext(ctx, `SELECT `+projectColumns+` FROM projects WHERE `+visible+` AND project_id = $3`,
		int64(c.company), c.limitedTo, id)))
}

// pathProject reads the project that the path names.
func pathProject(ctx context.Context, q querier, c *call) (*projectRow, error) {
	id, err := pathID(c, "project_id")
	if err != nil {
		return nil, err
	}
	return readProject(ctx, q, c, id)
}

func (s *Service) showProject(ctx context.Context, c *call) (int, any, error) {
	p, err := pathProject(ctx, s.DB.Read(), c)
	return http.StatusOK, p, err
}

func (s *Service) createProject(ctx context.Context, c *call) (int, any, error) {
	return s.create(ctx, c, "project", s.saveProject)
}

func (s *Service) updateProject(ctx context.Context, c *call) (int, any, error) {
	return s.update(ctx, c, "project", "project_id", s.saveProject)
}

func (s *Service) syncProjects(ctx context.Context, c *call) (int, any, error) {
	return s.sync(ctx, c, s.saveProject)
}

func (s *Service) saveProject(ctx context.Context, w *writer, c *call, in object, id int64) (any, error) {
	if id == 0 && c.limitedTo != 0 {
		return nil, problem.New(problem.Forbidden, "This service account is limited to certain projects and can't make new ones.")
	}
	p := &projectRow{CompanyID: c.company, Active: true, CreatedAt: stamp(w.now)}
	if id != 0 {
		var err error
		if p, err = readProject(ctx, w, c, id); err != nil {
			return nil, err
		}
	}
	f := in.fields()
	f.name("name", &p.Name)
	f.text("project_number", &p.ProjectNumber, maxName)
	f.flag("active", &p.Active)
	if err := f.problem(); err != nil {
		return nil, err
	}
	p.DisplayName, p.UpdatedAt = p.Name, stamp(w.now)
	if id == 0 {
		var err error
		if p.ID, err = s.nextID(ctx, w.Tx); err != nil {
			return nil, err
		}
	}
	_, err := w.ExecContext(ctx, `INSERT INTO projects (company_id, project_id, name, project_number, active, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $6)
		ON CONFLICT (company_id, project_id) DO UPDATE SET name = excluded.name, project_number = excluded.project_number, active = excluded.active, updated = excluded.updated`,
		int64(c.company), p.ID, p.Name, p.ProjectNumber, number(p.Active), w.now)
	if err != nil {
		return nil, fmt.Errorf("save a project: %w", err)
	}
	return p, w.changed(ctx, projects, p.ID)
}

func (s *Service) deleteProject(ctx context.Context, c *call) (int, any, error) {
	return s.remove(ctx, c, removeProject)
}

// removeProject deletes a project with all that is in it.
func removeProject(ctx context.Context, w *writer, c *call) (any, error) {
	p, err := pathProject(ctx, w, c)
	if err != nil {
		return nil, err
	}
	for _, t := range []*table{rfis, projectUsers, permittedProjects, projects} {
		if err := w.remove(ctx, t, `project_id = $2`, p.ID); err != nil {
			return nil, err
		}
	}
	return p, nil
}
