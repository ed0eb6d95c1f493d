package operator

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/problem"
	"mpr/store"
	"mpr/test/engine"
)

// world is a service whose clock and login service tests change.
type world struct {
	*Service
	t     *testing.T
	ahead atomic.Int64

	mu    sync.Mutex
	users map[int64]User
	away  bool
	asked int
}

func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// User is the login service.
func (w *world) User(_ context.Context, id int64) (User, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	u, ok := w.users[id]
	switch {
	case w.away:
		return u, errors.New("connection refused")
	case !ok:
		return u, problem.New(problem.NotFound, "There is no user with this id.")
	}
	return u, nil
}

var (
	alice = User{ID: 1, Login: "alice@example.com", Name: "Alice Ng", Credential: "a"}
	bob   = User{ID: 2, Login: "bob@example.com", Name: "Bob Okafor", Credential: "b"}
)

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, users: map[int64]User{1: alice, 2: bob}}
	start := time.Now().Truncate(time.Microsecond)
	o := Options{
		DB: openStore(t), Environment: "production", Identity: w, Lifetime: 12 * time.Hour, Idle: 2 * time.Hour, Kept: 30 * 24 * time.Hour,
		Now: func() time.Time { return start.Add(time.Duration(w.ahead.Load())) },
	}
	for _, f := range change {
		f(&o)
	}
	w.Service = New(o)
	t.Cleanup(func() { must(t, w.Close()) })
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

func refused(t *testing.T, err error, code problem.Code) {
	t.Helper()
	if !errors.Is(err, problem.New(code, "")) {
		t.Errorf("%v, want %s", err, code)
	}
}

func (w *world) begin(u User, kind Kind) string {
	w.t.Helper()
	secret, _, err := w.Begin(w.t.Context(), u, kind, "request-1")
	must(w.t, err)
	return secret
}

// role is the role of a session; "" where there is none.
func (w *world) role(secret string) Role {
	w.t.Helper()
	n, err := w.Session(w.t.Context(), secret, Browser)
	must(w.t, err)
	if n == nil {
		return ""
	}
	return n.Role
}

func (w *world) want(secret string, role Role) {
	w.t.Helper()
	if got := w.role(secret); got != role {
		w.t.Errorf("the role %q, want %q", got, role)
	}
}

func TestRoles(t *testing.T) {
	all := []Role{"", "king", Developer, Viewer, Operator, Admin}
	for i, r := range all {
		for j, least := range all {
			if got, want := r.Covers(least), j >= 2 && i >= j; got != want {
				t.Errorf("%q covers %q: %v", r, least, got)
			}
		}
		if _, err := ParseRole(string(r)); (err == nil) != (i >= 3) {
			t.Errorf("parse %q: %v", r, err)
		}
	}
}

func FuzzParseRole(f *testing.F) {
	f.Add("viewer")
	f.Add("Viewer")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRole(text); err == nil && !slices.Contains([]Role{Viewer, Operator, Admin}, r) {
			t.Errorf("%q is a role", text)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add("1-A")
	f.Add("-")
	f.Add("9223372036854775808-A")
	f.Fuzz(func(t *testing.T, text string) {
		at, id, err := parseCursor(text)
		if err == nil && (at < 0 || id == "" || strings.ContainsAny(id, "'-\x00")) {
			t.Errorf("%q: %d, %q", text, at, id)
		}
	})
}

// A role counts from the next request on, in sessions that are there.
func TestGrants(t *testing.T) {
	w := newWorld(t)
	secret := w.begin(alice, Browser)
	w.want(secret, Developer)
	before, err := w.Grant(t.Context(), nil, alice, Viewer, "the test")
	must(t, err)
	w.want(secret, Viewer)
	if before != "" {
		t.Errorf("before: %q", before)
	}
	if before, err = w.Grant(t.Context(), nil, alice, Admin, bob.Login); err != nil || before != Viewer {
		t.Errorf("%q, %v", before, err)
	}
	w.want(secret, Admin)
	list, err := w.Grants(t.Context())
	if must(t, err); len(list) != 1 || list[0].Login != alice.Login || list[0].Role != Admin || list[0].By != bob.Login {
		t.Errorf("%+v", list)
	}
	if _, err := w.Grant(t.Context(), nil, alice, Developer, "x"); err == nil {
		t.Error("developer can be granted")
	}
	before, err = w.Revoke(t.Context(), nil, alice.Login)
	if must(t, err); before != Admin {
		t.Errorf("before: %q", before)
	}
	w.want(secret, "")
	w.want(w.begin(alice, Browser), Developer)
	_, err = w.Revoke(t.Context(), nil, alice.Login)
	refused(t, err, problem.NotFound)
}

// An identity store that was lost and made anew gives an admin's id to somebody else.
func TestGrantsNameTheLogin(t *testing.T) {
	w := newWorld(t)
	_, err := w.Grant(t.Context(), nil, alice, Admin, "the test")
	must(t, err)
	stranger := User{ID: alice.ID, Login: "stranger@example.com", Credential: "s"}
	w.want(w.begin(stranger, Browser), Developer)
	w.want(w.begin(User{ID: 77, Login: alice.Login, Credential: "s"}, Browser), Developer)
	// Whoever is granted a role under the id or the login takes it from whoever had it.
	_, err = w.Grant(t.Context(), nil, stranger, Viewer, "the test")
	must(t, err)
	if list, err := w.Grants(t.Context()); err != nil || len(list) != 1 || list[0].Login != stranger.Login {
		t.Errorf("%+v, %v", list, err)
	}
}

// Where the admin token is turned off one admin stays, though two revoke one another at once.
func TestLastAdmin(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.KeepAdmin = true })
	for _, u := range []User{alice, bob} {
		_, err := w.Grant(t.Context(), nil, u, Admin, "the test")
		must(t, err)
	}
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, login := range []string{alice.Login, bob.Login} {
		both.Go(func() { _, errs[i] = w.Revoke(context.Background(), nil, login) })
	}
	both.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("%v, %v: one of the two stays", errs[0], errs[1])
	}
	refused(t, errors.Join(errs...), problem.Conflict)
	list, err := w.Grants(t.Context())
	if must(t, err); len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	_, err = w.Grant(t.Context(), nil, User{ID: list[0].UserID, Login: list[0].Login}, Operator, "the test")
	refused(t, err, problem.Conflict)
	has, err := w.HasAdmin(t.Context())
	if must(t, err); !has {
		t.Error("there is no admin left")
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	idle := w.begin(alice, Browser)
	w.advance(2*time.Hour - time.Second)
	w.want(idle, Developer)
	w.advance(2*time.Hour - time.Minute)
	w.want(idle, Developer) // it was used meanwhile
	w.advance(2*time.Hour + time.Second)
	w.want(idle, "")

	busy := w.begin(alice, Browser)
	for range 11 {
		w.advance(time.Hour)
		w.want(busy, Developer)
	}
	w.advance(time.Hour) // and not a microsecond longer than the lifetime
	w.want(busy, "")

	for _, wrong := range []string{"", SecretPrefix, busy[1:], busy + "x", strings.ToUpper(busy)} {
		w.want(wrong, "")
	}
	w.want(w.begin(alice, CommandLine), "") // of another kind
}

func TestEndingSessions(t *testing.T) {
	w := newWorld(t)
	secrets := []string{w.begin(alice, Browser), w.begin(bob, Browser), w.begin(alice, CommandLine)}
	own, err := w.Sessions(t.Context(), alice.ID)
	if must(t, err); len(own) != 2 {
		t.Fatalf("%+v", own)
	}
	all, err := w.Sessions(t.Context(), 0)
	if must(t, err); len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	i := slices.IndexFunc(all, func(n *Session) bool { return n.UserID == bob.ID })
	refused(t, w.End(t.Context(), all[i].ID, alice.ID), problem.NotFound)
	w.want(secrets[1], Developer)
	must(t, w.End(t.Context(), all[i].ID, 0))
	w.want(secrets[1], "")
	w.want(secrets[0], Developer)
	refused(t, w.End(t.Context(), all[i].ID, 0), problem.NotFound)
}

// The login service is asked now and then: sessions of people who are gone, or whose password is
// another one, end. Where it is away operators must be able to act.
func TestSessionsFollowTheAccount(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(){
		"gone":             func() { delete(w.users, alice.ID) },
		"another password": func() { w.users[alice.ID] = User{ID: alice.ID, Login: alice.Login, Credential: "c"} },
		"another login":    func() { w.users[alice.ID] = User{ID: alice.ID, Login: "alice@elsewhere.example", Credential: "a"} },
	} {
		w.mu.Lock()
		w.users[alice.ID], w.away, w.asked = alice, false, 0
		w.mu.Unlock()
		secret := w.begin(alice, Browser)
		w.mu.Lock()
		change()
		w.away = true
		w.mu.Unlock()
		w.want(secret, Developer) // not asked yet
		w.advance(checkEvery)
		w.want(secret, Developer)
		w.want(secret, Developer) // and not again at once
		w.mu.Lock()
		w.away = false
		if w.asked != 1 {
			t.Errorf("%s: asked %d times", name, w.asked)
		}
		w.mu.Unlock()
		w.advance(checkEvery)
		if got := w.role(secret); got != "" {
			t.Errorf("%s: the session goes on as %s", name, got)
		}
	}
}

func TestCodes(t *testing.T) {
	w := newWorld(t)
	verifier := NewSecret()
	issue := func() string {
		code, err := w.IssueCode(t.Context(), alice, Challenge(verifier))
		must(t, err)
		return code
	}
	code := issue()
	u, err := w.RedeemCode(t.Context(), code, verifier)
	if must(t, err); u != alice {
		t.Errorf("%+v", u)
	}
	_, err = w.RedeemCode(t.Context(), code, verifier) // a second time
	refused(t, err, problem.InvalidGrant)

	code = issue()
	_, err = w.RedeemCode(t.Context(), code, NewSecret()) // stolen
	refused(t, err, problem.InvalidGrant)
	_, err = w.RedeemCode(t.Context(), code, verifier) // and used up by that
	refused(t, err, problem.InvalidGrant)

	code = issue()
	w.advance(codeLifetime)
	_, err = w.RedeemCode(t.Context(), code, verifier) // too late
	refused(t, err, problem.InvalidGrant)
	_, err = w.RedeemCode(t.Context(), "", "")
	refused(t, err, problem.InvalidGrant)

	code = issue()
	var won atomic.Int64
	var racers sync.WaitGroup
	for range 8 {
		racers.Go(func() {
			if _, err := w.RedeemCode(context.Background(), code, verifier); err == nil {
				won.Add(1)
			}
		})
	}
	racers.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 8 had the code", won.Load())
	}
}

// All that could be shown by somebody who reads the database is of no use.
func TestSecretsAreStoredAsHashes(t *testing.T) {
	w := newWorld(t)
	secret := w.begin(alice, Browser)
	code, err := w.IssueCode(t.Context(), alice, Challenge(NewSecret()))
	must(t, err)
	for _, query := range []string{`SELECT hash FROM operator_sessions`, `SELECT hash FROM operator_codes`} {
		var hash string
		must(t, w.DB.Read().QueryRowContext(t.Context(), query).Scan(&hash))
		if len(hash) != 64 || strings.Contains(secret+code, hash) || strings.Contains(hash, secret) || strings.Contains(hash, code) {
			t.Errorf("%s: %s", query, hash)
		}
	}
}

func (w *world) entries(q Query) []Entry {
	w.t.Helper()
	if q.Limit == 0 {
		q.Limit = 100
	}
	list, _, err := w.Entries(w.t.Context(), q)
	must(w.t, err)
	return list
}

// The outcome is kept with the change, or neither is.
func TestOutcomeComesWithTheChange(t *testing.T) {
	w := newWorld(t)
	entry := Entry{By: "x", Role: Admin, Action: "PUT /x", Subject: "y", RequestID: "request-1"}
	r, err := w.Log(t.Context(), entry)
	must(t, err)
	if list := w.entries(Query{}); len(list) != 1 || list[0].Outcome != "" {
		t.Fatalf("%+v", list)
	}
	lost := errors.New("the change fails")
	write := func(err error) error {
		return w.DB.Write(r.With(t.Context()), func(tx *sql.Tx) error {
			_, err1 := tx.ExecContext(t.Context(), `UPDATE operator_changes SET changes = changes + 1`)
			return errors.Join(err1, err)
		})
	}
	if err := write(lost); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if list := w.entries(Query{}); list[0].Outcome != "" {
		t.Errorf("a change that failed: %+v", list)
	}
	r.Before, r.After, r.Object = map[string]int{"n": 1}, map[string]int{"n": 2}, "7"
	must(t, write(nil))
	must(t, r.End(t.Context(), "internal")) // what comes later changes nothing
	if e := w.entries(Query{})[0]; e.Outcome != Done || string(e.Before) != `{"n":1}` || string(e.After) != `{"n":2}` || e.Subject != "y/7" {
		t.Errorf("%+v", e)
	}
	// Another database's writes have nothing to do with it.
	other := newWorldless(t)
	must(t, other.Write(r.With(t.Context()), func(*sql.Tx) error { return nil }))

	w.advance(time.Second)
	r, err = w.Log(t.Context(), entry)
	must(t, err)
	_, err = w.Grant(t.Context(), r, alice, Viewer, "x")
	must(t, err)
	if e := w.entries(Query{})[0]; e.Outcome != Done || string(e.Before) != `{"role":""}` || string(e.After) != `{"role":"viewer"}` {
		t.Errorf("%+v", e)
	}
	w.advance(time.Second)
	if r, err = w.Log(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	r.After = strings.Repeat("x", maxValue)
	must(t, r.End(t.Context(), Done))
	if e := w.entries(Query{})[0]; string(e.After) != fmt.Sprintf(`{"left_out_bytes":%d}`, maxValue+2) {
		t.Errorf("%.100s", e.After)
	}
}

func newWorldless(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), engine.Store(t), Migrations())
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func TestAuditPages(t *testing.T) {
	w := newWorld(t)
	begun := w.Now()
	for i := range 25 {
		e := Entry{By: "alice", Action: "PUT /x", Subject: fmt.Sprintf("companies/%d/sandbox", i%5), Environment: "production", RequestID: "request-1"}
		if i%2 == 1 {
			e.By, e.Environment = "bob", ""
		}
		_, err := w.Log(t.Context(), e)
		must(t, err)
		if i%3 == 0 { // some at the very same moment
			w.advance(time.Second)
		}
	}
	seen := map[string]bool{}
	q := Query{Limit: 4}
	for {
		list, next, err := w.Entries(t.Context(), q)
		must(t, err)
		for _, e := range list {
			if seen[e.ID] {
				t.Errorf("%s comes twice", e.ID)
			}
			seen[e.ID] = true
		}
		if next == "" {
			break
		}
		q.After = next
	}
	if len(seen) != 25 {
		t.Errorf("%d entries on pages", len(seen))
	}
	for what, c := range map[string]struct {
		q    Query
		want int
	}{
		"by":                   {Query{By: "bob"}, 12},
		"environment":          {Query{Environment: "production"}, 13},
		"subject":              {Query{Subject: "3"}, 5},
		"subjects":             {Query{Subject: "companies/3"}, 5},
		"half a subject":       {Query{Subject: "ompanies"}, 0},
		"a pattern":            {Query{Subject: "%"}, 0},
		"another pattern":      {Query{Subject: "_"}, 0},
		"a backslash":          {Query{Subject: `\`}, 0},
		"since":                {Query{Since: begun.Add(time.Second)}, 24},
		"until":                {Query{Until: begun.Add(time.Second)}, 1},
		"all of it at once":    {Query{By: "alice", Subject: "0", Since: begun.Add(time.Second), Environment: "production"}, 2},
		"an attempt at quotes": {Query{By: "' OR 1=1 --"}, 0},
	} {
		if got := len(w.entries(c.q)); got != c.want {
			t.Errorf("%s: %d entries, want %d", what, got, c.want)
		}
	}
	_, _, err := w.Entries(t.Context(), Query{After: "x", Limit: 1})
	refused(t, err, problem.BadRequest)
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	kept := sweepAtOnce + 7
	must(t, w.DB.Write(t.Context(), func(tx *sql.Tx) error {
		for i := range kept {
			r := &Record{service: w.Service, id: fmt.Sprintf("OLD%d", i)}
			err := w.log(t.Context(), tx, r.id, Entry{By: "x"})
			if err = errors.Join(err, r.end(t.Context(), tx, Done)); err != nil {
				return err
			}
		}
		return nil
	}))
	old := w.begin(alice, Browser)
	_, err := w.IssueCode(t.Context(), alice, Challenge("x"))
	must(t, err)
	must(t, w.Sweep(t.Context()))
	w.counts(map[string]int{"operator_audit": kept + 1, "operator_outcomes": kept + 1, "operator_sessions": 1, "operator_codes": 1})
	w.advance(w.Kept + time.Second)
	w.want(old, "")
	w.want(w.begin(bob, Browser), Developer)
	must(t, w.Sweep(t.Context()))
	w.counts(map[string]int{"operator_audit": 1, "operator_outcomes": 1, "operator_sessions": 1, "operator_codes": 0})
}

func (w *world) counts(want map[string]int) {
	w.t.Helper()
	for table, n := range want {
		var got int
		must(w.t, w.DB.Read().QueryRowContext(w.t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&got))
		if got != n {
			w.t.Errorf("%s has %d rows, want %d", table, got, n)
		}
	}
}
