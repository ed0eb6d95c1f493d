package problem

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever runs the system must find out why it says that something can't be reached.
func TestFailuresAreLoggedWithTheirCause(t *testing.T) {
	cause := errors.New("connection refused")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx   context.Context
		err   error
		level string // none: it isn't logged
	}{
		{t.Context(), cause, "ERROR"},
		{t.Context(), New(IdentityUnavailable, "Try again.").Because(cause), "WARN"},
		{t.Context(), New(LegacyBrownout, "Not now."), ""}, // meant, not failed
		{t.Context(), New(Invalid, "It can't be saved.").Because(cause), ""},
		{gone, cause, "INFO"},
	} {
		var log bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
		w := httptest.NewRecorder()
		Write(w, httptest.NewRequestWithContext(c.ctx, http.MethodGet, "/x", nil), c.err)
		slog.SetDefault(before)
		told := func(text string) bool { return strings.Contains(log.String(), text) }
		if got := log.String(); (c.level == "") != (got == "") || c.level != "" && (!told("level="+c.level) || !told("connection refused")) {
			t.Errorf("%v: logged %q, want %s", c.err, got, c.level)
		}
		if strings.Contains(w.Body.String(), "refused") {
			t.Errorf("%v: the client hears of the cause: %s", c.err, w.Body)
		}
	}
}

func TestUnrouted(t *testing.T) {
	mux := http.NewServeMux()
	nothing := func(http.ResponseWriter, *http.Request) {}
	mux.HandleFunc("GET /a", nothing)
	mux.HandleFunc("POST /a", nothing)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"PUT", "/a", 405, "GET, HEAD, POST"}, {"GET", "/b", 404, ""}, {"GET", "//b", 404, ""}, {"CONNECT", "/b", 404, ""},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, nil)
		h, pattern := mux.Handler(r)
		if pattern != "" {
			t.Fatalf("%s %s has a route", c.method, c.path)
		}
		Write(w, r, Unrouted(w, r, h))
		if w.Code != c.status || w.Header().Get("Allow") != c.allow || w.Header().Get("Location") != "" {
			t.Errorf("%s %s: %d, %v", c.method, c.path, w.Code, w.Header())
		}
	}
}
