package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxCheckHeader is the largest header of an answer to a check in bytes.
const maxCheckHeader = 16 << 10

// watch looks after one upstream until the context ends: whether one that is left out is
// there again, and whether one of which nothing is heard still is.
func (g *group) watch(ctx context.Context, i int) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake[i]: // it has been left out: there is another time to wait for
		case <-timer.C:
		}
		wait, due := g.fleet.nextCheck(g.now(), i, g.interval)
		if due {
			g.fleet.checked(g.now(), i, g.check(ctx, g.upstreams[i]))
			wait, _ = g.fleet.nextCheck(g.now(), i, g.interval)
		}
		if wait != forever {
			wait = jitter(max(wait, 0))
		}
		timer.Reset(wait)
	}
}

// check asks an upstream whether it is well: by a GET of the path of health where there is
// one, which any status of success says yes to, else by connecting to it.
func (g *group) check(ctx context.Context, u *upstream) outcome {
	ctx, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	if g.healthPath == "" {
		conn, err := g.dialer.DialContext(ctx, "tcp", u.address())
		if err != nil {
			return g.unlessOurs(err, unreached)
		}
		_ = conn.Close()
		return blameless
	}
	r := (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Scheme: u.scheme, Host: u.host, Opaque: u.prefix + g.healthPath}, Host: u.host,
		Header: http.Header{"User-Agent": {"mpr-gateway"}}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	resp, err := g.checks.RoundTrip(r)
	if err != nil {
		return g.unlessOurs(err, unreached)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, discardAtMost) // so that it isn't cut off
	switch {
	case resp.Header[LeavingHeader] != nil:
		return leaving
	case resp.StatusCode/100 != 2:
		return unwell
	}
	return well
}

// unlessOurs finds out what is no fault of the upstream.
func (g *group) unlessOurs(err error, o outcome) outcome {
	if ours(err) {
		return blameless
	}
	return o
}

// address is where to connect to the upstream.
func (u *upstream) address() string {
	if _, _, err := net.SplitHostPort(u.host); err == nil {
		return u.host
	}
	port := map[string]string{"http": "80", "https": "443"}[u.scheme]
	return net.JoinHostPort(trimBrackets(u.host), port)
}

func trimBrackets(host string) string {
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1]
	}
	return host
}

// report tells the operator that an upstream has been left out or has come back.
func (g *group) report(i int, m *member) {
	u := g.upstreams[i]
	where := fmt.Sprintf("%s://%s%s", u.scheme, u.host, u.prefix)
	if !m.out {
		slog.Info("an upstream is back, and gets few calls at first", "of", g.name, "upstream", where)
		return
	}
	switch {
	case m.reason == leaving:
		slog.Info("an upstream is about to stop, and gets no more calls", "of", g.name, "upstream", where)
	case m.times == 0:
		slog.Warn("an upstream is left out", "of", g.name, "upstream", where, "because", m.reason)
	default: // it comes and goes: once in a while is enough
		slog.Info("an upstream is left out again", "of", g.name, "upstream", where, "because", m.reason, "times", m.times)
	}
	select {
	case g.wake[i] <- struct{}{}:
	default:
	}
}

// UpstreamState is what a gateway thinks of one upstream.
type UpstreamState struct {
	// Of is the region's code, or "identity" or "login".
	Of  string
	URL string
	// Out says that it gets no calls, and Reason why: unreachable, silent, broken, failing,
	// unwell or leaving.
	Out    bool
	Reason string
	// Allowance is how many calls it gets at a time, having just come back; 0 for any number.
	Allowance   int
	Outstanding int
	// Latency is how long calls take until their answer begins, averaged over some seconds.
	Latency time.Duration
	// Ejections is how often it was left out.
	Ejections uint64
}

// Upstreams answers what the gateway thinks of its upstreams, of those of regions that have
// been called.
func (s *Service) Upstreams() []UpstreamState {
	states := s.identity.states()
	states = append(states, s.login.states()...)
	for _, g := range *s.regions.groups.Load() {
		states = append(states, g.states()...)
	}
	return states
}

func (g *group) states() []UpstreamState {
	g.fleet.mu.Lock()
	defer g.fleet.mu.Unlock()
	now := g.now()
	states := make([]UpstreamState, len(g.urls))
	for i, u := range g.urls {
		m := &g.fleet.members[i]
		states[i] = UpstreamState{
			Of: g.name, URL: u, Out: m.out, Reason: m.reason.String(),
			Outstanding: m.outstanding, Latency: m.latency, Ejections: m.ejections,
		}
		if m.allowance > 0 {
			states[i].Allowance = m.allowed(now)
		}
	}
	return states
}
