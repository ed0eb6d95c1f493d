package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/config"
	"mpr/control"
	"mpr/directory"
	"mpr/lockfile"
	"mpr/move"
	"mpr/observe"
	"mpr/pki"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
	"mpr/token"
)

// system is the roles that run in this process, and what they share.
type system struct {
	*process
	config *config.Config
	nats   *nats.Conn
	near   *directory.Near // nil: the directory itself is followed
	secret string
	admin  *pki.Pairs // of control; nil: plain HTTP
	doors  *doors     // of login and gateway; nil: plain HTTP
	// peer is this process towards our others, nil for plain HTTP, and transport carries calls to them.
	peer      *pki.Peer
	transport http.RoundTripper

	mu sync.Mutex // guards the rest: environments start side by side
	// bound holds the listeners by address, so that all can be opened before the first
	// role is built.
	bound map[string]net.Listener
	// bindHost is [RoleOptions.Bind].
	bindHost string
	// region is [RoleOptions.Region].
	region string
	// served holds the environments that this process serves, by name.
	served map[string]*served
	// now is the clock, and rulesNow that of the rules, which may run at another date.
	now, rulesNow func() time.Time
	// moverStep is [RoleOptions.MoverStep].
	moverStep func(context.Context, *move.Move, string) error
}

// shared is the copy of an environment's directory, keys and revocations that the roles
// of one process use together.
type shared struct {
	policy   rules.Policy // as configured
	latest   atomic.Pointer[campaignPolicy]
	replica  *directory.Replica
	follower *token.Follower
	verifier *token.Verifier
}

// newSystem reads the process secret. It starts nothing.
func newSystem(cfg *config.Config) (*system, error) {
	secret, err := readOrMakeSecret(cfg.Secret)
	if err != nil {
		return nil, err
	}
	return &system{
		process: newProcess(cfg.Gateway, cfg.Operations),
		config:  cfg,
		bound:   map[string]net.Listener{},
		secret:  secret,
		served:  map[string]*served{},

		now: time.Now, rulesNow: time.Now,
	}, nil
}

// bind opens an address of the configuration, once, and writes back what it became:
// port 0 has turned into a real one.
func (s *system) bind(address *string) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.bound[*address]; ok {
		return l, nil
	}
	at := *address
	if address != &s.config.Operations.Listen {
		at = s.bindable(at)
	}
	l, err := s.listen(at)
	if err != nil {
		return nil, err
	}
	*address = l.Addr().String()
	s.bound[*address] = l
	return l, nil
}

// bindable is where to listen for an address of the configuration. Where processes stand behind
// names that aren't theirs, such as those of a balancer, its host can't be listened at.
func (s *system) bindable(address string) string {
	_, port, err := net.SplitHostPort(address)
	if s.bindHost == "" || err != nil {
		return address
	}
	return net.JoinHostPort(s.bindHost, port)
}

// bindAll opens every address that the roles of all environments use.
func (s *system) bindAll() error {
	addresses := []*string{&s.config.Control.Listen}
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		addresses = append(addresses, &e.Login.Listen, &e.API.Listen, &e.Identity.Internal)
		if e.Legacy.Host != "" {
			addresses = append(addresses, &e.Legacy.Listen)
		}
		for j := range e.Regions {
			for _, p := range e.Regions[j].Places() {
				addresses = append(addresses, p.Listen, p.Internal)
			}
		}
	}
	for _, a := range addresses {
		if _, err := s.bind(a); err != nil {
			return err
		}
	}
	return nil
}

// serveDirectory starts the embedded directory server where no cluster is configured.
// address is where other processes reach it; empty for none.
func (s *system) serveDirectory(address string) error {
	if len(s.config.Directory.URLs) > 0 {
		return s.connectDirectory("control")
	}
	// Two servers on one store would destroy it.
	held, err := lockfile.Take(filepath.Join(s.config.Data, directoryLock), "the directory server")
	if other, is := errors.AsType[*lockfile.HeldError](err); is {
		return fmt.Errorf("another process runs the directory server of the data folder %s, %s: stop it, or choose another folder with --data", s.config.Data, other.Holder)
	}
	if err != nil {
		return fmt.Errorf("lock the directory's store: %w", err)
	}
	s.add(held)
	server, err := directory.StartServer(directory.ServerOptions{
		Dir:    filepath.Join(s.config.Data, directoryFolder),
		Listen: address,
		Secret: s.secret,
		TLS:    s.directoryTLS(),
	})
	if err != nil {
		return err
	}
	s.onClose(func() error { server.Close(); return nil })
	s.nats, err = server.Connect("control")
	if err != nil {
		return err
	}
	s.onClose(func() error { s.nats.Close(); return nil })
	return nil
}

// connectDirectory connects to the directory's cluster, or to the server in the control
// role, and to the mirrors where there are any. It doesn't fail where those are away: the
// connections are made when they come back.
func (s *system) connectDirectory(name string) error {
	d := s.config.Directory
	servers := s.servers(d.URLs, d.Access)
	if len(d.URLs) == 0 {
		servers.URLs, servers.Dialer = []string{"nats://" + d.Listen}, s.directoryDialer()
	}
	conn, err := servers.Connect(name)
	if err != nil {
		return err
	}
	s.nats = conn
	s.onClose(func() error { conn.Close(); return nil })
	if len(d.Near.URLs) == 0 {
		return nil
	}
	near, err := s.servers(d.Near.URLs, d.Near.Access).Connect(name)
	if err != nil {
		return err
	}
	s.near = &directory.Near{Conn: near, Domain: d.Near.Domain, Replicas: d.Near.Replicas}
	s.onClose(func() error { near.Close(); return nil })
	return nil
}

func (s *system) servers(urls []string, a config.Access) directory.Servers {
	return directory.Servers{
		URLs: urls, Secret: s.secret, Credentials: a.Credentials, Nkey: a.Nkey, User: a.User, Password: a.Password,
		CA: a.CA, Certificate: a.Certificate, Key: a.Key,
	}
}

// follow starts the replica and the copy of keys and revocations. They are loaded from
// their copies on disk where the directory can't be reached.
func (ed *edition) follow(ctx context.Context) error {
	s, e := ed.system, ed.environment
	policy, err := s.config.Policy(e)
	if err != nil {
		return err
	}
	dir := store.GenerationFolder(s.config.Folder(e), ed.generation)
	replica, err := directory.OpenReplicaNear(s.nats, s.near, ed.buckets, filepath.Join(dir, ed.name+".replica"))
	if err != nil {
		return err
	}
	ed.add(replica)
	follower, err := token.FollowNear(ctx, s.nats, s.near, ed.buckets, filepath.Join(dir, ed.name+".keys"))
	if err != nil {
		return err
	}
	ed.add(follower)
	verifier := token.NewVerifier(e.Issuer(), follower, s.config.Gateway.RememberedTokens, s.now)
	verifier.Others(s.otherIssuers(e))
	ed.shared = &shared{policy: policy, replica: replica, follower: follower, verifier: verifier}
	return nil
}

// campaignPolicy is the configured policy with a campaign that an operator has set.
type campaignPolicy struct {
	campaign *rules.Campaign
	policy   rules.Policy
}

// inForce is the policy with the campaign in force. It is for every call: it takes no
// lock, and allocates only after a change.
func (sh *shared) inForce() *rules.Policy {
	campaign := sh.replica.Campaign()
	if campaign == nil {
		return &sh.policy
	}
	if latest := sh.latest.Load(); latest != nil && latest.campaign == campaign {
		return &latest.policy
	}
	next := &campaignPolicy{campaign: campaign, policy: sh.policy}
	next.policy.Campaign = *campaign
	sh.latest.Store(next)
	return &next.policy
}

// otherIssuers are the other environments, by the issuer of their tokens.
func (s *system) otherIssuers(e *config.Environment) map[string]token.Environment {
	others := map[string]token.Environment{}
	for i := range s.config.Environments {
		if o := &s.config.Environments[i]; o.Name != e.Name {
			others[o.Issuer()] = token.Environment{Name: o.Called(), APIURL: o.API.BaseURL(), LoginURL: o.Login.BaseURL()}
		}
	}
	return others
}

// knows waits until the replica knows a company and its region, so that the next call
// finds its way.
func (sh *shared) knows(ctx context.Context, id company.ID) error {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for {
		if p, ok := sh.replica.Placement(id); ok {
			if _, ok := sh.replica.Region(p.Region); ok {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for company %d: %w", id, context.Cause(ctx))
		case <-t.C:
		}
	}
}

// ready waits until the copies are loaded, from the directory or from disk.
func (sh *shared) ready(ctx context.Context) error {
	if err := sh.replica.Ready(ctx); err != nil {
		return fmt.Errorf("wait for the directory: %w", err)
	}
	if err := sh.follower.Ready(ctx); err != nil {
		return fmt.Errorf("wait for the public keys: %w", err)
	}
	return nil
}

// registerRegions tells the directory of the regions that the configuration names.
func (s *system) registerRegions(ctx context.Context, d control.Regions, e *config.Environment) error {
	for i := range e.Regions {
		r := &e.Regions[i]
		info := company.RegionInfo{Code: company.Region(r.Code), Number: r.Number, Upstreams: r.Upstreams, HealthPath: r.HealthPath}
		if places := r.Places(); len(places) > 0 {
			info.HealthPath, info.Ours = observe.ReadyPath, s.peer != nil
			info.Internal = s.inside(*places[0].Internal) // stands for all of them: toAny
			for _, p := range places {
				info.Upstreams = append(info.Upstreams, s.inside(*p.Listen))
			}
		}
		if err := patiently(ctx, func() error { return d.PutRegion(ctx, info) }); err != nil {
			return fmt.Errorf("register region %s: %w", r.Code, err)
		}
	}
	return nil
}

// patiently repeats f for as long as the directory can't be reached, until the context ends. A server that has just
// started with millions of companies, which all that follow it read at once, may answer too late
// for a while: to give up, and take it down, would have them begin anew.
func patiently(ctx context.Context, f func() error) error {
	retry := time.NewTicker(reopenEvery)
	defer retry.Stop()
	var told problem.Told
	for {
		err := f()
		if !errors.Is(err, problem.New(problem.DirectoryUnavailable, "")) {
			return err
		}
		if told.Anew(err) {
			slog.WarnContext(ctx, "the directory doesn't answer yet; trying until it does", "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-retry.C:
		}
	}
}
