package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Schema is a part of a database's schema, whose versions are counted by themselves.
//
// Processes of two versions of this binary use one schema while a rollout lasts. So
// migrations add, and what no binary uses any longer is taken away by a later one: first
// expand, then contract. A migration that takes something away says so in a line
// "-- contract: needs 7", the oldest binaries that do without it being those that know
// migration 7; older ones refuse to start from then on.
type Schema struct {
	// Versions is the table of the versions; "" for that of the database's first part.
	Versions string
	// Migrations are goose files, in the root of the file system.
	Migrations fs.FS
}

// Files is the folder "migrations" of the files that a package is compiled with.
func Files(files embed.FS) fs.FS {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the name is a valid path
	}
	return sub
}

// Status says how a schema stands to the migrations of this binary.
type Status struct {
	// Version is the newest migration that was applied; 0 for none.
	Version int64 `json:"version"`
	// Known is the newest migration of this binary.
	Known int64 `json:"known"`
	// Pending are the migrations of this binary that weren't applied yet.
	Pending []int64 `json:"pending"`
	// Needs is the oldest version that binaries must know to use it; 0 for any.
	Needs int64 `json:"needs,omitempty"`
}

// Errors that say that a schema and this binary don't fit.
var (
	ErrSchemaOld = errors.New("its schema is older than this binary needs")
	ErrSchemaNew = errors.New("its schema is newer, and this binary uses what isn't there any longer")
	// ErrSchemaForeign: the configuration leads to a database of something else.
	ErrSchemaForeign = errors.New("it is the database of another store: check which file or schema the configuration names")
)

// Check says what is wrong with the schema for this binary, if anything.
func (s Status) Check() error {
	switch {
	case s.Needs > s.Known:
		return fmt.Errorf("%w: it needs a binary that knows migration %d, and this one knows those up to %d; run the newer binary", ErrSchemaNew, s.Needs, s.Known)
	case len(s.Pending) > 0:
		return fmt.Errorf("%w: it is at version %d, and this binary at %d; run `mpr db migrate` with this binary's configuration, then start again", ErrSchemaOld, s.Version, s.Known)
	}
	return nil
}

const (
	// migrationWait is how many seconds a start waits for another process's migrations.
	migrationWait = 300
	// needsTable notes which binaries may use a schema, by its table of versions.
	needsTable = "schema_needs"
	// migrationLock is how long a migration waits for a lock on a table, behind which others
	// wait as well; then it lets them pass and tries again, so many times.
	migrationLock     = 3 * time.Second
	migrationAttempts = 20
)

// Also brings another part of the database's schema up to date, whose versions are counted
// in a table of this name.
func (db *DB) Also(ctx context.Context, versions string, migrations fs.FS) error {
	return db.bring(ctx, Schema{versions, migrations})
}

// bring brings a schema up to date, or refuses it.
func (db *DB) bring(ctx context.Context, part Schema) error {
	now, err := db.status(ctx, part)
	if err != nil {
		return err
	}
	err = now.Check()
	switch {
	case err == nil, errors.Is(err, ErrSchemaNew):
		return err
	case db.options.Check && (now.Version > 0 || !db.fresh):
		return err
	}
	return db.migrate(ctx, part)
}

// status reads how a schema stands. It changes nothing.
func (db *DB) status(ctx context.Context, part Schema) (Status, error) {
	known, err := part.known()
	if err != nil {
		return Status{}, err
	}
	s := Status{Known: known[len(known)-1], Pending: []int64{}}
	applied, err := db.numbers(ctx, part.versions(), `SELECT version_id FROM `+part.versions()+` WHERE is_applied`)
	if err != nil {
		return s, fmt.Errorf("read the schema's version: %w", err)
	}
	for _, v := range known {
		if !slices.Contains(applied, v) {
			s.Pending = append(s.Pending, v)
		}
	}
	s.Version = slices.Max(append(applied, 0))
	if err := db.own(ctx, part, s.Version); err != nil {
		return s, err
	}
	needs, err := db.numbers(ctx, needsTable, `SELECT version FROM `+needsTable+` WHERE versions = $1`, part.versions())
	if err != nil {
		return s, fmt.Errorf("read what the schema needs: %w", err)
	}
	s.Needs = slices.Max(append(needs, 0))
	return s, nil
}

// numbers reads a column of a table; nothing where there is no such table.
func (db *DB) numbers(ctx context.Context, table, query string, args ...any) (list []int64, err error) {
	if there, err := db.has(ctx, table); err != nil || !there {
		return nil, err
	}
	rows, err := db.read.QueryContext(ctx, query, args...)
	return Column[int64](rows, err)
}

// has says whether there is a table.
func (db *DB) has(ctx context.Context, table string) (bool, error) {
	there := `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1`
	if db.postgres {
		there = `SELECT COUNT(to_regclass($1))`
	}
	var n int
	err := db.read.QueryRowContext(ctx, there, table).Scan(&n)
	return n > 0, err
}

var newTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)

// own refuses a database of somebody else's: one that has been migrated, and has none of the tables
// that the schema begins with. Versions alone are numbers, which another schema has as well.
func (db *DB) own(ctx context.Context, part Schema, version int64) error {
	names, err := fs.Glob(part.Migrations, "*.sql") // in order: their numbers are as long
	if err != nil || version == 0 {
		return err
	}
	text, err := fs.ReadFile(part.Migrations, names[0])
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	made := newTable.FindAllSubmatch(text, -1)
	for _, table := range made {
		if there, err := db.has(ctx, string(table[1])); err != nil || there {
			return err
		}
	}
	if len(made) == 0 {
		return nil
	}
	return fmt.Errorf("%w: it is at version %d and has no table %s", ErrSchemaForeign, version, made[0][1])
}

func (s Schema) versions() string {
	if s.Versions == "" {
		return goose.DefaultTablename
	}
	return s.Versions
}

// known are the migrations of this binary, in order.
func (s Schema) known() ([]int64, error) {
	names, err := fs.Glob(s.Migrations, "*.sql")
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("read migrations: there are none: %w", errors.Join(err))
	}
	known := make([]int64, len(names))
	for i, name := range names {
		if known[i], err = goose.NumericComponent(name); err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
	}
	slices.Sort(known)
	return known, nil
}

var contractLine = regexp.MustCompile(`(?m)^-- contract: needs (\d+)$`)

// needs is which binaries may use the schema once all of its migrations were applied.
func (s Schema) needs() (int64, error) {
	names, err := fs.Glob(s.Migrations, "*.sql")
	if err != nil {
		return 0, err
	}
	needs := int64(0)
	for _, name := range names {
		text, err := fs.ReadFile(s.Migrations, name)
		if err != nil {
			return 0, fmt.Errorf("read migrations: %w", err)
		}
		for _, found := range contractLine.FindAllSubmatch(text, -1) {
			n, err := strconv.ParseInt(string(found[1]), 10, 32)
			if err != nil {
				return 0, fmt.Errorf("read migrations: %s: %w", name, err)
			}
			needs = max(needs, n)
		}
	}
	return needs, nil
}

func (db *DB) migrate(ctx context.Context, part Schema) error {
	if !db.postgres {
		release, err := lockFolder(db.folder)
		if err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		defer release()
		return db.up(ctx, db.write, part, goose.DialectSQLite3)
	}
	_, schema, err := ownSchema(db.dsn)
	if err != nil {
		return err
	}
	if err := db.makeSchema(ctx, schema); err != nil {
		return err
	}
	// Of those that open it at the same time one migrates, and the others wait.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLockOf(schema)), lock.WithLockTimeout(1, migrationWait))
	if err != nil {
		return fmt.Errorf("lock migrations: %w", err)
	}
	// A migration may take as long as it needs, but not keep others waiting behind it.
	o := db.options
	o.StatementTimeout, o.IdleTransaction, o.LockTimeout, o.MaxConns = 0, 0, migrationLock, 2
	pool, err := o.openPostgres(ctx, db.dsn)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := db.up(ctx, pool, part, goose.DialectPostgres, goose.WithSessionLocker(locker))
		var pg *pgconn.PgError
		if attempt < migrationAttempts && errors.As(err, &pg) && pg.Code == "55P03" && ctx.Err() == nil {
			continue // waiting for the lock took its time
		}
		return errors.Join(err, pool.Close())
	}
}

// makeSchema makes a schema that isn't there. Who may make none in the database can have it made.
func (db *DB) makeSchema(ctx context.Context, schema string) error {
	if schema == "" {
		return nil
	}
	var there bool
	if err := db.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&there); err != nil || there {
		return err
	}
	_, err := db.write.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+quote(schema))
	if err != nil && !IsDuplicate(err) { // another process made it in the same moment
		return fmt.Errorf("make the schema %s: %w", schema, err)
	}
	return nil
}

// migrationLockOf is the lock of a schema's migrations. PostgreSQL's locks are those of the database,
// and schemas that share one needn't wait for one another.
func migrationLockOf(schema string) int64 {
	if schema == "" {
		return lock.DefaultLockID
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(schema)) // it never fails
	return int64(h.Sum64())        //nolint:gosec // any number will do
}

func (db *DB) up(ctx context.Context, pool *sql.DB, part Schema, dialect goose.Dialect, options ...goose.ProviderOption) error {
	if err := noteNeeds(ctx, pool, part); err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, pool, part.Migrations, append(options, goose.WithTableName(part.versions()))...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// noteNeeds keeps older binaries away, before anything is taken away that they use.
func noteNeeds(ctx context.Context, pool *sql.DB, part Schema) error {
	needs, err := part.needs()
	if err != nil || needs == 0 {
		return err
	}
	_, err = pool.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS `+needsTable+` (versions TEXT PRIMARY KEY, version BIGINT NOT NULL)`)
	if err == nil || IsDuplicate(err) { // another process made it in the same moment
		_, err = pool.ExecContext(ctx, `INSERT INTO `+needsTable+` (versions, version) VALUES ($1, $2)
			ON CONFLICT (versions) DO UPDATE SET version = excluded.version WHERE excluded.version > `+needsTable+`.version`, part.versions(), needs)
	}
	if err != nil {
		return fmt.Errorf("note what the schema needs: %w", err)
	}
	return nil
}

// Engine names the engine that a DSN is for.
func Engine(dsn string) string {
	if isPostgres(dsn) {
		return "PostgreSQL"
	}
	return "SQLite"
}

// Where says where a generation of a database is: its file, or its server and name; never a
// password.
func Where(dsn string, generation int) string {
	at, err := generationDSN(dsn, generation)
	if err != nil {
		return "(malformed)"
	}
	if path, ok := strings.CutPrefix(at, "sqlite:"); ok {
		return path
	}
	u, err := url.Parse(at)
	if err != nil {
		return "(malformed)"
	}
	where := (&url.URL{Scheme: "postgres", Host: u.Host, Path: u.Path}).String()
	if u.Host == "" {
		where = "postgres://" + u.Query().Get("host") + u.Path
	}
	if schema := u.Query().Get("search_path"); schema != "" {
		where += ", schema " + schema
	}
	return where
}

// Inspect says how the schemas of a generation of a database stand, in their order. It
// changes nothing, and makes nothing: a database that isn't there yet is at version 0.
func (o Options) Inspect(ctx context.Context, dsn string, generation int, parts ...Schema) ([]Status, error) {
	db, err := o.look(ctx, dsn, generation)
	if errors.Is(err, fs.ErrNotExist) {
		return none(parts)
	}
	if err != nil {
		return nil, err
	}
	all := make([]Status, len(parts))
	for i, part := range parts {
		if all[i], err = db.status(ctx, part); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return all, db.Close()
}

func none(parts []Schema) ([]Status, error) {
	all := make([]Status, len(parts))
	for i, part := range parts {
		known, err := part.known()
		if err != nil {
			return nil, err
		}
		all[i] = Status{Known: known[len(known)-1], Pending: known}
	}
	return all, nil
}

// look opens a database to read how it is; [fs.ErrNotExist] where it isn't there.
func (o Options) look(ctx context.Context, dsn string, generation int) (*DB, error) {
	dsn, err := generationDSN(dsn, generation)
	if err != nil {
		return nil, err
	}
	path, isFile := strings.CutPrefix(dsn, "sqlite:")
	if isFile {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
		pool, err := sqlitePool(ctx, path, 1, "deferred", "query_only(ON)")
		if err != nil {
			return nil, err
		}
		return &DB{read: pool, write: pool, dsn: dsn, options: o, folder: filepath.Dir(path)}, nil
	}
	o.MaxConns = 1
	return o.connect(ctx, dsn)
}

// Migrate brings the schemas of a generation of a database up to date.
func (o Options) Migrate(ctx context.Context, dsn string, generation int, parts ...Schema) error {
	o.Check = false
	db, err := o.OpenGeneration(ctx, dsn, generation, parts[0].Migrations)
	if err != nil {
		return err
	}
	for _, part := range parts[1:] {
		if err := db.bring(ctx, part); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return db.Close()
}
