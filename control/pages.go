package control

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"log/slog"
	"net/http"

	"mpr/operator"
	"mpr/problem"
	"mpr/store"
)

//go:embed pages/signin.html
var signInPage string

//go:embed pages/signin.css
var signInStyle string

var (
	signInTemplate = template.Must(template.New("").Parse(signInPage))
	signInPolicy   = func() string {
		sum := sha256.Sum256([]byte(signInStyle))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	}()
)

// view is what a page of the sign-in shows.
type view struct {
	Page, Title        string
	Login              string
	Role               operator.Role
	CSRF               string
	Next, LogoutURL    string
	Message, RequestID string
	Style              template.CSS
}

// page answers errors as a page, and refuses forms that another site has sent.
func (s *Service) page(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := s.crossOrigin.Check(r)
		if err != nil {
			err = problem.New(problem.Forbidden, "The form came from another site.").Because(err)
		} else {
			err = h(w, r)
		}
		if err == nil {
			return
		}
		p := problem.From(store.Explain(err))
		problem.Log(w, r, p)
		slog.InfoContext(r.Context(), "a sign-in page was refused", "request_id", w.Header().Get(problem.RequestIDHeader), "path", r.URL.Path, "error", err)
		s.render(w, p.Code.Status(), view{Page: "error", Title: "That didn’t work", Message: p.Message, RequestID: w.Header().Get(problem.RequestIDHeader)})
	}
}

// render writes a page. Nothing may run in it, frame it, or be loaded into it.
func (s *Service) render(w http.ResponseWriter, status int, v view) {
	v.Style = template.CSS(signInStyle) //nolint:gosec // it is compiled in
	var b bytes.Buffer
	if err := signInTemplate.Execute(&b, v); err != nil {
		slog.Error("render page", "page", v.Page, "error", err)
		http.Error(w, "The page can't be shown.", http.StatusInternalServerError)
		return
	}
	SecurePage(w.Header(), signInPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// barePolicy is for answers that are no page: a browser that shows one all the same loads, runs and
// frames nothing.
const barePolicy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"

// SecurePage sets what keeps a page to ourselves, beside its policy for content.
func SecurePage(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer, same-origin") // with no-referrer alone browsers would send "Origin: null" with our own forms
	h.Set("Cache-Control", "no-store")
}
