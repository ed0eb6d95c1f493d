package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/limit"
	"mpr/move"
	"mpr/operator"
	"mpr/problem"
	"mpr/rules"
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
	// Companies counts the placements in each region.
	Companies() map[company.Region]int
	// Placement answers where a company lives, as far as is known here.
	Placement(company.ID) (company.Placement, bool)
}

// Environment is what control needs to know of an environment.
type Environment struct {
	Name          string
	DefaultRegion company.Region
	Placements    Placements
	Regions       Regions
	// Configured are the regions whose addresses the configuration says, and nobody else.
	Configured []company.Region
	Pages      Pages
	Signs      Signs
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

	seen     overviews
	verified verifications
}

// Options are what a [Service] needs.
type Options struct {
	Environments []*Environment
	// Secret is the secret that our processes show one another.
	Secret string
	// Transport carries calls to our processes; nil for plain HTTP, and https as the system trusts it.
	Transport http.RoundTripper
	// AdminToken is what requests to the admin API may show in place of a session; "" where it is
	// turned off.
	AdminToken string
	// SignIn is how operators sign in.
	SignIn SignIn
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
	oauth        *intercom.Caller // shows no secret: what apps may ask
	moves        *move.Queue
	wakeMover    func()
	webhooks     *webhook.Service
	backup       func(context.Context, io.Writer) (int, error)
	mux          *http.ServeMux
	open         *http.ServeMux // for those who haven't signed in
	operators    *operator.Service
	signIn       SignIn
	crossOrigin  *http.CrossOriginProtection
	registered   registration

	background context.Context // of what goes on when its request is over
	stop       context.CancelFunc
	loops      sync.WaitGroup
}

// New makes the service. It starts nothing.
func New(_ context.Context, o Options) (*Service, error) {
	if o.SignIn.Operators == nil || o.Secret == "" {
		return nil, errors.New("control needs its operators and the internal secret")
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
		oauth:        intercom.NewCaller(o.Transport, ""),
		moves:        o.Moves,
		wakeMover:    o.WakeMover,
		webhooks:     o.Webhooks,
		backup:       o.Backup,
		mux:          http.NewServeMux(),
		open:         http.NewServeMux(),
		operators:    o.SignIn.Operators,
		signIn:       o.SignIn,
		crossOrigin:  http.NewCrossOriginProtection(),
	}
	if o.SignIn.URL != "" {
		if err := s.crossOrigin.AddTrustedOrigin(o.SignIn.URL); err != nil {
			return nil, fmt.Errorf("control.url: %w", err)
		}
	}
	s.background, s.stop = context.WithCancel(context.Background())
	s.routes()
	s.openRoutes()
	return s, nil
}

// Close ends what goes on in the background.
func (s *Service) Close() error {
	s.stop()
	s.loops.Wait()
	return errors.Join(s.internal.Close(), s.oauth.Close())
}

// routes puts the table into the mux. What isn't in the table isn't there.
func (s *Service) routes() {
	for pattern, rt := range s.table() {
		method, path, _ := strings.Cut(pattern, " ")
		if !strings.HasPrefix(path, systemPath) {
			path = prefix + "/{environment}" + path
		}
		s.mux.Handle(method+" "+path, s.guard(pattern, rt))
	}
}

// handler answers a request in an environment: it returns the status and what to
// answer, or an error.
type handler func(*http.Request, *Environment) (int, any, error)

// in finds the environment of a request and writes what the handler answers.
func (s *Service) in(h handler) http.Handler {
	return s.system(func(r *http.Request) (int, any, error) {
		env, err := s.environment(r.PathValue("environment"))
		if err != nil {
			return 0, nil, err
		}
		return h(r, env)
	})
}

// systemHandler answers a request that concerns the system as a whole.
type systemHandler func(*http.Request) (int, any, error)

// system writes what the handler answers, once the audit log has it.
func (s *Service) system(h systemHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, v, err := h(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.end(r, askedBy(r), operator.Done)
		writeJSON(w, status, v)
	})
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

// Handler answers the admin API, and the pages by which operators sign in.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		SecurePage(w.Header(), barePolicy)
		if _, pattern := s.open.Handler(r); pattern != "" {
			s.open.ServeHTTP(w, r)
			return
		}
		if h, pattern := s.mux.Handler(r); pattern == "" {
			// Strangers don't learn what is there and what isn't.
			if _, err := s.who(w, r); err != nil {
				problem.Write(w, r, err)
				return
			}
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
