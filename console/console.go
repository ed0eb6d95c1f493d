package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"mpr/control"
	"mpr/operator"
	"mpr/problem"
)

// Admin is the admin API, in this process.
type Admin interface {
	// Visitor is who asks for a page; nil where nobody has signed in.
	Visitor(http.ResponseWriter, *http.Request) (*operator.Session, error)
	// As is a client of the admin API that asks as somebody.
	As(session *operator.Session, requestID, environment string) *control.Client
	Environments() []control.EnvironmentInfo
}

// Options are what a [Service] needs.
type Options struct {
	Admin Admin
	// Operators is the environment whose users sign in; apps that developers own are there.
	Operators string
	// Product is the name of what the API is of.
	Product string
	// CompanyHeader is the request header that names the company.
	CompanyHeader string
}

// Service answers the pages.
type Service struct {
	Options
	mux       *http.ServeMux
	templates map[string]*template.Template
	// assets are by their name; style and script are the paths of those that each page loads.
	assets        map[string]asset
	style, script string
	places        []place
	streams       streams
}

// Below these paths are the pages.
const (
	operatorsPath  = "/console/"
	developersPath = "/developers/"
	assetsPath     = "/assets/"
)

// Serves says whether a path is that of a page, or of what pages load.
func Serves(path string) bool {
	for _, p := range []string{operatorsPath, developersPath, assetsPath} {
		if strings.HasPrefix(path, p) || path == strings.TrimSuffix(p, "/") {
			return true
		}
	}
	return false
}

//go:embed all:pages assets
var files embed.FS

// New makes the service. It starts nothing.
func New(o Options) (*Service, error) {
	s := &Service{
		Options: o, mux: http.NewServeMux(), templates: map[string]*template.Template{}, assets: map[string]asset{},
		streams: streams{over: make(chan struct{}), of: map[string]int{}},
	}
	for _, e := range o.Admin.Environments() {
		s.places = append(s.places, place{Name: e.Name, Slug: slug(e.Name)})
	}
	var styleErr, scriptErr error
	s.style, styleErr = s.addAsset("console.css", "text/css; charset=utf-8")
	s.script, scriptErr = s.addAsset("live.js", "text/javascript; charset=utf-8")
	if err := errors.Join(styleErr, scriptErr, s.parse()); err != nil {
		return nil, err
	}
	s.routes()
	return s, nil
}

// parse reads the templates: a file for each page, which has those that begin with "_" beside it.
func (s *Service) parse() error {
	names, err := fs.Glob(files, "pages/*.html")
	if err != nil {
		return err
	}
	common := template.New("").Funcs(functions)
	if common, err = common.ParseFS(files, "pages/_*.html"); err != nil {
		return err
	}
	for _, name := range names {
		if base := path.Base(name); !strings.HasPrefix(base, "_") {
			t, err := common.Clone()
			if err == nil {
				t, err = t.ParseFS(files, name)
			}
			if err != nil {
				return err
			}
			s.templates[strings.TrimSuffix(base, ".html")] = t
		}
	}
	return nil
}

// Close ends the live updates. Pages are still answered.
func (s *Service) Close() error {
	s.streams.close()
	return nil
}

// Handler answers the pages.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control.SecurePage(w.Header(), pagePolicy) // of redirects and what isn't there as well
		if h, pattern := s.mux.Handler(r); pattern == "" {
			err := problem.Unrouted(w, r, h)
			if errors.Is(err, problem.New(problem.NotFound, "")) {
				err = problem.New(problem.NotFound, "There is no page at %s. It may have been moved, or the link be wrong.", r.URL.Path)
			}
			s.visit(w, r, func(q *request) error { return err })
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// place is an environment as pages name it.
type place struct{ Name, Slug string }

// Path is where the environment's pages are.
func (p place) Path() string { return operatorsPath + p.Slug }

// slug is an environment's name in a path.
func slug(name string) string { return strings.ReplaceAll(name, " ", "-") }

// place finds an environment by its slug; the one whose users sign in, where that is "".
func (s *Service) place(named string) (place, error) {
	for _, p := range s.places {
		if named != "" && p.Slug == named || named == "" && p.Name == s.Operators {
			return p, nil
		}
	}
	return place{}, problem.New(problem.NotFound, "There is no environment %q.", named)
}

// asset is a file that pages load. Its name has its content's hash in it, so that it can be cached
// for ever.
type asset struct {
	mediaType string
	content   []byte
}

// addAsset names a file, and answers where it is.
func (s *Service) addAsset(file, mediaType string) (string, error) {
	content, err := files.ReadFile("assets/" + file)
	sum := sha256.Sum256(content)
	base, extension, _ := strings.Cut(file, ".")
	name := base + "-" + hex.EncodeToString(sum[:8]) + "." + extension
	s.assets[name] = asset{mediaType, content}
	return assetsPath + name, err
}

func (s *Service) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := s.assets[r.PathValue("file")]
	if !ok {
		problem.Write(w, r, problem.New(problem.NotFound, "There is nothing at this path."))
		return
	}
	w.Header().Set("Content-Type", a.mediaType)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(a.content)
}

// home leads to the pages of whoever has signed in.
func (s *Service) home(q *request) error {
	if q.covers(operator.Viewer) {
		return q.redirect(q.at.Path() + "/")
	}
	return q.redirect(developersPath)
}
