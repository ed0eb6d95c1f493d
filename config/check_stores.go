package config

import (
	"slices"
	"time"
)

func (f *findings) checkStores(c *Config) {
	if choices := []string{MigrateAuto, MigrateCheck}; !slices.Contains(choices, c.Stores.Migrate) {
		f.add("stores.migrate", "%q is not a choice: write %s", c.Stores.Migrate, oneOf(choices))
	}
	p, at := c.Stores.Postgres, "stores.postgres."
	f.between(at+"max_connections", int64(p.MaxConns), 2, 1000) // a snapshot takes one, and must hold up nobody
	f.between(at+"idle_connections", int64(p.IdleConns), 0, int64(max(p.MaxConns, 0)))
	f.positive(at+"connect_timeout", p.ConnectTimeout)
	for setting, d := range map[string]time.Duration{
		"idle_time": p.IdleTime, "lifetime": p.Lifetime, "statement_timeout": p.StatementTimeout, "long_statement_timeout": p.LongTimeout,
		"lock_timeout": p.LockTimeout, "idle_transaction_timeout": p.IdleTransaction,
	} {
		if d < 0 || d > maxWait {
			f.add(at+setting, "%s is out of range: write 0s for no limit, or a duration up to %s", d, maxWait)
		}
	}
	if p.Patience < 0 || p.Patience > time.Minute {
		f.add(at+"patience", "%s is out of range: write a duration up to 1m, 0s for none", p.Patience)
	}
	if p.LongTimeout > 0 && p.LongTimeout < p.StatementTimeout {
		f.add(at+"long_statement_timeout", "%s is shorter than statement_timeout, %s", p.LongTimeout, p.StatementTimeout)
	}
}

// maxWait is the longest timeout that PostgreSQL can be told, rounded down: it counts
// milliseconds in 32 bits.
const maxWait = 24 * 24 * time.Hour
