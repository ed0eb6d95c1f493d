package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"mpr/company"
	"mpr/problem"
)

// upstreams holds a transport for each upstream: one whose connections are all in use
// holds up nobody else's calls.
type upstreams struct {
	limits Limits
	turn   atomic.Uint64
	mu     sync.RWMutex
	byHost map[string]*http.Transport
	parsed map[string]*url.URL // base URLs by their text; never changed
}

const idlePerUpstream = time.Minute

func (u *upstreams) transport(base *url.URL) *http.Transport {
	key := base.Scheme + "://" + base.Host
	u.mu.RLock()
	t := u.byHost[key]
	u.mu.RUnlock()
	if t != nil {
		return t
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.byHost[key]; t != nil {
		return t
	}
	t = &http.Transport{
		DialContext:           (&net.Dialer{Timeout: u.limits.ConnectTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   u.limits.ConnectTimeout,
		ResponseHeaderTimeout: u.limits.AnswerTimeout,
		ExpectContinueTimeout: time.Second,
		MaxConnsPerHost:       u.limits.UpstreamConns,
		MaxIdleConnsPerHost:   u.limits.UpstreamConns,
		IdleConnTimeout:       idlePerUpstream,
		DisableCompression:    true, // bodies pass as they are
	}
	if u.byHost == nil {
		u.byHost = map[string]*http.Transport{}
	}
	u.byHost[key] = t
	return t
}

// maxParsed bounds the base URLs that are kept, should regions change theirs for ever.
const maxParsed = 1024

// base answers a base URL, parsed once and not for each call.
func (u *upstreams) base(text string) (*url.URL, error) {
	u.mu.RLock()
	base := u.parsed[text]
	u.mu.RUnlock()
	if base != nil {
		return base, nil
	}
	base, err := parseUpstream(text)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.parsed == nil || len(u.parsed) >= maxParsed {
		u.parsed = map[string]*url.URL{}
	}
	u.parsed[text] = base
	return base, nil
}

func (u *upstreams) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range u.byHost {
		t.CloseIdleConnections()
	}
}

// upstream answers a base URL of a region, each of them in turn.
func (s *Service) upstream(code company.Region) (*url.URL, error) {
	info, ok := s.options.Placements.Region(code)
	if !ok || len(info.Upstreams) == 0 {
		return nil, regionUnavailable(code)
	}
	turn := s.upstreams.turn.Add(1)
	base, err := s.upstreams.base(info.Upstreams[turn%uint64(len(info.Upstreams))])
	if err != nil {
		return nil, regionUnavailable(code).Because(err)
	}
	return base, nil
}

func parseUpstream(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not a base URL: expected one such as http://10.0.0.1:8080", text)
	}
	return u, nil
}

func regionUnavailable(code company.Region) *problem.Problem {
	p := problem.New(problem.RegionUnavailable, "Region %s can't be reached. Try again.", code).After(time.Second)
	p.Region = string(code)
	return p
}
