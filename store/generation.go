package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A database that is made anew now and then is kept in generations, each for itself. What
// the DSN names is generation 0; the others stand beside it: on SQLite in a folder
// "generation-7", on PostgreSQL in a schema "mpr_generation_7" ("SCHEMA_generation_7"
// where the DSN has a search_path).
const (
	generationFolder = "generation-"
	generationSchema = "_generation_"
	defaultSchema    = "mpr"
)

// OpenGeneration opens a generation of the database that the DSN names, as [Options.Open]
// does. A new generation is made by ourselves, so that its schema is, whatever Check says.
func (o Options) OpenGeneration(ctx context.Context, dsn string, generation int, migrations fs.FS) (*DB, error) {
	if generation == 0 {
		return o.Open(ctx, dsn, migrations)
	}
	dsn, err := generationDSN(dsn, generation)
	if err != nil {
		return nil, err
	}
	db, err := o.connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	db.fresh = true
	if err := db.bring(ctx, Schema{Migrations: migrations}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// OpenGeneration is [Options.OpenGeneration] with the defaults.
func OpenGeneration(ctx context.Context, dsn string, generation int, migrations fs.FS) (*DB, error) {
	return Defaults().OpenGeneration(ctx, dsn, generation, migrations)
}

// generationDSN names a generation of a database.
func generationDSN(dsn string, generation int) (string, error) {
	if generation == 0 {
		return dsn, nil
	}
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return "sqlite:" + filepath.Join(GenerationFolder(filepath.Dir(path), generation), filepath.Base(path)), nil
	}
	u, base, err := schemaOf(dsn)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("search_path", base+generationSchema+strconv.Itoa(generation))
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Generations are those of the database that are there beside 0, in order.
func Generations(ctx context.Context, dsn string) (list []int, err error) {
	prefix, names := generationFolder, []string(nil)
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		names, err = foldersWith(filepath.Dir(path), filepath.Base(path))
	} else {
		var base string
		if _, base, err = schemaOf(dsn); err != nil {
			return nil, err
		}
		prefix = base + generationSchema
		err = onPostgres(ctx, dsn, func(db *sql.DB) (err error) { names, err = schemas(ctx, db, prefix); return err })
	}
	for _, name := range names {
		if n, is := generationOf(name, prefix); is {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, err
}

// GenerationFolder is where the files of a generation are, for files that stand beside a
// SQLite database.
func GenerationFolder(dir string, generation int) string {
	if generation == 0 {
		return dir
	}
	return filepath.Join(dir, generationFolder+strconv.Itoa(generation))
}

// KeepGenerations deletes all generations of the database but these and 0.
func KeepGenerations(ctx context.Context, dsn string, keep ...int) error {
	keep = append(keep, 0)
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return keepFolders(filepath.Dir(path), keep)
	}
	_, base, err := schemaOf(dsn)
	if err != nil {
		return err
	}
	return onPostgres(ctx, dsn, func(db *sql.DB) error { return keepSchemas(ctx, db, base+generationSchema, keep) })
}

// OwnSchema is the schema of PostgreSQL that the DSN names; "" where it names none, and of SQLite.
func OwnSchema(dsn string) string {
	if !isPostgres(dsn) {
		return ""
	}
	_, own, err := ownSchema(dsn)
	if err != nil {
		return ""
	}
	return own
}

// DropSchema deletes the schema that the DSN names, and all of its generations.
func DropSchema(ctx context.Context, dsn string) error {
	own := OwnSchema(dsn)
	if own == "" {
		return errors.New("the DSN names no schema: nothing was deleted")
	}
	if err := KeepGenerations(ctx, dsn); err != nil {
		return err
	}
	return onPostgres(ctx, dsn, func(db *sql.DB) error {
		if _, err := db.ExecContext(ctx, `DROP SCHEMA IF EXISTS `+quote(own)+` CASCADE`); err != nil {
			return fmt.Errorf("delete the schema %s: %w", own, err)
		}
		return nil
	})
}

func keepFolders(dir string, keep []int) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list generations: %w", err)
	}
	for _, e := range entries {
		if surplus(e.Name(), generationFolder, keep) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("delete a generation: %w", err)
			}
		}
	}
	return nil
}

func keepSchemas(ctx context.Context, db *sql.DB, prefix string, keep []int) error {
	names, err := schemas(ctx, db, prefix)
	if err != nil {
		return fmt.Errorf("list generations: %w", err)
	}
	for _, name := range names {
		if !surplus(name, prefix, keep) {
			continue
		}
		if _, err := db.ExecContext(ctx, `DROP SCHEMA IF EXISTS `+quote(name)+` CASCADE`); err != nil {
			return fmt.Errorf("delete a generation: %w", err)
		}
	}
	return nil
}

func schemas(ctx context.Context, db *sql.DB, prefix string) ([]string, error) {
	return Column[string](db.QueryContext(ctx, `SELECT nspname FROM pg_namespace WHERE starts_with(nspname::text, $1)`, prefix))
}

// Column reads rows of one column to their end, and closes them. err is that of the query.
func Column[T any](rows *sql.Rows, err error) (list []T, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// surplus says whether a name is that of a generation which isn't kept.
func surplus(name, prefix string, keep []int) bool {
	n, is := generationOf(name, prefix)
	return is && !slices.Contains(keep, n)
}

// foldersWith are the folders in dir that hold the file.
func foldersWith(dir, file string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), file)); err == nil {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// generationOf is which generation a name is of.
func generationOf(name, prefix string) (int, bool) {
	text, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.Atoi(text)
	return n, ok && err == nil && n > 0
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// schemaOf is the schema that the names of generations begin with.
func schemaOf(dsn string) (*url.URL, string, error) {
	u, own, err := ownSchema(dsn)
	return u, cmp.Or(own, defaultSchema), err
}

// ownSchema is the schema that the DSN names by its search_path; "" where it leaves that to the server.
func ownSchema(dsn string) (*url.URL, string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, "", errors.New("the DSN is malformed") // the cause may show the password
	}
	own, _, _ := strings.Cut(u.Query().Get("search_path"), ",")
	if own = strings.Trim(own, ` "`); own == "$user" {
		own = ""
	}
	return u, own, nil
}

// onPostgres runs f with a connection to what the DSN names.
func onPostgres(ctx context.Context, dsn string, f func(*sql.DB) error) error {
	db, err := Defaults().connect(ctx, dsn)
	if err != nil {
		return err
	}
	return errors.Join(f(db.write), db.Close())
}
