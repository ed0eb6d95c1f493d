package operator

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mpr/problem"
	"mpr/store"
)

// Grant is a role that a user was granted.
type Grant struct {
	UserID int64     `json:"user_id"`
	Login  string    `json:"login"`
	Name   string    `json:"name"`
	Role   Role      `json:"role"`
	At     time.Time `json:"granted_at"`
	By     string    `json:"granted_by"`
	// Disabled says that the account was disabled by the admin API: they can't sign in.
	Disabled bool `json:"disabled,omitempty"`
}

// Grants lists who was granted a role, by login.
func (s *Service) Grants(ctx context.Context) (list []Grant, err error) {
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT user_id, login, name, role, granted, granted_by, disabled FROM operator_grants WHERE environment = $1 ORDER BY login`, s.Environment)
	if err != nil {
		return nil, fmt.Errorf("list operators: %w", err)
	}
	defer rows.Close()
	list = []Grant{}
	for rows.Next() {
		var g Grant
		var at, disabled int64
		if err := rows.Scan(&g.UserID, &g.Login, &g.Name, &g.Role, &at, &g.By, &disabled); err != nil {
			return nil, fmt.Errorf("list operators: %w", err)
		}
		g.At, g.Disabled = store.Time(at), disabled != 0
		list = append(list, g)
	}
	return list, rows.Err()
}

// HasAdmin says whether anybody is an admin who can sign in.
func (s *Service) HasAdmin(ctx context.Context) (bool, error) {
	var n int64
	err := s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM operator_grants WHERE environment = $1 AND role = $2 AND disabled = 0`, s.Environment, string(Admin)).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("count admins: %w", err)
	}
	return n > 0, nil
}

// Grant gives a user a role in place of the one before, which it answers; "" for none. The role
// counts with the user's next request. The record, where there is one, is ended with the change.
func (s *Service) Grant(ctx context.Context, r *Record, u User, role Role, by string) (before Role, err error) {
	if !role.Covers(Viewer) {
		return "", fmt.Errorf("%q can't be granted", role)
	}
	err = s.change(r.With(ctx), func(tx *sql.Tx) error {
		if before, err = s.granted(ctx, tx, u.Login); err != nil {
			return err
		}
		r.roles(before, role)
		// Whoever had the id or the login before is somebody else.
		_, err := tx.ExecContext(ctx, `DELETE FROM operator_grants WHERE environment = $1 AND (user_id = $2 OR login = $3)`, s.Environment, u.ID, u.Login)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO operator_grants (environment, user_id, login, name, role, granted, granted_by) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			s.Environment, u.ID, u.Login, u.Name, string(role), store.Micros(s.Now()), by)
		if err != nil {
			return err
		}
		return s.keepAdmin(ctx, tx, before)
	})
	if err != nil {
		return "", fmt.Errorf("grant a role: %w", err)
	}
	return before, nil
}

// Revoke takes a user's role away and ends the sessions. It answers the role that it was.
func (s *Service) Revoke(ctx context.Context, r *Record, login string) (before Role, err error) {
	err = s.change(r.With(ctx), func(tx *sql.Tx) error {
		if before, err = s.granted(ctx, tx, login); err != nil {
			return err
		}
		r.roles(before, "")
		if before == "" {
			return problem.New(problem.NotFound, "%s has no role. See `mpr operator list`.", login)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM operator_sessions WHERE environment = $1 AND user_id IN (SELECT user_id FROM operator_grants WHERE environment = $1 AND login = $2)`, s.Environment, login)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM operator_grants WHERE environment = $1 AND login = $2`, s.Environment, login); err != nil {
			return err
		}
		return s.keepAdmin(ctx, tx, before)
	})
	if err != nil {
		return "", fmt.Errorf("revoke a role: %w", err)
	}
	return before, nil
}

// change runs f in a transaction in which nobody else changes grants or owners.
func (s *Service) change(ctx context.Context, f func(*sql.Tx) error) error {
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE operator_changes SET changes = changes + 1`); err != nil {
			return err
		}
		return f(tx)
	})
}

// roles notes a user's role before and after.
func (r *Record) roles(before, after Role) {
	if r != nil {
		r.Before, r.After = map[string]Role{"role": before}, map[string]Role{"role": after}
	}
}

func (s *Service) granted(ctx context.Context, tx *sql.Tx, login string) (role Role, err error) {
	err = tx.QueryRowContext(ctx, `SELECT role FROM operator_grants WHERE environment = $1 AND login = $2`, s.Environment, login).Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return role, err
}

func (s *Service) keepAdmin(ctx context.Context, tx *sql.Tx, before Role) error {
	if !s.KeepAdmin || before != Admin {
		return nil
	}
	var n int64
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM operator_grants WHERE environment = $1 AND role = $2 AND disabled = 0`, s.Environment, string(Admin)).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return problem.New(problem.Conflict, "This is the last admin, and the admin API's token is turned off (control.admin_token): nobody could make another one. Grant somebody else the role first: `mpr operator grant EMAIL --role admin`.")
	}
	return nil
}
