package config

import (
	"fmt"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"mpr/company"
	"mpr/rules"
)

// check notes all that is wrong with the configuration, whose open settings have been
// filled.
func (f *findings) check(c *Config) {
	f.checkNames(c)
	f.checkTLS(c)
	f.checkTokens(c)
	f.checkLimits(c)
	f.checkDirectory(c)
	f.checkOperations(c)
	f.checkStores(c)
	f.checkControl(c)
	f.checkEnvironments(c)
	f.checkShared(c)
}

func (f *findings) checkNames(c *Config) {
	if strings.TrimSpace(c.Product) == "" || strings.ContainsAny(c.Product, "\r\n") {
		f.add("product", "must be a name on one line, such as Procore")
	}
	f.checkHeader(c.CompanyHeader)
	if _, err := company.ParseRegion(c.DefaultRegion); err != nil {
		f.add("default_region", "%v", err)
	}
	seen := map[string]bool{}
	for i, s := range c.ExemptRoutes {
		setting := fmt.Sprintf("exempt_routes[%d]", i)
		if _, err := rules.ParseRoute(s); err != nil {
			f.add(setting, "%v", err)
		} else if seen[s] {
			f.add(setting, "%q is in the list already: remove one of the two", s)
		}
		seen[s] = true
	}
	live, sunset := c.Dates.RegionsLive, c.Dates.LegacySunset
	for setting, day := range map[string]Day{"dates.regions_live": live, "dates.legacy_sunset": sunset} {
		if day.IsZero() {
			f.add(setting, "must be a day such as 2019-06-30")
		}
	}
	if !live.Before(sunset.Time) {
		f.add("dates.legacy_sunset", "%s must be later than regions_live, %s",
			sunset.Format(time.DateOnly), live.Format(time.DateOnly))
	}
	if c.Data == "" {
		f.add("data", "must name a folder, such as %s", DefaultData)
	}
}

// reserved are headers that mean something else on the way of a call.
var reserved = []string{
	"Authorization", "Connection", "Content-Length", "Content-Type", "Cookie", "Forwarded",
	"Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Request-Id",
}

func (f *findings) checkHeader(name string) {
	const setting = "company_header"
	isToken := func(r rune) bool { // RFC 9110 section 5.6.2
		return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }):
		f.add(setting, "%q is not the name of a header: expected letters, digits and dashes, such as Procore-Company-Id", name)
	case canonical != name:
		f.add(setting, "write it as %s (requests may use any case)", canonical)
	case slices.Contains(reserved, name) || strings.HasPrefix(name, "Mpr-") || strings.HasPrefix(name, "X-Forwarded-"):
		f.add(setting, "%s has another meaning: choose a name of its own, such as Procore-Company-Id", name)
	}
}

// algorithms are those in which new signing keys are made.
var algorithms = []string{"ES256", "ES512", "EdDSA"}

func (f *findings) checkTokens(c *Config) {
	t := c.Tokens
	if !slices.Contains(algorithms, t.Algorithm) {
		f.add("tokens.algorithm", "%q is not supported: write %s", t.Algorithm, oneOf(algorithms))
	}
	// Lifetimes are told to clients in whole seconds (expires_in).
	f.atLeast("tokens.access_lifetime", t.AccessLifetime, time.Second)
	f.atLeast("tokens.code_lifetime", t.CodeLifetime, time.Second)
	if t.RefreshGrace < 0 {
		f.add("tokens.refresh_grace", "%s is negative: write 0s for none, or a duration such as 10s", t.RefreshGrace)
	}
	f.atLeast("tokens.key_delay", t.KeyDelay, shortest)
	f.atLeast("login.session_lifetime", c.Login.SessionLifetime, time.Second)
	f.between("login.attempts_per_minute", int64(c.Login.AttemptsPerMinute), 1, 1_000_000)
}

func (f *findings) checkLimits(c *Config) {
	g := c.Gateway
	f.between("gateway.max_header_bytes", int64(g.MaxHeader), 1<<10, 1<<24)
	f.between("gateway.max_body_bytes", g.MaxBody, 0, 1<<62)
	f.atLeast("gateway.header_timeout", g.HeaderTimeout, shortest)
	f.atLeast("gateway.idle_timeout", g.IdleTimeout, shortest)
	f.atLeast("gateway.stall_timeout", g.StallTimeout, shortest)
	f.atLeast("gateway.connect_timeout", g.ConnectTimeout, shortest)
	f.atLeast("gateway.answer_timeout", g.AnswerTimeout, shortest)
	f.within("gateway.hold_timeout", g.HoldTimeout, time.Minute)
	f.between("gateway.hold_calls", int64(g.HoldCalls), 0, 1<<20)
	f.between("gateway.upstream_connections", int64(g.UpstreamConns), 1, 1<<20)
	if g.HealthInterval < 0 || g.HealthInterval > 0 && g.HealthInterval < 100*time.Millisecond {
		f.add("gateway.health_interval", "%s is too short: write 100ms or more, such as 5s, or 0s for no checks", g.HealthInterval)
	}
	f.between("gateway.hedge_percent", int64(g.HedgePercent), 0, 20)
	f.between("gateway.max_connections", int64(g.MaxConns), 1, 1<<20)
	f.between("gateway.max_connections_per_client", int64(g.MaxConnsPerClient), 1, 1<<20)
	f.between("gateway.remembered_tokens", int64(g.RememberedTokens), 0, 1<<27)
	f.between("gateway.rate_limits.hour", g.RateLimits.Hour, 0, maxRateLimit)
	f.between("gateway.rate_limits.spike", g.RateLimits.Spike, 0, maxRateLimit)
	for i, s := range g.ForwardedFrom {
		if _, err := netip.ParsePrefix(s); err != nil {
			f.add(fmt.Sprintf("gateway.forwarded_from[%d]", i), "%q is not a network: write it as 10.0.0.0/8, a single address as 10.0.0.7/32", s)
		}
	}
	f.between("moves.at_once", int64(c.Moves.AtOnce), 1, 1000)
	f.within("moves.retention", c.Moves.Retention, 365*24*time.Hour)
	f.within("moves.longest_delay", c.Moves.LongestDelay, 24*time.Hour)
	f.within("moves.notice", c.Moves.Notice, time.Hour)
	f.between("region.max_body_bytes", c.Region.MaxBody, 1<<10, 1<<30)
	f.between("region.reserve_bytes", c.Region.Reserve, 0, 1<<50)
	f.between("region.max_per_page", int64(c.Region.MaxPerPage), 1, 100_000)
}

// maxRateLimit is as much as a gateway counts.
const maxRateLimit = 1_000_000_000

func (f *findings) checkDirectory(c *Config) {
	const most = 5 // what JetStream replicates
	d := c.Directory
	f.between("directory.replicas", int64(d.Replicas), 1, most)
	if len(d.URLs) == 0 && d.Replicas > 1 && d.Replicas <= most {
		f.add("directory.replicas", "%d replicas need a cluster: name its servers in directory.urls, or write 1", d.Replicas)
	}
	f.natsURLs("directory.urls", d.URLs)
	f.checkAccess("directory", d.URLs, d.Access)
	f.between("directory.near.replicas", int64(d.Near.Replicas), 1, most)
	f.natsURLs("directory.near.urls", d.Near.URLs)
	f.checkAccess("directory.near", d.Near.URLs, d.Near.Access)
	if len(d.Near.URLs) > 0 && (d.Near.Domain == "" || strings.ContainsAny(d.Near.Domain, ". *>\t")) {
		f.add("directory.near.domain", "%q is not a JetStream domain: write that of the servers in directory.urls, such as hub", d.Near.Domain)
	}
	if len(d.Near.URLs) > 0 && len(d.URLs) == 0 {
		f.add("directory.near.urls", "mirrors need a cluster to mirror: name its servers in directory.urls")
	}
}

func (f *findings) checkOperations(c *Config) {
	f.within("operations.drain_delay", c.Operations.DrainDelay, 10*time.Minute)
	f.within("operations.drain_time", c.Operations.DrainTime, time.Hour)
	for setting, share := range map[string]float64{"access_log.share": c.AccessLog.Share, "tracing.share": c.Tracing.Share} {
		if !(share >= 0 && share <= 1) { // NaN is no share either
			f.add(setting, "%v is not a share: write a number from 0 to 1", share)
		}
	}
	if c.Tracing.Endpoint != "" {
		f.baseURL("tracing.endpoint", c.Tracing.Endpoint, "http://127.0.0.1:4318", "http", "https")
	}
}

func (f *findings) natsURLs(setting string, urls []string) {
	for i, s := range urls {
		f.baseURL(fmt.Sprintf("%s[%d]", setting, i), s, "nats://nats1.internal:4222", "nats", "tls", "ws", "wss")
	}
}

func (f *findings) checkAccess(at string, urls []string, a Access) {
	if a == (Access{}) {
		return
	}
	if len(urls) == 0 {
		f.add(at+".access", "is for servers that %s.urls names: name them, or remove it", at)
	}
	ways := 0
	for _, way := range []string{a.Credentials, a.Nkey, a.User} {
		if way != "" {
			ways++
		}
	}
	if ways > 1 {
		f.add(at+".access", "names several ways to sign in: keep one of credentials_file, nkey_file and user")
	}
	if (a.User == "") != (a.Password == "") {
		f.add(at+".access", "user and password_file go together: write both, or none")
	}
	if (a.Certificate == "") != (a.Key == "") {
		f.add(at+".access", "certificate_file and key_file go together: write both, or none")
	}
}

// shortest is the least of durations that something real is to happen in: less is a slip of the
// pen, such as ms or ns for s.
const shortest = 100 * time.Millisecond

func (f *findings) atLeast(setting string, d, least time.Duration) {
	if d < least {
		f.add(setting, "%s is too short: write a duration of %s or more, such as %s", d, least, max(least, 10*time.Second))
	}
}

func (f *findings) within(setting string, d, most time.Duration) {
	if d < 0 || d > most {
		f.add(setting, "%s is out of range: write a duration from 0s to %s", d, most)
	}
}

func (f *findings) between(setting string, n, least, most int64) {
	if n < least || n > most {
		f.add(setting, "%d is out of range: write a number from %d to %d", n, least, most)
	}
}

// oneOf spells a choice: "A, B or C".
func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
