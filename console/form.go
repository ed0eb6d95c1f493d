package console

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/operator"
	"mpr/problem"
)

// verb is which of a form's buttons was pressed, one of these.
func (q *request) verb(known ...string) (string, error) {
	if verb := q.r.PostFormValue("verb"); slices.Contains(known, verb) {
		return verb, nil
	}
	return "", problem.New(problem.BadRequest, "The form doesn't say what to do: %s.", strings.Join(known, " or "))
}

// moment reads a time from a field for one, which has no zone: it is UTC.
func (q *request) moment(field string) (time.Time, error) {
	text := q.r.PostFormValue(field)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, badField(field, "must be a time such as 2019-04-01T14:00 (UTC)")
}

// number reads a number from a field, 0 where it is empty.
func (q *request) number(field string) (int64, error) {
	text := strings.TrimSpace(q.r.PostFormValue(field))
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, badField(field, "must be a number")
	}
	return n, nil
}

// percent reads a number of percent that isn't none at all.
func (q *request) percent(field string) (int64, error) {
	n, err := q.number(field)
	if err != nil || n < 1 || n > 100 {
		return 0, badField(field, "must be a whole number of percent, from 1 to 100")
	}
	return n, nil
}

// lines are what stands in a field of several lines.
func lines(text string) []string {
	list := []string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// key is the idempotency key of a form: the one that was sent, so that what is wrong can be corrected,
// or a new one where that stands for something that was made.
func (q *request) key() string {
	sent := q.r.PostFormValue("key")
	if q.problem != nil && (q.problem.Code == problem.KeyReused || q.problem.Code == problem.Forbidden) {
		sent = ""
	}
	return cmp.Or(sent, operator.NewSecret())
}

// reused says in words of the form, which shows no key, that its key was used before.
func (q *request) reused(err error) error {
	if !errors.Is(err, problem.New(problem.KeyReused, "")) {
		return err
	}
	return problem.New(problem.KeyReused, "This form was sent before with other content. Nothing was changed now. Look whether what it asked for then was made, and send it again if you want what it says by now as well.").Because(err)
}

func badField(field, why string) error {
	p := problem.New(problem.Invalid, "Some fields can't be used.")
	p.Fields = map[string][]string{field: {why}}
	return p
}

// shortFields names the fields of a problem as the form does: without their place in the campaign.
// What a form adds is all of it that can be wrong.
func shortFields(err error) error {
	var p *problem.Problem
	if !errors.As(err, &p) {
		return err
	}
	short := *p
	short.Fields = map[string][]string{}
	for field, whys := range p.Fields {
		short.Fields[field[strings.LastIndexByte(field, '.')+1:]] = whys
	}
	return &short
}

// wrong is what is wrong with a field of the form that was sent.
func wrong(p *problem.Problem, field string) []string {
	if p == nil {
		return nil
	}
	return p.Fields[field]
}

// ticked says whether a box is ticked: as it was sent, where a form with that other field was.
func ticked(sent url.Values, other, box string, otherwise bool) bool {
	if sent.Has(other) {
		return sent.Get(box) != ""
	}
	return otherwise
}
