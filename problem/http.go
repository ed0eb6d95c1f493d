package problem

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
)

// RequestIDHeader carries a call's id on requests between our processes and on every
// answer.
const RequestIDHeader = "X-Request-Id"

// answer is the JSON body of a refusal.
type answer struct {
	Code      Code                `json:"code"`
	Message   string              `json:"message"`
	Errors    map[string][]string `json:"errors,omitempty"`
	Region    string              `json:"region,omitempty"`
	RequestID string              `json:"request_id,omitempty"`
}

// oauthAnswer is the JSON body of an error at an OAuth endpoint (RFC 6749 section
// 5.2), with our request id added.
type oauthAnswer struct {
	Error       Code   `json:"error"`
	Description string `json:"error_description"`
	RequestID   string `json:"request_id,omitempty"`
}

// Write answers the request with err: JSON, or plain text where the Accept header
// prefers text. Failures on our side are logged with their cause; refusals are not.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	p := From(err)
	status := begin(w, r, p)
	if PrefersText(r.Header.Values("Accept")) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(p.Message + "\n"))
		return
	}
	writeJSON(w, status, answer{p.Code, p.Message, p.Fields, p.Region, w.Header().Get(RequestIDHeader)})
}

// WriteOAuth answers the request with err in the form of RFC 6749 section 5.2. The
// answer is never cached.
func WriteOAuth(w http.ResponseWriter, r *http.Request, err error) {
	p := From(err)
	status := begin(w, r, p)
	code := p.Code
	switch code {
	case Internal:
		code = ServerError
	case StoreUnavailable:
		code = TemporarilyUnavailable
	case BodyTooLarge, BodyTimeout:
		code = InvalidRequest // RFC 6749 has no code of its own; the status says it
	case WrongEnvironment:
		code = InvalidToken // to RFC 6750 it is a token like any other that is no good
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if status == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="oauth"`) // RFC 6749 section 5.2, and RFC 9110 section 15.5.2 on every 401
	}
	writeJSON(w, status, oauthAnswer{code, p.Message, w.Header().Get(RequestIDHeader)})
}

// begin sets what every error answer has in common and returns its status.
func begin(w http.ResponseWriter, r *http.Request, p *Problem) int {
	status := p.Code.Status()
	Log(w, r, p)
	if observer, ok := w.(interface{ Refused(Code) }); ok {
		observer.Refused(p.Code)
	}
	h := w.Header()
	h.Del("Content-Length")
	h.Del("Content-Encoding")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	return status
}

// Log notes an answer that tells of a failure on our side: of us as an error, of something
// that we need, where the cause is known, as a warning. [Write] and [WriteOAuth] call it.
func Log(w http.ResponseWriter, r *http.Request, p *Problem) {
	level := slog.LevelError
	switch status := p.Code.Status(); {
	case status < http.StatusInternalServerError, status > http.StatusInternalServerError && p.Err == nil:
		return
	case r.Context().Err() != nil:
		level = slog.LevelInfo // the client has gone, which ends what was under way for it
	case status > http.StatusInternalServerError:
		level = slog.LevelWarn
	}
	slog.Log(r.Context(), level, "request failed",
		"request_id", w.Header().Get(RequestIDHeader), "method", r.Method, "path", r.URL.Path, "error", p.Error())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// PrefersText says whether the Accept header values rank text above JSON. Without a
// preference the answer is JSON.
func PrefersText(accept []string) bool {
	text, js := 0.0, 0.0
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		mediaType, params, _ := strings.Cut(part, ";")
		q := 1.0
		for _, param := range strings.Split(params, ";") {
			if v, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "q="); ok {
				f, err := strconv.ParseFloat(v, 64)
				if err != nil || f < 0 || f > 1 || math.IsNaN(f) {
					f = 0
				}
				q = f
			}
		}
		switch strings.ToLower(strings.TrimSpace(mediaType)) {
		case "text/plain", "text/html", "text/*":
			text = max(text, q)
		case "application/json", "application/*", "*/*":
			js = max(js, q)
		}
	}
	return text > js
}

// Unrouted is the answer to a request that a mux has no route for, in place of the mux's
// plain text: h is what [http.ServeMux.Handler] answered along with an empty pattern. It
// sets the Allow header where other methods are possible (RFC 9110 section 15.5.6).
func Unrouted(w http.ResponseWriter, r *http.Request, h http.Handler) error {
	plain := &plainAnswer{header: http.Header{}}
	h.ServeHTTP(plain, r)
	if plain.status != http.StatusMethodNotAllowed {
		return New(NotFound, "There is nothing at this path.")
	}
	allow := plain.header.Get("Allow")
	w.Header().Set("Allow", allow)
	return New(MethodNotAllowed, "This method isn't possible here. Use %s.", strings.ReplaceAll(allow, ", ", " or "))
}

// plainAnswer takes the status and the header of an answer.
type plainAnswer struct {
	header http.Header
	status int
}

func (a *plainAnswer) Header() http.Header         { return a.header }
func (a *plainAnswer) Write(b []byte) (int, error) { return len(b), nil }
func (a *plainAnswer) WriteHeader(status int)      { a.status = status }

// ValidRequestID says whether an id that came from outside may be taken over: 8 to 128
// letters, digits, and "-_.:".
func ValidRequestID(id string) bool {
	if len(id) < 8 || len(id) > 128 {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:", rune(c)) {
			return false
		}
	}
	return true
}

// NewRequestID makes an id that nobody else has: 26 characters, 128 random bits or more.
func NewRequestID() string { return rand.Text() }

// Handler gives each request its id (the caller's, where it is well formed), puts it on
// the request and the answer, and turns a panic into a plain 500.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(RequestIDHeader)
		if !ValidRequestID(id) {
			id = NewRequestID()
		}
		values := []string{id}
		r.Header[RequestIDHeader], w.Header()[RequestIDHeader] = values[:1:1], values[:1:1]
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares the panic value the same way
				panic(v)
			}
			slog.ErrorContext(r.Context(), "panic", "request_id", id, "value", v, "stack", string(debug.Stack()))
			Write(w, r, New(Internal, "Something went wrong on our side. Try again later; if it goes on, tell us the request id."))
		}()
		next.ServeHTTP(w, r)
	})
}

// LimitHeader refuses requests whose header, request line included, takes more than so
// many bytes. net/http's own limit (http.Server.MaxHeaderBytes) answers in plain text and
// should be higher.
func LimitHeader(next http.Handler, bytes int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if headerSize(r) > bytes {
			Write(w, r, New(HeaderTooLarge, "The request header is larger than %d bytes, the most that is accepted.", bytes))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headerSize is about as many bytes as the request's header took.
func headerSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host) + len("  HTTP/1.1\r\nHost: \r\n")
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}
