package operator

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"mpr/problem"
	"mpr/store"
)

// Kind is what a session is for. The secret of one kind is no good for another.
type Kind string

// The kinds of sessions.
const (
	Browser     Kind = "browser"
	CommandLine Kind = "command line"
)

// SecretPrefix is what secrets of sessions begin with, so that scanners of files know them.
const SecretPrefix = "mprs_"

// Session is somebody who has signed in.
type Session struct {
	// ID names the session to people; it is no secret.
	ID     string `json:"id"`
	UserID int64  `json:"user_id"`
	Login  string `json:"login"`
	Name   string `json:"name"`
	// Role is the one that the user has now.
	Role    Role      `json:"role"`
	Kind    Kind      `json:"kind"`
	Created time.Time `json:"created_at"`
	Used    time.Time `json:"used_at"`
	// Expires is when it ends whatever happens; it ends earlier where it isn't used.
	Expires time.Time `json:"expires_at"`

	csrf, credential string
	checked          time.Time
}

// CSRF is what forms of the session hold, and no other site can read.
func (n *Session) CSRF() string { return n.csrf }

// CheckCSRF wants a form to hold it.
func (n *Session) CheckCSRF(shown string) error {
	if subtle.ConstantTimeCompare([]byte(shown), []byte(n.csrf)) != 1 {
		return problem.New(problem.Forbidden, "The page is too old, or didn't come from here. Go back, reload it and try again.")
	}
	return nil
}

const (
	// checkEvery is how often the login service is asked whether a session's user is still there
	// and has the same password, while the session is used. checkWithin bounds that: where the
	// login service is away, operators must be able to act, so that the session goes on.
	checkEvery  = time.Minute
	checkWithin = 3 * time.Second
	// usedEvery is how exactly it is noted when a session was used.
	usedEvery = time.Minute
	// codeLifetime is how long a command line may take to fetch its session.
	codeLifetime = time.Minute
)

// Begin makes a session and answers its secret. Entries of the log say that its user signed in.
func (s *Service) Begin(ctx context.Context, u User, kind Kind, requestID string) (secret string, n *Session, err error) {
	secret = SecretPrefix + NewSecret()
	now := s.Now()
	n = &Session{
		ID: rand.Text()[:12], UserID: u.ID, Login: u.Login, Name: u.Name, Kind: kind,
		Created: now.UTC(), Used: now.UTC(), Expires: now.Add(s.Lifetime).UTC(), csrf: NewSecret(), credential: u.Credential,
	}
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		n.Role = Developer
		role, err := s.roleOf(ctx, tx, u)
		if err != nil {
			return err
		}
		if role != "" {
			n.Role = role
		}
		at := store.Micros(now)
		_, err = tx.ExecContext(ctx, `INSERT INTO operator_sessions (hash, id, environment, user_id, login, name, kind, csrf, credential, created, used, checked, expires)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $10, $11)`,
			fingerprint(secret), n.ID, s.Environment, u.ID, u.Login, u.Name, string(kind), n.csrf, u.Credential, at, store.Micros(n.Expires))
		if err != nil {
			return err
		}
		return s.logWhole(ctx, tx, Entry{By: n.Login, Role: n.Role, Action: "sign in", Subject: "sessions/" + n.ID, RequestID: requestID}, map[string]string{"kind": string(kind)})
	})
	if err != nil {
		return "", nil, fmt.Errorf("begin a session: %w", err)
	}
	return secret, n, nil
}

func (s *Service) roleOf(ctx context.Context, tx *sql.Tx, u User) (role Role, err error) {
	err = tx.QueryRowContext(ctx, `SELECT role FROM operator_grants WHERE environment = $1 AND user_id = $2 AND login = $3`, s.Environment, u.ID, u.Login).Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return role, err
}

const sessionColumns = `n.id, n.user_id, n.login, n.name, n.kind, n.csrf, n.credential, n.created, n.used, n.checked, n.expires, COALESCE(g.role, 'developer')
	FROM operator_sessions n LEFT JOIN operator_grants g ON g.environment = n.environment AND g.user_id = n.user_id AND g.login = n.login`

func scanSession(scan func(...any) error) (*Session, error) {
	var n Session
	var created, used, checked, expires int64
	if err := scan(&n.ID, &n.UserID, &n.Login, &n.Name, &n.Kind, &n.csrf, &n.credential, &created, &used, &checked, &expires, &n.Role); err != nil {
		return nil, err
	}
	n.Created, n.Used, n.checked, n.Expires = store.Time(created), store.Time(used), store.Time(checked), store.Time(expires)
	return &n, nil
}

// Session finds the session of a secret, with the role that its user has now; nil where there is
// none, or it has ended.
func (s *Service) Session(ctx context.Context, secret string, kind Kind) (*Session, error) {
	if !strings.HasPrefix(secret, SecretPrefix) {
		return nil, nil //nolint:nilnil // that there is none is no error here
	}
	hash, now := fingerprint(secret), s.Now()
	n, err := scanSession(s.DB.Read().QueryRowContext(ctx, `SELECT `+sessionColumns+` WHERE n.hash = $1 AND n.kind = $2 AND n.environment = $3 AND n.expires > $4 AND n.used > $5`,
		hash, string(kind), s.Environment, store.Micros(now), store.Micros(now.Add(-s.Idle))).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // as above
	}
	if err != nil {
		return nil, fmt.Errorf("read a session: %w", err)
	}
	if now.Sub(n.checked) >= checkEvery {
		alive, err := s.check(ctx, hash, n, now)
		if err != nil || !alive {
			return nil, err
		}
	}
	if now.Sub(n.Used) >= min(usedEvery, s.Idle/10) {
		err := s.DB.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE operator_sessions SET used = $2 WHERE hash = $1 AND used < $2`, hash, store.Micros(now))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("note the use of a session: %w", err)
		}
		n.Used = now.UTC()
	}
	return n, nil
}

// check asks the login service whether the user of a session is still the same, and ends the
// session otherwise. Of many requests at once one asks.
func (s *Service) check(ctx context.Context, hash string, n *Session, now time.Time) (alive bool, err error) {
	first := false
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE operator_sessions SET checked = $3 WHERE hash = $1 AND checked = $2`, hash, store.Micros(n.checked), store.Micros(now))
		if err != nil {
			return err
		}
		changed, err := done.RowsAffected()
		first = changed == 1
		return err
	})
	if err != nil || !first {
		return err == nil, err
	}
	asking, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	u, err := s.Identity.User(asking, n.UserID)
	switch {
	case errors.Is(err, problem.New(problem.NotFound, "")):
	case err != nil:
		slog.WarnContext(ctx, "a session goes on, though its user can't be looked up", "session", n.ID, "error", err)
		return true, nil
	case u.Login == n.Login && u.Credential == n.credential:
		return true, nil
	}
	slog.InfoContext(ctx, "a session ends: its user is gone, or has another password", "session", n.ID, "user", n.UserID)
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM operator_sessions WHERE hash = $1`, hash)
		return err
	})
	return false, err
}

// sessionsListed bounds the list of sessions.
const sessionsListed = 1000

// Sessions lists those that haven't ended, the newest first; of one user where userID isn't 0.
func (s *Service) Sessions(ctx context.Context, userID int64) (list []*Session, err error) {
	now := s.Now()
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT `+sessionColumns+` WHERE n.environment = $1 AND n.expires > $2 AND n.used > $3 AND (n.user_id = $4 OR $4 = CAST(0 AS BIGINT)) ORDER BY n.created DESC, n.id LIMIT $5`,
		s.Environment, store.Micros(now), store.Micros(now.Add(-s.Idle)), userID, sessionsListed)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	defer rows.Close()
	list = []*Session{}
	for rows.Next() {
		n, err := scanSession(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

// End ends a session by its id: of that user only, where userID isn't 0.
func (s *Service) End(ctx context.Context, id string, userID int64) error {
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `DELETE FROM operator_sessions WHERE id = $1 AND environment = $2 AND (user_id = $3 OR $3 = CAST(0 AS BIGINT))`, id, s.Environment, userID)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, problem.New(problem.NotFound, "There is no session %s: it may have ended. See `mpr operator sessions`.", id))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	return nil
}

var challengeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`) // base64url of a SHA-256

// IsChallenge says whether a text can be the S256 challenge of a verifier.
func IsChallenge(text string) bool { return challengeForm.MatchString(text) }

// IssueCode makes a code by which a command line that knows the verifier of the challenge begins
// a session of the user, once.
func (s *Service) IssueCode(ctx context.Context, u User, challenge string) (string, error) {
	code := NewSecret()
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO operator_codes (hash, challenge, environment, user_id, login, name, credential, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			fingerprint(code), challenge, s.Environment, u.ID, u.Login, u.Name, u.Credential, store.Micros(s.Now().Add(codeLifetime)))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("issue a code: %w", err)
	}
	return code, nil
}

// RedeemCode uses a code up and answers its user. A wrong verifier uses it up, too: whoever has
// the code and not the verifier has stolen it.
func (s *Service) RedeemCode(ctx context.Context, code, verifier string) (u User, err error) {
	var challenge string
	var expires int64
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `DELETE FROM operator_codes WHERE hash = $1 AND environment = $2 RETURNING challenge, user_id, login, name, credential, expires`,
			fingerprint(code), s.Environment).Scan(&challenge, &u.ID, &u.Login, &u.Name, &u.Credential, &expires)
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return User{}, fmt.Errorf("redeem a code: %w", err)
	}
	if err != nil || !s.Now().Before(store.Time(expires)) || len(verifier) < 43 || len(verifier) > 128 || // RFC 7636 section 4.1
		subtle.ConstantTimeCompare([]byte(Challenge(verifier)), []byte(challenge)) != 1 {
		return User{}, problem.New(problem.InvalidGrant, "The code is invalid: it is unknown, has expired, was used already, or belongs to another command. Sign in again.")
	}
	return u, nil
}
