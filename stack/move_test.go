package stack

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/gateway"
	"mpr/move"
	"mpr/problem"
	"mpr/region"
	"mpr/rules"
	"mpr/store"
	"mpr/test/engine"
	"mpr/token"
)

// site is a directory, two regions and a gateway, and a queue of moves.
type site struct {
	t         *testing.T
	directory *directory.Directory
	regions   map[company.Region]*store.DB
	internal  map[company.Region]string
	doors     map[company.Region]*siteDoor
	urls      map[company.Region]string // of the doors
	verifier  *token.Verifier
	changes   *directory.Changes
	queue     *store.DB
	api       string
	token     string
	company   company.ID
}

const (
	siteSecret = "the-internal-secret-of-the-tests"
	siteIssuer = "https://login.procore.com"
	siteUser   = int64(11)
	siteApp    = int64(21)
)

// siteNumbers are the regions of a site.
var siteNumbers = map[company.Region]int{"US02": 16, "EU01": 17, thirdRegion: 18}

// thirdRegion is one that only some sites have.
const thirdRegion = company.Region("AP01")

// siteOptions say what is special about a site. All of it is by region.
type siteOptions struct {
	// stores are DSNs; an own store where there is none.
	stores map[company.Region]string
	// queue is the DSN of the queue of moves, which isn't by region; an own store where it is "".
	queue string
	// maxStore limits databases, in bytes.
	maxStore map[company.Region]int64
	// third has a third region.
	third bool
	// apart starts regions elsewhere, and answers the addresses of their doors.
	apart map[company.Region]func(directoryAddress string) (door, internal string)
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteOf(t, siteOptions{})
}

func newSiteOf(t *testing.T, o siteOptions) *site {
	t.Helper()
	ctx := t.Context()
	s := &site{t: t, regions: map[company.Region]*store.DB{}, internal: map[company.Region]string{}, doors: map[company.Region]*siteDoor{}, urls: map[company.Region]string{}}
	server, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0", Secret: siteSecret})
	s.check(err)
	t.Cleanup(server.Close)
	nc, err := server.Connect("test")
	s.check(err)
	t.Cleanup(nc.Close)
	s.directory, err = directory.Open(ctx, nc, "site", 1)
	s.check(err)
	buckets, err := token.OpenBuckets(ctx, nc, "site", 1)
	s.check(err)
	ring, err := token.NewRing(ctx, &keyring{}, buckets, token.RingOptions{Algorithm: "ES256", Lifetime: time.Hour, Now: time.Now})
	s.check(err)
	s.closeLater(ring)
	follower, err := token.Follow(ctx, nc, "site", filepath.Join(t.TempDir(), "keys"))
	s.check(err)
	s.closeLater(follower)
	s.check(follower.Ready(ctx))
	s.verifier, s.changes = token.NewVerifier(siteIssuer, follower, 100, time.Now), directory.OpenChanges(nc, "site", 1)
	now := time.Now().Truncate(time.Second)
	s.token, err = ring.Sign(token.Claims{Issuer: siteIssuer, Subject: siteUser, ClientID: "web", App: siteApp, Kind: rules.UserToken,
		Grant: "grant", ID: "id", IssuedAt: now, Expires: now.Add(time.Hour)})
	s.check(err)
	policy := rules.Seed()
	for code, number := range siteNumbers {
		if code == thirdRegion && !o.third {
			continue
		}
		info := company.RegionInfo{Code: code, Number: number}
		if start := o.apart[code]; start != nil {
			var door string
			door, s.internal[code] = start(server.Addr())
			info.Upstreams = []string{door}
		} else {
			dsn := o.stores[code]
			if dsn == "" {
				dsn = engine.Store(t)
			}
			db, err := store.Open(ctx, dsn, region.Migrations())
			s.check(err)
			s.closeLater(db)
			s.regions[code], s.doors[code] = db, &siteDoor{}
			s.startRegion(code, o.maxStore[code])
			s.internal[code] = s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s.doors[code].seen != nil {
					s.doors[code].seen(r)
				}
				s.doors[code].now.Load().internal.ServeHTTP(w, r)
			}))
			info.Upstreams = []string{s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.doors[code].now.Load().public.ServeHTTP(w, r) }))}
		}
		info.Internal, s.urls[code] = s.internal[code], info.Upstreams[0]
		s.check(s.directory.PutRegion(ctx, info))
	}
	replica, err := directory.OpenReplica(nc, "site", "")
	s.check(err)
	s.closeLater(replica)
	s.check(replica.Ready(ctx))
	replica.Gate("one", nil)
	g, err := gateway.New(gateway.Options{Policy: func() *rules.Policy { return &policy }, Placements: replica, Verifier: s.verifier,
		IdentityURL: "http://127.0.0.1:1", LoginURL: "http://127.0.0.1:1", Now: time.Now,
		Limits: gateway.Limits{MaxBody: 1 << 20, IdleTimeout: time.Minute, StallTimeout: time.Minute, ConnectTimeout: 5 * time.Second, AnswerTimeout: time.Minute,
			HoldTimeout: 30 * time.Second, HoldCalls: 100, UpstreamConns: 100}})
	s.check(err)
	s.closeLater(g)
	s.api = s.serve(g.Handler(rules.DoorAPI))
	s.queue, err = store.Open(ctx, cmp.Or(o.queue, engine.Store(t)), move.Migrations())
	s.check(err)
	s.closeLater(s.queue)
	s.found("US02")
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		if _, ok := replica.Placement(s.company); ok {
			tick.Stop()
			return s
		}
	}
}

// siteDoor leads to a region, which may be started anew.
type siteDoor struct {
	now atomic.Pointer[siteHandlers]
	// seen, where it is set, hears of calls to the internal door.
	seen func(*http.Request)
}

type siteHandlers struct{ public, internal http.Handler }

// siteRegion is a region of a site.
func siteRegion(ctx context.Context, code company.Region, db *store.DB, verifier *token.Verifier, changes *directory.Changes, maxStore int64) (*region.Service, error) {
	policy := rules.Seed()
	return region.New(ctx, region.Options{Code: code, Number: siteNumbers[code], DB: db, Verifier: verifier, Policy: &policy, Publisher: changes,
		Secret: siteSecret, MaxBody: 1 << 20, MaxPerPage: 1000, MaxStore: maxStore, Now: time.Now})
}

// startRegion starts a region, in the place of the one that runs.
func (s *site) startRegion(code company.Region, maxStore int64) {
	s.t.Helper()
	r, err := siteRegion(s.t.Context(), code, s.regions[code], s.verifier, s.changes, maxStore)
	s.check(err)
	s.closeLater(r)
	s.doors[code].now.Store(&siteHandlers{r.Handler(), r.Internal()})
}

type keyring struct{ all []token.StoredKey }

func (k *keyring) SigningKeys(context.Context) ([]token.StoredKey, error) { return k.all, nil }
func (k *keyring) AddSigningKey(_ context.Context, key token.StoredKey, _ bool) error {
	k.all = append(k.all, key)
	return nil
}
func (k *keyring) DeleteSigningKey(context.Context, string) error { return nil }

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) closeLater(c io.Closer) {
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

func (s *site) serve(h http.Handler) string {
	server := httptest.NewServer(problem.Handler(h))
	s.t.Cleanup(server.Close)
	return server.URL
}

// found makes the company of the test, with a member and an app.
func (s *site) found(code company.Region) {
	s.t.Helper()
	base := s.internal[code] + "/internal/companies"
	var made struct{ ID company.ID }
	s.put("POST", base, `{"name":"One","onboarded":"2016-03-01","idempotency_key":"one"}`, &made)
	s.company = made.ID
	s.put("PUT", fmt.Sprintf("%s/%d/users/%d", base, made.ID, siteUser), `{"login":"a@example.com","name":"A"}`, nil)
	s.put("PUT", fmt.Sprintf("%s/%d/apps/%d", base, made.ID, siteApp), `{"client_id":"web","name":"Web","kind":"web"}`, nil)
	s.check(s.directory.Create(s.t.Context(), company.Placement{Company: made.ID, Region: code, Epoch: 1, Onboarded: time.Date(2016, 3, 1, 0, 0, 0, 0, time.UTC)}))
}

func (s *site) put(method, url, body string, out any) {
	s.t.Helper()
	status, data, err := send(method, url, siteSecret, 0, body)
	s.check(err)
	if status/100 != 2 {
		s.t.Fatalf("%s %s: %d %s", method, url, status, data)
	}
	if out != nil {
		s.check(json.Unmarshal(data, out))
	}
}

func send(method, url, bearer string, id company.ID, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/json")
	if id != 0 {
		req.Header.Set("Procore-Company-Id", id.String())
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, errors.Join(err, resp.Body.Close())
}

// writers make projects through the gateway until they are told to stop.
type siteTraffic struct {
	stop atomic.Bool
	work sync.WaitGroup
	mu   sync.Mutex
	made map[int64]bool
	bad  []string
	t    *testing.T
}

func (s *site) write() *siteTraffic {
	x := &siteTraffic{made: map[int64]bool{}, t: s.t}
	for n := range 2 {
		x.work.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond) // what matters is the moment, not the number
			defer pace.Stop()
			for i := 0; !x.stop.Load(); i++ {
				<-pace.C
				status, data, err := send("POST", s.api+"/rest/v1.0/projects", s.token, s.company, fmt.Sprintf(`{"project":{"name":"writer %d, %d"}}`, n, i))
				var p struct{ ID int64 }
				x.mu.Lock()
				if err == nil && status == 201 && json.Unmarshal(data, &p) == nil {
					x.made[p.ID] = true
				} else {
					x.bad = append(x.bad, fmt.Sprint(status, string(data), err))
				}
				x.mu.Unlock()
			}
		})
	}
	s.t.Cleanup(x.end)
	return x
}

func (x *siteTraffic) end() { x.stop.Store(true); x.work.Wait() }

// mover starts a mover whose clock is ahead, so that it finds the leases of others over.
func (s *site) mover(ahead time.Duration, step func(context.Context, *move.Move, string) error) *move.Mover {
	return s.moverThatKeeps(24*time.Hour, ahead, step)
}

// moverThatKeeps is a mover that has a source keep the rows for so long.
func (s *site) moverThatKeeps(retention, ahead time.Duration, step func(context.Context, *move.Move, string) error) *move.Mover {
	return move.New(move.Options{
		Queue:       &move.Queue{DB: s.queue, Now: func() time.Time { return time.Now().Add(ahead) }},
		Directories: map[string]move.Directory{"site": s.directory}, Secret: siteSecret, AtOnce: 4, Retention: retention, Step: step,
	})
}

func (s *site) request(to company.Region) *move.Move {
	s.t.Helper()
	q := &move.Queue{DB: s.queue, Now: time.Now}
	p, _, err := s.directory.Get(s.t.Context(), s.company)
	s.check(err)
	m, err := q.Add(s.t.Context(), "site", p.Region, move.Request{Company: s.company, To: to, By: "the test"})
	s.check(err)
	return m
}

// over waits until a move is over, and answers how it ended.
func (s *site) over(id string) *move.Move { s.t.Helper(); return s.overWithin(id, 40*time.Second) }

func (s *site) overWithin(id string, within time.Duration) *move.Move {
	s.t.Helper()
	return s.becomesWithin(id, within, func(m *move.Move) bool { return m.Phase.Over() })
}

// becomes waits for what is to become of a move.
func (s *site) becomes(id string, so func(*move.Move) bool) {
	s.t.Helper()
	s.becomesWithin(id, 40*time.Second, so)
}

func (s *site) becomesWithin(id string, within time.Duration, so func(*move.Move) bool) *move.Move {
	s.t.Helper()
	q := &move.Queue{DB: s.queue, Now: time.Now}
	limit := time.Now().Add(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		m, err := q.Get(s.t.Context(), "site", id)
		s.check(err)
		if so(m) {
			return m
		}
		if time.Now().After(limit) {
			s.t.Fatalf("it doesn't come to that: %+v", m)
		}
	}
}

// owners counts the regions that own the company. One that does must be the directory's.
func (s *site) owners() (owners int) {
	s.t.Helper()
	for code, base := range s.internal {
		var said struct {
			Fence *struct {
				State string
				Epoch company.Epoch
			}
		}
		s.put("GET", fmt.Sprintf("%s/contract/v1/companies/%d/state", base, s.company), "", &said)
		if said.Fence == nil || said.Fence.State != "owned" {
			continue
		}
		owners++
		p, _, err := s.directory.Get(s.t.Context(), s.company)
		s.check(err)
		if code != p.Region || said.Fence.Epoch != p.Epoch {
			s.t.Errorf("%s owns the company at epoch %d, and the directory says %s and %d", code, said.Fence.Epoch, p.Region, p.Epoch)
		}
	}
	return owners
}

// one wants exactly one region to own the company, the directory's, and to have all that was
// written.
func (s *site) one(x *siteTraffic) {
	s.t.Helper()
	p, _, err := s.directory.Get(s.t.Context(), s.company)
	s.check(err)
	if owners := s.owners(); owners != 1 {
		s.t.Errorf("%d regions own the company", owners)
	}
	there := map[int64]bool{}
	for after, last := "", false; !last; {
		var page struct {
			Rows []struct {
				ID int64 `json:"project_id"`
			}
			After string
			Last  bool
		}
		s.put("GET", fmt.Sprintf("%s/contract/v1/companies/%d/rows?table=projects&after=%s", s.internal[p.Region], s.company, url.QueryEscape(after)), "", &page)
		for _, row := range page.Rows {
			if there[row.ID] {
				s.t.Errorf("project %d is there twice", row.ID)
			}
			there[row.ID] = true
		}
		after, last = page.After, page.Last
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range x.made {
		if !there[id] {
			s.t.Errorf("project %d was answered 201 and isn't there", id)
		}
	}
	if len(there) != len(x.made) {
		s.t.Errorf("%d projects were made, and %d are there", len(x.made), len(there))
	}
	for _, bad := range x.bad {
		s.t.Error(bad)
	}
}

// "Any number of movers; at most one acts on a company at a time, safe even if it is paused
// for a minute and wakes up": at every step one mover falls asleep, with its lease; another
// one finishes the move; then the first wakes up in the middle of what it was about to do.
func TestMoversThatWakeUp(t *testing.T) {
	for _, step := range move.Steps {
		if step == "new epoch" || step == "thaw" {
			continue // of change-overs that are undone; see below
		}
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			x := s.write()
			asleep, awake := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var sleeping atomic.Bool
			first := s.mover(0, func(_ context.Context, _ *move.Move, name string) error {
				if name == step {
					once.Do(func() { sleeping.Store(true); close(asleep) })
				}
				if sleeping.Load() { // the whole process: its signs of life as well
					<-awake
				}
				return nil
			})
			m := s.request("EU01")
			first.Wake()
			select {
			case <-asleep:
			case <-time.After(30 * time.Second):
				close(awake)
				t.Fatal("the step doesn't come")
			}
			second := s.mover(time.Hour, nil)
			ended := s.over(m.ID)
			close(awake)
			s.check(first.Close())
			s.check(second.Close())
			x.end()
			if ended.Phase != move.Retained || ended.Committed.IsZero() {
				t.Errorf("ended as %+v", ended)
			}
			s.one(x)
		})
	}
}

// A mover that dies at any step leaves nothing that another one couldn't finish or give up.
func TestMoversThatDie(t *testing.T) {
	errDead := errors.New("dead")
	for _, abort := range []bool{false, true} {
		for _, step := range move.Steps {
			t.Run(fmt.Sprintf("%s, aborted %v", step, abort), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				x := s.write()
				dead := make(chan struct{})
				var gone atomic.Bool
				var first *move.Mover
				undoing := step == "new epoch" || step == "thaw"
				first = s.mover(0, func(ctx context.Context, _ *move.Move, name string) error {
					if gone.Load() {
						return errDead
					}
					if name == step {
						gone.Store(true)
						close(dead)
						return errDead
					}
					if undoing && name == "commit" {
						return errors.New("the change-over fails")
					}
					return nil
				})
				m := s.request("EU01")
				first.Wake()
				select {
				case <-dead:
				case <-time.After(30 * time.Second):
					t.Fatal("the step doesn't come")
				}
				s.check(first.Close())
				if abort {
					q := &move.Queue{DB: s.queue, Now: time.Now}
					if err := q.Abort(t.Context(), m, false, "the test"); err != nil && !errors.Is(err, problem.New(problem.Conflict, "")) {
						t.Fatal(err)
					}
				}
				second := s.mover(time.Hour, nil)
				ended := s.over(m.ID)
				s.check(second.Close())
				x.end()
				committed := slices.Index(move.Steps, step) > slices.Index(move.Steps, "commit") && !undoing
				if want := map[bool]move.Phase{true: move.Aborted, false: move.Retained}[abort && !committed]; ended.Phase != want {
					t.Errorf("ended as %+v", ended)
				}
				if ended.Phase == move.Aborted && s.rows("EU01") != 0 {
					t.Errorf("%d projects are left at the destination", s.rows("EU01"))
				}
				s.one(x)
			})
		}
	}
}

// "A difference aborts, thaws the source and says which table."
func TestDifferencesGiveUp(t *testing.T) {
	damage := `CREATE TRIGGER damage AFTER INSERT ON projects BEGIN UPDATE projects SET name = 'damaged' WHERE project_id = NEW.project_id; END`
	if engine.Server() != "" {
		damage = `CREATE FUNCTION damage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name = 'damaged'; RETURN NEW; END $$;
			CREATE TRIGGER damage BEFORE INSERT ON projects FOR EACH ROW EXECUTE FUNCTION damage()`
	}
	for name, c := range map[string]struct {
		at   string // the step at which something happens
		sql  string // that is done to the destination's database
		want string
	}{
		"in what was copied": {"changes", `UPDATE memberships SET name = 'damaged'`, "table memberships differs"},
		// Both sides were the same before, and something is written before calls wait.
		"in what came last":          {"freeze", damage, "table projects differs"},
		"none, but nothing succeeds": {"commit", "", "change-overs have failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			x := s.write()
			mover := s.mover(0, func(ctx context.Context, _ *move.Move, name string) error {
				if name == "rows" && c.at == "changes" {
					return x.past(s) // or there might be none
				}
				if name != c.at {
					return nil
				}
				if c.sql == "" {
					return errors.New("the change-over fails")
				}
				if name == "freeze" {
					if err := x.past(s); err != nil {
						return err
					}
				}
				return s.regions["EU01"].Write(ctx, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, c.sql)
					return err
				})
			})
			m := s.request("EU01")
			ended := s.over(m.ID)
			s.check(mover.Close())
			x.end()
			q := &move.Queue{DB: s.queue, Now: time.Now}
			events, err := q.Events(t.Context(), m.ID, 0)
			s.check(err)
			if text := fmt.Sprint(events); ended.Phase != move.Aborted || !strings.Contains(text, c.want) {
				t.Errorf("ended as %s: %s", ended.Phase, text)
			}
			s.one(x)
			var left int
			s.check(s.regions["EU01"].Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM projects WHERE company_id = $1`, int64(s.company)).Scan(&left))
			if left != 0 {
				t.Errorf("%d rows are left at the destination", left)
			}
		})
	}
}

// past writes past the gateways, which hold calls, to the region that the company lives in before it
// moves.
func (x *siteTraffic) past(s *site) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.urls["US02"]+"/rest/v1.0/projects", strings.NewReader(`{"project":{"name":"the last one"}}`))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"Authorization": "Bearer " + s.token, "Content-Type": "application/json", "Procore-Company-Id": s.company.String(), region.EpochHeader: "1"} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var p struct{ ID int64 }
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.made[p.ID] = true
	return nil
}

// count is how many projects were made.
func (x *siteTraffic) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.made)
}

// atLeast waits until that many are.
func (x *siteTraffic) atLeast(n int) {
	x.t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); x.count() < n; <-tick.C {
		if time.Now().After(limit) {
			x.t.Fatalf("%d projects are made, expected %d", x.count(), n)
		}
	}
}

// A company goes, comes back and goes again: what the last move has promised to keep isn't
// deleted when the time of the first one is over.
func TestRetentionOfTheLastMove(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	mover := move.New(move.Options{Queue: &move.Queue{DB: s.queue, Now: now}, Directories: map[string]move.Directory{"site": s.directory},
		Secret: siteSecret, AtOnce: 4, Retention: 24 * time.Hour})
	s.closeLater(mover)
	var moves []*move.Move
	for i, to := range []company.Region{"EU01", "US02", "EU01"} {
		ahead.Store(int64(time.Duration(i) * time.Hour))
		m := s.request(to)
		mover.Wake()
		moves = append(moves, s.over(m.ID))
	}
	for i, expected := range []struct {
		ahead time.Duration
		kept  bool
	}{{24*time.Hour + time.Minute, true}, {26*time.Hour + time.Minute, false}} {
		ahead.Store(int64(expected.ahead))
		mover.Wake()
		ended := moves[2*i]
		s.becomes(ended.ID, func(m *move.Move) bool { return m.Phase == move.Done })
		var said struct{ Rows map[string]int64 }
		s.put("GET", fmt.Sprintf("%s/contract/v1/companies/%d/state?rows=1", s.internal["US02"], s.company), "", &said)
		if kept := said.Rows["companies"] == 1; kept != expected.kept {
			t.Errorf("after %v: the rows are kept: %v", expected.ahead, kept)
		}
	}
}

// A window that ends while the rows are copied ends the move then: it doesn't go on copying what
// can't change over any more.
func TestWindowEndsWhileCopying(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ends := time.Now().Add(time.Second)
	mover := s.mover(0, func(ctx context.Context, _ *move.Move, name string) error {
		if name != "rows" {
			return nil
		}
		select {
		case <-time.After(time.Until(ends) + 10*time.Millisecond):
		case <-ctx.Done():
		}
		return nil
	})
	s.closeLater(mover)
	q := &move.Queue{DB: s.queue, Now: time.Now}
	m, err := q.Add(t.Context(), "site", "US02", move.Request{Company: s.company, To: "EU01", By: "the test", NotAfter: ends})
	s.check(err)
	mover.Wake()
	ended := s.over(m.ID)
	if ended.Phase != move.Aborted || !strings.Contains(ended.Why, "window") {
		t.Errorf("ended as %+v", ended)
	}
	events, err := q.Events(t.Context(), m.ID, 0)
	s.check(err)
	for _, e := range events {
		if e.Phase == move.Following || e.Phase == move.Ready {
			t.Errorf("it went on: %+v", e)
		}
	}
	if owners := s.owners(); owners != 1 {
		t.Errorf("%d regions own the company", owners)
	}
}

// A pause that comes while the company changes over keeps nobody from ending that: the company
// would have no owner until somebody resumed the move, and what the source keeps would stay.
func TestPausedInTheChangeOver(t *testing.T) {
	for _, step := range []string{"freeze", "last changes", "commit", "activate", "release", "leave"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			x := s.write()
			q := &move.Queue{DB: s.queue, Now: time.Now}
			m := s.request("EU01")
			paused := make(chan error, 1)
			var gone atomic.Bool
			errDead := errors.New("dead")
			first := s.mover(0, func(ctx context.Context, _ *move.Move, name string) error {
				if name == step && !gone.Swap(true) {
					paused <- q.Pause(ctx, m, true, "the test")
				}
				if gone.Load() {
					return errDead
				}
				return nil
			})
			select {
			case err := <-paused:
				s.check(err)
			case <-time.After(30 * time.Second):
				t.Fatal("the step doesn't come")
			}
			s.check(first.Close())
			second := s.mover(time.Hour, nil)
			// Where the change-over was undone the move waits for whoever has paused it.
			s.becomes(m.ID, func(m *move.Move) bool { return m.Phase.Over() || m.Paused && m.Phase == move.Following })
			if owners := s.owners(); owners != 1 {
				t.Errorf("%d regions own the company", owners)
			}
			if err := q.Pause(t.Context(), m, false, "the test"); err != nil && !errors.Is(err, problem.New(problem.Conflict, "")) {
				t.Fatal(err)
			}
			if ended := s.over(m.ID); ended.Phase != move.Retained {
				t.Errorf("ended as %+v", ended)
			}
			s.check(second.Close())
			third := s.mover(25*time.Hour, nil)
			s.becomes(m.ID, func(m *move.Move) bool { return m.Phase == move.Done })
			s.check(third.Close())
			x.end()
			s.one(x)
		})
	}
}
