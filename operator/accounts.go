package operator

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mpr/problem"
	"mpr/store"
)

// Disable notes that a user's account is to be disabled, and ends the sessions, of which it answers
// the number. Only admins may do that to somebody who has a role, and not to the last admin: nobody
// could undo it. The login service must be told afterwards.
func (s *Service) Disable(ctx context.Context, u User, by Role) (sessions int64, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		if err := s.mayTouch(ctx, tx, u, by); err != nil {
			return err
		}
		if err := s.keepEnabledAdmin(ctx, tx, u); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE operator_grants SET disabled = $3 WHERE environment = $1 AND user_id = $2 AND disabled = 0`, s.Environment, u.ID, store.Micros(s.Now()))
		if err != nil {
			return err
		}
		sessions, err = s.endAll(ctx, tx, u)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("disable an operator: %w", err)
	}
	return sessions, nil
}

// MayTouch refuses to change the account of somebody who has a role, to all but admins.
func (s *Service) MayTouch(ctx context.Context, u User, by Role) error {
	return s.change(ctx, func(tx *sql.Tx) error { return s.mayTouch(ctx, tx, u, by) })
}

// Enable notes that the login service has enabled the account again.
func (s *Service) Enable(ctx context.Context, u User) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE operator_grants SET disabled = 0 WHERE environment = $1 AND user_id = $2`, s.Environment, u.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("enable an operator: %w", err)
	}
	return nil
}

// EndAll ends all sessions of a user, and answers how many there were.
func (s *Service) EndAll(ctx context.Context, u User) (sessions int64, err error) {
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		sessions, err = s.endAll(ctx, tx, u)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	return sessions, nil
}

// endAll also takes back the codes by which a command line would begin a session.
func (s *Service) endAll(ctx context.Context, tx *sql.Tx, u User) (sessions int64, err error) {
	if _, err := tx.ExecContext(ctx, `DELETE FROM operator_codes WHERE environment = $1 AND user_id = $2`, s.Environment, u.ID); err != nil {
		return 0, err
	}
	done, err := tx.ExecContext(ctx, `DELETE FROM operator_sessions WHERE environment = $1 AND user_id = $2`, s.Environment, u.ID)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// mayTouch also protects whoever has the login of somebody with a role, or the id.
func (s *Service) mayTouch(ctx context.Context, tx *sql.Tx, u User, by Role) error {
	if by.Covers(Admin) {
		return nil
	}
	var n int64
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM operator_grants WHERE environment = $1 AND (user_id = $2 OR login = $3)`, s.Environment, u.ID, u.Login).Scan(&n)
	if err != nil {
		return err
	}
	if n > 0 {
		return problem.New(problem.Forbidden, "%s has a role (`mpr operator list`): only an admin may change the account of somebody who has one.", u.Login)
	}
	return nil
}

// keepEnabledAdmin refuses to disable the last admin who can sign in.
func (s *Service) keepEnabledAdmin(ctx context.Context, tx *sql.Tx, u User) error {
	var role Role
	var disabled, others int64
	err := tx.QueryRowContext(ctx, `SELECT role, disabled FROM operator_grants WHERE environment = $1 AND user_id = $2 AND login = $3`, s.Environment, u.ID, u.Login).Scan(&role, &disabled)
	if errors.Is(err, sql.ErrNoRows) || err == nil && (role != Admin || disabled != 0) {
		return nil
	}
	if err != nil {
		return err
	}
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM operator_grants WHERE environment = $1 AND role = $2 AND disabled = 0 AND user_id <> $3`, s.Environment, string(Admin), u.ID).Scan(&others)
	if err != nil {
		return err
	}
	if others == 0 {
		return problem.New(problem.Conflict, "%s is the last admin of %s who can sign in. Grant somebody else the role first: `mpr operator grant EMAIL --role admin`.", u.Login, s.Environment)
	}
	return nil
}
