package region

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/rules"
	"mpr/snapshot"
	"mpr/store"
	"mpr/token"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema of a region's store.
func Migrations() fs.FS { return store.Files(migrations) }

// Verifier verifies access tokens.
type Verifier interface {
	Verify(raw string) (*token.Claims, error)
}

// Publisher takes the changes that the global index wants.
type Publisher interface {
	Publish(context.Context, []directory.Change) error
	// Made is when the stream that it publishes to was made.
	Made(context.Context) (time.Time, error)
}

// Identity knows people across regions.
type Identity interface {
	// EnsureUser answers the id of the person with this login; who isn't known yet is
	// invited. [problem.Invalid] says what is wrong with the person.
	EnsureUser(ctx context.Context, login, name string) (int64, error)
}

// Options are what a [Service] needs.
type Options struct {
	Code      company.Region
	Number    int
	DB        *store.DB
	Verifier  Verifier
	Policy    *rules.Policy
	Publisher Publisher
	Identity  Identity
	// Secret is the secret that our processes show one another.
	Secret string
	// MaxBody is the largest body that a resource takes, in bytes; MaxPerPage the longest
	// page.
	MaxBody    int64
	MaxPerPage int
	// MaxStore is how many bytes the database may take before no company can move here; 0 for
	// what its disk has room for. Reserve is how many bytes are kept free of arrivals.
	MaxStore int64
	Reserve  int64
	Now      func() time.Time
}

// Service is a region.
type Service struct {
	Options
	wakeUp chan struct{} // the change log has grown
	// snapshots is a slot for each that is read at a time.
	snapshots chan struct{}
	inserter  snapshot.Inserter
	cancel    context.CancelFunc
	pump      sync.WaitGroup
}

// New starts the region. The database has the schema of [Migrations].
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{Options: o, wakeUp: make(chan struct{}, 1), snapshots: make(chan struct{}, snapshotsAtOnce)}
	if err := s.claimBlock(ctx); err != nil {
		return nil, fmt.Errorf("start region %s: %w", o.Code, err)
	}
	background, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.pump.Go(func() { s.runPump(background) })
	return s, nil
}

// Close ends the background work. The handlers must have ended before.
func (s *Service) Close() error {
	s.cancel()
	s.pump.Wait()
	return nil
}

// claimBlock notes in the database which region it belongs to, and refuses one that
// belongs to another region: two that gave out ids of one block would collide.
func (s *Service) claimBlock(ctx context.Context) error {
	first := company.FirstID(s.Number)
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		var code string
		var last int64
		err := tx.QueryRowContext(ctx, `SELECT region, last FROM ids`).Scan(&code, &last)
		if errors.Is(err, sql.ErrNoRows) {
			_, err = tx.ExecContext(ctx, `INSERT INTO ids (region, last) VALUES ($1, $2) ON CONFLICT (region) DO NOTHING`, string(s.Code), first)
			return err
		}
		if err != nil {
			return err
		}
		if code != string(s.Code) || last < first || last >= company.FirstID(s.Number+1) {
			return fmt.Errorf("the database belongs to region %s with other ids; give each region a database of its own, and never change its number", code)
		}
		return nil
	})
}
