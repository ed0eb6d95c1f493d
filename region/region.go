package region

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"sync"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
	"mpr/token"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema of a region's store.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return sub
}

// Verifier verifies access tokens.
type Verifier interface {
	Verify(raw string) (*token.Claims, error)
}

// Publisher takes the changes that the global index wants.
type Publisher interface {
	Publish(context.Context, []directory.Change) error
}

// Identity knows people across regions.
type Identity interface {
	// EnsureUser answers the id of the person with this login; who isn't known yet is
	// invited.
	EnsureUser(ctx context.Context, login, name string) (int64, error)
}

// Options are what a [Service] needs.
type Options struct {
	Code      company.Region
	Number    int
	DB        *store.DB
	Verifier  Verifier
	Policy    *rules.Policy
	Publisher Publisher
	Identity  Identity
	// Secret is the secret that our processes show one another.
	Secret string
	// MaxBody is the largest body that a resource takes, in bytes; MaxPerPage the longest
	// page.
	MaxBody    int64
	MaxPerPage int
	Now        func() time.Time
}

// Service is a region.
type Service struct {
	Options
	wakeUp chan struct{} // the change log has grown
	cancel context.CancelFunc
	pump   sync.WaitGroup
}

// New starts the region. The database has the schema of [Migrations].
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{Options: o, wakeUp: make(chan struct{}, 1)}
	if err := s.claimBlock(ctx); err != nil {
		return nil, fmt.Errorf("start region %s: %w", o.Code, err)
	}
	background, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.pump.Go(func() { s.publishChanges(background) })
	return s, nil
}

// Close ends the background work. The handlers must have ended before.
func (s *Service) Close() error {
	s.cancel()
	s.pump.Wait()
	return nil
}

// claimBlock notes in the database which region it belongs to, and refuses one that
// belongs to another region: two that gave out ids of one block would collide.
func (s *Service) claimBlock(ctx context.Context) error {
	first := company.FirstID(s.Number)
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		var code string
		var last int64
		err := tx.QueryRowContext(ctx, `SELECT region, last FROM ids`).Scan(&code, &last)
		if isNoRows(err) {
			_, err = tx.ExecContext(ctx, `INSERT INTO ids (region, last) VALUES ($1, $2)`, string(s.Code), first)
			return err
		}
		if err != nil {
			return err
		}
		if code != string(s.Code) || last < first || last >= company.FirstID(s.Number+1) {
			return fmt.Errorf("the database belongs to region %s with other ids; give each region a database of its own, and never change its number", code)
		}
		return nil
	})
}

// nextID takes an id of the region's block. One sequence serves all resources.
func (s *Service) nextID(ctx context.Context, tx *sql.Tx) (id int64, err error) {
	if err := tx.QueryRowContext(ctx, `UPDATE ids SET last = last + 1 RETURNING last`).Scan(&id); err != nil {
		return 0, fmt.Errorf("take an id: %w", err)
	}
	if id >= company.FirstID(s.Number+1) {
		return 0, fmt.Errorf("region %s has no ids left", s.Code)
	}
	return id, nil
}

// versions are the paths under which the API's versions live. The resources are the same
// under each.
var versions = regexp.MustCompile(`^(/rest/v1\.[013]|/vapid)(/|$)`)

// Handler answers API calls, from gateways.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]operation{
		"GET /companies/{company_id}":   s.showCompany,
		"PATCH /companies/{company_id}": s.updateCompany,

		"GET /companies/{company_id}/users":              s.listUsers,
		"POST /companies/{company_id}/users":             s.createUser,
		"PATCH /companies/{company_id}/users/sync":       s.syncUsers,
		"GET /companies/{company_id}/users/{user_id}":    s.showUser,
		"PATCH /companies/{company_id}/users/{user_id}":  s.updateUser,
		"DELETE /companies/{company_id}/users/{user_id}": s.deleteUser,

		"GET /companies/{company_id}/app_installations":             s.listInstallations,
		"GET /companies/{company_id}/app_installations/{app_id}":    s.showInstallation,
		"PATCH /companies/{company_id}/app_installations/{app_id}":  s.updateInstallation,
		"DELETE /companies/{company_id}/app_installations/{app_id}": s.deleteInstallation,

		"GET /projects":                        s.listProjects,
		"GET /companies/{company_id}/projects": s.listProjects,
		"POST /projects":                       s.createProject,
		"PATCH /projects/sync":                 s.syncProjects,
		"GET /projects/{project_id}":           s.showProject,
		"PATCH /projects/{project_id}":         s.updateProject,
		"DELETE /projects/{project_id}":        s.deleteProject,

		"GET /projects/{project_id}/users":                             s.listProjectUsers,
		"GET /projects/{project_id}/users/{user_id}":                   s.showProjectUser,
		"POST /projects/{project_id}/users/{user_id}/actions/add":      s.addProjectUser,
		"POST /projects/{project_id}/users/{user_id}/actions/remove":   s.removeProjectUser,
		"DELETE /projects/{project_id}/users/{user_id}/actions/remove": s.removeProjectUser,
		"DELETE /projects/{project_id}/users/{user_id}":                s.removeProjectUser,

		"GET /projects/{project_id}/rfis":             s.listRFIs,
		"POST /projects/{project_id}/rfis":            s.createRFI,
		"PATCH /projects/{project_id}/rfis/sync":      s.syncRFIs,
		"GET /projects/{project_id}/rfis/{rfi_id}":    s.showRFI,
		"PATCH /projects/{project_id}/rfis/{rfi_id}":  s.updateRFI,
		"DELETE /projects/{project_id}/rfis/{rfi_id}": s.deleteRFI,
	} {
		mux.Handle(pattern, s.answer(h))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version := versions.FindStringSubmatch(r.URL.Path)
		if version == nil || path.Clean(r.URL.Path) != r.URL.Path { // the mux would redirect
			problem.Write(w, r, errNothingHere)
			return
		}
		routed := *r
		u := *r.URL
		u.Path, u.RawPath = r.URL.Path[len(version[1]):], ""
		routed.URL = &u
		serve(mux, w, &routed)
	})
}

var errNothingHere = problem.New(problem.NotFound, "There is nothing at this path.")

// serve answers what no route matches, and wrong methods, in our form instead of the
// mux's plain text.
func serve(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	if _, pattern := mux.Handler(r); pattern != "" {
		mux.ServeHTTP(w, r)
		return
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		try := *r
		try.Method = method
		if _, pattern := mux.Handler(&try); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		problem.Write(w, r, errNothingHere)
		return
	}
	for _, method := range allowed {
		w.Header().Add("Allow", method)
	}
	problem.Write(w, r, problem.New(problem.MethodNotAllowed, "This method isn't allowed here: see the Allow header for those that are."))
}

// publishEvery is how often the change log is looked at without being told.
const publishEvery = time.Second

// publishChanges feeds the global index from the change log, until the context ends.
func (s *Service) publishChanges(ctx context.Context) {
	t := time.NewTicker(publishEvery)
	defer t.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = s.publishSome(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("publish changes; trying again", "region", s.Code, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-s.wakeUp:
		}
	}
}

func (s *Service) wakePump() {
	select {
	case s.wakeUp <- struct{}{}:
	default: // it has been woken already
	}
}
