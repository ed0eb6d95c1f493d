package region

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
	"mpr/store"
)

// userRow is a user of a company: a membership.
type userRow struct {
	ID           int64  `json:"id"`
	Login        string `json:"login"`
	EmailAddress string `json:"email_address"`
	Name         string `json:"name"`
	FirstName    string `json:"first_name"`
	LastName     string `json:"last_name"`
	JobTitle     string `json:"job_title"`
	IsActive     bool   `json:"is_active"`
	CreatedAt    string `json:"created_at"`
	UpdatedAt    string `json:"updated_at"`

	created int64
}

const userColumns = `user_id, login, name, job_title, is_active, created, updated`

func scanUser(scan func(...any) error) (*userRow, error) {
	var u userRow
	var updated int64
	if err := scan(&u.ID, &u.Login, &u.Name, &u.JobTitle, &u.IsActive, &u.created, &updated); err != nil {
		return nil, err
	}
	u.setTimes(updated)
	u.setName(u.Name)
	return &u, nil
}

func (u *userRow) setTimes(updated int64) {
	u.CreatedAt, u.UpdatedAt = stamp(u.created), stamp(updated)
}

// setName keeps the parts of the name and the whole in step.
func (u *userRow) setName(name string) {
	u.Name, u.EmailAddress = name, u.Login
	u.FirstName, u.LastName = name, ""
	if i := strings.LastIndexByte(name, ' '); i > 0 {
		u.FirstName, u.LastName = name[:i], name[i+1:]
	}
}

func readUser(ctx context.Context, q querier, id company.ID, userID int64) (*userRow, error) {
	u, err := scanUser(q.QueryRowContext(ctx, `SELECT `+userColumns+` FROM memberships WHERE company_id = $1 AND user_id = $2`, int64(id), userID).Scan)
	if isNoRows(err) {
		return nil, errNothingHere
	}
	if err != nil {
		return nil, fmt.Errorf("read user: %w", err)
	}
	return u, nil
}

func (s *Service) listUsers(ctx context.Context, c *call) (int, any, error) {
	return list(ctx, s, c, selection{
		columns: userColumns, from: `memberships`, where: `company_id = $1`, order: `user_id`, args: []any{int64(c.company)},
	}, scanUser)
}

func (s *Service) showUser(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "user_id")
	if err != nil {
		return 0, nil, err
	}
	u, err := readUser(ctx, s.DB.Read(), c.company, id)
	return http.StatusOK, u, err
}

func (s *Service) createUser(ctx context.Context, c *call) (int, any, error) {
	in, err := c.body.member("user")
	if err != nil {
		return 0, nil, err
	}
	u, err := s.saveUser(ctx, c, in, 0)
	return http.StatusCreated, u, err
}

func (s *Service) updateUser(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "user_id")
	if err != nil {
		return 0, nil, err
	}
	in, err := c.body.member("user")
	if err != nil {
		return 0, nil, err
	}
	u, err := s.saveUser(ctx, c, in, id)
	return http.StatusOK, u, err
}

func (s *Service) syncUsers(ctx context.Context, c *call) (int, any, error) {
	return s.sync(ctx, c, func(in object, id int64) (any, error) { return s.saveUser(ctx, c, in, id) })
}

// saveUser makes a member, or changes the one with this id. Who isn't known anywhere yet
// gets an id from the login service, before the transaction.
func (s *Service) saveUser(ctx context.Context, c *call, in object, id int64) (*userRow, error) {
	sent := userRow{IsActive: true}
	if id != 0 {
		known, err := readUser(ctx, s.DB.Read(), c.company, id)
		if err != nil {
			return nil, err
		}
		sent = *known
	}
	f := in.fields()
	sent.read(f, id == 0)
	if err := f.problem(); err != nil {
		return nil, err
	}
	if id == 0 {
		var err error
		if sent.ID, err = s.Identity.EnsureUser(ctx, sent.Login, sent.Name); err != nil {
			return nil, fmt.Errorf("invite a user: %w", err)
		}
	}
	err := s.write(ctx, c.company, c.epoch, func(w *writer) error {
		if id == 0 {
			return w.insertUser(ctx, &sent)
		}
		sent.setTimes(w.now)
		_, err := w.ExecContext(ctx, `UPDATE memberships SET name = $3, job_title = $4, is_active = $5, updated = $6 WHERE company_id = $1 AND user_id = $2`,
			int64(c.company), sent.ID, sent.Name, sent.JobTitle, number(sent.IsActive), w.now)
		if err != nil {
			return err
		}
		return w.logUser(ctx, &sent)
	})
	return &sent, err
}

// read takes what a client sent. The address can't be changed: it is the person's, not
// the company's.
func (u *userRow) read(f *fields, isNew bool) {
	if isNew {
		f.text("login", &u.Login, maxName)
		f.text("email_address", &u.Login, maxName)
		u.Login = strings.ToLower(strings.TrimSpace(u.Login))
		if name, domain, ok := strings.Cut(u.Login, "@"); !ok || name == "" || domain == "" {
			f.fail("email_address", "must be an e-mail address")
		}
	}
	f.text("name", &u.Name, maxName)
	if f.has("first_name") || f.has("last_name") {
		f.text("first_name", &u.FirstName, maxName/2)
		f.text("last_name", &u.LastName, maxName/2)
		u.Name = strings.TrimSpace(u.FirstName + " " + u.LastName)
	}
	f.present("name", u.Name)
	f.text("job_title", &u.JobTitle, maxName)
	f.flag("is_active", &u.IsActive)
	u.setName(strings.TrimSpace(u.Name))
}

// insertUser adds a member; one who is there already is a conflict.
func (w *writer) insertUser(ctx context.Context, u *userRow) error {
	u.created = w.now
	u.setTimes(w.now)
	_, err := w.ExecContext(ctx, `INSERT INTO memberships (company_id, user_id, login, name, job_title, is_active, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)`,
		int64(w.company), u.ID, u.Login, u.Name, u.JobTitle, number(u.IsActive), w.now)
	if store.IsDuplicate(err) {
		return problem.New(problem.Conflict, "%s is a user of this company already.", u.Login)
	}
	if err != nil {
		return err
	}
	return w.logUser(ctx, u)
}

// logUser notes the member for the global index: one who isn't active is none.
func (w *writer) logUser(ctx context.Context, u *userRow) error {
	var row any
	if u.IsActive {
		row = u
	}
	_, err := w.log(ctx, directory.ChangeMembership, u.ID, row)
	return err
}

func (s *Service) deleteUser(ctx context.Context, c *call) (int, any, error) {
	id, err := pathID(c, "user_id")
	if err != nil {
		return 0, nil, err
	}
	var u *userRow
	err = s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		u, err = w.removeUser(ctx, id)
		return err
	})
	return http.StatusOK, u, err
}

// removeUser takes a member out of the company and of its projects.
func (w *writer) removeUser(ctx context.Context, id int64) (*userRow, error) {
	u, err := readUser(ctx, w, w.company, id)
	if err != nil {
		return nil, err
	}
	projects, err := w.ids(ctx, `SELECT project_id FROM project_users WHERE company_id = $1 AND user_id = $2`, int64(w.company), id)
	if err != nil {
		return nil, err
	}
	for _, projectID := range projects {
		if err := w.removeProjectUser(ctx, projectID, id); err != nil {
			return nil, err
		}
	}
	if _, err := w.ExecContext(ctx, `DELETE FROM memberships WHERE company_id = $1 AND user_id = $2`, int64(w.company), id); err != nil {
		return nil, err
	}
	_, err = w.log(ctx, directory.ChangeMembership, id, nil)
	return u, err
}
