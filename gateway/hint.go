package gateway

import (
	"encoding/json"
	"mime"
	"net/url"
	"strings"

	"mpr/company"
)

// hint finds the company that a call of an older application names elsewhere than in the
// header: in the path (/companies/5/...), in the query, or in a small body. 0 if it names
// none. Only the legacy door asks; whether the places agree is for the region to check.
func (c *call) hint() (company.ID, error) {
	if id := companyInPath(c.target.path); id != 0 {
		return id, nil
	}
	if id := companyInForm(c.target.query); id != 0 {
		return id, nil
	}
	if c.body == nil {
		return 0, nil
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil {
		return 0, nil //nolint:nilerr // a body of an unknown kind names no company
	}
	switch kind {
	case "application/json":
		content, err := c.body.peek()
		return companyInJSON(content), err
	case "application/x-www-form-urlencoded":
		content, err := c.body.peek()
		return companyInForm(string(content)), err
	}
	return 0, nil
}

// companyInPath finds the id behind the first segment "companies".
func companyInPath(path string) company.ID {
	_, rest, ok := strings.Cut(path, "/companies/")
	if !ok {
		return 0
	}
	segment, _, _ := strings.Cut(rest, "/")
	return hinted(segment)
}

// companyInForm finds company_id in a query or in a form.
func companyInForm(query string) company.ID {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err != nil || name != "company_id" {
			continue
		}
		if value, err := url.QueryUnescape(value); err == nil {
			return hinted(value)
		}
	}
	return 0
}

// companyInJSON finds company_id in a JSON object, as a number or as a string.
func companyInJSON(content []byte) company.ID {
	var object struct {
		Company json.RawMessage `json:"company_id"`
	}
	if json.Unmarshal(content, &object) != nil {
		return 0
	}
	return hinted(strings.Trim(string(object.Company), `"`))
}

func hinted(s string) company.ID {
	id, err := company.ParseID(s)
	if err != nil {
		return 0
	}
	return id
}
