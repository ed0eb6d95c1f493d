package intercom

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mpr/problem"
)

const secret = "a secret of our processes"

func TestShows(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   bool
	}{
		{[]string{"Bearer " + secret}, true},
		{[]string{"bearer  " + secret}, true}, // RFC 9110 section 11.1: the scheme's case doesn't matter
		{nil, false},
		{[]string{""}, false},
		{[]string{"Bearer "}, false},
		{[]string{"Bearer"}, false},
		{[]string{secret}, false},
		{[]string{"Basic " + secret}, false},
		{[]string{"Bearer " + secret[1:]}, false},
		{[]string{"Bearer " + secret + "x"}, false},
		{[]string{"Bearer " + secret, "Bearer " + secret}, false},
	} {
		r := &http.Request{Header: http.Header{"Authorization": c.values}}
		if got := Shows(r, secret); got != c.want {
			t.Errorf("%q: %v", c.values, got)
		}
		if Shows(r, "") {
			t.Errorf("%q shows an empty secret", c.values)
		}
	}
}

// peer is a process of ours that wants the secret, and answers what it is told.
func peer(t *testing.T, status int, body string) string {
	t.Helper()
	s := httptest.NewServer(problem.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := Admit(w, r, secret); err != nil {
			problem.Write(w, r, err)
			return
		}
		got, err := io.ReadAll(r.Body)
		if want := `{"a":1}`; err != nil || string(got) != want || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-More") != "more" {
			t.Errorf("sent %q with %v, %v", got, r.Header, err)
		}
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})))
	t.Cleanup(s.Close)
	return s.URL
}

func TestCalls(t *testing.T) {
	if direct, ok := NewCaller(nil, secret).http.Transport.(*http.Transport); !ok || direct.Proxy != nil {
		t.Error("calls between our processes go by way of a proxy")
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   int
		err    error  // that it is
		text   string // in the error
	}{
		"an answer":         {201, `{"b":2}`, 201, nil, ""},
		"a refusal":         {422, `{"code":"invalid","message":"No.","errors":{"a":["is 1"]}}`, 0, problem.New(problem.Invalid, ""), "No."},
		"an OAuth refusal":  {401, `{"error":"invalid_client","error_description":"Who?"}`, 0, problem.New(problem.InvalidClient, ""), "Who?"},
		"no reason":         {502, `<html>`, 0, nil, "answered 502 without a reason"},
		"a redirect":        {307, ``, 0, nil, "answered 307 without a reason"},
		"no JSON":           {200, `{`, 0, nil, "decode the answer"},
		"more than is read": {200, strings.Repeat(" ", maxAnswer+1), 0, nil, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			caller := NewCaller(nil, secret).With("X-More", "more")
			defer caller.Close() //nolint:errcheck // it closes idle connections
			var out struct{ B int }
			status, err := caller.Call(t.Context(), http.MethodPost, peer(t, c.status, c.body), map[string]int{"a": 1}, &out)
			if status != c.want || c.want != 0 && (err != nil || out.B != 2) {
				t.Errorf("%d, %+v, %v", status, out, err)
			}
			if c.want == 0 && (err == nil || !strings.Contains(err.Error(), c.text) || c.err != nil && !errors.Is(err, c.err) || strings.Contains(err.Error(), secret)) {
				t.Errorf("%v", err)
			}
		})
	}
	_, err := NewCaller(nil, "another").Call(t.Context(), http.MethodGet, peer(t, 200, ""), nil, nil)
	if !errors.Is(err, problem.New(problem.Unauthorized, "")) {
		t.Errorf("with another secret: %v", err)
	}
}

func TestDownloads(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := Admit(w, r, secret); err != nil {
			problem.Write(w, r, err)
			return
		}
		_, _ = io.WriteString(w, "a,b\n")
	}))
	defer s.Close()
	var got strings.Builder
	if err := NewCaller(nil, secret).Download(t.Context(), s.URL, &got); err != nil || got.String() != "a,b\n" {
		t.Errorf("%q, %v", got.String(), err)
	}
	if err := NewCaller(nil, "another").Download(t.Context(), s.URL, &got); !errors.Is(err, problem.New(problem.Unauthorized, "")) || got.String() != "a,b\n" {
		t.Errorf("with another secret: %q, %v", got.String(), err)
	}
}
