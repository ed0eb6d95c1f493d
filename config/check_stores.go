package config

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"
)

func (f *findings) checkStores(c *Config) {
	if choices := []string{MigrateAuto, MigrateCheck}; !slices.Contains(choices, c.Stores.Migrate) {
		f.add("stores.migrate", "%q is not a choice: write %s", c.Stores.Migrate, oneOf(choices))
	}
	f.storesDSN(c)
	p, at := c.Stores.Postgres, "stores.postgres."
	f.between(at+"max_connections", int64(p.MaxConns), 2, 1000) // a snapshot takes one, and must hold up nobody
	f.between(at+"idle_connections", int64(p.IdleConns), 0, int64(max(p.MaxConns, 0)))
	f.atLeast(at+"connect_timeout", p.ConnectTimeout, shortest)
	for setting, d := range map[string]time.Duration{
		"idle_time": p.IdleTime, "lifetime": p.Lifetime, "statement_timeout": p.StatementTimeout, "long_statement_timeout": p.LongTimeout,
		"lock_timeout": p.LockTimeout, "idle_transaction_timeout": p.IdleTransaction,
	} {
		// PostgreSQL counts milliseconds: of less than one it makes 0, no limit at all.
		if d != 0 && (d < shortest || d > maxWait) {
			f.add(at+setting, "%s is out of range: write 0s for no limit, or a duration from %s to %s", d, shortest, maxWait)
		}
	}
	if p.Patience < 0 || p.Patience > time.Minute {
		f.add(at+"patience", "%s is out of range: write a duration up to 1m, 0s for none", p.Patience)
	}
	if p.LongTimeout > 0 && p.LongTimeout < p.StatementTimeout {
		f.add(at+"long_statement_timeout", "%s is shorter than statement_timeout, %s", p.LongTimeout, p.StatementTimeout)
	}
}

// storesDSN wants a database in which each store can have a schema. PostgreSQL cuts names, and cut
// they may be the same.
func (f *findings) storesDSN(c *Config) {
	const setting, longest = "stores.dsn", 63 - len("_generation_000000")
	if c.Stores.DSN == "" {
		return
	}
	u, err := url.Parse(c.Stores.DSN)
	if err != nil || strings.HasPrefix(c.Stores.DSN, "sqlite:") {
		f.add(setting, "is not the DSN of a PostgreSQL database: write postgres://user@host/database?passfile=FILE, or remove it to keep stores in the data folder")
		return
	}
	f.dsn(setting, c.Stores.DSN)
	base := u.Query().Get("search_path")
	if base != "" && schemaName(base) != base || strings.ContainsAny(base, `,"$`) {
		f.add(setting, "has a search_path that schemas can't be named after: write one name of lower case letters, digits and underscores")
	}
	for i := range c.Environments {
		for _, r := range c.Environments[i].Regions {
			if name := schemaName(cmp.Or(base, defaultSchema), c.Environments[i].Name, "region-"+r.Code); len(name) > longest {
				f.add(setting, "the schema %s would have more than %d letters: give the region %s of %s a store of its own", name, longest, r.Code, c.Environments[i].Name)
			}
		}
	}
}

// maxWait is the longest timeout that PostgreSQL can be told, rounded down: it counts
// milliseconds in 32 bits.
const maxWait = 24 * 24 * time.Hour
