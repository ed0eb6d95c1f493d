package region

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"mpr/company"
	"mpr/problem"
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
}

const userColumns = `user_id, login, name, job_title, is_active, created, updated`

func scanUser(row scanner) (*userRow, error) {
	var u userRow
	var created, updated int64
	err := row.Scan(&u.ID, &u.Login, &u.Name, &u.JobTitle, &u.IsActive, &created, &updated)
	u.CreatedAt, u.UpdatedAt = stamp(created), stamp(updated)
	u.show()
	return &u, err
}

// show fills in what is shown in two ways. A name's last word is the last name.
func (u *userRow) show() {
	u.EmailAddress = u.Login
	u.FirstName, u.LastName = u.Name, ""
	if i := strings.LastIndexByte(u.Name, ' '); i > 0 {
		u.FirstName, u.LastName = u.Name[:i], u.Name[i+1:]
	}
}

func readUser(ctx context.Context, q querier, id company.ID, userID int64) (*userRow, error) {
	return found(scanUser(q.QueryRowContext(ctx, `SELECT `+userColumns+` FROM memberships WHERE company_id = $1 AND user_id = $2`, int64(id), userID)))
}

// pathUser reads the user that the path names.
func pathUser(ctx context.Context, q querier, c *call) (*userRow, error) {
	id, err := pathID(c, "user_id")
	if err != nil {
		return nil, err
	}
	return readUser(ctx, q, c.company, id)
}

func (s *Service) listUsers(ctx context.Context, c *call) (int, any, error) {
	rows, err := list(ctx, s, c, selection{
		columns: userColumns, table: memberships, where: `company_id = $1`, id: `user_id`, args: []any{int64(c.company)},
	}, scanUser)
	return http.StatusOK, rows, err
}

func (s *Service) showUser(ctx context.Context, c *call) (int, any, error) {
	u, err := pathUser(ctx, s.DB.Read(), c)
	return http.StatusOK, u, err
}

func (s *Service) createUser(ctx context.Context, c *call) (int, any, error) {
	in, err := c.body.wrapped("user")
	if err != nil {
		return 0, nil, err
	}
	delete(in, "id") // it is for us to give one
	known, err := s.invite(ctx, []object{in})
	if err != nil {
		return 0, nil, err
	}
	return s.create(ctx, c, "user", known.save)
}

func (s *Service) updateUser(ctx context.Context, c *call) (int, any, error) {
	return s.update(ctx, c, "user", "user_id", people{}.save)
}

func (s *Service) syncUsers(ctx context.Context, c *call) (int, any, error) {
	updates, err := c.body.updates()
	if err != nil {
		return 0, nil, err
	}
	known, err := s.invite(ctx, updates)
	if err != nil {
		return 0, nil, err
	}
	return s.sync(ctx, c, known.save)
}

// people are the ids of persons by login, from the login service.
type people map[string]int64

// invite asks the login service for the ids of those who are to become users; whom it
// doesn't know yet it invites. That is done before the transaction, which nobody else may
// hold up. Objects that can't be saved are left for the transaction to refuse.
func (s *Service) invite(ctx context.Context, all []object) (people, error) {
	known := people{}
	for _, in := range all {
		var u userRow
		if _, isOld := in.idText("id"); isOld || u.readNew(in) != nil || known[u.Login] != 0 {
			continue
		}
		id, err := s.Identity.EnsureUser(ctx, u.Login, u.Name)
		if err != nil {
			return nil, refusedOrAway(err)
		}
		known[u.Login] = id
	}
	return known, nil
}

// refusedOrAway keeps a refusal of the login service that says what is wrong with the
// person, and takes everything else for its absence.
func refusedOrAway(err error) error {
	if errors.Is(err, problem.New(problem.Invalid, "")) {
		return err
	}
	return problem.New(problem.IdentityUnavailable, "The login service, which knows people across regions, can't be reached. Nothing was changed. Try again.").
		After(time.Second).Because(err)
}

// readNew reads the object of a new user.
func (u *userRow) readNew(in object) error {
	f := in.fields()
	f.text("login", &u.Login, maxName)
	f.text("email_address", &u.Login, maxName)
	u.Login = strings.ToLower(strings.TrimSpace(u.Login))
	if name, domain, ok := strings.Cut(u.Login, "@"); !ok || name == "" || domain == "" {
		f.fail("email_address", "must be an e-mail address")
	}
	u.IsActive = true
	u.read(f)
	return f.problem()
}

// read reads what a company may say of its users. The login isn't among it: it is the
// person's, not the company's.
func (u *userRow) read(f *fields) {
	if f.has("first_name") || f.has("last_name") {
		f.text("first_name", &u.FirstName, maxName/2)
		f.text("last_name", &u.LastName, maxName/2)
		u.Name = u.FirstName + " " + u.LastName
	}
	f.name("name", &u.Name)
	u.Name = strings.TrimSpace(u.Name)
	f.text("job_title", &u.JobTitle, maxName)
	f.flag("is_active", &u.IsActive)
	u.show()
}

// save makes a member of a person whose id is known, or changes the member with this id.
func (known people) save(ctx context.Context, w *writer, c *call, in object, id int64) (any, error) {
	if id == 0 {
		u := &userRow{}
		if err := u.readNew(in); err != nil {
			return nil, err
		}
		u.ID = known[u.Login]
		_, err := readUser(ctx, w, c.company, u.ID)
		if err == nil {
			return nil, problem.New(problem.Conflict, "%s is a user of this company already.", u.Login)
		}
		if !errors.Is(err, errNothingHere) {
			return nil, err
		}
		return u, w.saveUser(ctx, u)
	}
	u, err := readUser(ctx, w, c.company, id)
	if err != nil {
		return nil, err
	}
	f := in.fields()
	u.read(f)
	if err := f.problem(); err != nil {
		return nil, err
	}
	return u, w.saveUser(ctx, u)
}

// saveUser writes a member, new or not.
func (w *writer) saveUser(ctx context.Context, u *userRow) error {
	u.UpdatedAt = stamp(w.now)
	if u.CreatedAt == "" {
		u.CreatedAt = u.UpdatedAt
	}
	_, err := w.ExecContext(ctx, `INSERT INTO memberships (company_id, user_id, login, name, job_title, is_active, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
		ON CONFLICT (company_id, user_id) DO UPDATE SET login = excluded.login, name = excluded.name, job_title = excluded.job_title, is_active = excluded.is_active, updated = excluded.updated`,
		int64(w.company), u.ID, u.Login, u.Name, u.JobTitle, number(u.IsActive), w.now)
	if err != nil {
		return fmt.Errorf("save a user: %w", err)
	}
	return w.changed(ctx, memberships, u.ID)
}

func (s *Service) deleteUser(ctx context.Context, c *call) (int, any, error) {
	return s.remove(ctx, c, func(ctx context.Context, w *writer, c *call) (any, error) {
		u, err := pathUser(ctx, w, c)
		if err != nil {
			return nil, err
		}
		return u, w.removeUser(ctx, u.ID)
	})
}

// removeUser takes a member, if it is one, out of the company and of its projects.
func (w *writer) removeUser(ctx context.Context, id int64) error {
	if err := w.remove(ctx, projectUsers, `user_id = $2`, id); err != nil {
		return err
	}
	return w.remove(ctx, memberships, `user_id = $2`, id)
}
