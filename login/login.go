package login

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"mpr/directory"
	"mpr/ledger"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
	"mpr/token"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema of the identity store.
func Migrations() fs.FS { return store.Files(migrations) }

// Revoker makes revoked grants known to all verifiers.
type Revoker interface {
	Revoke(ctx context.Context, grant string, until time.Time) error
}

// Changes is the stream of the regions' changes that the global index is fed from.
type Changes interface {
	Consume(ctx context.Context, durable string, apply func(context.Context, []directory.Change) error) error
}

// Verifier verifies access tokens.
type Verifier interface {
	Verify(raw string) (*token.Claims, error)
}

// Options are what a [Service] needs.
type Options struct {
	Issuer  string
	Product string
	// LoginURLs maps each base URL by which clients may call the OAuth endpoints to the
	// base URL of the login door that belongs to it. People sign in at login doors only.
	LoginURLs map[string]string
	DB        *store.DB
	Announcer token.Announcer
	Revoker   Revoker
	// Buckets are those of Announcer and Revoker.
	Buckets  Buckets
	Changes  Changes
	Verifier Verifier
	Policy   *rules.Policy
	// InForce is the policy with the dates that are in force, and RulesNow the clock that
	// they are compared with.
	InForce func() *rules.Policy
	// Ledger counts clients that come with credentials of another environment; nil for none.
	Ledger   interface{ Count(ledger.Call) }
	RulesNow func() time.Time
	// Secret is the secret that our processes show one another.
	Secret string
	// ClientPrefix is what all client ids begin with; most environments have none.
	ClientPrefix string
	// ClientsOf are environments with other client ids, so that an app that comes to the
	// wrong one hears of the right one.
	ClientsOf []Clients

	Algorithm       string
	KeyDelay        time.Duration
	AccessLifetime  time.Duration
	CodeLifetime    time.Duration
	RefreshGrace    time.Duration
	SessionLifetime time.Duration
	// AttemptsPerMinute limits failed sign-ins per account, and ten times as many per
	// address.
	AttemptsPerMinute int
	// ForwardedFrom are the networks of proxies ahead of us whose X-Forwarded-For is
	// believed.
	ForwardedFrom []netip.Prefix
	Now           func() time.Time
}

// Clients are the client ids of another environment.
type Clients struct {
	// Environment is what sentences call it, such as "the development sandbox".
	Environment string
	// Prefix is what its client ids begin with; empty where they have none.
	Prefix string
	// LoginURL is the base URL of its login door.
	LoginURL string
}

// Service is the login role of one environment.
type Service struct {
	Options
	ring    *token.Ring
	hashing chan struct{} // a slot for each password that may be hashed at a time
	queue   chan struct{} // a slot for each that is hashed or waits for that
	wakeUp  chan struct{} // a grant was revoked
	indexed indexSignal

	cancel context.CancelFunc
	loops  sync.WaitGroup
}

const (
	// hashingAtOnce bounds the memory that hashing passwords takes: 19 MiB each.
	hashingAtOnce = 4
	// hashingQueue bounds how many wait for it.
	hashingQueue = 256
)

// New starts the service: it makes the first signing key where there is none, and begins
// to follow the regions' changes. The database has the schema of [Migrations].
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{
		Options: o,
		hashing: make(chan struct{}, hashingAtOnce),
		queue:   make(chan struct{}, hashingAtOnce+hashingQueue),
		wakeUp:  make(chan struct{}, 1),
	}
	var err error
	s.ring, err = token.NewRing(ctx, keyStore{o.DB}, o.Announcer, token.RingOptions{
		Algorithm: o.Algorithm, Delay: o.KeyDelay, Lifetime: o.AccessLifetime, Now: o.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("start login: %w", err)
	}
	background, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.loops.Go(func() { s.publishRevocations(background) })
	s.loops.Go(func() { s.republish(background) })
	s.loops.Go(func() { s.sweep(background) })
	s.loops.Go(func() { s.fillSearch(background) })
	s.loops.Go(func() {
		if err := o.Changes.Consume(background, indexConsumer, s.applyChanges); err != nil && background.Err() == nil {
			slog.Error("the global index stands still", "error", err)
		}
	})
	return s, nil
}

// Close ends the background work. The handlers must have ended before.
func (s *Service) Close() error {
	s.cancel()
	s.loops.Wait()
	return s.ring.Close()
}

// Handler is the login door.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"POST /oauth/token":     s.oauth(s.tokenEndpoint),
		"GET /oauth/token/info": s.oauth(s.tokenInfo),
		"POST /oauth/revoke":    s.oauth(s.revoke),
		"GET /oauth/jwks":       s.oauth(s.jwks),

		"GET " + authorizePath:  s.page(s.authorize),
		"POST " + authorizePath: s.page(s.consent),
		"GET " + loginPath:      s.page(s.loginPage),
		"POST " + loginPath:     s.page(s.signIn),
		"GET " + logoutPath:     s.page(s.logoutPage),
		"POST " + logoutPath:    s.page(s.signOut),
		"GET " + assetsPath:     s.assets,

		"GET " + rules.ChangesPath: s.page(s.changes),

		"GET /.well-known/oauth-authorization-server": s.oauth(s.metadata),
		"GET /.well-known/jwks.json":                  s.oauth(s.jwks),
		"GET /{$}":                                    s.page(s.home),
	} {
		mux.HandleFunc(pattern, h)
	}
	return trimSlash(orProblem(mux, s.writeError))
}

// Passed is the login door for calls that a gateway passes on, which says where they came in.
func (s *Service) Passed() http.Handler {
	door := s.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		door.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passedKey{}, true)))
	})
}

// passedKey marks the calls that a gateway passes on.
type passedKey struct{}

// Internal serves our own processes: the control role, and gateways that pass on calls
// without a company.
func (s *Service) Internal() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rest/v1.0/me", answer(s.me))
	mux.HandleFunc("GET /rest/v1.0/companies", answer(s.companies))
	s.internalRoutes(mux)
	return orProblem(mux, problem.Write)
}

// The paths of the pages that lead to one another.
const (
	authorizePath = "/oauth/authorize"
	loginPath     = "/login"
	logoutPath    = "/logout"
)

// trimSlash makes a path with one trailing slash the same as without.
func trimSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; len(p) > 1 && p[len(p)-1] == '/' && p != assetsPath {
			r.URL.Path, r.URL.RawPath = p[:len(p)-1], ""
		}
		next.ServeHTTP(w, r)
	})
}

// orProblem answers what no route matches, and wrong methods, in our form instead of the
// mux's plain text.
func orProblem(mux *http.ServeMux, write func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would redirect what isn't canonical ("//", "/../"). There is nothing at
		// such a path, and a form must not be sent twice.
		canonical := path.Clean(r.URL.Path) == r.URL.Path || strings.HasPrefix(r.URL.Path, assetsPath)
		if !canonical {
			write(w, r, problem.New(problem.NotFound, "There is nothing at this path."))
			return
		}
		if h, pattern := mux.Handler(r); pattern == "" {
			write(w, r, problem.Unrouted(w, r, h))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// oauth answers errors in the form of RFC 6749 section 5.2.
func (s *Service) oauth(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			problem.WriteOAuth(w, r, store.Explain(err))
		}
	}
}

// answer answers errors in the form of the API.
func answer(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			problem.Write(w, r, store.Explain(err))
		}
	}
}

// baseURL is the base URL that the client called, if it is one of ours, and otherwise the
// issuer: what a client sends as Host must not find its way into our answers.
func (s *Service) baseURL(r *http.Request) string {
	scheme, host, header := "http", strings.ToLower(r.Host), r.Header
	if passed := r.Context().Value(passedKey{}) != nil; r.TLS != nil && !passed {
		// Whoever ends TLS at the door has no gateway in between. A proxy of the operator's may stand ahead.
		scheme = "https"
		if addr, ok := address(r.RemoteAddr); !ok || !s.believed(addr) {
			header = nil
		}
	}
	if forwarded := header.Get("X-Forwarded-Host"); forwarded != "" {
		host = forwarded
	}
	if forwarded := header.Get("X-Forwarded-Proto"); forwarded != "" {
		scheme = forwarded
	}
	if base := scheme + "://" + host; s.LoginURLs[base] != "" {
		return base
	}
	return s.Issuer
}

// door is the base URL of the login door that belongs to the one that the client called.
func (s *Service) door(r *http.Request) string {
	base := s.baseURL(r)
	if door := s.LoginURLs[base]; door != "" {
		return door
	}
	return base
}

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
