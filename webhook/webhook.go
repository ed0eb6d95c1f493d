package webhook

import (
	"context"
	"crypto/tls"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/move"
	"mpr/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema of what is kept, in the database of the queue of moves.
func Migrations() fs.FS { return store.Files(migrations) }

// Options are what a [Service] needs.
type Options struct {
	// Queue has the notices of moves. What is told of them is kept in its database.
	Queue *move.Queue
	// Identity are the base URLs of the login services' internal listeners, by environment.
	Identity map[string]string
	// Secret is the secret that our processes show one another.
	Secret string
	// Transport carries calls to our processes; nil for plain HTTP, and https as the system trusts it.
	Transport http.RoundTripper
	// AllowPrivate lets URLs be plain HTTP, and lead into private networks.
	AllowPrivate bool
	// LongestDelay is by how much an app may delay a change-over; 0 is not at all.
	LongestDelay time.Duration
	// Noticed says that there are notices, before they would be found by themselves.
	Noticed <-chan struct{}
	// WakeMover has a mover look at its queue: a move needn't wait any longer.
	WakeMover func()
	Now       func() time.Time
	// TLS is how the certificates of apps are verified; nil is as the system does.
	TLS *tls.Config
	// Step, where it is set, is called at each of "pass on", "claimed" and "answered"; tests have
	// the work end there, as if the process had died. Its error ends it.
	Step func(ctx context.Context, name string) error
}

const (
	// lookEvery is how often the database is looked at without being told.
	lookEvery = 500 * time.Millisecond
	// atOnce bounds the attempts of a process at the same time, perApp those of one app: a slow
	// one leaves room for the others.
	atOnce = 16
	perApp = 2
	// attemptWithin bounds an attempt, until the answer has come.
	attemptWithin = 10 * time.Second
	// leaseFor is how long a process is taken to be at work on an attempt, with what it asks and
	// writes around it.
	leaseFor = time.Minute
	// askAgain is how long an environment is left alone whose login service doesn't answer.
	askAgain = 2 * time.Second
	// kept is how long events are kept, and sweepEvery how often older ones are looked for.
	kept       = 30 * 24 * time.Hour
	sweepEvery = time.Hour
)

// waits are those after each attempt that fails; behind the last one the event is given up:
// about two days in all. Each is changed by up to a tenth, so that what failed together doesn't
// come again together.
var waits = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour, 20 * time.Hour,
}

// Hook is where an app hears of events, as the login service keeps it.
type Hook struct {
	App           int64     `json:"app"`
	ClientID      string    `json:"client_id"`
	Name          string    `json:"name"`
	URL           string    `json:"url"`
	Generation    int64     `json:"generation"`
	PreviousUntil time.Time `json:"previous_until,omitzero"`
}

// Service passes notices on to apps.
type Service struct {
	Options
	db      *store.DB
	caller  *intercom.Caller
	client  *http.Client
	due     chan struct{} // there are deliveries
	slots   chan struct{} // one for each attempt
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	silent  map[string]time.Time // until when an environment is left alone
	sending sync.WaitGroup
}

// New starts the work. The database has the schema of [Migrations].
func New(o Options) *Service {
	s := &Service{
		Options: o, db: o.Queue.DB, caller: intercom.NewCaller(o.Transport, o.Secret), client: newClient(o.AllowPrivate, o.TLS),
		due: make(chan struct{}, 1), slots: make(chan struct{}, atOnce), silent: map[string]time.Time{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(func() { s.every(lookEvery, s.Noticed, s.passOn) })
	s.work.Go(func() { s.every(lookEvery, s.due, s.sendDue) })
	s.work.Go(func() { s.every(sweepEvery, nil, s.sweep) })
	return s
}

// Close ends the work. An attempt under way is broken off, and made again by whoever comes next.
func (s *Service) Close() error {
	s.cancel()
	s.work.Wait()
	s.sending.Wait()
	s.client.CloseIdleConnections()
	return s.caller.Close()
}

// Wake has the service look for what is due now.
func (s *Service) Wake() { wake(s.due) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has been told already
	}
}

// every does something now, when it is woken, and from time to time.
func (s *Service) every(pause time.Duration, woken <-chan struct{}, do func()) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		do()
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		case <-woken:
		}
	}
}

// step is where tests have the work end.
func (s *Service) step(name string) error {
	if s.Step == nil {
		return nil
	}
	return s.Step(s.ctx, name)
}

// warn notes what is tried again. At the end of the process everything fails.
func (s *Service) warn(text string, err error, more ...any) {
	if s.ctx.Err() == nil {
		slog.Warn(text, append(more, "error", err)...)
	}
}

func (s *Service) base(environment string) (string, error) {
	base, ok := s.Identity[environment]
	if !ok {
		return "", fmt.Errorf("there is no environment %q any more", environment)
	}
	return base, nil
}

// hooks asks the login service which apps of a company have a webhook.
func (s *Service) hooks(environment string, id company.ID) ([]Hook, error) {
	base, err := s.base(environment)
	if err != nil {
		return nil, err
	}
	var said struct {
		Webhooks []Hook `json:"webhooks"`
	}
	ctx, cancel := context.WithTimeout(s.ctx, attemptWithin)
	defer cancel()
	_, err = s.caller.Call(ctx, http.MethodGet, base+"/internal/companies/"+id.String()+"/webhooks", nil, &said)
	return said.Webhooks, err
}

// hook asks for the webhook of an app as it is now.
func (s *Service) hook(ctx context.Context, environment string, app int64) (hook Hook, err error) {
	base, err := s.base(environment)
	if err != nil {
		return hook, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptWithin)
	defer cancel()
	_, err = s.caller.Call(ctx, http.MethodGet, fmt.Sprintf("%s/internal/apps/%d/webhook", base, app), nil, &hook)
	return hook, err
}

// newClient makes a client for URLs that others have chosen.
func newClient(private bool, trust *tls.Config) *http.Client {
	return &http.Client{
		Timeout: attemptWithin,
		Transport: &http.Transport{
			Proxy:       nil, // it would connect for us, to wherever
			DialContext: dialer(private).DialContext, TLSClientConfig: trust, ForceAttemptHTTP2: true, DisableCompression: true,
			MaxIdleConnsPerHost: perApp, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// envelope is what apps get: the body of the Standard Webhooks specification.
type envelope struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// cause is what has failed, without the URL, which may have something in it that isn't for all.
func cause(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		if wrapped.Timeout() {
			return fmt.Errorf("no answer within %s", attemptWithin)
		}
		return wrapped.Err
	}
	return err
}
