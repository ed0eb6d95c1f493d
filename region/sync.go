package region

import (
	"context"
	"errors"
	"net/http"

	"mpr/problem"
)

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

// sync makes or changes many objects: those with an id are changed, the others made. Each
// is a write of its own; one that is refused doesn't keep the others from being saved.
func (s *Service) sync(ctx context.Context, c *call, save func(in object, id int64) (any, error)) (int, any, error) {
	updates, err := c.body.updates()
	if err != nil {
		return 0, nil, err
	}
	answer := syncAnswer{Entities: []any{}, Errors: []syncError{}}
	for i, in := range updates {
		f, id := in.fields(), int64(0)
		f.id("id", &id)
		err := f.problem()
		var saved any
		if err == nil {
			saved, err = save(in, id)
		}
		var refusal *problem.Problem
		switch {
		case err == nil:
			answer.Entities = append(answer.Entities, saved)
		case errors.As(err, &refusal) && refusal.Code.Status() < http.StatusInternalServerError:
			answer.Errors = append(answer.Errors, syncError{i, refusal.Code, refusal.Message, refusal.Fields})
		default:
			return 0, nil, err
		}
	}
	return http.StatusOK, answer, nil
}
