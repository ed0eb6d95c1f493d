package region

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mpr/company"
	"mpr/problem"
)

// The longest texts, in characters.
const (
	maxName = 255
	maxText = 65_535
)

// fields reads the members of an object that a resource knows into values that are there
// already, and collects what is wrong with them, so that a client hears of all at once.
// What wasn't sent leaves its value as it was: so making and changing are the same.
// Members that a resource doesn't know are left alone, as clients of such APIs expect.
type fields struct {
	object object
	wrong  map[string][]string
}

func (o object) fields() *fields { return &fields{o, map[string][]string{}} }

func (f *fields) fail(name, why string) { f.wrong[name] = append(f.wrong[name], why) }

// has says whether the member was sent.
func (f *fields) has(name string) bool { _, ok := f.object[name]; return ok }

// text reads a string of at most that many characters.
func (f *fields) text(name string, to *string, most int) {
	if !f.has(name) {
		return
	}
	var value *string
	switch err := json.Unmarshal(f.object[name], &value); {
	case err != nil:
		f.fail(name, "must be a string")
	case value == nil:
		*to = ""
	case strings.ContainsRune(*value, 0):
		f.fail(name, "must not contain NUL") // PostgreSQL can't keep it
	case utf8.RuneCountInString(*value) > most:
		f.fail(name, fmt.Sprintf("is too long (maximum is %d characters)", most))
	default:
		*to = *value
	}
}

// name reads a text that must not be blank in the end, whether sent or not.
func (f *fields) name(name string, to *string) {
	f.text(name, to, maxName)
	if strings.ContainsFunc(*to, unicode.IsControl) {
		f.fail(name, "must not contain control characters")
	}
	f.present(name, *to)
}

func (f *fields) present(name, value string) {
	if len(f.wrong[name]) == 0 && strings.TrimSpace(value) == "" {
		f.fail(name, "can't be blank")
	}
}

// choice reads one of some texts.
func (f *fields) choice(name string, to *string, of ...string) {
	f.text(name, to, maxName)
	if len(f.wrong[name]) == 0 && !slices.Contains(of, *to) {
		f.fail(name, "must be one of "+strings.Join(of, ", "))
	}
}

// flag reads a boolean.
func (f *fields) flag(name string, to *bool) {
	if !f.has(name) {
		return
	}
	var value *bool
	if err := json.Unmarshal(f.object[name], &value); err != nil || value == nil {
		f.fail(name, "must be true or false")
		return
	}
	*to = *value
}

// id reads an id; one that wasn't sent, or is null, stays as it was.
func (f *fields) id(name string, to *int64) {
	text, ok := f.object.idText(name)
	if !ok {
		return
	}
	id, err := company.ParseID(text) // the same form: a positive decimal number
	if err != nil {
		f.fail(name, "must be an id")
		return
	}
	*to = int64(id)
}

// ids reads a list of ids, sorted and each once; null, or nothing, is nil.
func (f *fields) ids(name string) *[]int64 {
	if !f.has(name) {
		return nil
	}
	var list *[]int64
	if err := json.Unmarshal(f.object[name], &list); err != nil || list != nil && slices.ContainsFunc(*list, func(id int64) bool { return id <= 0 }) {
		f.fail(name, "must be a list of ids, or null")
		return nil
	}
	if list == nil {
		return nil
	}
	slices.Sort(*list)
	*list = slices.Compact(*list)
	return list
}

// problem is nil where nothing is wrong.
func (f *fields) problem() error {
	if len(f.wrong) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The object can't be saved: some fields are wrong.")
	p.Fields = f.wrong
	return p
}
