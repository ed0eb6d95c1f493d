package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"

	"mpr/company"
)

// hint finds the company that a call of an older application names elsewhere than in the
// header: in the path (/companies/5/...), in the query, or in a small body. 0 if it names
// none. Only the legacy door asks; whether the places agree is for the region to check.
func (c *call) hint() (company.ID, error) {
	if id := idBehind(c.target.path, "companies"); id != 0 {
		return id, nil
	}
	text, err := c.named("company_id")
	return hinted(text), err
}

// projectInPath is the project that a path names (/projects/5/...); 0 if it names none.
func projectInPath(path string) company.ID { return idBehind(path, "projects") }

// idBehind finds the id behind the first segment of that name.
func idBehind(path, name string) company.ID {
	_, rest, ok := strings.Cut(path, "/"+name+"/")
	if !ok {
		return 0
	}
	segment, _, _ := strings.Cut(rest, "/")
	return hinted(segment)
}

// named finds the value of a parameter in the query or in a small body, empty if it is in
// neither. An error says that the client's body could not be read.
func (c *call) named(name string) (string, error) {
	if value := inForm(c.target.query, name); value != "" || c.body == nil {
		return value, nil
	}
	kind, parameters, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil {
		return "", nil //nolint:nilerr // a body of an unknown kind names nothing
	}
	read := map[string]func(content []byte) string{
		"application/json":                  func(content []byte) string { return inJSON(content, name) },
		"application/x-www-form-urlencoded": func(content []byte) string { return inForm(string(content), name) },
		"multipart/form-data":               func(content []byte) string { return inMultipart(content, parameters["boundary"], name) },
	}[kind]
	if read == nil {
		return "", nil
	}
	content, whole, err := c.body.peek()
	if err != nil || !whole && kind != "application/json" {
		return "", err // of a form the last field could be cut
	}
	return read(content), nil
}

// inForm finds a parameter in a query or in a form.
func inForm(form, name string) string {
	for pair := range strings.SplitSeq(form, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(key); err != nil || key != name {
			continue
		}
		if value, err := url.QueryUnescape(value); err == nil {
			return value
		}
	}
	return ""
}

// inJSON finds a member of a JSON object, a number or a string.
func inJSON(content []byte, name string) string {
	dec := json.NewDecoder(bytes.NewReader(content))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return ""
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return ""
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil || dec.InputOffset() == int64(len(content)) {
			return "" // the rest of it isn't there
		}
		if key != name {
			continue
		}
		var text string
		if json.Unmarshal(value, &text) == nil {
			return text
		}
		return string(value)
	}
	return ""
}

// inMultipart finds a field of a form with parts.
func inMultipart(content []byte, boundary, name string) string {
	if boundary == "" {
		return ""
	}
	for r := multipart.NewReader(bytes.NewReader(content), boundary); ; {
		part, err := r.NextPart()
		if err != nil {
			return ""
		}
		if part.FormName() != name {
			continue
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return ""
		}
		return string(value)
	}
}

func hinted(s string) company.ID {
	id, err := company.ParseID(s)
	if err != nil {
		return 0
	}
	return id
}
