package operator

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mpr/problem"
	"mpr/store"
)

// Entry is an entry of the audit log.
type Entry struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
	// By is the login of who asked for it, or says that it was whoever has the admin token.
	By   string `json:"by"`
	Role Role   `json:"role"`
	// Claimed is who whoever has the admin token says to be.
	Claimed string `json:"claimed_by,omitempty"`
	// Environment is "" for what concerns the system as a whole.
	Environment string `json:"environment,omitempty"`
	// Action is the route of the admin API, such as "PUT /policy"; Subject what it was about, such
	// as "apps/7/limits".
	Action    string `json:"action"`
	Subject   string `json:"subject"`
	RequestID string `json:"request_id"`
	// Outcome is done, the code of the refusal, or "" where nothing is known: what was asked for
	// was cut off, or is under way.
	Outcome string          `json:"outcome"`
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"`
}

// Done is the outcome of what was done.
const Done = "done"

// maxValue bounds what is kept of a value before or after a change.
const maxValue = 64 << 10

// Record is an entry whose outcome isn't known yet.
type Record struct {
	service *Service
	id      string
	ended   bool

	// Before and After are values that were changed, and Object what was made, where the subject
	// doesn't name it. Whoever changes them sets them; none may hold a secret.
	Before, After any
	Object        string
	// Claimed is who whoever has the admin token says to be.
	Claimed string
}

// Log adds an entry: what is about to be done.
func (s *Service) Log(ctx context.Context, e Entry) (*Record, error) {
	r := &Record{service: s, id: rand.Text()}
	err := s.DB.Write(ctx, func(tx *sql.Tx) error { return s.log(ctx, tx, r.id, e) })
	if err != nil {
		return nil, fmt.Errorf("write to the audit log: %w", err)
	}
	return r, nil
}

func (s *Service) log(ctx context.Context, tx *sql.Tx, id string, e Entry) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO operator_audit (id, at, who, role, environment, action, subject, request_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, store.Micros(s.Now()), e.By, string(e.Role), e.Environment, e.Action, e.Subject, e.RequestID)
	return err
}

// logWhole adds an entry about what the transaction itself does.
func (s *Service) logWhole(ctx context.Context, tx *sql.Tx, e Entry, after any) error {
	r := &Record{service: s, id: rand.Text(), After: after}
	if err := s.log(ctx, tx, r.id, e); err != nil {
		return err
	}
	return r.end(ctx, tx, Done)
}

// With answers a context whose next write to the control store also says that the change was
// done: both are kept, or neither.
func (r *Record) With(ctx context.Context) context.Context {
	if r == nil || r.service == nil {
		return ctx
	}
	return r.service.DB.Along(ctx, func(tx *sql.Tx) error { return r.end(ctx, tx, Done) })
}

// End says what came of it, unless the change itself has said so.
func (r *Record) End(ctx context.Context, outcome string) error {
	if r == nil || r.service == nil || r.ended {
		return nil
	}
	r.ended = true
	err := r.service.DB.Write(ctx, func(tx *sql.Tx) error { return r.end(ctx, tx, outcome) })
	if err != nil {
		return fmt.Errorf("write to the audit log: %w", err)
	}
	return nil
}

func (r *Record) end(ctx context.Context, tx *sql.Tx, outcome string) error {
	before, err := value(r.Before)
	if err != nil {
		return err
	}
	after, err := value(r.After)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO operator_outcomes (audit_id, at, outcome, object, claimed, value_before, value_after) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (audit_id) DO NOTHING`,
		r.id, store.Micros(r.service.Now()), outcome, r.Object, r.Claimed, before, after)
	return err
}

func value(v any) (string, error) {
	if v == nil {
		return "", nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write to the audit log: %w", err)
	}
	if len(data) > maxValue {
		return fmt.Sprintf(`{"left_out_bytes":%d}`, len(data)), nil
	}
	return string(data), nil
}

// Query selects entries of the log.
type Query struct {
	// Since and Until bound when it was asked for; the zero time doesn't.
	Since, Until time.Time
	// By is who asked for it, Subject a part of what it was about between slashes, such as the id
	// of a company, and Environment where; "" is all.
	By, Subject, Environment string
	// After is where the page before ended, "" for the first; Limit is its size.
	After string
	Limit int
}

// Entries are a page of the log, the newest first, and where the next page begins; "" where there
// is none.
func (s *Service) Entries(ctx context.Context, q Query) (list []Entry, next string, err error) {
	where, args, err := q.where()
	if err != nil {
		return nil, "", err
	}
	args = append(args, q.Limit+1)
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT a.id, a.at, a.who, a.role, a.environment, a.action, a.subject, a.request_id,
		COALESCE(o.outcome, ''), COALESCE(o.object, ''), COALESCE(o.claimed, ''), COALESCE(o.value_before, ''), COALESCE(o.value_after, '')
		FROM operator_audit a LEFT JOIN operator_outcomes o ON o.audit_id = a.id`+where+fmt.Sprintf(` ORDER BY a.at DESC, a.id DESC LIMIT $%d`, len(args)), args...)
	if err != nil {
		return nil, "", fmt.Errorf("read the audit log: %w", err)
	}
	defer rows.Close()
	list = []Entry{}
	for rows.Next() {
		var e Entry
		var at int64
		var object, before, after string
		if err := rows.Scan(&e.ID, &at, &e.By, &e.Role, &e.Environment, &e.Action, &e.Subject, &e.RequestID, &e.Outcome, &object, &e.Claimed, &before, &after); err != nil {
			return nil, "", fmt.Errorf("read the audit log: %w", err)
		}
		e.At, e.Before, e.After = store.Time(at), json.RawMessage(before), json.RawMessage(after)
		if object != "" {
			e.Subject += "/" + object
		}
		list = append(list, e)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("read the audit log: %w", err)
	}
	if len(list) > q.Limit {
		list = list[:q.Limit]
		next = cursor(list[q.Limit-1])
	}
	return list, next, nil
}

func (q Query) where() (text string, args []any, err error) {
	var all []string
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		all = append(all, condition)
	}
	if !q.Since.IsZero() {
		add(`a.at >= ?`, store.Micros(q.Since))
	}
	if !q.Until.IsZero() {
		add(`a.at < ?`, store.Micros(q.Until))
	}
	if q.By != "" {
		add(`a.who = ?`, q.By)
	}
	if q.Environment != "" {
		add(`a.environment = ?`, q.Environment)
	}
	if q.Subject != "" {
		part := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.Trim(q.Subject, "/"))
		add(`('/' || a.subject || '/' || COALESCE(o.object, '') || '/') LIKE ? ESCAPE '\'`, "%/"+part+"/%")
	}
	if q.After != "" {
		at, id, err := parseCursor(q.After)
		if err != nil {
			return "", nil, err
		}
		add(`(a.at < ? OR a.at = ? AND a.id < ?)`, at, at, id)
	}
	if len(all) > 0 {
		text = ` WHERE ` + strings.Join(all, ` AND `)
	}
	return text, args, nil
}

// cursor names the entry that a page ended with.
func cursor(e Entry) string { return strconv.FormatInt(store.Micros(e.At), 10) + "-" + e.ID }

func parseCursor(text string) (at int64, id string, err error) {
	before, id, ok := strings.Cut(text, "-")
	at, err = strconv.ParseInt(before, 10, 64)
	if !ok || err != nil || at < 0 || len(id) > 64 || id == "" || strings.ContainsFunc(id, func(c rune) bool { return (c < 'A' || c > 'Z') && (c < '0' || c > '9') }) {
		return 0, "", problem.New(problem.BadRequest, "The parameter after must be what the page before called next.").Because(errors.Join(err))
	}
	return at, id, nil
}
