package ledger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"mpr/directory"
)

// Publisher takes batches of counts. It returns once they are stored.
type Publisher interface {
	Publish(ctx context.Context, messages ...directory.Message) error
}

const (
	// shipEvery is how often counts are shipped: what a killed process loses.
	shipEvery = 800 * time.Millisecond
	// shipWithin bounds the shipping; what it didn't ship is kept in the file. Both together take
	// less than a second.
	shipWithin = 600 * time.Millisecond
	// maxRows bounds the rows of a day, and maxStrangers those among them that clients can
	// make up without a valid token. What is too much is counted in one row for each app.
	maxRows      = 50_000
	maxStrangers = 2_000
	// maxBatch bounds the rows of a message.
	maxBatch = 2_000
	// maxText bounds what clients say of themselves.
	maxText = 80
	// callsEvery is how often the number of all calls is shipped where there is nothing else to
	// ship: a batch is written to disk in two places.
	callsEvery = 10 * time.Second
)

// Counter counts calls in memory and ships the counts. It is safe for concurrent use.
type Counter struct {
	to   Publisher
	now  func() time.Time
	boot string

	maxRows, maxStrangers int

	// calls are all calls since the last batch.
	calls atomic.Int64

	mu sync.Mutex
	// rows are those of the day, shipped or not, and dirty those that have counts to be
	// shipped; strangers is how many of the day's have no app.
	rows      map[row]*tally
	dirty     []*tally
	strangers int
	today     day
	// routes holds the routes of the day's rows, so that counting a known one allocates nothing.
	routes map[string]string

	// Only the shipping goroutine touches these. pending is the one batch that isn't known
	// to be stored: it is sent again as it is until it is, so that it can't be applied twice.
	seq     int64
	taken   time.Time // when the last batch was made
	pending *directory.Message
	// file keeps what can't be shipped; left are batches that an earlier process has left there.
	file string
	kept bool
	left []directory.Message

	stop chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// NewCounter starts a counter. now is the clock that days are told by. file is where counts
// are kept while they can't be shipped, so that they survive the process; "" for nowhere. No
// other counter may use it at the same time.
func NewCounter(to Publisher, now func() time.Time, file string) *Counter {
	c := newCounter(to, now)
	c.file = file
	if err := c.find(); err != nil {
		slog.Warn("leaving out counts that an earlier process has kept", "file", file, "error", err)
	}
	c.done.Go(c.run)
	return c
}

// newCounter makes a counter that ships nothing yet.
func newCounter(to Publisher, now func() time.Time) *Counter {
	c := &Counter{to: to, now: now, boot: rand.Text(), maxRows: maxRows, maxStrangers: maxStrangers, stop: make(chan struct{})}
	c.begin(0)
	return c
}

// tally is how often a row was counted since it was shipped.
type tally struct {
	row
	n int64
}

// begin begins a day; what still has to be shipped stays. c.mu is held, or nobody else
// knows c yet.
func (c *Counter) begin(d day) {
	c.today, c.strangers, c.rows, c.routes = d, 0, map[row]*tally{}, map[string]string{}
}

// Served counts a call of any kind, of which the non-compliant ones are a share. It takes no lock.
func (c *Counter) Served() { c.calls.Add(1) }

// Count counts a non-compliant call. It never waits for anything but other calls that are counted.
func (c *Counter) Count(call Call) {
	r := row{
		Day: dayOf(c.now()), Kind: call.Kind, App: call.App, ClientID: call.ClientID, Company: call.Company,
		Method: call.Method, Status: call.Status, Refused: call.Refused, Also: call.Also,
	}
	if call.App == 0 && call.ClientID == "" {
		r.Host, r.Agent = printable(call.Host), printable(call.UserAgent)
	} else if call.App == 0 {
		r.ClientID = printable(call.ClientID) // as the request names it
	}
	if !isMethod(call.Method) {
		r.Method = "OTHER"
	}
	var buf [maxRoute + 16]byte
	route := appendRoute(buf[:0], call.Path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Day != c.today {
		c.begin(r.Day)
	}
	known, ok := c.routes[string(route)]
	if r.Route = known; !ok {
		r.Route = string(route)
	}
	t := c.rows[r]
	if t == nil {
		t = c.admit(r)
	}
	if t.n++; t.n == 1 {
		c.dirty = append(c.dirty, t)
	}
}

// admit begins to count a row, if the day has room for it. Otherwise it is counted in a row
// of its app, or of all strangers: the total stays true; what the calls were is lost. c.mu
// is held.
func (c *Counter) admit(r row) *tally {
	stranger := r.ClientID == ""
	if len(c.rows) >= c.maxRows || stranger && c.strangers >= c.maxStrangers {
		r = row{Day: r.Day, Kind: r.Kind, App: r.App, ClientID: r.ClientID, Refused: r.Refused, Also: r.Also, Route: "/…"}
		if r.App == 0 {
			r.ClientID = "" // anybody can make up others
		}
		if t := c.rows[r]; t != nil {
			return t
		}
	} else {
		if stranger {
			c.strangers++
		}
		c.routes[r.Route] = r.Route
	}
	t := &tally{row: r}
	c.rows[r] = t
	return t
}

// isMethod knows the methods of RFC 9110 and RFC 5789: clients may send any token.
func isMethod(method string) bool {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// printable is a client's own text, of bounded length, without what would disturb a
// terminal or a CSV.
func printable(s string) string {
	clean := len(s) <= maxText
	for i := 0; clean && i < len(s); i++ {
		clean = s[i] >= ' ' && s[i] < 0x7f
	}
	if clean {
		return s
	}
	b := make([]byte, 0, maxText)
	for i := 0; i < len(s) && len(b) < maxText; i++ {
		if c := s[i]; c >= ' ' && c < 0x7f {
			b = append(b, c)
		} else {
			b = append(b, '?')
		}
	}
	return string(b)
}

func (c *Counter) run() {
	tick := time.NewTicker(shipEvery)
	defer tick.Stop()
	told := false
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), shipWithin)
		err := c.ship(ctx, false)
		cancel()
		if err != nil && !told {
			slog.Warn("the ledger's counts can't be shipped; they are kept until they can", "error", err)
		}
		told = err != nil
		if err := c.keep(told); err != nil {
			slog.Warn("the ledger's counts can't be kept", "file", c.file, "error", err)
		}
	}
}

// find reads what an earlier process has kept.
func (c *Counter) find() error {
	if c.file == "" {
		return nil
	}
	data, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.kept = true
	return json.Unmarshal(data, &c.left)
}

// keep writes what can't be shipped to the file, or deletes that once it is. What is in the
// file has the numbers that it will be shipped by, so that nothing is counted twice whether
// this process ships it or the next one.
func (c *Counter) keep(away bool) error {
	if c.file == "" || !away && !c.kept {
		return nil
	}
	if c.kept = away; !away {
		return os.Remove(c.file)
	}
	all := slices.Clone(c.left)
	if c.pending != nil {
		all = append(all, *c.pending)
	}
	c.mu.Lock()
	rows := make([]counted, len(c.dirty))
	for i, t := range c.dirty {
		rows[i] = counted{t.row, t.n}
	}
	c.mu.Unlock()
	calls := c.calls.Load() // they go with the first batch, as take has it
	for seq := c.seq + 1; len(rows) > 0 || calls > 0; seq++ {
		some := rows[:min(len(rows), maxBatch)]
		m, err := c.message(seq, some, calls)
		if err != nil {
			return err
		}
		all, rows, calls = append(all, m), rows[len(some):], 0
	}
	return directory.WriteFile(c.file, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(all) })
}

// message makes a batch.
func (c *Counter) message(seq int64, rows []counted, calls int64) (directory.Message, error) {
	one := batch{Boot: c.boot, Seq: seq, Rows: rows, Calls: calls}
	if calls > 0 {
		one.Day = dayOf(c.now())
	}
	data, err := json.Marshal(one)
	return directory.Message{ID: c.boot + "-" + strconv.FormatInt(seq, 10), Data: data}, err
}

// ship sends what waits, batch by batch; calls that nothing is wrong with only now and then, unless
// all is to be sent.
func (c *Counter) ship(ctx context.Context, all bool) error {
	for ; len(c.left) > 0; c.left = c.left[1:] {
		if err := c.to.Publish(ctx, c.left[0]); err != nil {
			return err
		}
	}
	for {
		if c.pending == nil && !c.take(all) {
			return nil
		}
		if err := c.to.Publish(ctx, *c.pending); err != nil {
			return err
		}
		c.pending = nil
	}
}

// take makes the next batch the pending one; false if there is nothing to ship.
func (c *Counter) take(all bool) bool {
	c.mu.Lock()
	var rows []counted
	taken := c.dirty[:min(len(c.dirty), maxBatch)]
	for _, t := range taken {
		rows = append(rows, counted{t.row, t.n})
		t.n = 0
	}
	c.dirty = slices.Delete(c.dirty, 0, len(taken)) // keeps its room, which a day's rows bound
	c.mu.Unlock()
	if len(rows) == 0 && (c.calls.Load() == 0 || !all && time.Since(c.taken) < callsEvery) {
		return false
	}
	c.taken = time.Now()
	m, err := c.message(c.seq+1, rows, c.calls.Swap(0))
	if err != nil {
		slog.Error("the ledger's counts are lost", "error", err) // numbers and strings always marshal
		return false
	}
	c.seq++
	c.pending = &m
	return true
}

// Close ships the rest, for as long as the context allows.
func (c *Counter) Close(ctx context.Context) error {
	c.once.Do(func() { close(c.stop) })
	c.done.Wait()
	err := c.ship(ctx, true)
	if kept := c.keep(err != nil); kept != nil || err != nil && c.file == "" {
		return fmt.Errorf("the ledger's last counts are lost: %w", errors.Join(err, kept))
	}
	return nil
}
