package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/rules"
	"mpr/store"
	"mpr/test/engine"
)

// clock is a clock that a test moves.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.set(time.Date(2019, time.March, 15, 12, 0, 0, 0, time.UTC))
	return c
}

func (c *clock) set(t time.Time) { c.at.Store(t.UnixNano()) }
func (c *clock) now() time.Time  { return time.Unix(0, c.at.Load()).UTC() }

// wire is a stream that can be cut, and that counts what is published.
type wire struct {
	*directory.LateStream
	away      atomic.Bool
	after     atomic.Bool // fails after the message was stored
	published atomic.Int32
}

var errAway = errors.New("the directory is away")

func (w *wire) Publish(ctx context.Context, messages ...directory.Message) error {
	if w.away.Load() {
		return errAway
	}
	if err := w.LateStream.Publish(ctx, messages...); err != nil {
		return err
	}
	w.published.Add(1)
	if w.after.Load() {
		return errAway
	}
	return nil
}

// world is a ledger as it runs: an embedded server, a database, a book.
type world struct {
	t     *testing.T
	clock *clock
	wire  *wire
	db    *store.DB
	book  *Book
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(server.Close)
	nc, err := server.Connect("ledger")
	must(t, err)
	t.Cleanup(nc.Close)
	w := &world{t: t, clock: newClock(), db: openStore(t), wire: &wire{LateStream: directory.OpenLateStream(nc, "ledger", "production", 1)}}
	w.book = OpenBook(w.db, "production", w.wire, w.clock.now)
	t.Cleanup(func() { must(t, w.book.Close()) })
	return w
}

// openStore opens a database of the test's own.
func openStore(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), engine.Store(t), Migrations())
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counter starts a counter whose counts reach the book when flush is called.
func (w *world) counter() (c *Counter, flush func()) {
	c = NewCounter(w.wire, w.clock.now, "")
	return c, func() { w.t.Helper(); must(w.t, c.Close(w.t.Context())) }
}

// total waits until the book has so many calls, and then sees that it has no more.
func (w *world) total(want int64) []Entry {
	w.t.Helper()
	var entries []Entry
	for deadline := time.Now().Add(20 * time.Second); ; {
		entries = entries[:0]
		sum := int64(0)
		must(w.t, w.book.Each(w.t.Context(), Query{Days: kept}, func(e Entry) error {
			entries, sum = append(entries, e), sum+e.Count
			return nil
		}))
		if sum == want {
			return entries
		}
		if sum > want || time.Now().After(deadline) {
			w.t.Fatalf("%d calls are in the book, not %d", sum, want)
		}
	}
}

var legacyCall = Call{Kind: LegacyAPIHost, App: 3, ClientID: "app", Company: 4711, Method: "GET", Path: "/rest/v1.0/projects/5", Status: 200}

func TestCallsAreCountedByWhatTheyHaveInCommon(t *testing.T) {
	w := newWorld(t)
	c, flush := w.counter()
	for range 5 {
		c.Count(legacyCall)
	}
	other := legacyCall
	other.Path = "/rest/v1.0/projects/77" // the same route
	c.Count(other)
	refused := legacyCall
	refused.Status, refused.Refused = 410, true
	c.Count(refused)
	w.clock.set(w.clock.now().AddDate(0, 0, 1))
	c.Count(legacyCall)
	c.Count(Call{Kind: LegacyAPIHost, Method: "BREW\n", Path: "/rest/v1.0/me", Status: 401, Refused: true, Host: "app.procore.com", UserAgent: "curl/8\x1b[31m" + strings.Repeat("x", 200)})
	flush()
	w.total(9)
	var got []Entry
	must(t, w.book.Each(t.Context(), Query{Days: 30}, func(e Entry) error { got = append(got, e); return nil }))
	want := []Entry{
		{Date: "2019-03-15", Kind: LegacyAPIHost, App: 3, ClientID: "app", Company: 4711, Method: "GET", Route: "/rest/v1.0/projects/{id}", Status: 200, Count: 6},
		{Date: "2019-03-15", Kind: LegacyAPIHost, App: 3, ClientID: "app", Company: 4711, Method: "GET", Route: "/rest/v1.0/projects/{id}", Status: 410, Refused: true, Count: 1},
		{Date: "2019-03-16", Kind: LegacyAPIHost, Method: "OTHER", Route: "/rest/v1.0/me", Status: 401, Refused: true, Host: "app.procore.com", UserAgent: ("curl/8?[31m" + strings.Repeat("x", 200))[:80], Count: 1},
		{Date: "2019-03-16", Kind: LegacyAPIHost, App: 3, ClientID: "app", Company: 4711, Method: "GET", Route: "/rest/v1.0/projects/{id}", Status: 200, Count: 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// "nothing is counted twice", and nothing is lost while the stream is away.
func TestCountsSurviveAStreamThatIsAway(t *testing.T) {
	w := newWorld(t)
	c, flush := w.counter()
	w.wire.away.Store(true)
	for range 100 {
		c.Count(legacyCall)
	}
	w.wire.away.Store(false)
	w.total(100)
	// The answer that a message was stored is lost: it is sent again, and counts once.
	w.wire.after.Store(true)
	before := w.wire.published.Load()
	for range 10 {
		c.Count(legacyCall)
	}
	for w.wire.published.Load() < before+2 { // stored, and sent again
		runtime.Gosched()
	}
	w.wire.after.Store(false)
	flush()
	w.total(110)
}

// A reader that dies between its commit and its acknowledgement gets the batch again.
func TestBatchesAreAppliedOnce(t *testing.T) {
	w := newWorld(t)
	data := func(seq int64, n int64) []byte {
		return []byte(fmt.Sprintf(`{"boot":"b","seq":%d,"rows":[{"day":17970,"kind":"missing_header","client_id":"app","status":400,"refused":true,"count":%d}]}`, seq, n))
	}
	var all sync.WaitGroup
	for range 4 { // several books at once, too
		all.Go(func() {
			for seq := range int64(20) {
				if err := w.book.apply(context.Background(), [][]byte{data(seq+1, 1), data(seq+1, 1), data(seq+1, 1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	w.total(20)
	// Late ones are still counted, and nonsense doesn't stop the rest.
	must(t, w.book.apply(t.Context(), [][]byte{data(5000, 1), []byte("nonsense"), []byte("{}"), data(4000, 1), data(5000, 1), data(4000, 1)}))
	w.total(22)
	var n int
	must(t, w.db.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM ledger_applied`).Scan(&n))
	if n > 2*directory.MaxInFlight {
		t.Errorf("%d batches are remembered", n)
	}
}

// "Bounded memory at the gateway": the total stays true, and a day's rows are bounded
// whatever clients make up.
func TestRowsAreBounded(t *testing.T) {
	w := newWorld(t)
	const maxRows, maxStrangers = 300, 100
	c := newCounter(w.wire, w.clock.now)
	c.maxRows, c.maxStrangers = maxRows, maxStrangers
	for i := range maxStrangers + 500 {
		c.Count(Call{Kind: LegacyAPIHost, Method: "GET", Path: "/x", Status: 401, UserAgent: fmt.Sprint(i)})
	}
	for i := range maxRows + 500 {
		call := legacyCall
		call.Company = company.ID(i + 1)
		c.Count(call)
	}
	for i := range 500 { // no such apps
		c.Count(Call{Kind: LegacyLoginHost, ClientID: fmt.Sprint(i), Method: "POST", Path: "/oauth/token", Status: 400})
	}
	c.mu.Lock()
	rows, routes := len(c.rows), len(c.routes)
	c.mu.Unlock()
	if rows > maxRows+3 || routes > 2 {
		t.Errorf("%d rows and %d routes are held", rows, routes)
	}
	must(t, c.Close(t.Context()))
	entries := w.total(maxStrangers + 500 + maxRows + 500 + 500)
	folded := map[string]int64{}
	for _, e := range entries {
		if e.Route == "/…" {
			folded[e.ClientID] += e.Count
		}
	}
	if folded[""] != 500+500 || folded["app"] != 500+maxStrangers+1 { // the row of all strangers is one, too
		t.Errorf("folded: %v", folded)
	}
	w.clock.set(w.clock.now().AddDate(0, 0, 1)) // another day, and room again
	c.Count(legacyCall)
	if len(c.rows) != 1 || c.strangers != 0 {
		t.Error("the rows of yesterday count today")
	}
}

// "At most a second of counts is lost when a gateway is killed; nothing is counted twice",
// also where nobody takes the counts just then.
func TestCountsSurviveWhileNobodyTakesThem(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "counts")
	run := func(calls int) *Counter { // a process that will be killed: it is never closed
		c := newCounter(w.wire, w.clock.now)
		c.file = file
		must(t, c.find())
		for range calls {
			c.Count(legacyCall)
		}
		return c
	}
	tick := func(c *Counter) {
		t.Helper()
		must(t, c.keep(c.ship(t.Context(), true) != nil))
	}
	w.wire.away.Store(true)
	first := run(5)
	tick(first)
	first.Count(legacyCall)
	tick(first) // one batch is on its way, another one is to follow
	second := run(3)
	tick(second)
	// What was stored without our knowing is sent again, and counted once.
	w.wire.away.Store(false)
	w.wire.after.Store(true)
	third := run(2)
	tick(third)
	w.wire.after.Store(false)
	tick(third)
	w.total(5 + 1 + 3 + 2)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	must(t, run(0).ship(t.Context(), true))
	w.total(11)
	must(t, os.WriteFile(file, []byte("damaged"), 0o600))
	c := NewCounter(w.wire, w.clock.now, file)
	c.Count(legacyCall)
	must(t, c.Close(t.Context()))
	w.total(12)
}

func TestOldCountsAreDeleted(t *testing.T) {
	w := newWorld(t)
	c, flush := w.counter()
	c.Count(legacyCall)
	flush()
	w.total(1)
	must(t, w.book.Close())
	w.clock.set(w.clock.now().AddDate(0, 0, kept+1))
	w.book = OpenBook(w.db, "production", w.wire, w.clock.now)
	for deadline := time.Now().Add(20 * time.Second); ; {
		var rows, applied int
		must(t, w.db.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM ledger`).Scan(&rows))
		must(t, w.db.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM ledger_applied`).Scan(&applied))
		if rows == 0 && applied == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d counts and %d batches stay", rows, applied)
		}
	}
}

// "Three states per app: compliant, at risk, breaking."
func TestReport(t *testing.T) {
	w := newWorld(t)
	c, flush := w.counter()
	policy := rules.Seed()
	today := w.clock.now()
	on := func(daysAgo int, n int, call Call) {
		w.clock.set(today.AddDate(0, 0, -daysAgo))
		for range n {
			c.Count(call)
		}
	}
	was := legacyCall
	was.ClientID = "was"
	on(TrendDays, 3, was)
	on(TrendDays-1, 2, legacyCall)
	filled := legacyCall
	filled.Kind, filled.Company = MissingHeader, 4712
	filled.Also = true
	on(0, 4, legacyCall)
	on(0, 4, filled)
	broken := legacyCall
	broken.ClientID, broken.Kind, broken.Refused, broken.Status = "broken", RefusedForRegion, true, 403
	on(3, 1, broken)
	lacks := broken
	lacks.Kind, lacks.Also = MissingHeader, true // the very call, which is refused once
	on(3, 1, lacks)
	on(0, 7, Call{Kind: LegacyLoginHost, Path: "/oauth/token", Method: "POST", Host: "app.procore.com", UserAgent: "x"})
	w.clock.set(today)
	flush()
	w.total(22)
	r, err := w.book.Report(t.Context(), &policy, "")
	must(t, err)
	if r.Days[0] != "2019-03-02" || r.Days[TrendDays-1] != "2019-03-15" {
		t.Errorf("days: %v", r.Days)
	}
	want := []AppReport{
		{
			ClientID: "broken", App: 3, State: Breaking, Since: "2019-03-12", Calls: 1, Refused: 1, Companies: []company.ID{4711},
			Kinds: []KindReport{
				{MissingHeader, 1, policy.RequiredChanges()[2], [TrendDays]int64{10: 1}}, {RefusedForRegion, 1, RefusedForRegion.Change(&policy), [TrendDays]int64{10: 1}},
			},
			Trend: [TrendDays]int64{10: 1},
		},
		{
			ClientID: "app", App: 3, State: AtRisk, Since: "2019-03-02", Calls: 6, Companies: []company.ID{4711, 4712},
			Kinds: []KindReport{
				{LegacyAPIHost, 6, policy.RequiredChanges()[1], [TrendDays]int64{0: 2, TrendDays - 1: 4}}, {MissingHeader, 4, policy.RequiredChanges()[2], [TrendDays]int64{TrendDays - 1: 4}},
			},
			Trend: [TrendDays]int64{0: 2, TrendDays - 1: 4},
		},
		{ClientID: "was", State: Compliant, Since: "2019-03-01", Kinds: []KindReport{}, Companies: []company.ID{}},
	}
	if !reflect.DeepEqual(r.Apps, want) {
		t.Errorf("got  %+v\nwant %+v", r.Apps, want)
	}
	if len(r.Strangers) != 1 || r.Strangers[0] != (Stranger{"app.procore.com", "x", LegacyLoginHost, 7}) {
		t.Errorf("strangers: %+v", r.Strangers)
	}
	for k := range map[Kind]bool{LegacyLoginHost: true, LegacyAPIHost: true, MissingHeader: true, CompanyMismatch: true, RefusedForRegion: true, RefusedInBrownout: true, WrongEnvironment: true} {
		if k.Change(&policy) == "" {
			t.Errorf("%s: nobody learns what to change", k)
		}
	}
}

// One app's report is that of all, and its lines add up days and companies.
func TestOneApp(t *testing.T) {
	w := newWorld(t)
	c, flush := w.counter()
	policy := rules.Seed()
	other := legacyCall
	other.ClientID = "other"
	elsewhere := legacyCall
	elsewhere.Company++
	refused := legacyCall
	refused.Kind, refused.Company, refused.Refused, refused.Status, refused.Method = MissingHeader, 0, true, 400, "POST"
	for _, call := range []Call{legacyCall, elsewhere, refused, other, legacyCall} {
		c.Count(call)
		c.Served()
	}
	for range 5 {
		c.Served() // nothing is wrong with these
	}
	flush()
	w.total(5)
	all, err := w.book.Latest(t.Context(), &policy)
	must(t, err)
	one, err := w.book.Report(t.Context(), &policy, "app")
	must(t, err)
	i := slices.IndexFunc(all.Apps, func(a AppReport) bool { return a.ClientID == "app" })
	if len(all.Apps) != 2 || len(one.Apps) != 1 || !reflect.DeepEqual(one.Apps[0], all.Apps[i]) || all.AllCalls != 10 || one.AllCalls != 10 {
		t.Errorf("of all %+v, %d; alone %+v, %d", all.Apps, all.AllCalls, one.Apps, one.AllCalls)
	}
	if again, err := w.book.Latest(t.Context(), &policy); err != nil || again != all && again.AllCalls != 10 {
		t.Errorf("%+v, %v", again, err)
	}
	today := all.Days[TrendDays-1]
	lines, total, err := w.book.Lines(t.Context(), "app", 10, 0)
	must(t, err)
	want := []Line{{Kind: LegacyAPIHost, Method: legacyCall.Method, Route: "/rest/v1.0/projects/{id}", Status: legacyCall.Status, Companies: 2, Calls: 3, Last: today}, {Kind: MissingHeader, Method: "POST", Route: "/rest/v1.0/projects/{id}", Status: 400, Refused: true, Calls: 1, Last: today}}
	if total != 2 || !reflect.DeepEqual(lines, want) {
		t.Errorf("%d lines\n got %+v\nwant %+v", total, lines, want)
	}
	if lines, total, err = w.book.Lines(t.Context(), "app", 1, 1); err != nil || total != 2 || len(lines) != 1 || lines[0] != want[1] {
		t.Errorf("the second page: %+v, %d, %v", lines, total, err)
	}
}

func TestImpact(t *testing.T) {
	w := newWorld(t)
	c, flush := w.counter()
	policy := rules.Seed()
	login := Call{Kind: LegacyLoginHost, ClientID: "app", Method: "POST", Path: "/oauth/token", Status: 200}
	other := legacyCall
	other.ClientID, other.Company = "other", 4712
	gone := legacyCall
	gone.ClientID, gone.Refused, gone.Status = "gone", true, 410
	for _, call := range []Call{legacyCall, legacyCall, login, other, gone} {
		c.Count(call)
	}
	flush()
	w.total(5)
	apps := func(list []Impact, err error) string {
		t.Helper()
		must(t, err)
		text := ""
		for _, one := range list {
			if len(one.Changes) != 3 {
				t.Errorf("%+v names %d changes", one, len(one.Changes))
			}
			text += fmt.Sprintf("%s %d %v; ", one.ClientID, one.Calls, one.Companies)
		}
		return text
	}
	day := func(text string) time.Time { d, err := time.Parse(time.DateOnly, text); must(t, err); return d }
	ctx := t.Context()
	for _, c := range []struct{ name, got, want string }{
		{"on the last day", apps(w.book.ImpactOn(ctx, &policy, day("2019-06-30"))), ""},
		{"on the day after", apps(w.book.ImpactOn(ctx, &policy, day("2019-07-01"))), "app 3 [4711]; other 1 [4712]; "},
		{"a move to another region", apps(w.book.ImpactOfMove(ctx, &policy, 4711, "EU01")), "app 2 [4711]; "},
		{"a move of a company that nobody calls", apps(w.book.ImpactOfMove(ctx, &policy, 5, "EU01")), ""},
		{"a move home", apps(w.book.ImpactOfMove(ctx, &policy, 4711, "US01")), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestRoute(t *testing.T) {
	for path, want := range map[string]string{
		"/":                     "/",
		"":                      "/",
		"/rest/v1.0/projects/5": "/rest/v1.0/projects/{id}",
		"/rest/v1.3/companies/598134325779301/users": "/rest/v1.3/companies/{id}/users",
		"/vapid/projects/5/rfis/7/":                  "/vapid/projects/{id}/rfis/{id}",
		"/rest/v2.0/files/report.pdf":                "/rest/v2.0/files/{id}",
		"/x/550e8400-e29b-41d4-a716-446655440000":    "/x/{id}",
		"/x/%C3%BC": "/x/{id}",
		"/rest/v1.0/projects/5/users/6/actions/add": "/rest/v1.0/projects/{id}/users/{id}/actions/add",
		strings.Repeat("/a", 40):                    strings.Repeat("/a", maxSegments) + "/…",
		"/" + strings.Repeat("a", 33):               "/{id}",
	} {
		if got := Route(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func FuzzRoute(f *testing.F) {
	for _, seed := range []string{"/", "", "//", "/rest/v1.0/projects/5", "/v/v1/v1.0.0.0/…", strings.Repeat("/abc", 100), "/\x00\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		route := Route(path)
		if len(route) > maxRoute+8 || route == "" || route[0] != '/' {
			t.Errorf("%q becomes %q", path, route)
		}
		for i := range len(route) {
			if c := route[i]; c < ' ' || c == 0x7f {
				t.Errorf("%q becomes %q", path, route)
			}
		}
		if again := Route(strings.ReplaceAll(strings.TrimSuffix(route, "/…"), "{id}", "5")); !strings.HasSuffix(route, "/…") && again != route {
			t.Errorf("%q becomes %q, and that %q", path, route, again)
		}
	})
}

// Counting is on the way of calls: a row that is there already costs no memory.
func TestCountingAllocatesNothing(t *testing.T) {
	c := newCounter(nil, newClock().now)
	c.Count(legacyCall)
	if n := testing.AllocsPerRun(100, func() { c.Count(legacyCall) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	c := newCounter(nil, time.Now)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Count(legacyCall)
		}
	})
}

// One app's lines are found by an index, among those of ten thousand apps.
func TestOneAppIsLookedUp(t *testing.T) {
	if os.Getenv("MPR_TEST_POSTGRES") != "" {
		return // its planner goes by how many rows there are
	}
	w := newWorld(t)
	for _, query := range []string{
		`SELECT kind, COUNT(*) OVER () FROM ledger WHERE environment = 'e' AND client_id = 'a' AND day > 5 GROUP BY kind, method, route, status, refused ORDER BY 2 DESC LIMIT 5 OFFSET 5`,
		`SELECT client_id, MIN(day) FROM ledger WHERE environment = 'e' AND client_id = 'a' GROUP BY client_id`,
		`SELECT COALESCE(SUM(calls), 0) FROM ledger_calls WHERE environment = 'e' AND day > 5`,
	} {
		rows, err := w.db.Read().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query)
		must(t, err)
		defer rows.Close()
		plan := ""
		for rows.Next() {
			var id, parent, unused int
			var detail string
			must(t, rows.Scan(&id, &parent, &unused, &detail))
			plan += detail + "\n"
		}
		must(t, rows.Err())
		if !strings.Contains(plan, "SEARCH ledger") || strings.Contains(plan, "SCAN ledger") {
			t.Errorf("%s\nis done by\n%s", query, plan)
		}
	}
}
