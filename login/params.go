package login

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"

	"mpr/problem"
)

// params are the parameters of a request to an OAuth endpoint. Each was sent once:
// "Request and response parameters MUST NOT be included more than once" (RFC 6749
// section 3.2). An empty value counts as not sent (section 3.1).
type params map[string]string

const (
	// maxParams bounds the body of a request to an OAuth endpoint.
	maxParams = 64 << 10
	// maxParamCount bounds how many parameters are looked at.
	maxParamCount = 64
)

// readParams reads parameters from the query and the body: form, multipart or JSON, as
// public clients send them. Other content is refused.
func readParams(w http.ResponseWriter, r *http.Request) (params, error) {
	p := params{}
	if err := p.addQuery(r.URL.RawQuery); err != nil {
		return nil, err
	}
	if r.Method != http.MethodPost {
		return p, nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxParams)
	contentType := r.Header.Get("Content-Type")
	if contentType == "" {
		return p, p.addUntyped(r.Body)
	}
	kind, attributes, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, unsupportedType(contentType)
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		return p, p.addForm(r.Body)
	case "multipart/form-data":
		return p, p.addMultipart(r.Body, attributes["boundary"])
	case "application/json":
		return p, p.addJSON(r.Body)
	}
	return nil, unsupportedType(kind)
}

func unsupportedType(contentType string) error {
	return problem.New(problem.InvalidRequest,
		"The content type %s can't be read here. Send application/x-www-form-urlencoded, multipart/form-data or application/json.", printable(contentType))
}

// printable cuts what a client sent down to what an error may repeat.
func printable(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' { // RFC 6749 section 5.2 allows these characters only
			return -1
		}
		return r
	}, s)
}

// add takes one parameter.
func (p params) add(name, value string) error {
	if value == "" {
		return nil
	}
	if _, twice := p[name]; twice {
		return problem.New(problem.InvalidRequest, "The parameter %s was sent more than once. Send it once.", printable(name))
	}
	if len(p) == maxParamCount {
		return problem.New(problem.InvalidRequest, "The request has more than %d parameters.", maxParamCount)
	}
	p[name] = value
	return nil
}

func (p params) addQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return problem.New(problem.InvalidRequest, "The parameters are not URL-encoded properly.").Because(err)
	}
	return p.addValues(values)
}

func (p params) addValues(values url.Values) error {
	for name, list := range values {
		for _, value := range list {
			if err := p.add(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p params) addForm(body io.Reader) error {
	data, err := readAll(body)
	if err != nil {
		return err
	}
	return p.addQuery(string(data))
}

// addUntyped takes a body that doesn't say what it is, which must be none at all: then the
// parameters stand in the query.
func (p params) addUntyped(body io.Reader) error {
	data, err := readAll(body)
	if err != nil || len(data) == 0 {
		return err
	}
	return problem.New(problem.InvalidRequest, "The body has no Content-Type. Send application/x-www-form-urlencoded, multipart/form-data or application/json.")
}

// addMultipart takes the fields of a multipart form (RFC 7578), as `curl -F` sends it.
func (p params) addMultipart(body io.Reader, boundary string) error {
	malformed := problem.New(problem.InvalidRequest, "The multipart body is malformed.")
	data, err := readAll(body)
	if err != nil {
		return err
	}
	// The reader takes the end of the data for the end of the form, but a form that was cut
	// off must not count as whole.
	if boundary == "" || !bytes.Contains(data, []byte("--"+boundary+"--")) {
		return malformed
	}
	parts := multipart.NewReader(bytes.NewReader(data), boundary)
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return malformed.Because(err)
		}
		if part.FormName() == "" {
			return malformed
		}
		if part.FileName() != "" {
			return problem.New(problem.InvalidRequest, "The parameter %s was sent as a file. Send it as a field.", printable(part.FormName()))
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return malformed.Because(err)
		}
		if err := p.add(part.FormName(), string(value)); err != nil {
			return err
		}
	}
}

// addJSON takes the members of a JSON object: strings, and numbers and booleans as they
// are written. null counts as not sent, and so does an empty body, of clients that set
// the content type on each request. The object is read token by token, since a map would
// keep the last of two members with one name and hide the first.
func (p params) addJSON(body io.Reader) error {
	malformed := problem.New(problem.InvalidRequest, "The body is not a JSON object of strings.")
	data, err := readAll(body)
	if err != nil || len(data) == 0 {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return malformed.Because(err)
	}
	for dec.More() {
		member, err := dec.Token()
		name, ok := member.(string)
		if err != nil || !ok {
			return malformed.Because(err)
		}
		value, err := dec.Token()
		if err != nil {
			return malformed.Because(err)
		}
		switch v := value.(type) {
		case nil:
			continue
		case string, json.Number, bool:
			err = p.add(name, fmt.Sprint(v))
		default:
			err = problem.New(problem.InvalidRequest, "The parameter %s is not a string.", printable(name))
		}
		if err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return malformed.Because(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed
	}
	return nil
}

func readAll(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, tooLarge(err, problem.New(problem.InvalidRequest, "The body could not be read to its end.").Because(err))
	}
	return data, nil
}

// tooLarge tells a body over the limit, of size or time, from other failures.
func tooLarge(err, otherwise error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem.New(problem.BodyTimeout, "The body took too long to arrive.").Because(err)
	}
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return problem.New(problem.BodyTooLarge, "The body is larger than %d bytes.", maxParams)
	}
	return otherwise
}
