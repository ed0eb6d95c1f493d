package region

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"mpr/problem"
)

// object is a JSON object whose members have not been looked into yet. No name stands in
// it twice: of two, one reader would see the first and another the second.
type object map[string]json.RawMessage

// readBody reads the request's JSON object; an empty one where there is no body.
func readBody(w http.ResponseWriter, r *http.Request, most int64) (object, error) {
	data, err := readAll(w, r, most)
	if err != nil {
		return nil, err
	}
	// A client that encodes "no payload" as JSON sends null.
	if text := bytes.TrimSpace(data); len(text) == 0 || string(text) == "null" {
		return object{}, nil
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, problem.New(problem.UnsupportedMediaType, "Send the body as JSON, with the header \"Content-Type: application/json\".")
	}
	charset, coding := params["charset"], r.Header.Get("Content-Encoding")
	if charset != "" && !strings.EqualFold(charset, "utf-8") || coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, problem.New(problem.UnsupportedMediaType, "Send the body in UTF-8 and without a Content-Encoding.")
	}
	return readObject(data)
}

// readAll reads the request's body, of at most so many bytes.
func readAll(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return nil, problem.New(problem.BodyTooLarge, "The body is larger than %d bytes.", most)
	}
	if err != nil {
		return nil, problem.New(problem.BadRequest, "The body could not be read to its end.").Because(err)
	}
	return data, nil
}

func malformed(why string) *problem.Problem {
	return problem.New(problem.MalformedJSON, "The body is not a JSON object: %s.", why)
}

// readObject reads one JSON object and nothing after it. Nesting is bounded by package
// json; members stay raw until somebody wants them.
func readObject(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, malformed("it isn't UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
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

// object takes a member that is an object.
func (o object) object(name string) (object, bool) {
	inner, err := readObject(o[name])
	return inner, err == nil
}

// objects takes a member that is a list of objects.
func (o object) objects(name string) ([]object, bool) {
	var raw []json.RawMessage
	if err := json.Unmarshal(o[name], &raw); err != nil || raw == nil {
		return nil, false
	}
	list := make([]object, len(raw))
	for i := range raw {
		var err error
		if list[i], err = readObject(raw[i]); err != nil {
			return nil, false
		}
	}
	return list, true
}

// idText takes a member that is to be an id as it is written, whether as a number or as a
// string: clients send both. null is as good as nothing.
func (o object) idText(name string) (text string, ok bool) {
	raw := o[name]
	if len(raw) == 0 || string(raw) == "null" {
		return "", false
	}
	if json.Unmarshal(raw, &text) == nil {
		return text, true
	}
	return string(raw), true
}

// wrapped takes the object that the body wraps: {"project": {...}}.
func (o object) wrapped(name string) (object, error) {
	if inner, ok := o.object(name); ok {
		return inner, nil
	}
	return nil, problem.New(problem.BadRequest, "The body must wrap the object, with no name in it twice: {%q: {...}}.", name)
}

// maxUpdates bounds a sync.
const maxUpdates = 1000

// updates takes the list of a sync: {"updates": [{...}, ...]}.
func (o object) updates() ([]object, error) {
	list, ok := o.objects("updates")
	if !ok || len(list) > maxUpdates {
		return nil, problem.New(problem.BadRequest, "The body must be {\"updates\": [{...}, ...]}, with at most %d of them and no name twice.", maxUpdates)
	}
	return list, nil
}
