package login

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"mpr/problem"
	"mpr/store"
)

// user is a person. A user without a password was invited and can't sign in yet.
type user struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
	Name  string `json:"name"`

	passwordHash string
	disabled     bool // and can't sign in
}

// credential tells one password of a user from the next, and nothing else of it; "" where there
// is none.
func (u *user) credential() string {
	if u.passwordHash == "" {
		return ""
	}
	return fingerprint(u.passwordHash)
}

const (
	maxName     = 255
	maxLogin    = 254 // the longest address that mail can be sent to
	minPassword = 8
	maxPassword = 1024

	passwordForm = "must have 8 to 1024 characters"
)

// newUser is what a user is made of.
type newUser struct {
	Login    string `json:"login"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

func (n *newUser) check() error {
	fields := map[string][]string{}
	n.Login, n.Name = strings.ToLower(strings.TrimSpace(n.Login)), strings.TrimSpace(n.Name)
	if !plausibleLogin(n.Login) {
		fields["login"] = []string{"must be an e-mail address of at most 254 characters"}
	}
	if !plausibleName(n.Name) {
		fields["name"] = []string{"must have 1 to 255 characters"}
	}
	if n.Password != "" && (len(n.Password) < minPassword || len(n.Password) > maxPassword) {
		fields["password"] = []string{passwordForm}
	}
	return invalidFields("The user can't be saved", fields)
}

func plausibleLogin(login string) bool {
	name, domain, ok := strings.Cut(login, "@")
	return ok && name != "" && domain != "" && len(login) <= maxLogin && !strings.ContainsAny(login, " \t\r\n\x00") && utf8.ValidString(login)
}

func plausibleName(name string) bool {
	return name != "" && utf8.ValidString(name) && utf8.RuneCountInString(name) <= maxName && !strings.ContainsFunc(name, unicode.IsControl)
}

// storable says whether a text can be in the store at all: PostgreSQL refuses NUL and what
// isn't UTF-8, even in a comparison.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// invalidFields is nil where no field is wrong.
func invalidFields(what string, fields map[string][]string) error {
	if len(fields) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "%s: some fields are wrong.", what)
	p.Fields = fields
	return p
}

// createUser makes a user. A login that is taken is a [problem.Conflict].
func (s *Service) createUser(ctx context.Context, n newUser) (*user, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	u := &user{Login: n.Login, Name: n.Name}
	if n.Password != "" {
		var err error
		if u.passwordHash, err = s.hashPassword(ctx, n.Password); err != nil {
			return nil, err
		}
	}
	err := s.DB.Write(ctx, func(tx *sql.Tx) (err error) {
		if u.ID, err = nextID(ctx, tx, "users"); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO users (id, login, name, password_hash, created) VALUES ($1, $2, $3, $4, $5)`,
			u.ID, u.Login, u.Name, u.passwordHash, store.Micros(s.Now()))
		return err
	})
	if store.IsDuplicate(err) {
		return nil, problem.New(problem.Conflict, "There is a user with the login %s already.", n.Login)
	}
	if err != nil {
		return nil, fmt.Errorf("create user: %w", err)
	}
	return u, nil
}

// userByLogin finds a user; nil if there is none.
func (s *Service) userByLogin(ctx context.Context, login string) (*user, error) {
	if !storable(login) {
		return nil, nil //nolint:nilnil // as in scanUser
	}
	return s.scanUser(s.DB.Read().QueryRowContext(ctx,
		`SELECT id, login, name, password_hash, disabled FROM users WHERE login = $1`, strings.ToLower(strings.TrimSpace(login))))
}

// userByID finds a user; nil if there is none.
func (s *Service) userByID(ctx context.Context, id int64) (*user, error) {
	return s.scanUser(s.DB.Read().QueryRowContext(ctx, `SELECT id, login, name, password_hash, disabled FROM users WHERE id = $1`, id))
}

func (s *Service) scanUser(row *sql.Row) (*user, error) {
	var u user
	var disabled int64
	err := row.Scan(&u.ID, &u.Login, &u.Name, &u.passwordHash, &disabled)
	if isNoRows(err) {
		return nil, nil //nolint:nilnil // that there is no such user is no error here
	}
	if err != nil {
		return nil, fmt.Errorf("read user: %w", err)
	}
	u.disabled = disabled != 0
	return &u, nil
}
