package stack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"mpr/company"
	"mpr/config"
	"mpr/control"
	"mpr/directory"
	"mpr/gateway"
	"mpr/intercom"
	"mpr/ledger"
	"mpr/limit"
	"mpr/login"
	"mpr/move"
	"mpr/observe"
	"mpr/problem"
	"mpr/region"
	"mpr/rules"
	"mpr/store"
	"mpr/token"
	"mpr/webhook"
)

// startLogin starts the login role of an environment and answers the login door's handler.
func (s *system) startLogin(ctx context.Context, ed *edition) (http.Handler, error) {
	e, sh := ed.environment, ed.shared
	db, err := ed.open(ctx, "identity of "+e.Name, e.Identity.Store, login.Migrations())
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", err)
	}
	buckets := token.LateBuckets(s.nats, ed.buckets, s.config.Directory.Replicas)
	networks, err := s.forwardedFrom()
	if err != nil {
		return nil, err
	}
	service, err := login.New(ctx, login.Options{
		ForwardedFrom: networks,
		Issuer:        e.Issuer(), Product: s.config.Product, LoginURLs: s.loginURLs(e),
		DB: db, Announcer: sh.follower.Announcer(buckets), Revoker: buckets, Buckets: buckets, Changes: directory.OpenChanges(s.nats, ed.buckets, s.config.Directory.Replicas),
		Verifier: sh.verifier, Policy: &sh.policy, InForce: sh.inForce, RulesNow: s.rulesNow, Ledger: ed.counter("login"), Secret: s.secret,
		ClientPrefix: e.ClientPrefix(), ClientsOf: s.otherClients(e),
		Algorithm: s.config.Tokens.Algorithm, KeyDelay: s.config.Tokens.KeyDelay,
		AccessLifetime: s.config.Tokens.AccessLifetime, CodeLifetime: s.config.Tokens.CodeLifetime, RefreshGrace: s.config.Tokens.RefreshGrace,
		SessionLifetime: s.config.Login.SessionLifetime, AttemptsPerMinute: s.config.Login.AttemptsPerMinute, Now: s.now,
	})
	if err != nil {
		return nil, err
	}
	ed.add(service)
	seen := s.observe.Door(RoleLogin, e.Name, "login")
	passed := seen.Handler(problem.LimitHeader(service.Passed(), s.config.Gateway.MaxHeader))
	inside := s.observe.Inside(RoleLogin, e.Name, "identity", "").Handler(service.Internal())
	if err := ed.serveInternal(&e.Identity.Internal, s.within(passedOn(inside, passed))); err != nil {
		return nil, err
	}
	door := seen.Handler(problem.LimitHeader(service.Handler(), s.config.Gateway.MaxHeader))
	return ed.serve(&e.Login.Listen, s.within(door))
}

// passedOn also answers the calls of the login door that a gateway passes on. They come in at
// the internal listener: a door that speaks TLS has a certificate for its host, which isn't
// where a gateway finds it.
func passedOn(inside, door http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/internal/") || strings.HasPrefix(r.URL.Path, "/rest/") {
			inside.ServeHTTP(w, r)
			return
		}
		door.ServeHTTP(w, r)
	})
}

// otherClients are the environments whose client ids the login service tells from its own.
// In a development sandbox these are those of its environment, elsewhere those of the
// development sandboxes.
func (s *system) otherClients(e *config.Environment) []login.Clients {
	var others []login.Clients
	for i := range s.config.Environments {
		o := &s.config.Environments[i]
		if e.ClientPrefix() == "" && o.ClientPrefix() != "" || e.ClientPrefix() != "" && o.Name == e.SandboxOf {
			others = append(others, login.Clients{Environment: o.Called(), Prefix: o.ClientPrefix(), LoginURL: o.Login.BaseURL()})
		}
	}
	return others
}

// loginURLs maps the base URLs of the doors to the login door that belongs to each: by
// name over TLS, and by address as the doors are served.
func (s *system) loginURLs(e *config.Environment) map[string]string {
	byName, scheme := "https://"+e.Login.Host, s.config.TLS.Scheme()+"://"
	byAddress := scheme + e.Login.Listen
	urls := map[string]string{byName: byName, byAddress: byAddress, "https://" + e.API.Host: byName, scheme + e.API.Listen: byAddress}
	if e.Legacy.Host != "" {
		urls["https://"+e.Legacy.Host], urls[scheme+e.Legacy.Listen] = byName, byAddress
	}
	return urls
}

// startRegion starts a region of ours, which listens at these places.
func (s *system) startRegion(ctx context.Context, ed *edition, r *config.RegionConfig, places []config.Place) error {
	e, sh := ed.environment, ed.shared
	db, err := ed.open(ctx, "region "+r.Code+" of "+e.Name, r.Store, region.Migrations())
	if err != nil {
		return fmt.Errorf("store of region %s: %w", r.Code, err)
	}
	identity := identityClient{intercom.NewCaller(s.transport, s.secret), s.inside(e.Identity.Internal)}
	ed.add(identity)
	service, err := region.New(ctx, region.Options{
		Code: company.Region(r.Code), Number: r.Number, DB: db, Verifier: sh.verifier, Policy: &sh.policy, Publisher: directory.OpenChanges(s.nats, ed.buckets, s.config.Directory.Replicas),
		Identity: identity, Secret: s.secret,
		MaxBody: s.config.Region.MaxBody, MaxPerPage: s.config.Region.MaxPerPage, MaxStore: r.MaxStore, Reserve: s.config.Region.Reserve, Now: s.now,
	})
	if err != nil {
		return err
	}
	ed.add(service)
	code := company.Region(r.Code)
	inside := s.observe.Inside(RoleRegion, e.Name, "internal", code).Handler(service.Internal())
	for _, p := range places {
		if err := ed.serveInternal(p.Internal, s.within(inside)); err != nil {
			return err
		}
	}
	// Its door stays closed until it knows the public keys: a region that refuses good
	// tokens is worse than one that can't be reached yet.
	slog.InfoContext(ctx, "waiting for public keys, from the directory or from disk", "environment", e.Name, "region", r.Code)
	if err := sh.follower.Ready(ctx); err != nil {
		return fmt.Errorf("wait for the public keys: %w", err)
	}
	door := s.healthy(e.Name, s.observe.Inside(RoleRegion, e.Name, "region", code).Handler(service.Handler()))
	for _, p := range places {
		if _, err := ed.serve(p.Listen, door); err != nil {
			return err
		}
	}
	return nil
}

// forwardedFrom is the networks of the proxies ahead of us.
func (s *system) forwardedFrom() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range s.config.Gateway.ForwardedFrom {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("gateway.forwarded_from: %w", err)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// startGateway starts the gateway of an environment and answers the handlers of the api
// and the legacy door.
func (s *system) startGateway(ed *edition) (api, legacy http.Handler, err error) {
	e, sh := ed.environment, ed.shared
	limits := s.config.Gateway
	networks, err := s.forwardedFrom()
	if err != nil {
		return nil, nil, err
	}
	limiter, err := ed.limiter()
	if err != nil {
		return nil, nil, err
	}
	doors := map[rules.Door]*observe.Door{
		rules.DoorAPI:    s.observe.Door(RoleGateway, e.Name, "api"),
		rules.DoorLegacy: s.observe.Door(RoleGateway, e.Name, "legacy"),
	}
	if _, err := s.bind(&e.API.Listen); err != nil { // the gateway tells where it is
		return nil, nil, err
	}
	sh.replica.Gate(rand.Text(), s.sayings(ed, e.API.Listen, doors))
	service, err := gateway.New(gateway.Options{
		Policy:     sh.inForce,
		Placements: sh.replica, Verifier: sh.verifier,
		IdentityURL: s.inside(e.Identity.Internal), LoginURL: s.inside(e.Identity.Internal), Secure: s.secure(), Own: ownRegions(e),
		Limits: gateway.Limits{
			MaxBody: limits.MaxBody, IdleTimeout: limits.IdleTimeout, StallTimeout: limits.StallTimeout,
			ConnectTimeout: limits.ConnectTimeout, AnswerTimeout: limits.AnswerTimeout, HoldTimeout: limits.HoldTimeout, HoldCalls: limits.HoldCalls, UpstreamConns: limits.UpstreamConns, ForwardedFrom: networks,
			HealthInterval: limits.HealthInterval, HedgePercent: limits.HedgePercent,
		},
		Now: s.rulesNow, Ledger: ed.counter("gateway"), Limiter: limiter,
		Doors: doors,
	})
	if err != nil {
		return nil, nil, err
	}
	ed.add(service)
	ed.gateway = service
	api, err = ed.serve(&e.API.Listen, problem.LimitHeader(service.Handler(rules.DoorAPI), limits.MaxHeader))
	if err != nil || e.Legacy.Host == "" {
		return api, nil, err
	}
	legacy, err = ed.serve(&e.Legacy.Listen, problem.LimitHeader(service.Handler(rules.DoorLegacy), limits.MaxHeader))
	return api, legacy, err
}

// limiter starts to count the calls of the environment's apps. Limits, and what was counted, are
// those of all generations: client ids stay when a sandbox is refreshed.
func (ed *edition) limiter() (*limit.Limiter, error) {
	s, e := ed.system, ed.environment
	file := filepath.Join(store.GenerationFolder(s.config.Folder(e), ed.generation), ed.name+".limits")
	table := limit.Follow(s.nats, e.Name, file, s.limits())
	ed.add(table)
	limiter, err := limit.New(limit.Options{Conn: s.nats, Environment: e.Name, Table: table, Now: s.now})
	if err != nil {
		return nil, err
	}
	ed.add(limiter)
	return limiter, nil
}

// limits are those of apps for which nobody has set others.
func (s *system) limits() limit.Limits {
	return limit.Limits{Hour: s.config.Gateway.RateLimits.Hour, Spike: s.config.Gateway.RateLimits.Spike}
}

// ledgerStream carries the counts of non-compliant calls.
func (s *system) ledgerStream(e *config.Environment) *directory.LateStream {
	return directory.OpenLateStream(s.nats, "ledger", e.Name, s.config.Directory.Replicas)
}

// counter starts a counter for the environment's ledger, which is one for all generations.
func (ed *edition) counter(role string) *ledger.Counter {
	file := filepath.Join(store.GenerationFolder(ed.system.config.Folder(ed.environment), ed.generation), ed.name+"."+role+".counts")
	c := ledger.NewCounter(ed.system.ledgerStream(ed.environment), ed.system.rulesNow, file)
	ed.add(lastCount{c, ed.environment.Name})
	return c
}

// lastCount stores what was counted at the end.
type lastCount struct {
	*ledger.Counter
	environment string
}

func (l lastCount) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastCounts)
	defer cancel()
	if err := l.Counter.Close(ctx); err != nil {
		slog.Warn("stopping", "environment", l.environment, "error", err)
	}
	return nil
}

// lastCounts is how long a stop waits for the ledger's last counts to be stored.
const lastCounts = time.Second

// startControl starts the control role, for all environments, and notes in the data
// folder where it is, for the commands.
func (s *system) startControl(ctx context.Context) error {
	adminToken := ""
	if s.config.Control.AdminToken != config.TokenOff {
		var err error
		if adminToken, err = readOrMakeSecret(s.config.Control.TokenFile); err != nil {
			return err
		}
	}
	db, err := storeOptions(s.config).Open(ctx, s.config.Control.Store, ledger.Migrations())
	if err != nil {
		return fmt.Errorf("control store: %w", err)
	}
	s.add(db)
	s.onClose(s.shown("control", db, nil))
	if err := db.Also(ctx, movesVersions, move.Migrations()); err != nil {
		return fmt.Errorf("control store: %w", err)
	}
	if err := db.Also(ctx, webhooksVersions, webhook.Migrations()); err != nil {
		return fmt.Errorf("control store: %w", err)
	}
	environments, books, err := s.controlled(ctx, db)
	if err != nil {
		return err
	}
	if _, port, err := net.SplitHostPort(s.config.Control.Listen); err == nil && port == "0" {
		if _, err := s.bind(&s.config.Control.Listen); err != nil { // its URL must be known
			return err
		}
	}
	signIn, err := s.startOperators(ctx, db)
	if err != nil {
		return err
	}
	queue, mover, webhooks := s.startMoves(db, environments)
	service, err := control.New(ctx, control.Options{
		Environments: environments, Secret: s.secret, Transport: s.transport, AdminToken: adminToken, SignIn: signIn, Now: s.rulesNow, Moves: queue, WakeMover: mover.Wake, Webhooks: webhooks,
		Backup: func(ctx context.Context, to io.Writer) (int, error) { return directory.Backup(ctx, s.nats, to) },
	})
	if err != nil {
		return err
	}
	s.add(service)
	s.showFigures(queue, books)
	pages, err := s.withPages(service)
	if err != nil {
		return err
	}
	door := s.observe.Inside(RoleControl, "", "admin", "").Handler(pages)
	if err := s.bindAndServe(&s.config.Control.Listen, s.within(door)); err != nil {
		return err
	}
	return s.noteRunning()
}

// startMoves starts what moves companies, and what tells apps of it.
func (s *system) startMoves(db *store.DB, environments []*control.Environment) (*move.Queue, *move.Mover, *webhook.Service) {
	directories, identity := map[string]move.Directory{}, map[string]string{}
	for _, e := range environments {
		directories[e.Name], identity[e.Name] = servedDirectory{s.served[e.Name]}, e.IdentityURL
	}
	// Each wakes the other one.
	noticed := make(chan struct{}, 1)
	queue := &move.Queue{DB: db, Now: s.now, Noticed: func() {
		select {
		case noticed <- struct{}{}:
		default: // it has been told already
		}
	}}
	mover := move.New(move.Options{
		Queue: queue, Directories: directories, Secret: s.secret, Transport: s.transport, AtOnce: s.config.Moves.AtOnce, Retention: s.config.Moves.Retention,
		Notice: s.config.Moves.Notice, Step: s.moverStep,
		ChangedOver: s.observe.Distribution("mpr_move_pause_seconds", "How long nobody owned a company at its change-over.", pauseBuckets),
	})
	s.add(mover)
	webhooks := webhook.New(webhook.Options{
		Queue: queue, Identity: identity, Secret: s.secret, Transport: s.transport, AllowPrivate: s.config.Webhooks.AllowPrivate, LongestDelay: s.config.Moves.LongestDelay,
		WakeMover: mover.Wake, Noticed: noticed, Now: s.now,
	})
	s.add(webhooks)
	return queue, mover, webhooks
}

// controlled are the environments as the control role sees them, and the books of their ledgers,
// which db keeps.
func (s *system) controlled(ctx context.Context, db *store.DB) ([]*control.Environment, map[string]*ledger.Book, error) {
	books := map[string]*ledger.Book{}
	byName := map[string]*control.Environment{}
	var all []*control.Environment
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		v, err := s.knownToControl(ctx, e)
		if err != nil {
			return nil, nil, err
		}
		d := servedDirectory{v}
		if err := s.registerRegions(ctx, d, e); err != nil {
			return nil, nil, err
		}
		limits := limit.OpenSettings(s.nats, e.Name, s.config.Directory.Replicas)
		if err := limits.Make(ctx); err != nil {
			return nil, nil, err
		}
		book := ledger.OpenBook(db, e.Name, s.ledgerStream(e), s.rulesNow)
		s.add(book)
		book.Prepare(v.edition().inForce())
		books[e.Name] = book
		all = append(all, &control.Environment{
			Name: e.Name, DefaultRegion: company.Region(s.config.DefaultRegion), Placements: d, Regions: d, Configured: configuredRegions(e), Pages: d, Signs: d, Registry: d,
			Policies: d, HasLegacyDoor: e.Legacy.Host != "", Campaign: v.edition().policy.Campaign, InForce: func() *rules.Policy { return v.edition().inForce() }, Ledger: book,
			Limits: limits, LimitsOfAll: s.limits(),
			IdentityURL: s.inside(e.Identity.Internal), LoginURL: s.config.TLS.Scheme() + "://" + e.Login.Listen,
			PublicLogin: e.Login.BaseURL(), PublicAPI: e.API.BaseURL(), ClientPrefix: e.ClientPrefix(),
		})
		byName[e.Name] = all[i]
	}
	for i := range all {
		if box := s.config.DevelopmentSandbox(&s.config.Environments[i]); box != nil {
			all[i].Sandbox = byName[box.Name]
		}
	}
	if err := s.refreshSandboxes(ctx, byName); err != nil {
		return nil, nil, err
	}
	return all, books, nil
}

// noteRunning writes the file by which the commands find the admin API.
func (s *system) noteRunning() error {
	tokenFile, err := "", error(nil)
	if s.config.Control.AdminToken != config.TokenOff {
		tokenFile, err = filepath.Abs(s.config.Control.TokenFile)
	}
	if err != nil {
		return fmt.Errorf("note where the admin API is: %w", err)
	}
	data, err := json.Marshal(map[string]AdminFacts{"admin": {URL: s.adminScheme() + "://" + s.config.Control.Listen, TokenFile: tokenFile}})
	if err != nil {
		return fmt.Errorf("note where the admin API is: %w", err)
	}
	return writeFile(filepath.Join(s.config.Data, "running.json"), append(data, '\n'), 0o600)
}

func (s *system) bindAndServe(address *string, h http.Handler) error {
	l, err := s.bind(address)
	if err != nil {
		return err
	}
	if host := s.doorHost(*address); host != "" {
		s.serveDoor(l, h, s.doors.config(host))
	} else {
		s.serve(l, h, s.insideTLS(*address))
	}
	return nil
}

// doorHost is the host of the door at an address; empty where that is for our own processes.
func (s *system) doorHost(address string) string {
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		for _, d := range []config.Door{e.Login, e.API, e.Legacy} {
			if d.Host != "" && d.Listen == address {
				return d.Host
			}
		}
	}
	return ""
}

// identityClient asks the login role's internal listener on behalf of a region.
type identityClient struct {
	*intercom.Caller
	base string
}

// inviteTimeout bounds how long a write may wait for the login role.
const inviteTimeout = 5 * time.Second

// EnsureUser answers the id of the person with this login; who isn't known yet is invited.
func (c identityClient) EnsureUser(ctx context.Context, loginName, name string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, inviteTimeout)
	defer cancel()
	var user struct {
		ID int64 `json:"id"`
	}
	_, err := c.Call(ctx, http.MethodPost, c.base+"/internal/users?ensure=1", map[string]string{"login": loginName, "name": name}, &user)
	if err == nil && user.ID <= 0 {
		err = errors.New("the login service answered without an id")
	}
	return user.ID, err
}
