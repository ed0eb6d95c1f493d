package region

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

const (
	snapshotPath = "/internal/companies/{company_id}/snapshot"
	// loadAtOnce is how many rows of a snapshot are written in one transaction, and
	// loadBytes how many bytes of them: on SQLite all writes stand in one line, and others
	// want their turn.
	loadAtOnce = 500
	loadBytes  = 4 << 20
)

// load is a snapshot on its way into the region.
type load struct {
	*Service
	company company.ID
	id      string // tells it from other loads of the company
	// state is that of the fence once all is there.
	state string
	// replace deletes what is left of the company after it went elsewhere.
	replace bool
	// announce tells the global index of the rows.
	announce bool

	head    snapshotHead
	end     snapshotEnd
	version int64 // of the last row that was announced, or the head's
	columns map[string][]string
	sum     hash.Hash
}

// internalLoad takes a company's snapshot. The rows are written in many short
// transactions; until the last row has come, and counts and checksum are those that the
// snapshot tells, no fence owns the company, so nothing half-loaded is served. A load
// that broke off is begun anew by the next one.
//
// ?state=owned has the company served here from then on; otherwise it is frozen.
// ?replace=1 lets go of what is left of a company that went elsewhere. ?announce=1 tells
// the global index of the company, where it comes from another environment.
func (s *Service) internalLoad(ctx context.Context, c *call) error {
	l := &load{
		Service: s, company: c.company, id: rand.Text(), columns: map[string][]string{}, sum: sha256.New(),
		end: snapshotEnd{Rows: map[string]int64{}},
	}
	if err := l.readOptions(c.r.URL.Query()); err != nil {
		return err
	}
	control := http.NewResponseController(c.w)
	defer control.SetReadDeadline(time.Time{}) //nolint:errcheck // the connection may serve other calls afterwards
	lines := bufio.NewScanner(readerFunc(func(p []byte) (int, error) {
		if err := control.SetReadDeadline(time.Now().Add(snapshotStall)); err != nil {
			return 0, err
		}
		return c.r.Body.Read(p)
	}))
	lines.Buffer(make([]byte, 0, 1<<16), snapshotLine)
	if err := l.take(ctx, lines); err != nil {
		return err
	}
	s.run(c.w, c.r, func(context.Context, *call) (int, any, error) {
		return http.StatusOK, map[string]any{"epoch": l.head.Epoch, "version": l.version, "rows": l.end.Rows, "checksum": l.end.Checksum}, nil
	}, c)
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (l *load) readOptions(q url.Values) error {
	l.state = q.Get("state")
	if l.state == "" {
		l.state = frozen
	}
	if l.state != owned && l.state != frozen {
		return problem.New(problem.BadRequest, "The parameter state must be owned or frozen.")
	}
	l.replace, l.announce = q.Get("replace") == "1", q.Get("announce") == "1"
	return nil
}

func (l *load) take(ctx context.Context, lines *bufio.Scanner) error {
	if !lines.Scan() {
		return broken("it has no first line", lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &l.head); err != nil || l.head.Format != snapshotFormat || l.head.Company != l.company || l.head.Epoch <= 0 {
		return broken(fmt.Sprintf("its first line isn't that of format %d and company %d", snapshotFormat, l.company), err)
	}
	if err := l.begin(ctx); err != nil {
		return err
	}
	if err := l.rows(ctx, lines); err != nil {
		return err
	}
	if err := l.finish(ctx); err != nil {
		return err
	}
	if l.announce {
		l.wakePump()
	}
	return nil
}

// broken refuses a snapshot.
func broken(why string, cause error) error {
	p := problem.New(problem.Invalid, "The snapshot can't be loaded: %s.", why)
	if cause == nil {
		return p
	}
	return p.Because(cause)
}

// begin claims the company for this load, and deletes what an earlier one has left.
func (l *load) begin(ctx context.Context) error {
	l.version = l.head.Version
	err := l.DB.Write(ctx, func(tx *sql.Tx) error {
		f, err := readFence(ctx, tx, l.company)
		var unknown *notOwned
		switch {
		case errors.As(err, &unknown):
		case err != nil:
			return err
		case f.State != gone:
			return problem.New(problem.Conflict, "Company %d is here already (%s, epoch %d): what is served is never overwritten.", l.company, f.State, f.Epoch)
		case !l.replace:
			return problem.New(problem.Conflict, "Company %d was here, up to epoch %d. Say replace=1 to let go of what is left of it.", l.company, f.Epoch)
		case l.head.Epoch < max(f.Epoch, f.GoneEpoch):
			return problem.New(problem.Conflict, "The snapshot of company %d is of epoch %d, and this region has heard of epoch %d.", l.company, l.head.Epoch, max(f.Epoch, f.GoneEpoch))
		}
		var logged sql.NullInt64
		if err := tx.QueryRowContext(ctx, `SELECT MAX(version) FROM change_log WHERE company_id = $1`, int64(l.company)).Scan(&logged); err != nil {
			return fmt.Errorf("read the change log: %w", err)
		}
		if l.announce { // what an earlier load announced has had its versions
			l.version = max(l.head.Version, logged.Int64)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO arrivals (company_id, load_id, started) VALUES ($1, $2, $3)
			ON CONFLICT (company_id) DO UPDATE SET load_id = excluded.load_id, started = excluded.started`, int64(l.company), l.id, store.Micros(l.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("begin to load company %d: %w", l.company, err)
	}
	for _, t := range moving() {
		if err := l.clear(ctx, t); err != nil {
			return fmt.Errorf("clear %s: %w", t.name, err)
		}
	}
	return nil
}

// clear deletes the company's rows of a table.
func (l *load) clear(ctx context.Context, t *table) error {
	key := strings.Join(t.key, ", ")
	for {
		var n int64
		err := l.transact(ctx, func(tx *sql.Tx) error {
			done, err := tx.ExecContext(ctx, `DELETE FROM `+t.name+` WHERE (`+key+`) IN (SELECT `+key+` FROM `+t.name+` WHERE company_id = $1 LIMIT $2)`,
				int64(l.company), loadAtOnce)
			if err != nil {
				return err
			}
			n, err = done.RowsAffected()
			return err
		})
		if err != nil || n < loadAtOnce {
			return err
		}
	}
}

// transact runs f in a transaction that commits only while this load is the company's last.
func (l *load) transact(ctx context.Context, f func(*sql.Tx) error) error {
	return l.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE arrivals SET started = started WHERE company_id = $1 AND load_id = $2`, int64(l.company), l.id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, problem.New(problem.Conflict, "Another load of company %d has begun meanwhile.", l.company))
		}
		return f(tx)
	})
}

// arrival is a row of the snapshot.
type arrival struct {
	table *table
	row   json.RawMessage
}

// rows reads the rows and the last line.
func (l *load) rows(ctx context.Context, lines *bufio.Scanner) error {
	var batch []arrival
	bytesHeld := 0
	for lines.Scan() {
		var line struct {
			snapshotRow
			snapshotEnd
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return broken("a line of it is no JSON object", err)
		}
		if line.Table == "" {
			if err := l.insert(ctx, batch); err != nil {
				return err
			}
			return l.compare(line.snapshotEnd, lines)
		}
		t, err := movingTable(line.Table)
		if err != nil {
			return err
		}
		l.sum.Write(lines.Bytes())
		l.sum.Write([]byte{'\n'})
		batch, bytesHeld = append(batch, arrival{t, line.Row}), bytesHeld+len(line.Row)
		if len(batch) == loadAtOnce || bytesHeld >= loadBytes {
			if err := l.insert(ctx, batch); err != nil {
				return err
			}
			batch, bytesHeld = batch[:0], 0
		}
	}
	return broken("it breaks off", errors.Join(io.ErrUnexpectedEOF, lines.Err()))
}

func movingTable(name string) (*table, error) {
	for _, t := range tables {
		if t.name == name && !t.stays {
			return t, nil
		}
	}
	return nil, broken(fmt.Sprintf("it has rows of %q, and this region keeps no such rows of companies", name), nil)
}

// compare wants all to have arrived that was sent.
func (l *load) compare(end snapshotEnd, lines *bufio.Scanner) error {
	got := hex.EncodeToString(l.sum.Sum(nil))
	for name, n := range end.Rows {
		if l.end.Rows[name] != n {
			return broken(fmt.Sprintf("it tells of %d rows of %s, and has %d", n, name, l.end.Rows[name]), nil)
		}
		l.end.Rows[name] = n
	}
	switch {
	case len(end.Rows) != len(l.end.Rows) || end.Rows[companies.name] != 1:
		return broken("its last line doesn't count all tables", nil)
	case end.Checksum != got:
		return broken("its checksum is another", nil)
	case lines.Scan() || lines.Err() != nil:
		return broken("it goes on after its last line", lines.Err())
	}
	l.end.Checksum = got
	return nil
}

func (l *load) insert(ctx context.Context, batch []arrival) error {
	if len(batch) == 0 {
		return nil
	}
	version := l.version
	err := l.transact(ctx, func(tx *sql.Tx) error {
		l.version = version // it may run more than once
		w := &writer{Tx: tx, company: l.company, now: store.Micros(l.Now())}
		for _, part := range byTable(batch) {
			if err := l.insertInto(ctx, w, part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load company %d: %w", l.company, err)
	}
	for _, a := range batch {
		l.end.Rows[a.table.name]++
	}
	return nil
}

// byTable splits a batch where another table begins.
func byTable(batch []arrival) (parts [][]arrival) {
	for start, i := 0, 1; i <= len(batch); i++ {
		if i == len(batch) || batch[i].table != batch[start].table {
			parts, start = append(parts, batch[start:i]), i
		}
	}
	return parts
}

// insertInto writes rows of one table.
func (l *load) insertInto(ctx context.Context, w *writer, part []arrival) error {
	t := part[0].table
	columns, err := l.columnsOf(ctx, w.Tx, t)
	if err != nil {
		return err
	}
	marks := make([]string, len(columns))
	for i := range marks {
		marks[i] = fmt.Sprintf("$%d", i+1)
	}
	insert, err := w.PrepareContext(ctx, `INSERT INTO `+t.name+` (`+strings.Join(columns, ", ")+`) VALUES (`+strings.Join(marks, ", ")+`)`)
	if err != nil {
		return err
	}
	defer insert.Close() //nolint:errcheck // it ends with the transaction
	for _, a := range part {
		values, err := l.values(a, columns)
		if err != nil {
			return err
		}
		if _, err := insert.ExecContext(ctx, values...); err != nil {
			if store.IsDuplicate(err) {
				return broken("it has a row of "+t.name+" twice", err)
			}
			return err
		}
		if l.announce && t.index != nil {
			if err := l.announceRow(ctx, w, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// columnsOf are the columns of a table.
func (l *load) columnsOf(ctx context.Context, tx *sql.Tx, t *table) ([]string, error) {
	if known := l.columns[t.name]; known != nil {
		return known, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT * FROM `+t.name+` WHERE 1 = 0`)
	if err != nil {
		return nil, err
	}
	columns, err := rows.Columns()
	if err := errors.Join(err, rows.Close()); err != nil {
		return nil, err
	}
	l.columns[t.name] = columns
	return columns, nil
}

// values reads a row, which must have exactly the columns of the table.
func (l *load) values(a arrival, columns []string) ([]any, error) {
	row := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(a.row))
	dec.UseNumber()
	if err := dec.Decode(&row); err != nil {
		return nil, broken("a row of "+a.table.name+" is no JSON object", err)
	}
	values := make([]any, len(columns))
	for i, column := range columns {
		value, ok := row[column]
		if number, is := value.(json.Number); is {
			n, err := number.Int64()
			value, ok = n, err == nil
		}
		if !ok {
			return nil, otherColumns(a.table, slices.Collect(maps.Keys(row)), columns)
		}
		values[i] = value
	}
	if len(row) != len(columns) {
		return nil, otherColumns(a.table, slices.Collect(maps.Keys(row)), columns)
	}
	if row["company_id"] != json.Number(l.company.String()) {
		return nil, broken("it has a row of another company", nil)
	}
	return values, nil
}

func otherColumns(t *table, got, want []string) error {
	slices.Sort(got)
	return broken(fmt.Sprintf("its rows of %s have the columns %s, and here they have %s: both sides must be of one version", t.name,
		strings.Join(got, ", "), strings.Join(want, ", ")), nil)
}

// announceRow puts a row into the change log, for the global index to hear of it.
func (l *load) announceRow(ctx context.Context, w *writer, a arrival) error {
	l.version++
	return w.logAs(ctx, l.version, a.table, false, string(a.row))
}

// finish has the region own the company, or hold it frozen.
func (l *load) finish(ctx context.Context) error {
	err := l.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO fence (company_id, epoch, state, version, gone_region, gone_epoch) VALUES ($1, $2, $3, $4, '', 0)
			ON CONFLICT (company_id) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, version = excluded.version, gone_region = '', gone_epoch = 0`,
			int64(l.company), int64(l.head.Epoch), l.state, l.version)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM arrivals WHERE company_id = $1`, int64(l.company))
		return err
	})
	if err != nil {
		return fmt.Errorf("finish loading company %d: %w", l.company, err)
	}
	return nil
}
