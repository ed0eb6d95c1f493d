package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"mpr/company"
	"mpr/rules"
)

// Config is mpr.yaml.
type Config struct {
	// Product is the name that pages and messages use for the API.
	Product string `yaml:"product"`
	// CompanyHeader is the request header that names the company of a call.
	CompanyHeader string `yaml:"company_header"`
	// DefaultRegion is the region where all companies lived before there were regions.
	DefaultRegion string `yaml:"default_region"`
	// ExemptRoutes lists the calls that need no company header, as "GET /path".
	ExemptRoutes []string `yaml:"exempt_routes"`
	// ServiceAccountsNeedHeader makes service accounts send the header on exempt routes too.
	ServiceAccountsNeedHeader bool  `yaml:"service_accounts_need_header"`
	Dates                     Dates `yaml:"dates"`

	// Data is the folder of everything that is kept: databases, the directory, keys of
	// the dev CA, secrets.
	Data string `yaml:"data"`
	// Secret names the file with the secret that our processes show one another. Made at
	// first start where it is missing.
	Secret string `yaml:"secret_file"`

	TLS          TLS           `yaml:"tls"`
	InternalTLS  InternalTLS   `yaml:"internal_tls"`
	Tokens       Tokens        `yaml:"tokens"`
	Login        Login         `yaml:"login"`
	Gateway      Gateway       `yaml:"gateway"`
	Region       Region        `yaml:"region"`
	Moves        Moves         `yaml:"moves"`
	Webhooks     Webhooks      `yaml:"webhooks"`
	Directory    Directory     `yaml:"directory"`
	Control      Control       `yaml:"control"`
	Operations   Operations    `yaml:"operations"`
	AccessLog    AccessLog     `yaml:"access_log"`
	Tracing      Tracing       `yaml:"tracing"`
	Stores       Stores        `yaml:"stores"`
	Environments []Environment `yaml:"environments"`
}

// Dates of the change-over, UTC days.
type Dates struct {
	RegionsLive  Day `yaml:"regions_live"`
	LegacySunset Day `yaml:"legacy_sunset"`
}

// Tokens sets how tokens are made and how long they live.
type Tokens struct {
	// Algorithm of new signing keys: ES256, ES512 or EdDSA.
	Algorithm string `yaml:"algorithm"`
	// AccessLifetime is how long an access token is valid.
	AccessLifetime time.Duration `yaml:"access_lifetime"`
	// CodeLifetime is how long an authorization code is valid.
	CodeLifetime time.Duration `yaml:"code_lifetime"`
	// RefreshGrace is how long a refresh that is repeated with the same refresh token
	// answers the very same pair instead of counting as reuse.
	RefreshGrace time.Duration `yaml:"refresh_grace"`
	// KeyDelay is how long a new signing key is announced before it signs.
	KeyDelay time.Duration `yaml:"key_delay"`
}

// Login sets the login service's pages.
type Login struct {
	// SessionLifetime is how long a person stays signed in.
	SessionLifetime time.Duration `yaml:"session_lifetime"`
	// AttemptsPerMinute limits failed sign-ins per account and per address.
	AttemptsPerMinute int `yaml:"attempts_per_minute"`
}

// Gateway sets the limits of the api and legacy doors.
type Gateway struct {
	// MaxHeader is the largest request header in bytes.
	MaxHeader int `yaml:"max_header_bytes"`
	// MaxBody is the largest request body in bytes; 0 for no limit.
	MaxBody int64 `yaml:"max_body_bytes"`
	// HeaderTimeout is how long a client may take to send a request's header.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// IdleTimeout is how long a client's connection, or a WebSocket, may stay idle.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// StallTimeout is how long a body may make no progress, in either direction.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// ConnectTimeout is how long connecting to an upstream may take, and waiting until a
	// connection is free.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// AnswerTimeout is how long an upstream may take until its answer's header is there.
	AnswerTimeout time.Duration `yaml:"answer_timeout"`
	// HoldTimeout is how long a call waits for a company that is changing over to another region, and HoldCalls
	// how many calls of a gateway wait at the same time; the others are refused (company_moving).
	HoldTimeout time.Duration `yaml:"hold_timeout"`
	HoldCalls   int           `yaml:"hold_calls"`
	// UpstreamConns is the largest number of connections to one region, of which an app gets none
	// beyond a quarter while half of them are taken.
	UpstreamConns int `yaml:"upstream_connections"`
	// HealthInterval is how long nothing may be heard of an upstream before a gateway checks whether it is well;
	// 0: never, but for those that are left out.
	HealthInterval time.Duration `yaml:"health_interval"`
	// HedgePercent is how many of 100 calls without effect may go to a second upstream as well, when the first is late.
	HedgePercent int `yaml:"hedge_percent"`
	// MaxConns is the largest number of client connections to one listener, MaxConnsPerClient of one address.
	MaxConns          int `yaml:"max_connections"`
	MaxConnsPerClient int `yaml:"max_connections_per_client"`
	// RememberedTokens is how many verified tokens are remembered; with 0 every signature is checked anew.
	RememberedTokens int `yaml:"remembered_tokens"`
	// ForwardedFrom lists the networks (CIDR) of proxies ahead of us whose X-Forwarded-For is believed.
	ForwardedFrom []string `yaml:"forwarded_from"`
	// RateLimits are those of each app for which an operator has set no others.
	RateLimits RateLimits `yaml:"rate_limits"`
}

// RateLimits are how many calls an app may make through all gateways of an environment, 0 for no limit.
type RateLimits struct {
	// Hour is for an hour, Spike for ten seconds.
	Hour  int64 `yaml:"hour"`
	Spike int64 `yaml:"spike"`
}

// Moves sets how companies move between regions.
type Moves struct {
	// AtOnce is how many moves a region takes part in at the same time.
	AtOnce int `yaml:"at_once"`
	// Retention is how long a region keeps the rows of a company that has left it.
	Retention time.Duration `yaml:"retention"`
	// LongestDelay is by how much an app may delay a change-over, once for each move; 0: not at all.
	LongestDelay time.Duration `yaml:"longest_delay"`
	// Notice is how long after the copying has begun a change-over waits until each app of the
	// company with a webhook was told of the move.
	Notice time.Duration `yaml:"notice"`
}

// Webhooks sets how apps hear of moves.
type Webhooks struct {
	// AllowPrivate lets webhooks be plain HTTP, and lead into private networks: for tests.
	AllowPrivate bool `yaml:"allow_private"`
}

// Region sets the limits of our own regions.
type Region struct {
	// MaxBody is the largest JSON body in bytes that a resource takes.
	MaxBody int64 `yaml:"max_body_bytes"`
	// MaxPerPage is the largest per_page.
	MaxPerPage int `yaml:"max_per_page"`
	// Reserve is how many bytes of the room for a region's database are kept free of companies
	// that move there: for those that live there.
	Reserve int64 `yaml:"reserve_bytes"`
}

// Directory says where the NATS servers are.
type Directory struct {
	// Listen is the address of the embedded server (control role), for the other roles.
	Listen string `yaml:"listen"`
	// URLs of an external NATS cluster. Empty: the embedded server.
	URLs []string `yaml:"urls"`
	// Replicas of each bucket, 1 to 5. Those that are there are raised to it.
	Replicas int    `yaml:"replicas"`
	Access   Access `yaml:"access"`
	// Near are servers near this process that mirror the buckets.
	Near Near `yaml:"near"`
}

// Access is what is shown to NATS servers, and what they must show.
type Access struct {
	// Credentials is a file of NATS (.creds), Nkey one with the seed of a user's nkey, Password one with the password of User.
	Credentials string `yaml:"credentials_file"`
	Nkey        string `yaml:"nkey_file"`
	User        string `yaml:"user"`
	Password    string `yaml:"password_file"`
	// CA is a file with the certificates that the servers' are signed by; Certificate and Key are our own.
	CA          string `yaml:"ca_file"`
	Certificate string `yaml:"certificate_file"`
	Key         string `yaml:"key_file"`
}

// Near says where the mirrors of the directory are: a NATS leaf node with a JetStream domain of its own.
type Near struct {
	URLs []string `yaml:"urls"`
	// Domain is the JetStream domain of the directory's own cluster.
	Domain string `yaml:"domain"`
	// Replicas of each mirror.
	Replicas int    `yaml:"replicas"`
	Access   Access `yaml:"access"`
}

// Control sets the admin API.
type Control struct {
	// Listen is the address of the admin API.
	Listen string `yaml:"listen"`
	// TokenFile holds the admin API's token. Made at first start where it is missing.
	TokenFile string `yaml:"token_file"`
	// AdminToken says whether the token is taken at all: "on", or "off" where operators sign in.
	AdminToken string `yaml:"admin_token"`
	// URL is the base URL at which operators' browsers find the admin API, LoginURL that of the login
	// door where they sign in. Empty: the addresses, where those are on this machine.
	URL      string `yaml:"url"`
	LoginURL string `yaml:"login_url"`
	// Operators is the environment whose users are operators; empty for the first one.
	Operators string `yaml:"operators"`
	// SessionLifetime is how long an operator stays signed in, SessionIdle how long without a request.
	SessionLifetime time.Duration `yaml:"session_lifetime"`
	SessionIdle     time.Duration `yaml:"session_idle"`
	// AuditRetention is how long entries of the audit log are kept.
	AuditRetention time.Duration `yaml:"audit_retention"`
	// Certificate and Key are files, by which the admin API speaks TLS; empty: plain HTTP. The key
	// may stand in the file of the certificate.
	Certificate string `yaml:"certificate_file"`
	Key         string `yaml:"key_file"`
	// Store is the DSN of the control role's database.
	Store string `yaml:"store"`
}

// What [Control].AdminToken may be.
const (
	TokenOn  = "on"
	TokenOff = "off"
)

// Operations sets what operators see of a process, and how it stops.
type Operations struct {
	// Listen is the address of /livez, /readyz and /metrics; the flag --operations of a role wins
	// over it. Empty: there is no such listener.
	Listen string `yaml:"listen"`
	// DrainDelay is how long a process that is asked to stop says that it isn't ready, and goes on
	// serving.
	DrainDelay time.Duration `yaml:"drain_delay"`
	// DrainTime is how long calls in flight may take to end after that.
	DrainTime time.Duration `yaml:"drain_time"`
}

// AccessLog says where calls are logged.
type AccessLog struct {
	// File is appended to; "-" is standard output, empty for no log.
	File string `yaml:"file"`
	// Share of the calls that were neither refused nor failed, 0 to 1.
	Share float64 `yaml:"share"`
}

// Tracing says where traces go.
type Tracing struct {
	// Endpoint is the base URL of a collector (OTLP over HTTP); empty for no traces.
	Endpoint string `yaml:"endpoint"`
	// Share of the calls that are traced, 0 to 1.
	Share float64 `yaml:"share"`
}

// Stores sets where databases are, and how they are opened.
type Stores struct {
	// DSN is the PostgreSQL database of all stores that name none of their own, each in a schema of
	// its own; empty: they are SQLite files in the data folder.
	DSN string `yaml:"dsn"`
	// Migrate says what becomes of a schema that is older than the binary needs: "auto" has
	// whoever starts migrate it, "check" has it refuse to start.
	Migrate  string   `yaml:"migrate"`
	Postgres Postgres `yaml:"postgres"`
}

// What [Stores].Migrate may be.
const (
	MigrateAuto  = "auto"
	MigrateCheck = "check"
)

// Postgres sets the connections to PostgreSQL. A timeout of 0 is none of ours.
type Postgres struct {
	// MaxConns and IdleConns are connections of a process to one database.
	MaxConns  int `yaml:"max_connections"`
	IdleConns int `yaml:"idle_connections"`
	// IdleTime and Lifetime are after how long a connection is given back.
	IdleTime       time.Duration `yaml:"idle_time"`
	Lifetime       time.Duration `yaml:"lifetime"`
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// StatementTimeout bounds a statement, LongTimeout those that read whole companies.
	StatementTimeout time.Duration `yaml:"statement_timeout"`
	LongTimeout      time.Duration `yaml:"long_statement_timeout"`
	LockTimeout      time.Duration `yaml:"lock_timeout"`
	// IdleTransaction is how long a transaction may do nothing.
	IdleTransaction time.Duration `yaml:"idle_transaction_timeout"`
	// Patience is how long a write waits for a server that is away.
	Patience time.Duration `yaml:"patience"`
}

// Environment is one environment: own hosts, own keys, own data.
type Environment struct {
	Name string `yaml:"name"`
	// Sandbox is what kind of sandbox it is: monthly or development; empty for none.
	Sandbox string `yaml:"sandbox"`
	// SandboxOf is the name of the environment that it is a sandbox of.
	SandboxOf string `yaml:"sandbox_of"`
	Login     Door   `yaml:"login"`
	API       Door   `yaml:"api"`
	Legacy    Door   `yaml:"legacy"`
	// Identity is the login service behind the door.
	Identity Identity       `yaml:"identity"`
	Regions  []RegionConfig `yaml:"regions"`
}

// The kinds of sandboxes.
const (
	// SandboxMonthly is a copy of its environment, made anew each month. Client
	// credentials of its environment work there.
	SandboxMonthly = "monthly"
	// SandboxDevelopment holds a company with seed data for each app that is registered in
	// its environment, and credentials of its own. It is never refreshed.
	SandboxDevelopment = "development"
)

// Door is a host name that clients know and the address that answers for it. A door
// without a host isn't there.
type Door struct {
	Host   string `yaml:"host"`
	Listen string `yaml:"listen"`
}

// Identity is where the login service keeps its data and where the other roles find it.
type Identity struct {
	// Store is the DSN of the identity database.
	Store string `yaml:"store"`
	// Internal is the address of the listener for our own processes.
	Internal string `yaml:"internal"`
}

// RegionConfig is one region of an environment.
type RegionConfig struct {
	Code   string `yaml:"code"`
	Number int    `yaml:"number"`
	// Listen is the address that answers the gateways; Internal the one that answers
	// the control role. Both are unused where Processes are named, or where Upstreams names a
	// foreign service.
	Listen   string `yaml:"listen"`
	Internal string `yaml:"internal"`
	// Processes are those of a region that has several, on one PostgreSQL database.
	Processes []Process `yaml:"processes"`
	// Store is the DSN of the region's database.
	Store string `yaml:"store"`
	// MaxStore is how many bytes the database may take before no more companies can move there; 0: as many as
	// its disk has room for, which isn't known of PostgreSQL.
	MaxStore int64 `yaml:"max_store_bytes"`
	// Upstreams are the base URLs of the region's service; empty for our own at Listen.
	Upstreams []string `yaml:"upstreams"`
	// HealthPath is what gateways GET to see whether an upstream is well; empty: they only connect to it.
	HealthPath string `yaml:"health_path"`
}

// Process is one of several processes of a region.
type Process struct {
	// Name tells it from the others: the flag --process says which one a process is.
	Name     string `yaml:"name"`
	Listen   string `yaml:"listen"`
	Internal string `yaml:"internal"`
}

// Day is a UTC day, written 2019-06-30.
type Day struct{ time.Time }

// MarshalYAML writes the day as 2019-06-30.
func (d Day) MarshalYAML() (any, error) { return d.Format(time.DateOnly), nil }

// UnmarshalText reads 2019-06-30.
func (d *Day) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return fmt.Errorf("%q is not a day: expected a date such as 2019-06-30", text)
	}
	d.Time = t
	return nil
}

// Policy is the part of the configuration that the rules of an environment need. The
// configuration must be valid.
func (c *Config) Policy(e *Environment) (rules.Policy, error) {
	p := rules.Policy{
		Product:                   c.Product,
		CompanyHeader:             c.CompanyHeader,
		LoginHost:                 e.Login.Host,
		APIHost:                   e.API.Host,
		DefaultRegion:             company.Region(c.DefaultRegion),
		ServiceAccountsNeedHeader: c.ServiceAccountsNeedHeader,
		Campaign:                  rules.Campaign{RegionsLive: c.Dates.RegionsLive.Time, LegacySunset: c.Dates.LegacySunset.Time},
	}
	for _, s := range c.ExemptRoutes {
		r, err := rules.ParseRoute(s)
		if err != nil {
			return p, err
		}
		p.Exempt = append(p.Exempt, r)
	}
	return p, nil
}

// Issuer is the "iss" of the environment's tokens.
func (e *Environment) Issuer() string { return e.Login.BaseURL() }

// Folder is where the environment keeps what is kept in files: the monthly sandbox in
// monthly-sandbox below the data folder.
func (c *Config) Folder(e *Environment) string {
	return filepath.Join(c.Data, strings.ReplaceAll(e.Name, " ", "-"))
}

// Called is how sentences call the environment: production, the monthly sandbox.
func (e *Environment) Called() string {
	if e.Sandbox != "" {
		return "the " + e.Name
	}
	return e.Name
}

// BaseURL is the URL of the door for clients.
func (d Door) BaseURL() string { return "https://" + d.Host }

// ClientPrefix is what all client ids of the environment begin with, and none of the
// others: only the development sandbox has credentials of its own for apps that are
// registered elsewhere.
func (e *Environment) ClientPrefix() string {
	if e.Sandbox == SandboxDevelopment {
		return "sandbox-"
	}
	return ""
}

// DevelopmentSandbox is the development sandbox of an environment; nil where it has none.
func (c *Config) DevelopmentSandbox(e *Environment) *Environment {
	for i := range c.Environments {
		if s := &c.Environments[i]; s.Sandbox == SandboxDevelopment && s.SandboxOf == e.Name {
			return s
		}
	}
	return nil
}
