package snapshot

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"mpr/problem"
)

const (
	// longestLine is in bytes: a row came in a body of a megabyte at the most, and its JSON
	// may be longer.
	longestLine = 16 << 20
	// batchRows is how many rows are handed over at a time, and batchBytes how many bytes of
	// them: they are written in one transaction, and on SQLite all writes stand in one line.
	batchRows  = 500
	batchBytes = 4 << 20
)

// Row is a row of a snapshot.
type Row struct {
	Table string `json:"table"`
	// Data is a JSON object of the columns.
	Data json.RawMessage `json:"row"`
}

// Reader reads a snapshot from a request's body.
type Reader struct {
	// Rows counts the rows that have arrived, by table.
	Rows map[string]int64
	// Checksum is that of the whole snapshot, once it is there.
	Checksum string

	lines *bufio.Scanner
	sum   hash.Hash
}

// Read begins to read the body, and reads the head. The body may take any time while it
// makes progress.
func Read(w http.ResponseWriter, r *http.Request, head any) (*Reader, error) {
	control := http.NewResponseController(w)
	lines := bufio.NewScanner(readerFunc(func(p []byte) (int, error) {
		if err := control.SetReadDeadline(time.Now().Add(stall)); err != nil {
			return 0, err
		}
		n, err := r.Body.Read(p)
		if err != nil {
			_ = control.SetReadDeadline(time.Time{}) // the connection may serve other calls
		}
		return n, err
	}))
	lines.Buffer(make([]byte, 0, 1<<16), longestLine)
	if !lines.Scan() {
		return nil, Broken("it has no first line", lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), head); err != nil {
		return nil, Broken("its first line can't be read", err)
	}
	return &Reader{Rows: map[string]int64{}, lines: lines, sum: sha256.New()}, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Broken is the refusal of a snapshot.
func Broken(why string, cause error) error {
	p := problem.New(problem.Invalid, "The snapshot can't be loaded: %s.", why)
	if cause == nil {
		return p
	}
	return p.Because(cause)
}

// Each hands over the rows, in batches of one table each. It fails where not all arrives
// that was sent: what was handed over until then is nothing worth.
func (r *Reader) Each(take func(table string, batch []Row) error) error {
	var batch []Row
	held := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		table := batch[0].Table
		if err := take(table, batch); err != nil {
			return err
		}
		r.Rows[table] += int64(len(batch))
		batch, held = batch[:0], 0
		return nil
	}
	for r.lines.Scan() {
		var line struct {
			Row
			end
		}
		if err := json.Unmarshal(r.lines.Bytes(), &line); err != nil {
			return Broken("a line of it is no JSON object", err)
		}
		if len(batch) == batchRows || held >= batchBytes || len(batch) > 0 && batch[0].Table != line.Table {
			if err := flush(); err != nil {
				return err
			}
		}
		if line.Table == "" {
			return r.compare(line.end)
		}
		r.sum.Write(r.lines.Bytes())
		r.sum.Write([]byte{'\n'})
		batch, held = append(batch, line.Row), held+len(line.Data)
	}
	return Broken("it breaks off", errors.Join(io.ErrUnexpectedEOF, r.lines.Err()))
}

// compare wants all to have arrived that was sent.
func (r *Reader) compare(e end) error {
	for name, n := range e.Rows {
		if r.Rows[name] != n {
			return Broken(fmt.Sprintf("it tells of %d rows of %s, and has %d", n, name, r.Rows[name]), nil)
		}
		r.Rows[name] = n
	}
	r.Checksum = hex.EncodeToString(r.sum.Sum(nil))
	switch {
	case len(e.Rows) != len(r.Rows):
		return Broken("its last line doesn't count all tables", nil)
	case e.Checksum != r.Checksum:
		return Broken("its checksum is another", nil)
	case r.lines.Scan() || r.lines.Err() != nil:
		return Broken("it goes on after its last line", r.lines.Err())
	}
	return nil
}
