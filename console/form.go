package console

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

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
