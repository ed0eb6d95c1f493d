package login

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"mpr/problem"
)

//go:embed pages
var pageFiles embed.FS

var templates = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// The style sheet's name has its content's hash in it, so that it can be cached for ever.
const assetsPath = "/oauth/assets/"

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

	App                                     *app
	User                                    *user
	CSRF, Action, Query, Login, Alert, Code string
	Message, RequestID                      string
	formTarget                              string
}

// page answers errors as a page, and refuses forms that another site has sent.
func (s *Service) page(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	crossOrigin := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		err := error(nil)
		if cross := crossOrigin.Check(r); cross != nil {
			err = problem.New(problem.Forbidden, "The form came from another site. Go back to the app and start again.").Because(cross)
		} else {
			err = h(w, r)
		}
		if err != nil {
			s.renderError(w, r, err)
		}
	}
}

func (s *Service) renderError(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.From(err)
	id := w.Header().Get(problem.RequestIDHeader)
	if p.Code.Status() >= http.StatusInternalServerError {
		slog.ErrorContext(r.Context(), "page failed", "request_id", id, "path", r.URL.Path, "error", err)
	}
	s.render(w, p.Code.Status(), view{Page: "error", Title: "That didn't work", Message: p.Message, RequestID: id})
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
	h.Set("Referrer-Policy", "no-referrer")
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

// peer is the address that a request came from, without its port.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func retryAfter(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
