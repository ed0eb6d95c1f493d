package store

import "time"

// Options say how databases are opened. All but Check are for PostgreSQL; a time of 0 is
// no limit, and nothing is then said to the server about it.
type Options struct {
	// Check refuses a schema that is older than this binary needs, with [ErrSchemaOld],
	// where it would otherwise be migrated.
	Check bool
	// MaxConns is how many connections a process has to a database at the most, IdleConns
	// how many it keeps while nothing asks. The server's limit (100 by default) is shared by
	// all processes.
	MaxConns, IdleConns int
	// IdleTime and Lifetime are after how long a connection is given back.
	IdleTime, Lifetime time.Duration
	ConnectTimeout     time.Duration
	// StatementTimeout bounds a statement; LongTimeout those of a [DB.Snapshot], which may
	// read all rows of a large company, and the time between them.
	StatementTimeout, LongTimeout time.Duration
	// LockTimeout bounds the waiting for a row or a table that another one holds.
	LockTimeout time.Duration
	// IdleTransaction is how long a transaction may do nothing: whoever has died in it
	// holds its locks no longer.
	IdleTransaction time.Duration
	// Patience is how long a write waits for a database that is away.
	Patience time.Duration
}

// Defaults are those of mpr.yaml.
func Defaults() Options {
	return Options{
		MaxConns: 16, IdleConns: 4, IdleTime: 5 * time.Minute, Lifetime: time.Hour, ConnectTimeout: 5 * time.Second,
		StatementTimeout: 30 * time.Second, LongTimeout: time.Hour, LockTimeout: 10 * time.Second, IdleTransaction: time.Minute,
		Patience: 5 * time.Second,
	}
}
