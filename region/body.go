package region

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"mpr/company"
	"mpr/problem"
)

// object is a JSON object whose members have not been looked into yet. No name stands in
// it twice: of two, one check might see the first and another the second.
type object map[string]json.RawMessage

// readBody reads the request's JSON object; an empty one where there is no body.
func (s *Service) readBody(c *call) (object, error) {
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, s.MaxBody))
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return nil, problem.New(problem.BodyTooLarge, "The body is larger than %d bytes.", s.MaxBody)
	}
	if err != nil {
		return nil, problem.New(problem.BadRequest, "The body could not be read to its end.").Because(err)
	}
	// A client that encodes "no payload" as JSON sends null.
	if text := bytes.TrimSpace(data); len(text) == 0 || string(text) == "null" {
		return object{}, nil
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, problem.New(problem.UnsupportedMediaType, "Send the body as JSON, with the header \"Content-Type: application/json\".")
	}
	return readObject(data)
}

func malformed(why string) *problem.Problem {
	return problem.New(problem.MalformedJSON, "The body is not a JSON object: %s.", why)
}

// readObject reads one JSON object and nothing after it.
func readObject(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, malformed("it isn't UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, malformed("it must start with {").Because(err)
	}
	o := object{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, malformed("a name is missing").Because(err)
		}
		name, _ := t.(string) // a member's name is a string
		if _, twice := o[name]; twice {
			return nil, malformed("a name stands in it twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, malformed("a value is cut off or wrong").Because(err)
		}
		o[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed("it is cut off").Because(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("something follows it")
	}
	return o, nil
}

// member takes a member that is an object.
func (o object) member(name string) (object, error) {
	raw, ok := o[name]
	if !ok {
		return nil, problem.New(problem.BadRequest, "The body must wrap the object: {%q: {...}}.", name)
	}
	inner, err := readObject(raw)
	if err != nil {
		return nil, problem.New(problem.BadRequest, "%q must be an object.", name).Because(err)
	}
	return inner, nil
}

// updates takes the list of a sync: {"updates": [{...}, ...]}.
func (o object) updates() ([]object, error) {
	wrong := problem.New(problem.BadRequest, "The body must be {\"updates\": [{...}, ...]}, with at most %d of them.", maxUpdates)
	var raw []json.RawMessage
	if err := json.Unmarshal(o["updates"], &raw); err != nil || len(raw) > maxUpdates {
		return nil, wrong.Because(err)
	}
	list := make([]object, len(raw))
	for i, r := range raw {
		var err error
		if list[i], err = readObject(r); err != nil {
			return nil, wrong.Because(err)
		}
	}
	return list, nil
}

// maxUpdates bounds a sync.
const maxUpdates = 1000

// checkObject refuses a body that names another company: as company_id at the top, or
// one level down, within a wrapped object or the objects of a sync.
func (s *Service) checkObject(c *call, o object) error {
	if err := s.checkCompanyID(c, o); err != nil {
		return err
	}
	for _, raw := range o {
		if inner, err := readObject(raw); err == nil {
			if err := s.checkCompanyID(c, inner); err != nil {
				return err
			}
		}
	}
	if _, ok := o["updates"]; ok {
		list, err := o.updates()
		if err != nil {
			return err
		}
		for _, inner := range list {
			if err := s.checkCompanyID(c, inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkCompanyID takes the id as a number or as a string: clients send both.
func (s *Service) checkCompanyID(c *call, o object) error {
	raw, ok := o["company_id"]
	if !ok || string(raw) == "null" {
		return nil
	}
	text := string(raw)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(raw, &text); err != nil {
			return s.mismatch()
		}
	}
	if id, err := company.ParseID(text); err != nil || id != c.company {
		return s.mismatch()
	}
	return nil
}

// fields reads the members of an object that a resource knows, and collects what is
// wrong with them. Members that it doesn't know are left alone, as clients of such APIs
// expect.
type fields struct {
	object object
	wrong  map[string][]string
}

func (o object) fields() *fields { return &fields{o, map[string][]string{}} }

func (f *fields) fail(name, why string) { f.wrong[name] = append(f.wrong[name], why) }

// has says whether the member was sent.
func (f *fields) has(name string) bool { _, ok := f.object[name]; return ok }

// text reads a string of at most that many characters into to, if it was sent.
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
		f.fail(name, "must not contain NUL")
	case utf8.RuneCountInString(*value) > most:
		f.fail(name, fmt.Sprintf("is too long (maximum is %d characters)", most))
	default:
		*to = *value
	}
}

// flag reads a boolean into to, if it was sent.
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

// id reads an id into to, if it was sent.
func (f *fields) id(name string, to *int64) {
	if !f.has(name) {
		return
	}
	id, err := company.ParseID(string(f.object[name])) // the same form: a positive decimal number
	if err != nil {
		f.fail(name, "must be an id")
		return
	}
	*to = int64(id)
}

// present wants a text that isn't blank.
func (f *fields) present(name, value string) {
	if len(f.wrong[name]) == 0 && strings.TrimSpace(value) == "" {
		f.fail(name, "can't be blank")
	}
}

// problem is nil where nothing is wrong.
func (f *fields) problem() error {
	if len(f.wrong) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The object can't be saved: see \"errors\" for what is wrong with which field.")
	p.Fields = f.wrong
	return p
}

// The longest texts.
const (
	maxName = 255
	maxText = 65_535
)
