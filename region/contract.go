package region

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/problem"
	"mpr/store"
)

// The region's side of a move is an HTTP contract, which docs/region-contract.md describes: a
// mover calls it, at the source and at the destination. Each operation may be repeated.
const (
	contractPath = "/contract/v1/companies/{company_id}"
	// maxContractBody bounds the body of an operation, in bytes: a batch of rows.
	maxContractBody = 24 << 20
	// contractBytes is how many bytes of rows or changes an answer has, but for the last one.
	contractBytes = 4 << 20
	// contractRows is how many rows or changes an answer has at the most.
	contractRows = 1000
)

// moveCall is a call of the contract.
type moveCall struct {
	company company.ID
	query   url.Values
	size    int64 // of the body, in bytes
	// Move and Turn say which move it is for, and which of its movers it is from.
	Move string `json:"move"`
	Turn int64  `json:"turn"`

	Epoch   company.Epoch  `json:"epoch"`
	Region  company.Region `json:"region"`
	Version int64          `json:"version"`
	Table   string         `json:"table"`
	// A page of rows begins after the key Since and ends with the key After.
	Since   string            `json:"since"`
	After   string            `json:"after"`
	Last    bool              `json:"last"`
	Rows    []json.RawMessage `json:"rows"`
	Changes []loggedChange    `json:"changes"`
	// Reuse says that what is here of the version is a good start.
	Reuse bool `json:"reuse"`
}

func (s *Service) handleContract(mux *http.ServeMux) {
	for pattern, op := range map[string]func(context.Context, *moveCall) (any, error){
		"GET state":     s.moveState,
		"GET rows":      s.moveRows,
		"GET changes":   s.moveChanges,
		"GET checksum":  s.moveChecksum,
		"POST depart":   atEpoch(s.moveDepart),
		"POST freeze":   atEpoch(s.moveFreeze),
		"POST thaw":     atEpoch(s.moveThaw),
		"POST leave":    atEpoch(s.moveLeave),
		"POST purge":    s.movePurge,
		"POST arrive":   atEpoch(s.moveArrive),
		"POST rows":     s.moveTakeRows,
		"POST changes":  s.moveTakeChanges,
		"POST activate": atEpoch(s.moveActivate),
		"POST abandon":  s.moveAbandon,
		"POST settle":   s.moveSettle,
	} {
		method, verb := pattern[:3], pattern[4:]
		if method == "POS" {
			method, verb = "POST", pattern[5:]
		}
		mux.Handle(method+" "+contractPath+"/"+verb, s.answerContract(op))
	}
}

// atEpoch wants an operation to name an epoch.
func atEpoch(op func(context.Context, *moveCall) (any, error)) func(context.Context, *moveCall) (any, error) {
	return func(ctx context.Context, c *moveCall) (any, error) {
		if c.Epoch <= 0 {
			return nil, problem.New(problem.Invalid, "The body must name an epoch above 0.")
		}
		return op(ctx, c)
	}
}

func (s *Service) answerContract(op func(context.Context, *moveCall) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.readContract(w, r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		answer := func() (any, error) { return op(r.Context(), c) }
		if r.Method == http.MethodGet { // of these two read all rows
			s.slowly(w, r, beginWithin, answer)
			return
		}
		s.run(w, r, func(context.Context, *call) (int, any, error) {
			body, err := answer()
			return http.StatusOK, body, err
		}, nil)
	})
}

func (s *Service) readContract(w http.ResponseWriter, r *http.Request) (*moveCall, error) {
	if err := intercom.Admit(w, r, s.Secret); err != nil {
		return nil, err
	}
	c := &moveCall{query: r.URL.Query()}
	if r.Method == http.MethodPost {
		data, err := readAll(w, r, maxContractBody)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, c); err != nil || string(bytes.TrimSpace(data)) == "null" {
			return nil, malformed("it can't be read").Because(err)
		}
		c.size = int64(len(data))
		if c.Move == "" || len(c.Move) > maxName || strings.ContainsRune(c.Move, 0) || c.Turn <= 0 {
			return nil, problem.New(problem.Invalid, "The body must name the move, in at most %d bytes, and a turn above 0.", maxName)
		}
		if c.Version < 0 || c.Epoch < 0 {
			return nil, problem.New(problem.Invalid, "The body must name no epoch and no version below 0.")
		}
	}
	var err error
	if c.company, err = company.ParseID(r.PathValue("company_id")); err != nil {
		return nil, errNothingHere
	}
	return c, nil
}

// number reads a parameter of the query that is a number from 0 on.
func (c *moveCall) number(name string, otherwise int64) (int64, error) {
	text := c.query.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, problem.New(problem.BadRequest, "The parameter %s must be a number from 0 on.", name)
	}
	return n, nil
}

// act runs f in a transaction that commits only where no mover with a later turn has acted
// on the company. It takes the row of the company's moves first, so that movers of one
// company act one after the other.
func (s *Service) act(ctx context.Context, c *moveCall, f func(*sql.Tx) error) error {
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO moves (company_id, move_id, turn) VALUES ($1, $2, $3)
			ON CONFLICT (company_id) DO UPDATE SET move_id = excluded.move_id, turn = excluded.turn,
				abandoned = CASE WHEN moves.move_id = excluded.move_id THEN moves.abandoned ELSE 0 END
			WHERE moves.turn <= excluded.turn`,
			int64(c.company), c.Move, c.Turn)
		if err != nil {
			return fmt.Errorf("take the turn: %w", err)
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, problem.New(problem.MoverReplaced, "A mover with a later turn than %d has taken over company %d.", c.Turn, c.company))
		}
		return f(tx)
	})
}

// moveState is what a region says of a company that moves.
type moveState struct {
	Fence   *fence           `json:"fence"`
	Arrival *arrival         `json:"arrival"`
	Turn    int64            `json:"turn"`
	Rows    map[string]int64 `json:"rows,omitempty"`
	// Bytes is about what the company takes, where the rows are counted.
	Bytes int64 `json:"bytes,omitempty"`
	// Room is how many bytes of companies may arrive; nil where that isn't known.
	Room *int64 `json:"room,omitempty"`
	// Tables are the tables that move, in the order in which they are copied.
	Tables []string `json:"tables"`
	// Unpublished counts changes that the global index doesn't have yet.
	Unpublished int64 `json:"unpublished"`
}

// moveState tells how things stand. ?rows=1 counts the rows and estimates the bytes.
func (s *Service) moveState(ctx context.Context, c *moveCall) (any, error) {
	var state moveState
	err := s.DB.Snapshot(ctx, func(tx *sql.Tx) (err error) {
		state = moveState{}
		var unknown *notOwned
		if state.Fence, err = readFence(ctx, tx, c.company); errors.As(err, &unknown) {
			state.Fence, err = nil, nil
		}
		if err != nil {
			return err
		}
		if state.Arrival, err = readArrival(ctx, tx, c.company); err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx, `SELECT turn FROM moves WHERE company_id = $1`, int64(c.company)).Scan(&state.Turn)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read the turn: %w", err)
		}
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM change_log WHERE company_id = $1 AND published = 0`, int64(c.company)).Scan(&state.Unpublished); err != nil {
			return fmt.Errorf("count changes: %w", err)
		}
		for _, t := range moving() {
			state.Tables = append(state.Tables, t.name)
		}
		if c.query.Get("rows") == "1" {
			if state.Rows, err = countRows(ctx, tx, c.company); err != nil {
				return err
			}
			if state.Bytes, err = takes(ctx, tx, c.company, state.Rows); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	state.Room, err = s.room(ctx)
	return state, err
}

func countRows(ctx context.Context, q querier, id company.ID) (map[string]int64, error) {
	counts := map[string]int64{}
	for _, t := range moving() {
		var n int64
		if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+t.name+` WHERE company_id = $1`, int64(id)).Scan(&n); err != nil {
			return nil, fmt.Errorf("count %s: %w", t.name, err)
		}
		counts[t.name] = n
	}
	return counts, nil
}

// arrival is how far a company has arrived.
type arrival struct {
	Move    string        `json:"move"`
	Started time.Time     `json:"started"`
	Epoch   company.Epoch `json:"epoch"`
	// Table and After say up to where rows have come; Copied that all have.
	Table   string `json:"table"`
	After   string `json:"after"`
	Copied  bool   `json:"copied"`
	Version int64  `json:"version"`
	Settled int64  `json:"settled"`
}

// readArrival answers nil where the company isn't arriving.
func readArrival(ctx context.Context, q querier, id company.ID) (*arrival, error) {
	var a arrival
	var started int64
	err := q.QueryRowContext(ctx, `SELECT load_id, started, epoch, table_name, after_key, copied, version, settled FROM arrivals WHERE company_id = $1`, int64(id)).
		Scan(&a.Move, &started, &a.Epoch, &a.Table, &a.After, &a.Copied, &a.Version, &a.Settled)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // it isn't arriving, which is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the arrival: %w", err)
	}
	a.Started = store.Time(started)
	return &a, nil
}
