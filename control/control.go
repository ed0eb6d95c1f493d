package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/limit"
	"mpr/move"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
	"mpr/webhook"
)

// Placements are where companies live. They are made once and then only changed by
// moves.
type Placements interface {
	// Create answers nil where the very same record is there, and [problem.Conflict]
	// where another is.
	Create(context.Context, company.Placement) error
	// Get also answers the revision of the record.
	Get(context.Context, company.ID) (company.Placement, uint64, error)
}

// Regions are what the directory says of the regions.
type Regions interface {
	// PutRegion answers [problem.Conflict] where the region's code has another number, or
	// its number another code.
	PutRegion(context.Context, company.RegionInfo) error
	Regions(context.Context) ([]company.RegionInfo, error)
	// DrainRegion closes a region to new companies, or opens it again.
	DrainRegion(ctx context.Context, code company.Region, draining bool) (company.RegionInfo, error)
}

// Pages goes through all placements in the order of their ids.
type Pages interface {
	// Page answers up to limit placements with ids above after, of one region, or of
	// all where the region is "".
	Page(after company.ID, limit int, region company.Region) []company.Placement
}

// Environment is what control needs to know of an environment.
type Environment struct {
	Name          string
	DefaultRegion company.Region
	Placements    Placements
	Regions       Regions
	Pages         Pages
	// Registry is the directory as a whole; nil where it can't be verified.
	Registry Registry
	Policies Policies
	// HasLegacyDoor says whether there is anything that dates, brownouts and rehearsals change.
	HasLegacyDoor bool
	// Campaign is the configuration's, which is in force until another one is set.
	Campaign rules.Campaign
	// InForce is the policy with the campaign in force.
	InForce func() *rules.Policy
	Ledger  Ledger
	// Limits keep what operators set for apps, LimitsOfAll are those of all others.
	Limits      Limits
	LimitsOfAll limit.Limits
	// IdentityURL is the base URL of the login service's internal listener.
	IdentityURL string
	// LoginURL is the base URL of the login door, for people.
	LoginURL string
	// PublicLogin and PublicAPI are the base URLs that apps use.
	PublicLogin, PublicAPI string
	// ClientPrefix is what the client ids of the environment begin with; most have none.
	ClientPrefix string
	// Sandbox is the development sandbox of the environment; nil where it has none.
	Sandbox *Environment
	// Monthly refreshes the monthly sandbox of the environment; nil where it has none.
	Monthly Refresher
}

// Options are what a [Service] needs.
type Options struct {
	Environments []*Environment
	// Secret is the secret that our processes show one another.
	Secret string
	// Transport carries calls to our processes; nil for plain HTTP, and https as the system trusts it.
	Transport http.RoundTripper
	// AdminToken is what requests to the admin API must show.
	AdminToken string
	// Now is the clock, time.Now where it is nil.
	Now func() time.Time
	// Backup writes the records of the directory, of all environments; nil where there is none.
	Backup func(context.Context, io.Writer) (int, error)
	// Moves is the queue of moves, and WakeMover has a mover look at it.
	Moves     *move.Queue
	WakeMover func()
	// Webhooks tells apps of moves.
	Webhooks *webhook.Service
}

// Service is the control role.
type Service struct {
	environments []*Environment
	token        string // of the admin API
	secret       string // of our processes
	now          func() time.Time
	internal     *intercom.Caller
	moves        *move.Queue
	wakeMover    func()
	webhooks     *webhook.Service
	backup       func(context.Context, io.Writer) (int, error)
	mux          *http.ServeMux
}

// New makes the service. It starts nothing.
func New(_ context.Context, o Options) (*Service, error) {
	if o.AdminToken == "" || o.Secret == "" {
		return nil, errors.New("control needs an admin token and the internal secret")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{
		environments: o.Environments,
		token:        o.AdminToken,
		secret:       o.Secret,
		now:          o.Now,
		internal:     intercom.NewCaller(o.Transport, o.Secret),
		moves:        o.Moves,
		wakeMover:    o.WakeMover,
		webhooks:     o.Webhooks,
		backup:       o.Backup,
		mux:          http.NewServeMux(),
	}
	s.routes()
	return s, nil
}

// Close ends idle connections.
func (s *Service) Close() error { return s.internal.Close() }

const prefix = "/admin/v1/environments"

func (s *Service) routes() {
	s.mux.HandleFunc("GET "+prefix, s.listEnvironments)
	s.mux.HandleFunc("GET "+backupPath, s.backUpDirectory)
	for pattern, h := range map[string]handler{
		"POST /companies":                             s.createCompany,
		"GET /companies":                              s.listCompanies,
		"GET /companies/{company}":                    s.showCompany,
		"PUT /companies/{company}/users":              s.addUser,
		"PUT /companies/{company}/sandbox":            s.setSandbox,
		"GET /sandboxes/monthly":                      s.showMonthly,
		"GET /sandboxes/monthly/plan":                 s.planMonthly,
		"POST /sandboxes/monthly/refresh":             s.refreshMonthly,
		"GET /regions":                                s.listRegions,
		"POST /regions":                               s.addRegion,
		"POST /regions/{region}/drain":                drainRegion(true),
		"POST /regions/{region}/open":                 drainRegion(false),
		"POST /users":                                 s.createUser,
		"POST /apps":                                  s.createApp,
		"GET /apps":                                   s.listApps,
		"GET /apps/{app}":                             s.showApp,
		"POST /apps/{app}/rotate-secret":              s.rotateSecret,
		"PUT /apps/{app}/installations/{company}":     s.installApp,
		"PUT /apps/{app}/sandbox":                     s.completeSandbox,
		"GET /apps/{app}/limits":                      s.showLimits,
		"PATCH /apps/{app}/limits":                    s.setLimits,
		"DELETE /apps/{app}/limits":                   s.resetLimits,
		"POST /service-accounts":                      s.createServiceAccount,
		"GET /apps/{app}/webhook":                     s.showWebhook,
		"PUT /apps/{app}/webhook":                     s.setWebhook,
		"DELETE /apps/{app}/webhook":                  s.removeWebhook,
		"POST /apps/{app}/webhook/rotate":             s.rotateWebhook,
		"POST /apps/{app}/webhook/test":               s.testWebhook,
		"GET /apps/{app}/webhook/deliveries":          s.listDeliveries,
		"POST /apps/{app}/webhook/deliveries/{event}": s.redeliver,
		"GET /keys":                                   s.listKeys,
		"POST /keys/rotate":                           s.rotateKey,
		"GET /policy":                                 s.showPolicy,
		"PUT /policy":                                 s.setPolicy,
		"POST /moves":                                 s.startMove,
		"GET /moves":                                  s.listMoves,
		"GET /moves/{move}":                           s.showMove,
		"GET /moves/{move}/events":                    s.watchMove,
		"POST /moves/{move}/pause":                    s.steer(s.pause),
		"POST /moves/{move}/resume":                   s.steer(s.resume),
		"POST /moves/{move}/abort":                    s.steer(s.abort),
		"GET /companies/{company}/moves":              s.proveMoves,
		"GET /ledger":                                 s.showLedger,
		"GET /ledger/impact":                          s.showImpact,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.Handle(method+" "+prefix+"/{environment}"+path, s.in(h))
	}
	s.mux.HandleFunc("GET "+prefix+"/{environment}/ledger.csv", s.ledgerCSV)
	s.mux.HandleFunc("GET "+prefix+"/{environment}/directory/verify", s.verifyDirectory)
	s.mux.HandleFunc("POST "+prefix+"/{environment}/directory/rebuild", s.rebuildDirectory)
}

// handler answers a request in an environment: it returns the status and what to
// answer, or an error.
type handler func(*http.Request, *Environment) (int, any, error)

// in finds the environment of a request and writes what the handler answers.
func (s *Service) in(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		env, err := s.environment(r.PathValue("environment"))
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		status, v, err := h(r, env)
		err = store.Explain(err)
		if r.Method != http.MethodGet {
			s.log(r, w, err)
		}
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		writeJSON(w, status, v)
	})
}

// log notes who changes what. Paths hold no secrets.
func (s *Service) log(r *http.Request, w http.ResponseWriter, err error) {
	attrs := []any{"request_id", w.Header().Get(problem.RequestIDHeader), "method", r.Method, "path", r.URL.Path}
	if err != nil {
		attrs = append(attrs, "refused", problem.From(err).Code) // its cause is logged with the answer
	}
	slog.InfoContext(r.Context(), "admin request", attrs...)
}

func (s *Service) environment(name string) (*Environment, error) {
	names := make([]string, len(s.environments))
	for i, e := range s.environments {
		if e.Name == name {
			return e, nil
		}
		names[i] = e.Name
	}
	return nil, problem.New(problem.NotFound, "There is no environment %q. There are: %s.", name, strings.Join(names, ", "))
}

// Handler answers the admin API.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if !intercom.Shows(r, s.token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="mpr admin"`)
			problem.Write(w, r, problem.New(problem.Unauthorized,
				`The admin API needs its token. Send "Authorization: Bearer ..." with the content of the control role's token file.`))
			return
		}
		if h, pattern := s.mux.Handler(r); pattern == "" {
			err := problem.Unrouted(w, r, h)
			if errors.Is(err, problem.New(problem.NotFound, "")) {
				err = problem.New(problem.NotFound, "There is nothing at %s. The admin API starts at %s.", r.URL.Path, prefix)
			}
			problem.Write(w, r, err)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

func (s *Service) listEnvironments(w http.ResponseWriter, _ *http.Request) {
	list := EnvironmentList{Environments: []EnvironmentInfo{}}
	for _, e := range s.environments {
		list.Environments = append(list.Environments, EnvironmentInfo{Name: e.Name, LoginURL: e.LoginURL})
	}
	writeJSON(w, http.StatusOK, list)
}

// region finds a region by its code.
func (e *Environment) region(ctx context.Context, code company.Region) (company.RegionInfo, error) {
	all, err := e.Regions.Regions(ctx)
	if err != nil {
		return company.RegionInfo{}, err
	}
	codes := make([]string, len(all))
	for i, info := range all {
		if info.Code == code {
			return info, nil
		}
		codes[i] = string(info.Code)
	}
	return company.RegionInfo{}, invalid("region", fmt.Sprintf("%s isn't a region of %s: there are %s", code, e.Name, strings.Join(codes, ", ")))
}
