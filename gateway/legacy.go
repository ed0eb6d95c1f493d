package gateway

import (
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"mpr/company"
	"mpr/gateway/http1"
	"mpr/problem"
	"mpr/rules"
)

// deprecate puts on an answer what tells programs that the legacy door will close, and
// where people read what to do.
func (c *call) deprecate(h http.Header) {
	if c.door != rules.DoorLegacy {
		return
	}
	h.Set("Deprecation", "@"+strconv.FormatInt(c.policy.RegionsLive.Unix(), 10)) // RFC 9745
	last := c.policy.SunsetAt().Add(-time.Second)
	h.Set("Sunset", last.UTC().Format(http.TimeFormat)) // RFC 8594
	h.Add("Link", "<"+c.policy.ChangesURL()+`>; rel="deprecation sunset"; type="text/html"`)
}

// questionHeader turns a call into a question about it, which the region answers with a
// status and headers and without any effect.
const (
	questionHeader  = "Mpr-Question"
	questionProject = "project" // whose is the project in the path?
	questionAccess  = "access"  // may the caller use the company?
)

// decide applies the rules. At the legacy door a call may need questions to regions
// first.
func (c *call) decide(facts *rules.Call) (rules.Decision, error) {
	decision := c.policy.Decide(*facts, c.service.placements)
	if c.door != rules.DoorLegacy || decision.Action != rules.Refuse {
		return decision, nil
	}
	if project := projectInPath(c.target.path); project != 0 && decision.Problem.Code == problem.MissingCompanyHeader {
		owner, err := c.ownerOf(project)
		if err != nil {
			return decision, err
		}
		if owner == 0 {
			// The same answer as for a project of a company that the caller has no part in.
			decision.Problem = c.policy.NoAccess(facts.Token)
			return decision, nil
		}
		facts.Hinted = owner
		decision = c.policy.Decide(*facts, c.service.placements)
	}
	if decision.Action == rules.Refuse && decision.Problem.Code == problem.LegacyForbidden {
		may, err := c.mayKnow(decision.Company)
		if err != nil {
			return decision, err
		}
		if !may {
			decision.Problem = c.policy.NoAccess(facts.Token)
		}
	}
	return decision, nil
}

// mayKnow says whether the caller has a part in a company and may hear where and since
// when it is a customer. Where its region can't be asked, that is the answer.
func (c *call) mayKnow(id company.ID) (bool, error) {
	placement, ok := c.service.placements.Placement(id)
	if !ok {
		return false, nil
	}
	to, refusal := c.region(placement.Region)
	if refusal != nil {
		return false, refusal
	}
	h := c.forwardedHeader(&rules.Decision{Company: id, Placement: placement})
	yes, _, err := c.ask(to, questionAccess, h)
	if err != nil {
		return false, unreachable("The region "+string(placement.Region), problem.RegionUnavailable).In(string(placement.Region)).Because(err)
	}
	return yes, nil
}

// ownerOf finds the company of a project: first in the region whose number stands in the
// project's id, then where companies without the header live, then everywhere else. It
// answers 0 where no region knows the project.
func (c *call) ownerOf(project company.ID) (company.ID, error) {
	if owner := c.service.projects.get(project); owner != 0 {
		return owner, nil
	}
	var away error
	for _, code := range c.likely(project) {
		to, refusal := c.region(code)
		if refusal != nil {
			away = refusal
			continue
		}
		yes, header, err := c.ask(to, questionProject, c.forwardedHeader(nil))
		if err != nil {
			away = unreachable("The region "+string(code), problem.RegionUnavailable).In(string(code)).Because(err)
			continue
		}
		if owner, err := company.ParseID(header.Get(c.policy.CompanyHeader)); err == nil && yes {
			c.service.projects.put(project, owner)
			return owner, nil
		}
	}
	return 0, away
}

// likely lists the regions in the order in which to ask them for a project.
func (c *call) likely(project company.ID) []company.Region {
	all := c.service.placements.Regions()
	codes := make([]company.Region, 0, len(all)+2)
	for _, r := range all {
		if r.Number == int(project.Birth()) {
			codes = append(codes, r.Code)
		}
	}
	for _, r := range all {
		if r.Code == c.policy.DefaultRegion && r.Number != int(project.Birth()) {
			codes = append(codes, r.Code)
		}
	}
	for _, r := range all {
		if r.Code != c.policy.DefaultRegion && r.Number != int(project.Birth()) {
			codes = append(codes, r.Code)
		}
	}
	return codes
}

// ask puts a question to a region: the call's target by GET, with a header that clients
// can't send. Yes is any status of success.
func (c *call) ask(to *destination, question string, lines []byte) (yes bool, header http.Header, err error) {
	if err := to.group.slots.take(&c.ctx, c.app(), to.group.patience); err != nil {
		return false, nil, err
	}
	defer to.group.slots.give(c.app())
	lines = http1.AppendField(lines, questionHeader, question)
	ctx := new(http1.Context)
	ctx.Begin(&c.ctx)
	defer c.ctx.AfterFunc(func() { ctx.End(errEnded) })()
	defer time.AfterFunc(c.service.limits.AnswerTimeout, func() { ctx.End(errLate) }).Stop()
	last := errUnreachable
	var not tried
	for range to.group.upstreams {
		t, err := to.group.choose(ctx, not, true)
		if err != nil {
			return false, nil, errors.Join(last, err)
		}
		not.add(t.index)
		yes, header, err := c.askOne(ctx, to, &t, lines)
		if err == nil {
			return yes, header, nil
		}
		last = errors.Join(last, err)
	}
	return false, nil, last
}

// askOne puts a question to one upstream.
func (c *call) askOne(ctx *http1.Context, to *destination, t *ticket, lines []byte) (yes bool, header http.Header, err error) {
	defer t.end()
	u := to.group.upstreams[t.index]
	answer, connected, err := u.client.Send(ctx, &http1.Request{Method: http.MethodGet, Target: u.prefix + c.target.raw, Host: u.host, Header: lines, Again: true})
	if err != nil {
		t.failed(to.group.now(), c.outcome(to, t, connected, err))
		return false, nil, err
	}
	t.answered(to.group.now(), answer.StatusCode)
	yes, header = answer.StatusCode/100 == 2, answer.Header.Clone()
	_, _ = io.CopyN(io.Discard, answer, discardAtMost)
	answer.Close()
	return yes, header, nil
}

// clientID finds the app that a request for authentication names: by Basic, in the query,
// or in a small body. It is empty where none is named; whether the app is who it says is
// for the login service to find out.
func (c *call) clientID() (string, error) {
	scheme, credentials, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Basic") {
		if plain, err := base64.StdEncoding.DecodeString(credentials); err == nil {
			name, _, _ := strings.Cut(string(plain), ":")
			if id, err := url.QueryUnescape(name); err == nil { // RFC 6749 section 2.3.1
				return id, nil
			}
		}
	}
	if claims, err := c.service.verifier.Verify(credentials); err == nil && strings.EqualFold(scheme, "Bearer") {
		return claims.ClientID, nil
	}
	return c.named("client_id")
}

// authentication says why a request for authentication is refused; nil if it goes on.
func (c *call) authentication() error {
	if c.door != rules.DoorLegacy {
		return nil
	}
	id, err := c.clientID()
	if err != nil {
		return err
	}
	c.client = id
	if refusal := c.policy.DecideAuthentication(rules.Authentication{Door: c.door, ClientID: id, Lot: rand.Float64(), Now: c.service.now()}); refusal != nil { //nolint:gosec // a lot is no secret
		return refusal
	}
	return nil
}

// projects remembers the companies of projects, which never change. It is bounded.
type projects struct {
	mu     sync.Mutex
	owners map[company.ID]company.ID
}

const maxProjects = 100_000

func (p *projects) get(project company.ID) company.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owners[project]
}

func (p *projects) put(project, owner company.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owners == nil {
		p.owners = map[company.ID]company.ID{}
	}
	if len(p.owners) >= maxProjects {
		for one := range p.owners { // any
			delete(p.owners, one)
			break
		}
	}
	p.owners[project] = owner
}
