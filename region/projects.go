package region

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"

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

const projectColumns = `id, company_id, name, project_number, active, created, updated`

func scanProject(scan func(...any) error) (*projectRow, error) {
	var p projectRow
	var created, updated int64
	if err := scan(&p.ID, &p.CompanyID, &p.Name, &p.ProjectNumber, &p.Active, &created, &updated); err != nil {
		return nil, err
	}
	p.DisplayName, p.CreatedAt, p.UpdatedAt = p.Name, stamp(created), stamp(updated)
	return &p, nil
}

// visible is the condition for the projects that a caller may see, with the company as $1
// and the app as $2.
func visible(c *call) (where string, args []any) {
	where, args = `company_id = $1 AND $2 = $2`, []any{int64(c.company), c.claims.App}
	if c.limited {
		where = `company_id = $1 AND id IN (SELECT project_id FROM permitted_projects WHERE company_id = $1 AND app_id = $2)`
	}
	return where, args
}

func (s *Service) listProjects(ctx context.Context, c *call) (int, any, error) {
	where, args := visible(c)
	if name := c.r.URL.Query().Get("filters[name]"); name != "" {
		args = append(args, strings.ToLower(name))
		where += fmt.Sprintf(` AND LOWER(name) = $%d`, len(args))
	}
	return list(ctx, s, c, selection{columns: projectColumns, from: `projects`, where: where, order: `id`, args: args}, scanProject)
}

// readProject answers a project that the caller may see, and otherwise that there is
// none: "404, not 403, for a resource that the caller may not see".
func readProject(ctx context.Context, q querier, c *call, id int64) (*projectRow, error) {
	where, args := visible(c)
	p, err := scanProject(q.QueryRowContext(ctx, `SELECT `+projectColumns+` FROM projects WHERE `+where+` AND id = $3`, append(args, id)...).Scan)
	if isNoRows(err) {
		return nil, errNothingHere
	}
	if err != nil {
		return nil, fmt.Errorf("read project: %w", err)
	}
	return p, nil
}

// pathProject reads the project that the path names.
func (s *Service) pathProject(ctx context.Context, q querier, c *call) (*projectRow, error) {
	id, err := pathID(c, "project_id")
	if err != nil {
		return nil, err
	}
	return readProject(ctx, q, c, id)
}

func (s *Service) showProject(ctx context.Context, c *call) (int, any, error) {
	p, err := s.pathProject(ctx, s.DB.Read(), c)
	return http.StatusOK, p, err
}

func (s *Service) createProject(ctx context.Context, c *call) (int, any, error) {
	in, err := c.body.member("project")
	if err != nil {
		return 0, nil, err
	}
	p, err := s.saveProject(ctx, c, in, 0)
	return http.StatusCreated, p, err
}

func (s *Service) updateProject(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "project_id")
	if err != nil {
		return 0, nil, err
	}
	in, err := c.body.member("project")
	if err != nil {
		return 0, nil, err
	}
	p, err := s.saveProject(ctx, c, in, id)
	return http.StatusOK, p, err
}

func (s *Service) syncProjects(ctx context.Context, c *call) (int, any, error) {
	return s.sync(ctx, c, func(in object, id int64) (any, error) { return s.saveProject(ctx, c, in, id) })
}

// saveProject makes a project, or changes the one with this id.
func (s *Service) saveProject(ctx context.Context, c *call, in object, id int64) (p *projectRow, err error) {
	if id == 0 && c.limited {
		return nil, problem.New(problem.Forbidden, "This service account is limited to certain projects and can't make new ones.")
	}
	err = s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		p = &projectRow{CompanyID: c.company, Active: true, CreatedAt: stamp(w.now)}
		if id != 0 {
			if p, err = readProject(ctx, w, c, id); err != nil {
				return err
			}
		}
		f := in.fields()
		f.text("name", &p.Name, maxName)
		f.present("name", p.Name)
		f.text("project_number", &p.ProjectNumber, maxName)
		f.flag("active", &p.Active)
		if err := f.problem(); err != nil {
			return err
		}
		p.DisplayName, p.UpdatedAt = p.Name, stamp(w.now)
		if id == 0 {
			if p.ID, err = s.nextID(ctx, w.Tx); err != nil {
				return err
			}
			_, err = w.ExecContext(ctx, `INSERT INTO projects (id, company_id, name, project_number, active, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $6)`,
				p.ID, int64(c.company), p.Name, p.ProjectNumber, number(p.Active), w.now)
		} else {
			_, err = w.ExecContext(ctx, `UPDATE projects SET name = $2, project_number = $3, active = $4, updated = $5 WHERE id = $1`,
				p.ID, p.Name, p.ProjectNumber, number(p.Active), w.now)
		}
		if err != nil {
			return err
		}
		_, err = w.log(ctx, changeProject, p.ID, p)
		return err
	})
	return p, err
}

// deleteProject deletes a project with all that is in it.
func (s *Service) deleteProject(ctx context.Context, c *call) (int, any, error) {
	var p *projectRow
	err := s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		if p, err = s.pathProject(ctx, w, c); err != nil {
			return err
		}
		// The log says of the project alone that it is gone; what was in it goes with it.
		for _, statement := range []string{
			`DELETE FROM rfis WHERE company_id = $1 AND project_id = $2`,
			`DELETE FROM project_users WHERE company_id = $1 AND project_id = $2`,
			`DELETE FROM permitted_projects WHERE company_id = $1 AND project_id = $2`,
			`DELETE FROM projects WHERE company_id = $1 AND id = $2`,
		} {
			if _, err := w.ExecContext(ctx, statement, int64(c.company), p.ID); err != nil {
				return err
			}
		}
		_, err = w.log(ctx, changeProject, p.ID, nil)
		return err
	})
	return http.StatusOK, p, err
}

func (s *Service) listProjectUsers(ctx context.Context, c *call) (int, any, error) {
	p, err := s.pathProject(ctx, s.DB.Read(), c)
	if err != nil {
		return 0, nil, err
	}
	return list(ctx, s, c, selection{
		columns: userColumns, from: `memberships`, order: `user_id`,
		where: `company_id = $1 AND user_id IN (SELECT user_id FROM project_users WHERE company_id = $1 AND project_id = $2)`,
		args:  []any{int64(c.company), p.ID},
	}, scanUser)
}

// pathProjectUser reads the user of the company whom the path names, and says whether the
// user is in the project.
func (s *Service) pathProjectUser(ctx context.Context, q querier, c *call) (p *projectRow, u *userRow, in bool, err error) {
	if p, err = s.pathProject(ctx, q, c); err != nil {
		return nil, nil, false, err
	}
	id, err := pathID(c, "user_id")
	if err != nil {
		return nil, nil, false, err
	}
	if u, err = readUser(ctx, q, c.company, id); err != nil {
		return nil, nil, false, err
	}
	var one int
	err = q.QueryRowContext(ctx, `SELECT 1 FROM project_users WHERE project_id = $1 AND user_id = $2`, p.ID, id).Scan(&one)
	if err != nil && !isNoRows(err) {
		return nil, nil, false, fmt.Errorf("read project user: %w", err)
	}
	return p, u, err == nil, nil
}

func (s *Service) showProjectUser(ctx context.Context, c *call) (int, any, error) {
	_, u, in, err := s.pathProjectUser(ctx, s.DB.Read(), c)
	if err == nil && !in {
		err = errNothingHere
	}
	return http.StatusOK, u, err
}

// projectUser is what the change log says of a user who joined a project.
type projectUser struct {
	ProjectID int64 `json:"project_id"`
	UserID    int64 `json:"user_id"`
	Removed   bool  `json:"removed,omitempty"`
}

// addProjectUser adds a user of the company to the project; repeating it changes nothing.
func (s *Service) addProjectUser(ctx context.Context, c *call) (int, any, error) {
	var user *userRow
	err := s.write(ctx, c.company, c.epoch, func(w *writer) error {
		p, u, in, err := s.pathProjectUser(ctx, w, c)
		if user = u; err != nil || in {
			return err
		}
		_, err = w.ExecContext(ctx, `INSERT INTO project_users (company_id, project_id, user_id, created) VALUES ($1, $2, $3, $4)`,
			int64(c.company), p.ID, u.ID, w.now)
		if err != nil {
			return err
		}
		_, err = w.log(ctx, changeProjectUser, p.ID, projectUser{ProjectID: p.ID, UserID: u.ID})
		return err
	})
	return http.StatusOK, user, err
}

// removeProjectUser takes a user out of the project; repeating it changes nothing.
func (s *Service) removeProjectUser(ctx context.Context, c *call) (int, any, error) {
	var user *userRow
	err := s.write(ctx, c.company, c.epoch, func(w *writer) error {
		p, u, in, err := s.pathProjectUser(ctx, w, c)
		if user = u; err != nil || !in {
			return err
		}
		return w.removeProjectUser(ctx, p.ID, u.ID)
	})
	return http.StatusOK, user, err
}

// removeProjectUser deletes the row and logs it. The log's key is the project, so the row
// says which of its users left.
func (w *writer) removeProjectUser(ctx context.Context, projectID, userID int64) error {
	if _, err := w.ExecContext(ctx, `DELETE FROM project_users WHERE project_id = $1 AND user_id = $2`, projectID, userID); err != nil {
		return err
	}
	_, err := w.log(ctx, changeProjectUser, projectID, projectUser{ProjectID: projectID, UserID: userID, Removed: true})
	return err
}

// rowsQuerier is a database or a transaction that also reads lists.
type rowsQuerier interface {
	querier
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
