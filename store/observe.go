package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync/atomic"

	"github.com/XSAM/otelsql"
	"go.opentelemetry.io/otel/attribute"
)

// traced says whether databases that are opened from now on make spans.
var traced atomic.Bool

// Trace has each statement become a span of the trace that its context carries, in all databases
// that this program opens from now on. It stays: tracing is a matter of the whole program.
func Trace() { traced.Store(true) }

// openPool is [sql.Open], with spans where they are wanted.
func openPool(name, dsn string) (*sql.DB, error) {
	if !traced.Load() {
		return sql.Open(name, dsn)
	}
	return otelsql.Open(name, dsn, traces(name)...)
}

// spans is [sql.OpenDB], with spans where they are wanted.
func spans(connector driver.Connector, name string) *sql.DB {
	if !traced.Load() {
		return sql.OpenDB(connector)
	}
	return otelsql.OpenDB(connector, traces(name)...)
}

// traces say which spans there are. Statements are shown as they are written, with $1 in place of
// each value.
func traces(system string) []otelsql.Option {
	return []otelsql.Option{
		otelsql.WithAttributes(attribute.String("db.system.name", system)),
		otelsql.WithSpanOptions(otelsql.SpanOptions{DisableErrSkip: true, OmitConnResetSession: true, OmitRows: true, OmitConnectorConnect: true}),
	}
}

// Pools are the pools of connections, by what they are for.
func (db *DB) Pools() map[string]*sql.DB {
	if db.postgres {
		return map[string]*sql.DB{"all": db.write}
	}
	return map[string]*sql.DB{"reads": db.read, "writes": db.write}
}

// Ping asks the database for a sign of life. Writers don't hold it up.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	if err := db.read.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return fmt.Errorf("the database doesn't answer: %w", err)
	}
	return nil
}
