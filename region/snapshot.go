package region

import (
	"context"
	"database/sql"
	"strings"

	"mpr/company"
	"mpr/problem"
	"mpr/snapshot"
)

const (
	snapshotPath   = "/internal/companies/{company_id}/snapshot"
	snapshotFormat = 1
	// snapshotsAtOnce bounds how many connections to the database they hold.
	snapshotsAtOnce = 2
)

// snapshotHead says what the snapshot is of. Tables come in the order of tables.go and
// rows in that of their keys, so that two regions with the same rows of a company have
// the same checksum.
type snapshotHead struct {
	Format  int           `json:"format"`
	Company company.ID    `json:"company"`
	Epoch   company.Epoch `json:"epoch"`
	// Version is the fence's: the snapshot has all changes up to it, and none after.
	Version int64 `json:"version"`
}

// moving are the tables whose rows belong to the company and not to the region.
func moving() (list []*table) {
	for _, t := range tables {
		if !t.stays {
			list = append(list, t)
		}
	}
	return list
}

// movingTable finds one of them.
func movingTable(name string) (*table, error) {
	for _, t := range moving() {
		if t.name == name {
			return t, nil
		}
	}
	return nil, problem.New(problem.Invalid, "This region keeps no rows of companies in a table %q.", name)
}

// internalSnapshot sends all rows of a company, read in one transaction.
func (s *Service) internalSnapshot(ctx context.Context, c *call) error {
	select {
	case s.snapshots <- struct{}{}:
		defer func() { <-s.snapshots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return snapshot.Serve(ctx, c.w, s.DB, func(tx *sql.Tx) (any, []snapshot.Table, error) {
		f, err := readFence(ctx, tx, c.company)
		if err != nil {
			return nil, nil, err
		}
		if f.State != frozen { // what is about to move is compared while it is frozen
			if err := f.admits(s.Code, anyEpoch); err != nil {
				return nil, nil, err
			}
		}
		var list []snapshot.Table
		for _, t := range moving() {
			list = append(list, snapshot.Table{
				Name: t.name, Query: `SELECT * FROM ` + t.name + ` WHERE company_id = $1 ORDER BY ` + strings.Join(t.key, ", "), Args: []any{int64(c.company)},
			})
		}
		return snapshotHead{snapshotFormat, c.company, f.Epoch, f.Version}, list, nil
	})
}
