package login

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strconv"

	"mpr/problem"
	"mpr/store"
)

// account is a user as the control role sees one: with what tells a changed password, and whether
// it is disabled.
type account struct {
	user
	Disabled   bool   `json:"disabled"`
	Credential string `json:"credential"`
	// Ended is what a change has ended.
	Ended *ended `json:"ended,omitempty"`
}

func accountOf(u *user) account {
	return account{user: *u, Disabled: u.disabled, Credential: u.credential()}
}

// ended counts what the change of an account has ended.
type ended struct {
	Sessions int64 `json:"sessions"`
	Grants   int64 `json:"grants"`
}

// accountChange changes an account in a transaction. Whoever signs in, is given a code or redeems
// one waits for it ([user.unchanged]), so that nothing begun before slips past it.
type accountChange func(ctx context.Context, tx *sql.Tx, id int64, e *ended) error

// changeAccount answers a change of the account that the path names.
func (s *Service) changeAccount(w http.ResponseWriter, r *http.Request, change accountChange) error {
	id, err := pathUser(r)
	if err != nil {
		return err
	}
	var e ended
	err = s.DB.Write(r.Context(), func(tx *sql.Tx) error {
		e = ended{}
		return change(r.Context(), tx, id, &e)
	})
	if err != nil {
		return fmt.Errorf("change an account: %w", err)
	}
	if e.Grants > 0 {
		s.publishBeforeAnswer(r.Context())
	}
	u, err := s.userByID(r.Context(), id)
	if err == nil && u == nil {
		err = errNoUser()
	}
	if err != nil {
		return err
	}
	a := accountOf(u)
	a.Ended = &e
	writeJSON(w, http.StatusOK, a)
	return nil
}

func pathUser(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("user"), 10, 64)
	if err != nil {
		return 0, problem.New(problem.BadRequest, "The id of a user must be a number.").Because(err)
	}
	return id, nil
}

func errNoUser() error { return problem.New(problem.NotFound, "There is no user with this id.") }

// disableUser keeps a user from signing in, and ends all that was granted by them: sessions, codes,
// grants with their tokens.
func (s *Service) disableUser(w http.ResponseWriter, r *http.Request) error {
	now := store.Micros(s.Now())
	return s.changeAccount(w, r, func(ctx context.Context, tx *sql.Tx, id int64, e *ended) error {
		_, err := tx.ExecContext(ctx, `UPDATE users SET disabled = $2, disabled_hash = password_hash, password_hash = '' WHERE id = $1 AND disabled = 0`, id, now)
		if err != nil {
			return err
		}
		if err := endSessions(ctx, tx, id, e); err != nil {
			return err
		}
		return count(&e.Grants)(tx.ExecContext(ctx, `UPDATE grants SET revoked = $2 WHERE user_id = $1 AND revoked = 0`, id, now))
	})
}

// enableUser lets a user sign in again, by the password of before. What was ended stays so.
func (s *Service) enableUser(w http.ResponseWriter, r *http.Request) error {
	return s.changeAccount(w, r, func(ctx context.Context, tx *sql.Tx, id int64, _ *ended) error {
		_, err := tx.ExecContext(ctx, `UPDATE users SET disabled = 0, password_hash = disabled_hash, disabled_hash = '' WHERE id = $1 AND disabled <> 0`, id)
		return err
	})
}

// setPassword gives a user another password, and ends the sessions: whoever had the one before may
// have them. What apps were granted goes on. An account that is disabled stays so.
func (s *Service) setPassword(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Password string `json:"password"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	if len(in.Password) < minPassword || len(in.Password) > maxPassword {
		return invalidFields("The password can't be set", map[string][]string{"password": {passwordForm}})
	}
	hash, err := s.hashPassword(r.Context(), in.Password)
	if err != nil {
		return err
	}
	return s.changeAccount(w, r, func(ctx context.Context, tx *sql.Tx, id int64, e *ended) error {
		_, err := tx.ExecContext(ctx, `UPDATE users SET password_hash = CASE WHEN disabled = 0 THEN $2 ELSE '' END, disabled_hash = CASE WHEN disabled = 0 THEN '' ELSE $2 END WHERE id = $1`, id, hash)
		if err != nil {
			return err
		}
		return endSessions(ctx, tx, id, e)
	})
}

// endSessions ends a user's sessions, and the codes that were made in them.
func endSessions(ctx context.Context, tx *sql.Tx, id int64, e *ended) error {
	if err := count(&e.Sessions)(tx.ExecContext(ctx, `DELETE FROM sessions WHERE user_id = $1`, id)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM codes WHERE user_id = $1 AND used = 0`, id)
	return err
}

// count notes how many rows a statement has changed.
func count(n *int64) func(sql.Result, error) error {
	return func(done sql.Result, err error) error {
		if err == nil {
			*n, err = done.RowsAffected()
		}
		return err
	}
}

// unchanged says whether the user still has the password that was read, and isn't disabled. It
// holds the user's row: whoever changes the account waits until the transaction has ended, and ends
// what that has begun.
func (u *user) unchanged(ctx context.Context, tx *sql.Tx) (is bool, err error) {
	var n int64
	err = count(&n)(tx.ExecContext(ctx, `UPDATE users SET password_hash = password_hash WHERE id = $1 AND password_hash = $2 AND disabled = 0`, u.ID, u.passwordHash))
	return n == 1, err
}

// enabled is [user.unchanged] of a user who hasn't been read, whatever the password.
func enabled(ctx context.Context, tx *sql.Tx, id int64) (is bool, err error) {
	var n int64
	err = count(&n)(tx.ExecContext(ctx, `UPDATE users SET disabled = disabled WHERE id = $1 AND disabled = 0`, id))
	return n == 1, err
}
