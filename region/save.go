package region

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

// saver makes an object from what a client sent, or changes the one with this id where it
// isn't 0. What it refuses with a problem it has not begun to write.
type saver func(ctx context.Context, w *writer, c *call, in object, id int64) (any, error)

// create makes the object that the body wraps.
func (s *Service) create(ctx context.Context, c *call, name string, save saver) (int, any, error) {
	saved, err := s.saveWrapped(ctx, c, name, 0, save)
	return http.StatusCreated, saved, err
}

// update changes the object that the path names by this variable.
func (s *Service) update(ctx context.Context, c *call, name, variable string, save saver) (int, any, error) {
	id, err := pathID(c, variable)
	if err != nil {
		return 0, nil, err
	}
	saved, err := s.saveWrapped(ctx, c, name, id, save)
	return http.StatusOK, saved, err
}

func (s *Service) saveWrapped(ctx context.Context, c *call, name string, id int64, save saver) (saved any, err error) {
	in, err := c.body.wrapped(name)
	if err != nil {
		return nil, err
	}
	err = s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		saved, err = save(ctx, w, c, in, id)
		return err
	})
	return saved, err
}

// syncAnswer lists what a sync has saved, and what it hasn't.
type syncAnswer struct {
	Entities []any       `json:"entities"`
	Errors   []syncError `json:"errors"`
}

// syncError is an update that wasn't made.
type syncError struct {
	Index   int                 `json:"index"`
	Code    problem.Code        `json:"code"`
	Message string              `json:"message"`
	Errors  map[string][]string `json:"errors,omitempty"`
}

// sync makes or changes many objects, in one transaction: those with an id are changed,
// the others made. One that is refused doesn't keep the others from being saved.
func (s *Service) sync(ctx context.Context, c *call, save saver) (int, any, error) {
	updates, err := c.body.updates()
	if err != nil {
		return 0, nil, err
	}
	var answer syncAnswer
	err = s.write(ctx, c.company, c.epoch, func(w *writer) error {
		answer = syncAnswer{Entities: []any{}, Errors: []syncError{}}
		for i, in := range updates {
			saved, err := saveUpdate(ctx, w, c, in, save)
			var refusal *problem.Problem
			switch {
			case err == nil:
				answer.Entities = append(answer.Entities, saved)
			case errors.As(err, &refusal):
				answer.Errors = append(answer.Errors, syncError{i, refusal.Code, refusal.Message, refusal.Fields})
			default:
				return err
			}
		}
		return nil
	})
	return http.StatusOK, answer, err
}

func saveUpdate(ctx context.Context, w *writer, c *call, in object, save saver) (any, error) {
	f, id := in.fields(), int64(0)
	f.id("id", &id)
	if err := f.problem(); err != nil {
		return nil, err
	}
	return save(ctx, w, c, in, id)
}

// remove deletes an object and answers how it was: clients parse every answer as JSON.
func (s *Service) remove(ctx context.Context, c *call, remove func(context.Context, *writer, *call) (any, error)) (int, any, error) {
	var removed any
	err := s.write(ctx, c.company, c.epoch, func(w *writer) (err error) {
		removed, err = remove(ctx, w, c)
		return err
	})
	return http.StatusOK, removed, err
}

// nextID takes an id of the region's block. One sequence serves all resources.
func (s *Service) nextID(ctx context.Context, tx *sql.Tx) (id int64, err error) {
	if err := tx.QueryRowContext(ctx, `UPDATE ids SET last = last + 1 RETURNING last`).Scan(&id); err != nil {
		return 0, fmt.Errorf("take an id: %w", err)
	}
	if id >= company.FirstID(s.Number+1) {
		return 0, fmt.Errorf("region %s has no ids left", s.Code)
	}
	return id, nil
}

// pathID reads an id from the path. What isn't one names nothing.
func pathID(c *call, name string) (int64, error) {
	id, err := company.ParseID(c.r.PathValue(name)) // the same form: a positive decimal number
	if err != nil {
		return 0, errNothingHere
	}
	return int64(id), nil
}

// errNothingHere is also the answer for what the caller may not see: "404, not 403".
var errNothingHere = problem.New(problem.NotFound, "There is nothing at this path.")

// found turns the answer of a row's scan: no row is nothing.
func found[T any](row *T, err error) (*T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNothingHere
	}
	return row, err
}

// stamp is how a time is shown.
func stamp(micros int64) string { return store.Time(micros).Format(time.RFC3339) }
