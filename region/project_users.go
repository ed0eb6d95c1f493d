package region

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
)

// The users of a project are users of the company who were added to it.

func (s *Service) listProjectUsers(ctx context.Context, c *call) (int, any, error) {
	p, err := pathProject(ctx, s.DB.Read(), c)
	if err != nil {
		return 0, nil, err
	}
	rows, err := list(ctx, s, c, selection{
		columns: userColumns, table: memberships, id: `user_id`, args: []any{int64(c.company), p.ID},
		where: `company_id = $1 AND user_id IN (SELECT user_id FROM project_users WHERE company_id = $1 AND project_id = $2)`,
	}, scanUser)
	return http.StatusOK, rows, err
}

// projectUser is a project and a user of its company; in says whether the user was added
// to the project.
type projectUser struct {
	project *projectRow
	user    *userRow
	in      bool
}

// pathProjectUser reads the project and the user that the path names.
func pathProjectUser(ctx context.Context, q querier, c *call) (u projectUser, err error) {
	if u.project, err = pathProject(ctx, q, c); err != nil {
		return u, err
	}
	if u.user, err = pathUser(ctx, q, c); err != nil {
		return u, err
	}
	var one int
	err = q.QueryRowContext(ctx, `SELECT 1 FROM project_users WHERE company_id = $1 AND project_id = $2 AND user_id = $3`,
		int64(c.company), u.project.ID, u.user.ID).Scan(&one)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return u, fmt.Errorf("read a project's user: %w", err)
	}
	u.in = err == nil
	return u, nil
}

func (s *Service) showProjectUser(ctx context.Context, c *call) (int, any, error) {
	u, err := pathProjectUser(ctx, s.DB.Read(), c)
	if err == nil && !u.in {
		err = errNothingHere
	}
	return http.StatusOK, u.user, err
}

// addProjectUser adds a user of the company to the project; repeating it changes nothing.
func (s *Service) addProjectUser(ctx context.Context, c *call) (int, any, error) {
	var u projectUser
	err := s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		if u, err = pathProjectUser(ctx, w, c); err != nil || u.in {
			return err
		}
		_, err = w.ExecContext(ctx, `INSERT INTO project_users (company_id, project_id, user_id, created) VALUES ($1, $2, $3, $4)`,
			int64(c.company), u.project.ID, u.user.ID, w.now)
		if err != nil {
			return fmt.Errorf("add a user to a project: %w", err)
		}
		return w.changed(ctx, projectUsers, u.project.ID, u.user.ID)
	})
	return http.StatusOK, u.user, err
}

func (s *Service) deleteProjectUser(ctx context.Context, c *call) (int, any, error) {
	return s.remove(ctx, c, removeProjectUser)
}

// removeProjectUser takes a user of the company out of the project; repeating it changes
// nothing.
func removeProjectUser(ctx context.Context, w *writer, c *call) (any, error) {
	u, err := pathProjectUser(ctx, w, c)
	if err != nil {
		return nil, err
	}
	return u.user, w.remove(ctx, projectUsers, `project_id = $2 AND user_id = $3`, u.project.ID, u.user.ID)
}
