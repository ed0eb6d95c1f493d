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

// Owner is a user to whom an app belongs.
type Owner struct {
	ClientID string    `json:"client_id"`
	UserID   int64     `json:"user_id"`
	Login    string    `json:"login"`
	Name     string    `json:"name"`
	Added    time.Time `json:"added_at"`
	By       string    `json:"added_by"`
}

const (
	// maxOwned bounds the apps of a user, and maxOwners the users of an app.
	maxOwned  = 200
	maxOwners = 50
)

// Owns says whether an app belongs to a user.
func (s *Service) Owns(ctx context.Context, userID int64, login, clientID string) (bool, error) {
	var n int64
	err := s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM operator_app_owners WHERE environment = $1 AND client_id = $2 AND user_id = $3 AND login = $4`, s.Environment, clientID, userID, login).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read whose an app is: %w", err)
	}
	return n > 0, nil
}

// Owned lists the client ids of a user's apps.
func (s *Service) Owned(ctx context.Context, userID int64, login string) ([]string, error) {
	list, err := s.owners(ctx, `user_id = $2 AND login = $3 ORDER BY client_id`, userID, login)
	ids := make([]string, len(list))
	for i, o := range list {
		ids[i] = o.ClientID
	}
	return ids, err
}

// Owners lists to whom an app belongs, by login.
func (s *Service) Owners(ctx context.Context, clientID string) ([]Owner, error) {
	return s.owners(ctx, `client_id = $2 ORDER BY login`, clientID)
}

func (s *Service) owners(ctx context.Context, which string, args ...any) (list []Owner, err error) {
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT client_id, user_id, login, name, added, added_by FROM operator_app_owners WHERE environment = $1 AND `+which, append([]any{s.Environment}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("list owners: %w", err)
	}
	defer rows.Close()
	list = []Owner{}
	for rows.Next() {
		var o Owner
		var at int64
		if err := rows.Scan(&o.ClientID, &o.UserID, &o.Login, &o.Name, &at, &o.By); err != nil {
			return nil, fmt.Errorf("list owners: %w", err)
		}
		o.Added = store.Time(at)
		list = append(list, o)
	}
	return list, rows.Err()
}

// MayOwnMore refuses a user who has as many apps as anybody may.
func (s *Service) MayOwnMore(ctx context.Context, userID int64) error {
	return s.room(ctx, s.DB.Read(), userID)
}

func (s *Service) room(ctx context.Context, from interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, userID int64) error {
	var n int64
	if err := from.QueryRowContext(ctx, `SELECT COUNT(*) FROM operator_app_owners WHERE environment = $1 AND user_id = $2`, s.Environment, userID).Scan(&n); err != nil {
		return fmt.Errorf("count apps: %w", err)
	}
	if n >= maxOwned {
		return problem.New(problem.Conflict, "A user can have %d apps at the most. Give some of them away first.", maxOwned)
	}
	return nil
}

// AddOwner has an app belong to a user as well; where it does already nothing is changed. The record,
// which may be nil, is ended with the change.
func (s *Service) AddOwner(ctx context.Context, r *Record, clientID string, u User, by string) error {
	err := s.change(r.With(ctx), func(tx *sql.Tx) error {
		// An identity store that was made anew has given the id to somebody else.
		if _, err := tx.ExecContext(ctx, `DELETE FROM operator_app_owners WHERE environment = $1 AND client_id = $2 AND (user_id = $3) <> (login = $4)`, s.Environment, clientID, u.ID, u.Login); err != nil {
			return err
		}
		var n, is int64
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN user_id = $3 THEN 1 ELSE 0 END), 0) FROM operator_app_owners WHERE environment = $1 AND client_id = $2`, s.Environment, clientID, u.ID).Scan(&n, &is)
		switch {
		case err != nil:
			return err
		case is > 0:
			return nil
		case n >= maxOwners:
			return problem.New(problem.Conflict, "An app can belong to %d users at the most.", maxOwners)
		}
		if err := s.room(ctx, tx, u.ID); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO operator_app_owners (environment, client_id, user_id, login, name, added, added_by) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			s.Environment, clientID, u.ID, u.Login, u.Name, store.Micros(s.Now()), by)
		return err
	})
	if err != nil {
		return fmt.Errorf("add an owner: %w", err)
	}
	return nil
}

// RemoveOwner takes an app away from a user. With keep the last one stays: nobody who isn't an
// operator could see the app any more.
func (s *Service) RemoveOwner(ctx context.Context, r *Record, clientID, login string, keep bool) error {
	err := s.change(r.With(ctx), func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `DELETE FROM operator_app_owners WHERE environment = $1 AND client_id = $2 AND login = $3`, s.Environment, clientID, login)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, problem.New(problem.NotFound, "The app %s doesn't belong to %s.", clientID, login))
		}
		var left int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM operator_app_owners WHERE environment = $1 AND client_id = $2`, s.Environment, clientID).Scan(&left); err != nil {
			return err
		}
		if left == 0 && keep {
			return problem.New(problem.Conflict, "This is the app's last owner. Add somebody else first, or ask an operator.")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove an owner: %w", err)
	}
	return nil
}
