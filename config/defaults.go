package config

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"mpr/rules"
)

// DefaultPort is the first port of the block that the defaults use.
const DefaultPort = 4000

// Offsets of the addresses within the block of ports that starts at the first port.
const (
	OffsetLogin          = 0
	OffsetAPI            = 1
	OffsetLegacy         = 2
	OffsetControl        = 90
	OffsetDirectory      = 91
	OffsetOperations     = 92
	OffsetIdentity       = 100
	OffsetRegion         = 101 // and one more for each further region
	OffsetRegionInternal = 131
	OffsetTLS            = 443
	OffsetProxy          = 480
	environmentStride    = 10 // doors
	environmentBackends  = 70 // identity and regions
)

// DefaultData is the folder of everything that is kept, where nobody says otherwise.
const DefaultData = "mpr-data"

// Default is the seed's system on this machine, on the block of ports that starts at
// port (0: every address gets a free port), with its data below dir.
func Default(port int, dir string) *Config {
	c := seedSystem()
	c.Data = dir
	c.fill(port)
	return c
}

// seedSystem is the seed's system with all open that follows from other settings.
func seedSystem() *Config {
	seed := rules.Seed()
	exempt := make([]string, len(seed.Exempt))
	for i, r := range seed.Exempt {
		exempt[i] = r.String()
	}
	return &Config{
		Product:                   seed.Product,
		CompanyHeader:             seed.CompanyHeader,
		DefaultRegion:             string(seed.DefaultRegion),
		ExemptRoutes:              exempt,
		ServiceAccountsNeedHeader: seed.ServiceAccountsNeedHeader,
		Dates:                     Dates{Day{seed.RegionsLive}, Day{seed.LegacySunset}},
		Data:                      DefaultData,
		Tokens: Tokens{
			Algorithm:      "ES256",
			AccessLifetime: 5400 * time.Second,
			CodeLifetime:   10 * time.Minute,
			KeyDelay:       5 * time.Second,
		},
		Login: Login{SessionLifetime: 12 * time.Hour, AttemptsPerMinute: 10},
		Gateway: Gateway{
			MaxHeader:        32 << 10,
			MaxBody:          10 << 30,
			HeaderTimeout:    10 * time.Second,
			IdleTimeout:      2 * time.Minute,
			StallTimeout:     30 * time.Second,
			ConnectTimeout:   3 * time.Second,
			HoldTimeout:      10 * time.Second,
			HoldCalls:        1000,
			AnswerTimeout:    60 * time.Second,
			UpstreamConns:    512,
			HealthInterval:   5 * time.Second,
			MaxConns:         10_000,
			RememberedTokens: 100_000,
			// A thousand calls a second: more than a healthy app makes, and less than harms others.
			RateLimits: RateLimits{Hour: 3_600_000, Spike: 20_000},
			// Many people may sit behind one address, but one of them must not take all.
			MaxConnsPerClient: 2_500,
		},
		Region:     Region{MaxBody: 1 << 20, MaxPerPage: 1000, Reserve: 256 << 20},
		Moves:      Moves{AtOnce: 4, Retention: 14 * 24 * time.Hour, LongestDelay: time.Hour, Notice: 10 * time.Second},
		Directory:  Directory{Replicas: 1, Near: Near{Replicas: 1}},
		Control:    Control{AdminToken: TokenOn, SessionLifetime: 12 * time.Hour, SessionIdle: 2 * time.Hour, AuditRetention: 365 * 24 * time.Hour},
		Operations: Operations{DrainTime: 10 * time.Second},
		AccessLog:  AccessLog{Share: 1},
		Tracing:    Tracing{Share: 0.01},
		Stores: Stores{Migrate: MigrateAuto, Postgres: Postgres{
			MaxConns: 16, IdleConns: 4, IdleTime: 5 * time.Minute, Lifetime: time.Hour, ConnectTimeout: 5 * time.Second,
			StatementTimeout: 30 * time.Second, LongTimeout: time.Hour, LockTimeout: 10 * time.Second, IdleTransaction: time.Minute,
			Patience: 5 * time.Second,
		}},
		Environments: seedEnvironments(seed),
	}
}

// seedEnvironments are production and its two sandboxes.
func seedEnvironments(seed rules.Policy) []Environment {
	const production = "production"
	// "Monthly Sandbox - use the https://login-sandbox-monthly.procore.com/oauth base URL.
	// Development Sandbox - use the https://login-sandbox.procore.com/oauth base URL."
	return []Environment{{
		Name:    production,
		Login:   Door{Host: seed.LoginHost},
		API:     Door{Host: seed.APIHost},
		Legacy:  Door{Host: "app.procore.com"},
		Regions: seedRegions(),
	}, {
		Name: "monthly sandbox", Sandbox: SandboxMonthly, SandboxOf: production,
		Login:   Door{Host: "login-sandbox-monthly.procore.com"},
		API:     Door{Host: "api-monthly.procore.com"},
		Regions: seedRegions(),
	}, {
		Name: "development sandbox", Sandbox: SandboxDevelopment, SandboxOf: production,
		Login:   Door{Host: "login-sandbox.procore.com"},
		API:     Door{Host: "sandbox.procore.com"},
		Regions: seedRegions()[:1],
	}}
}

func seedRegions() []RegionConfig {
	return []RegionConfig{{Code: "US01", Number: 0}, {Code: "US02", Number: 16}, {Code: "EU01", Number: 17}}
}

// fill sets what follows from other settings where the operator left it open.
func (c *Config) fill(port int) {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&c.Directory.Listen, address(port, OffsetDirectory))
	set(&c.Control.Listen, address(port, OffsetControl))
	set(&c.Secret, filepath.Join(c.Data, "internal.secret"))
	set(&c.Control.TokenFile, filepath.Join(c.Data, "admin.token"))
	set(&c.Control.Store, c.storeAt(c.Data, "control"))
	if len(c.Environments) > 0 {
		set(&c.Control.Operators, c.Environments[0].Name)
	}
	for i := range c.Environments {
		e := &c.Environments[i]
		doors, backends := i*environmentStride, i*environmentBackends
		set(&e.Login.Listen, address(port, doors+OffsetLogin))
		set(&e.API.Listen, address(port, doors+OffsetAPI))
		if e.Legacy.Host != "" {
			set(&e.Legacy.Listen, address(port, doors+OffsetLegacy))
		}
		set(&e.Identity.Internal, address(port, backends+OffsetIdentity))
		set(&e.Identity.Store, c.storeAt(c.Folder(e), "identity", e.Name))
		for j := range e.Regions {
			r := &e.Regions[j]
			if len(r.Processes) == 0 { // of several, each is somewhere else
				set(&r.Listen, address(port, backends+OffsetRegion+j))
				set(&r.Internal, address(port, backends+OffsetRegionInternal+j))
			}
			set(&r.Store, c.storeAt(c.Folder(e), "region-"+r.Code, e.Name))
		}
	}
}

// storeAt is where a store is that names no place of its own: a file in a folder, or a schema such as
// mpr_production_region_eu01.
func (c *Config) storeAt(folder, name string, environment ...string) string {
	u, err := url.Parse(c.Stores.DSN)
	if c.Stores.DSN == "" || err != nil { // what is malformed is found later
		return "sqlite:" + filepath.Join(folder, name+".db")
	}
	q := u.Query()
	q.Set("search_path", schemaName(append(append([]string{cmp.Or(q.Get("search_path"), defaultSchema)}, environment...), name)...))
	u.RawQuery = q.Encode()
	return u.String()
}

// defaultSchema is what the schemas of stores.dsn begin with, where it has no search_path.
const defaultSchema = "mpr"

// schemaName is a name of words that needs no quotes.
func schemaName(words ...string) string {
	return strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(strings.Join(words, "_")))
}

func address(port, offset int) string {
	if port == 0 {
		return "127.0.0.1:0"
	}
	return fmt.Sprintf("127.0.0.1:%d", port+offset)
}
