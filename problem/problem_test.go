package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestPrefersText(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                               false,
		"*/*":                            false,
		"application/json":               false,
		"text/plain":                     true,
		"text/plain, application/json":   false,
		"text/plain, */*;q=0.1":          true,
		"text/plain;q=0.5, */*":          false,
		"TEXT/PLAIN":                     true,
		"text/html,*/*;q=0.8":            true,
		"application/json;q=0, text/*":   true,
		"text/plain;q=0":                 false,
		"text/plain;q=nonsense":          false,
		"image/png":                      false,
		"application/json, text/*;q=0.9": false,
	} {
		if got := PrefersText([]string{accept}); got != want {
			t.Errorf("PrefersText(%q) = %v", accept, got)
		}
	}
}

func serve(t *testing.T, h http.HandlerFunc, header http.Header) (*http.Response, string) {
	t.Helper()
	s := httptest.NewServer(Handler(h))
	defer s.Close()
	req, err := http.NewRequest(http.MethodGet, s.URL+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestAnswerHasCodeMessageAndRequestID(t *testing.T) {
	resp, body := serve(t, func(w http.ResponseWriter, r *http.Request) {
		p := New(Invalid, "The project can't be saved.").After(1500 * time.Millisecond)
		p.Fields = map[string][]string{"name": {"can't be blank"}}
		Write(w, r, fmt.Errorf("save: %w", p))
	}, http.Header{RequestIDHeader: {"my-own-id-1"}})
	if resp.StatusCode != 422 || resp.Header.Get("Retry-After") != "2" || resp.Header.Get(RequestIDHeader) != "my-own-id-1" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	want := `{"code":"invalid","message":"The project can't be saved.","errors":{"name":["can't be blank"]},"request_id":"my-own-id-1"}`
	if strings.TrimSpace(body) != want {
		t.Errorf("body %s, want %s", body, want)
	}
}

func TestCausesNeverReachTheClient(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"plain error": func(w http.ResponseWriter, r *http.Request) {
			Write(w, r, errors.New("password=hunter2"))
		},
		"problem with a cause": func(w http.ResponseWriter, r *http.Request) {
			Write(w, r, New(RegionUnavailable, "Try later.").Because(errors.New("dial hunter2")))
		},
		"OAuth": func(w http.ResponseWriter, r *http.Request) {
			WriteOAuth(w, r, errors.New("hunter2"))
		},
		"panic": func(http.ResponseWriter, *http.Request) { panic("hunter2") },
	} {
		resp, body := serve(t, h, http.Header{})
		if strings.Contains(body, "hunter2") || resp.StatusCode < 500 {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
		var answer map[string]any
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer["request_id"] != resp.Header.Get(RequestIDHeader) {
			t.Errorf("%s: %s (%v)", name, body, err)
		}
	}
}

func TestOAuthErrorsAreNeverCached(t *testing.T) {
	resp, body := serve(t, func(w http.ResponseWriter, r *http.Request) {
		WriteOAuth(w, r, New(InvalidGrant, "The refresh token is invalid"))
	}, http.Header{})
	if resp.StatusCode != 400 || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	if !strings.HasPrefix(body, `{"error":"invalid_grant","error_description":"The refresh token is invalid"`) {
		t.Errorf("body %s", body)
	}
}

func TestStrangeRequestIDsAreReplaced(t *testing.T) {
	for _, id := range []string{"", "short", "with space in it", "quote\"quote", strings.Repeat("x", 129), "a\tb-12345678"} {
		resp, _ := serve(t, func(http.ResponseWriter, *http.Request) {}, http.Header{RequestIDHeader: {id}})
		if got := resp.Header.Get(RequestIDHeader); got == id || !ValidRequestID(got) {
			t.Errorf("id %q was answered as %q", id, got)
		}
	}
}

func TestProblemsCompareByCode(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", New(NotFound, "No such company.").Because(io.EOF))
	if !errors.Is(err, New(NotFound, "")) || errors.Is(err, New(Conflict, "")) || !errors.Is(err, io.EOF) {
		t.Errorf("errors.Is is wrong for %v", err)
	}
}

func TestLimitHeader(t *testing.T) {
	h := Handler(LimitHeader(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), 1000))
	for name, c := range map[string]struct {
		target, value string
		status        int
	}{
		"small": {"/x", "v", 204}, "large value": {"/x", strings.Repeat("v", 1000), 431},
		"large target": {"/" + strings.Repeat("x", 1000), "v", 431}, "both below": {"/" + strings.Repeat("x", 400), strings.Repeat("v", 400), 204},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		r.Header.Set("X-Large", c.value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || c.status == 431 && !strings.Contains(w.Body.String(), `"header_too_large"`) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
