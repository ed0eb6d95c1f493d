package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mpr/config"
	"mpr/problem"
	"mpr/store"
)

// DevOptions are what `mpr dev` is asked to do.
type DevOptions struct {
	Config *config.Config
	// Port is the first port of the block, 0 for free ports; TLSPort the port of the TLS
	// listener, 0 for the block's (or a free one).
	Port, TLSPort int
	// JSON prints the facts as one line instead of the text.
	JSON bool
	// AsOf is when the clock of the rules starts; it starts now where AsOf is zero. Tokens
	// live in real time.
	AsOf time.Time
	// Reset deletes the data folder first, if Confirm agrees.
	Reset   bool
	Confirm func(question string) (bool, error)
	Stdout  io.Writer
}

// ErrNotConfirmed says that a reset was asked for and then not confirmed. Nothing was
// deleted.
var ErrNotConfirmed = errors.New("not confirmed: nothing was deleted")

// Dev runs all roles of all environments in this process, on embedded stores, with demo
// users, apps and companies, until the context ends. It prints the facts once all doors
// answer.
func Dev(ctx context.Context, o DevOptions) (err error) {
	cfg := o.Config
	if o.Reset {
		if err := o.reset(ctx); err != nil {
			return err
		}
	}
	folder, err := openFolder(cfg.Data, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := whole(cfg.Data); err != nil {
		return err
	}
	if cfg.TLS.On() {
		slog.InfoContext(ctx, "the doors are plain HTTP, and over TLS on one port with a CA of their own, whatever the configuration says (tls)")
		cfg.TLS = config.TLS{}
	}
	cfg.InternalTLS = config.InternalTLS{} // all of it is one process
	cfg.Control.Certificate, cfg.Control.Key = "", ""
	s, err := newSystem(cfg)
	if err != nil {
		return err
	}
	if !o.AsOf.IsZero() {
		started := time.Now()
		s.rulesNow = func() time.Time { return o.AsOf.Add(time.Since(started)) }
	}
	defer func() {
		slog.Info("stopping: calls in flight may end")
		err = errors.Join(err, s.close())
	}()
	facts, err := s.startDev(ctx, o)
	if err != nil {
		return err
	}
	if o.JSON {
		err = facts.writeJSON(o.Stdout)
	} else {
		err = facts.writeText(o.Stdout, cfg.CompanyHeader)
	}
	if err != nil {
		return fmt.Errorf("print the facts: %w", err)
	}
	err = s.wait(ctx)
	s.drain()
	return err
}

// reset asks, and deletes all that is kept: the data folder, and schemas in PostgreSQL.
func (o DevOptions) reset(ctx context.Context) error {
	schemas, what := schemasOf(o.Config), []string{o.Config.Data}
	for _, dsn := range schemas {
		what = append(what, store.Where(dsn, 0))
	}
	ok, err := o.Confirm(fmt.Sprintf("Delete everything in %s?", strings.Join(what, ", and in ")))
	if err != nil {
		return err
	}
	if !ok {
		return ErrNotConfirmed
	}
	return resetFolder(o.Config.Data, func() error {
		for _, dsn := range schemas {
			if err := store.DropSchema(ctx, dsn); err != nil {
				return fmt.Errorf("reset: %w", err)
			}
		}
		return nil
	})
}

// startDev starts everything and fills in the demo data.
func (s *system) startDev(ctx context.Context, o DevOptions) (*Facts, error) {
	s.config.Webhooks.AllowPrivate = true        // an app that is being made runs on the same laptop
	s.config.Control.AdminToken = config.TokenOn // it makes the demo data
	slog.InfoContext(ctx, "webhooks may be plain HTTP and lead to this machine (webhooks.allow_private)")
	if s.config.Operations.Listen == "" {
		s.config.Operations.Listen = "127.0.0.1:0"
		if o.Port != 0 {
			s.config.Operations.Listen = fmt.Sprintf("127.0.0.1:%d", o.Port+config.OffsetOperations)
		}
	}
	ready, err := s.startObserving(ctx, "dev")
	if err != nil {
		return nil, err
	}
	defer ready()
	if err := s.bindAll(); err != nil {
		return nil, err
	}
	if err := s.serveDirectory(""); err != nil {
		return nil, err
	}
	s.checkDirectory(true)
	hosts, err := s.startEnvironments(ctx)
	if err != nil {
		return nil, err
	}
	s.showUpstreams()
	if err := s.startControl(ctx); err != nil {
		return nil, err
	}
	facts := &Facts{data: s.config.Data, Admin: AdminFacts{URL: "http://" + s.config.Control.Listen, TokenFile: s.config.Control.TokenFile}}
	if err := s.startFront(o, hosts, facts); err != nil {
		return nil, err
	}
	for i := range s.config.Environments {
		facts.Environments = append(facts.Environments, environmentFacts(&s.config.Environments[i]))
	}
	if err := s.fillDemo(ctx, facts); err != nil {
		return nil, fmt.Errorf("demo data: %w", err)
	}
	return facts, nil
}

// startEnvironments starts all environments side by side and answers the handlers of
// their host names.
func (s *system) startEnvironments(ctx context.Context) (map[string]http.Handler, error) {
	doors := make([]map[string]http.Handler, len(s.config.Environments))
	errs := make([]error, len(doors))
	var starting sync.WaitGroup
	for i := range s.config.Environments {
		starting.Go(func() {
			e := &s.config.Environments[i]
			if doors[i], errs[i] = s.startEnvironment(ctx, e); errs[i] != nil {
				errs[i] = fmt.Errorf("environment %s: %w", e.Name, errs[i])
			}
		})
	}
	starting.Wait()
	hosts := map[string]http.Handler{}
	for _, own := range doors {
		maps.Copy(hosts, own)
	}
	return hosts, errors.Join(errs...)
}

// startEnvironment starts login, regions and gateway of an environment and answers the
// handlers of its host names.
func (s *system) startEnvironment(ctx context.Context, e *config.Environment) (map[string]http.Handler, error) {
	hosts := map[string]http.Handler{}
	_, err := s.serveEnvironment(ctx, e, "dev", func(ctx context.Context, ed *edition) error {
		// The roles wait for the directory, and control, which makes it, starts after them.
		if _, err := ed.dir(ctx); err != nil {
			return err
		}
		login, err := s.startLogin(ctx, ed)
		if err != nil {
			return err
		}
		for i := range e.Regions {
			places := e.Regions[i].Places()
			if len(places) == 0 {
				continue // a foreign service stands in for this region
			}
			if err := s.startRegion(ctx, ed, &e.Regions[i], places); err != nil {
				return err
			}
		}
		api, legacy, err := s.startGateway(ed)
		if err != nil {
			return err
		}
		if ed.first {
			hosts[e.Login.Host], hosts[e.API.Host] = login, api
			if e.Legacy.Host != "" {
				hosts[e.Legacy.Host] = legacy
			}
		}
		return ed.ready(ctx)
	})
	return hosts, err
}

// startFront starts the TLS listener for all host names, and the proxy that leads there.
func (s *system) startFront(o DevOptions, hosts map[string]http.Handler, facts *Facts) error {
	names := make([]string, 0, len(hosts))
	for name := range hosts {
		names = append(names, name)
	}
	ca, err := developmentCA(s.config.Data, names, time.Now())
	if err != nil {
		return err
	}
	tlsConfig, err := developmentTLS(ca, names, time.Now())
	if err != nil {
		return err
	}
	tlsPort := o.TLSPort
	if tlsPort == 0 && o.Port != 0 {
		tlsPort = o.Port + config.OffsetTLS
	}
	front, err := s.listen(fmt.Sprintf("127.0.0.1:%d", tlsPort))
	if err != nil {
		return err
	}
	s.serve(front, byHost(hosts), tlsConfig)
	proxyPort := 0
	if o.Port != 0 {
		proxyPort = o.Port + config.OffsetProxy
	}
	tunnel, err := s.listen(fmt.Sprintf("127.0.0.1:%d", proxyPort))
	if err != nil {
		return err
	}
	forward := newProxy(names, front.Addr().String())
	s.add(forward)
	s.serve(tunnel, forward, nil)
	facts.TLS, facts.Proxy, facts.CA = front.Addr().String(), "http://"+tunnel.Addr().String(), filepath.Join(s.config.Data, caFile)
	return nil
}

// byHost sends a request to the handler of the host that it names. An unknown host is a
// misdirected request (RFC 9110 section 15.5.20).
func byHost(hosts map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		if h, ok := hosts[strings.ToLower(host)]; ok {
			h.ServeHTTP(w, r)
			return
		}
		problem.Write(w, r, problem.New(problem.UnknownHost, "This server doesn't answer for the host in the request. Check the URL."))
	})
}

func environmentFacts(e *config.Environment) EnvironmentFacts {
	f := EnvironmentFacts{
		Name: e.Name, Login: "http://" + e.Login.Listen, API: "http://" + e.API.Listen,
		loginHost: e.Login.Host, apiHost: e.API.Host,
	}
	if e.Legacy.Host != "" {
		f.Legacy, f.legacyHost = "http://"+e.Legacy.Listen, e.Legacy.Host
	}
	return f
}
