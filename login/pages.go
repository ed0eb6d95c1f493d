package login

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"mpr/problem"
	"mpr/store"
)

//go:embed pages
var pageFiles embed.FS

var templates = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// The style sheet's name has its content's hash in it, so that it can be cached for ever.
const assetsPath = "/assets/"

var (
	styleSheet = mustRead("pages/login.css")
	styleName  = func() string {
		sum := sha256.Sum256(styleSheet)
		return "login-" + hex.EncodeToString(sum[:8]) + ".css"
	}()
)

func mustRead(name string) []byte {
	data, err := pageFiles.ReadFile(name)
	if err != nil {
		panic(err) // the file is compiled in
	}
	return data
}

// view is what a page shows.
type view struct {
	Page, Title, Product, Style string

	App                              *app
	User                             *user
	CSRF, Action, Login, Alert, Code string
	Message, RequestID               string
	Live, Sunset, Example            string
	Over                             bool
	Changes                          []string

	formTarget string // where the page's form may lead, beside ourselves
}

// page answers errors as a page, refuses forms that another site has sent, and sends
// people who came to another door to the login door: an SDK with one host setting names
// the api door, but people sign in, and have their session, at the login door only.
func (s *Service) page(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	// It looks at Sec-Fetch-Site and Origin, which every browser sends with a form since
	// 2020 or before.
	crossOrigin := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		door := s.door(r)
		switch err := crossOrigin.Check(r); {
		case err != nil:
			s.renderError(w, r, problem.New(problem.Forbidden, "The form came from another site. Go back to the app and start again.").Because(err))
		case door == s.baseURL(r):
			if err := h(w, r); err != nil {
				s.renderError(w, r, err)
			}
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			// The path is the route's, never the client's: "//host" can't lead elsewhere.
			http.Redirect(w, r, door+r.URL.Path+"?"+r.URL.RawQuery, http.StatusFound)
		default:
			s.renderError(w, r, problem.New(problem.NotFound, "People sign in at %s.", door))
		}
	}
}

// writeError answers what no route takes: a page for people, and for programs the form of
// RFC 6749 section 5.2.
func (s *Service) writeError(w http.ResponseWriter, r *http.Request, err error) {
	err = store.Explain(err)
	if problem.PrefersText(r.Header.Values("Accept")) && s.door(r) == s.baseURL(r) {
		s.renderError(w, r, err)
		return
	}
	problem.WriteOAuth(w, r, err)
}

func (s *Service) renderError(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.From(err)
	id := w.Header().Get(problem.RequestIDHeader)
	problem.Log(w, r, p)
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(p.RetryAfter))
	}
	s.render(w, p.Code.Status(), view{Page: "error", Title: "That didn’t work", Message: p.Message, RequestID: id})
}

// render writes a page. Nothing may run in it, frame it, or be loaded into it but our
// style sheet.
func (s *Service) render(w http.ResponseWriter, status int, v view) {
	v.Product, v.Style = s.Product, assetsPath+styleName
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, v.Page+".html", v); err != nil {
		slog.Error("render page", "page", v.Page, "error", err)
		http.Error(w, "The page can't be shown.", http.StatusInternalServerError)
		return
	}
	formAction := "'self'"
	if v.formTarget != "" {
		formAction += " " + v.formTarget
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action "+formAction+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Browsers take the last policy that they know. With no-referrer they would send
	// "Origin: null" with our own forms, which can't be told from another site's.
	h.Set("Referrer-Policy", "no-referrer, same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// assets answers the style sheet.
func (s *Service) assets(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != assetsPath+styleName {
		problem.Write(w, r, problem.New(problem.NotFound, "There is nothing at this path."))
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(styleSheet)
}

func retryAfter(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
