package login

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mpr/problem"
)

func read(query, contentType, body string) (params, error) {
	r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(body))
	r.URL.RawQuery = query
	r.Header.Set("Content-Type", contentType)
	return readParams(httptest.NewRecorder(), r)
}

func TestReadParams(t *testing.T) {
	multi := func(fields ...string) string {
		var b strings.Builder
		for i := 0; i < len(fields); i += 2 {
			b.WriteString("--x\r\nContent-Disposition: form-data; name=\"" + fields[i] + "\"\r\n\r\n" + fields[i+1] + "\r\n")
		}
		return b.String() + "--x--\r\n"
	}
	for name, c := range map[string]struct {
		query, contentType, body string
		want                     params
	}{
		"form":               {"", formType, "a=1&b=x+y%26", params{"a": "1", "b": "x y&"}},
		"query":              {"a=1", formType, "", params{"a": "1"}},
		"query and form":     {"a=1", formType, "b=2", params{"a": "1", "b": "2"}},
		"empty is not sent":  {"a=", formType, "a=1&b=", params{"a": "1"}},
		"multipart":          {"", "multipart/form-data; boundary=x", multi("a", "1", "b", "x\r\ny"), params{"a": "1", "b": "x\r\ny"}},
		"multipart, quoted":  {"", `Multipart/Form-Data; boundary="x"`, multi("a", ""), params{}},
		"multipart, empty":   {"", "multipart/form-data; boundary=x", "--x--\r\n", params{}},
		"JSON":               {"", "application/json", `{"a":"1","b":9007199254740993,"c":true,"d":null,"e":""}`, params{"a": "1", "b": "9007199254740993", "c": "true"}},
		"JSON, query":        {"a=1", "application/json", ``, params{"a": "1"}},
		"JSON, empty object": {"", "application/json; charset=utf-8", ` {} `, params{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(c.query, c.contentType, c.body)
			must(t, err)
			if len(got) != len(c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
		})
	}
}

// Whatever is sent, the parser answers parameters that were sent once, or a refusal that
// says what to do.
func FuzzParams(f *testing.F) {
	for _, s := range [][3]string{
		{"", formType, "grant_type=client_credentials&client_id=a&client_secret=b"},
		{"grant_type=refresh_token&refresh_token=x", "", ""},
		{"", formType, "a=1&a=2"},
		{"a=%zz", formType, "a;b"},
		{"", "application/json", `{"grant_type":"authorization_code","code":"x","n":1e400,"t":true,"z":null}`},
		{"", "application/json", `{"a":"1","a":"2"}`},
		{"", "application/json", `{"a":{"b":[1,2]}}`},
		{"", "application/json", "{\"a\":\"\xff\\ud800\"}"},
		{"", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n"},
		{"", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\n"},
		{"", "multipart/form-data; boundary=", "--\r\n\r\n----"},
		{"", "multipart/form-data; boundary=\"\xff\"", "--\xff--"},
		{"", "text/xml", "<a/>"},
		{"", `a/b; "`, ""},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, query, contentType, body string) {
		p, err := read(query, contentType, body)
		if err != nil {
			var refusal *problem.Problem
			if !errors.As(err, &refusal) || refusal.Code != problem.InvalidRequest && refusal.Code != problem.BodyTooLarge {
				t.Fatalf("no refusal but %v", err)
			}
			if strings.ContainsFunc(refusal.Message, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
				t.Fatalf("the message has characters that RFC 6749 section 5.2 doesn't allow: %q", refusal.Message)
			}
			return
		}
		if len(p) > maxParamCount {
			t.Fatalf("%d parameters", len(p))
		}
		for name, value := range p {
			if value == "" {
				t.Fatalf("the parameter %q is empty but counts as sent", name)
			}
		}
	})
}
