package region

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"mpr/company"
)

// A snapshot is all rows of a company, as lines of JSON: a [snapshotHead], a
// [snapshotRow] for each row, and a [snapshotEnd]. Tables come in the order of tables.go
// and rows in that of their keys, so that two regions with the same rows write the same
// lines: their checksums can be compared.
const (
	snapshotFormat = 1
	snapshotType   = "application/x-ndjson"
	// snapshotLine is the longest line, in bytes: a row came in a body of this size at the
	// most, and its JSON may be longer.
	snapshotLine = 16 << 20
	// snapshotStall is how long the other side may make no progress.
	snapshotStall = time.Minute
	// snapshotsAtOnce bounds how many connections to the database they hold.
	snapshotsAtOnce = 2
)

// snapshotHead says what the snapshot is of.
type snapshotHead struct {
	Format  int           `json:"format"`
	Company company.ID    `json:"company"`
	Epoch   company.Epoch `json:"epoch"`
	// Version is the fence's: the snapshot has all changes up to it, and none after.
	Version int64 `json:"version"`
}

// snapshotRow is a row: a JSON object of its columns, as in the change log.
type snapshotRow struct {
	Table string          `json:"table"`
	Row   json.RawMessage `json:"row"`
}

// snapshotEnd says what must have arrived.
type snapshotEnd struct {
	// Rows counts the rows of each table.
	Rows map[string]int64 `json:"rows"`
	// Checksum is the SHA-256 of the rows' lines, with their line feeds.
	Checksum string `json:"checksum"`
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

// internalSnapshot sends a company's snapshot, read in one transaction.
func (s *Service) internalSnapshot(ctx context.Context, c *call) error {
	select {
	case s.snapshots <- struct{}{}:
		defer func() { <-s.snapshots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	out := &snapshotWriter{control: http.NewResponseController(c.w), sum: sha256.New(), end: snapshotEnd{Rows: map[string]int64{}}}
	out.to = bufio.NewWriterSize(out.stallable(c.w), 1<<16)
	defer out.control.SetWriteDeadline(time.Time{}) //nolint:errcheck // the connection may serve other calls afterwards
	begun := false
	err := s.DB.Snapshot(ctx, func(tx *sql.Tx) error {
		f, err := readFence(ctx, tx, c.company)
		if err != nil {
			return err
		}
		if f.State != frozen { // what is about to move is compared while it is frozen
			if err := f.admits(s.Code, anyEpoch); err != nil {
				return err
			}
		}
		c.w.Header().Set("Content-Type", snapshotType)
		begun = true
		return out.write(ctx, tx, snapshotHead{snapshotFormat, c.company, f.Epoch, f.Version})
	})
	if err != nil && begun {
		slog.WarnContext(ctx, "a snapshot broke off", "region", s.Code, "company", c.company, "error", err)
		panic(http.ErrAbortHandler) // the status is sent: a stream that breaks off says it as well
	}
	return err
}

// snapshotWriter writes a snapshot.
type snapshotWriter struct {
	control *http.ResponseController
	to      *bufio.Writer
	sum     hash.Hash
	end     snapshotEnd
}

// stallable gives each write of a buffer its own time.
func (o *snapshotWriter) stallable(w io.Writer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if err := o.control.SetWriteDeadline(time.Now().Add(snapshotStall)); err != nil {
			return 0, err
		}
		return w.Write(p)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (o *snapshotWriter) write(ctx context.Context, tx *sql.Tx, head snapshotHead) error {
	if err := o.line(head); err != nil {
		return err
	}
	for _, t := range moving() {
		if err := o.table(ctx, tx, t, head.Company); err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
	}
	o.end.Checksum = hex.EncodeToString(o.sum.Sum(nil))
	if err := o.line(o.end); err != nil {
		return err
	}
	return o.to.Flush()
}

func (o *snapshotWriter) table(ctx context.Context, tx *sql.Tx, t *table, id company.ID) error {
	o.end.Rows[t.name] = 0
	rows, err := tx.QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE company_id = $1 ORDER BY `+strings.Join(t.key, ", "), int64(id))
	return eachRow(rows, err, func(row map[string]any) error {
		data, err := json.Marshal(row)
		if err != nil {
			return err
		}
		o.end.Rows[t.name]++
		line := slices.Concat([]byte(`{"table":"`+t.name+`","row":`), data, []byte("}\n"))
		o.sum.Write(line)
		_, err = o.to.Write(line)
		return err
	})
}

func (o *snapshotWriter) line(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = o.to.Write(append(data, '\n'))
	return err
}
