package stack

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"mpr/company"
	"mpr/config"
	"mpr/directory"
	"mpr/login"
	"mpr/sandbox"
)

// door is a role as small as can be: it tells its generation; a slow call when it is let.
func door(generation int, let chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			let <- struct{}{} // it is here
			<-let
		}
		_, _ = io.WriteString(w, strconv.Itoa(generation))
	})
}

// withDirectory is a system of which nothing runs yet but the directory's server.
func withDirectory(t *testing.T) *system {
	t.Helper()
	s, err := newSystem(config.Default(0, t.TempDir()))
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	ready, err := s.startObserving(t.Context(), "test")
	must(t, err)
	ready()
	must(t, s.serveDirectory(""))
	return s
}

// refreshed serves the monthly sandbox by such doors, and answers their addresses.
func refreshed(t *testing.T, let chan struct{}, closed chan<- int) (v *served, at, internal string, record *directory.Record) {
	t.Helper()
	s := withDirectory(t)
	e := &s.config.Environments[1]
	v, err := s.serveEnvironment(t.Context(), e, "dev", func(ctx context.Context, ed *edition) error {
		ed.add(closerFunc(func() error { closed <- ed.generation; return nil }))
		if _, err := ed.open(ctx, "store "+strconv.Itoa(ed.generation), e.Identity.Store, login.Migrations()); err != nil {
			return err
		}
		if err := ed.serveInternal(&e.Identity.Internal, door(ed.generation, let)); err != nil {
			return err
		}
		_, err := ed.serve(&e.Login.Listen, door(ed.generation, let))
		return err
	})
	must(t, err)
	record, err = directory.OpenRecord(t.Context(), s.nats, generationsBucket, recordKey(e), 1)
	must(t, err)
	return v, "http://" + e.Login.Listen, "http://" + e.Identity.Internal, record
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// say writes the record as a refresh does.
func say(t *testing.T, record *directory.Record, state string) {
	t.Helper()
	_, revision, err := record.Read(t.Context())
	must(t, err)
	must(t, record.Replace(t.Context(), []byte(state), revision))
}

func ask(t *testing.T, url, generation string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	if generation != "" {
		r.Header.Set(sandbox.GenerationHeader, generation)
	}
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(body)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit, tick := time.NewTimer(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			t.Fatalf("in 20 s not: %s", what)
		case <-tick.C:
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A generation is opened beside the one that serves, and takes over in one step. Calls in
// flight end on the one that they began on, which is closed afterwards.
func TestGenerationsTakeOver(t *testing.T) {
	let, closed := make(chan struct{}), make(chan int, 8)
	_, at, internal, record := refreshed(t, let, closed)
	if got := ask(t, at, ""); got != "0" {
		t.Fatalf("generation %s serves at first", got)
	}
	say(t, record, `{"serving":0,"building":1,"highest":1}`)
	eventually(t, "generation 1 is open", func() bool { return ask(t, internal, "1") == "1" })
	if got := ask(t, internal, ""); got != "0" {
		t.Errorf("generation %s serves while another is built", got)
	}
	if got := ask(t, at, "1"); got != "0" {
		t.Errorf("a stranger has got generation %s by naming it", got)
	}
	if got := ask(t, internal, "2"); got != "503 Service Unavailable" {
		t.Errorf("a generation that isn't there answers %s", got)
	}
	inFlight := make(chan string, 1)
	go func() { inFlight <- ask(t, at+"/slow", "") }()
	<-let
	say(t, record, `{"serving":0,"building":2,"highest":2}`) // the first one has died
	if got := <-closed; got != 1 {
		t.Errorf("generation %d was closed, and not the one that was given up", got)
	}
	eventually(t, "generation 2 is open", func() bool { return ask(t, internal, "2") == "2" })
	say(t, record, `{"serving":2,"highest":2}`)
	eventually(t, "generation 2 serves", func() bool { return ask(t, at, "") == "2" })
	select {
	case got := <-closed:
		t.Errorf("generation %d was closed under a call in flight", got)
	default:
	}
	let <- struct{}{}
	if got := <-inFlight; got != "0" {
		t.Errorf("the call in flight was answered %s", got)
	}
	if got := <-closed; got != 0 {
		t.Errorf("generation %d was closed", got)
	}
}

// Figures of the copy of the directory are those of the generation that serves: not of one that is
// filled, nor of one that was given up.
func TestFiguresAreOfWhatServes(t *testing.T) {
	closed := make(chan int, 8)
	v, at, internal, record := refreshed(t, nil, closed)
	for generation := range 3 {
		d, err := directory.Open(t.Context(), v.system.nats, bucketsOf(v.environment, generation), 1)
		must(t, err)
		for id := range company.ID(generation + 1) {
			must(t, d.Create(t.Context(), company.Placement{Company: id + 1, Region: "US01", Epoch: 1}))
		}
	}
	shown := func() string {
		w := httptest.NewRecorder()
		v.system.observe.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			if count, ok := strings.CutPrefix(line, `mpr_replica_companies{environment="`+v.environment.Name+`"} `); ok {
				return strings.TrimSpace(count)
			}
		}
		return "nothing"
	}
	eventually(t, "the figures are those of generation 0", func() bool { return shown() == "1" })
	say(t, record, `{"serving":0,"building":1,"highest":1}`)
	eventually(t, "generation 1 is open", func() bool { return ask(t, internal, "1") == "1" })
	if got := shown(); got != "1" {
		t.Errorf("%s companies while another generation is filled", got)
	}
	say(t, record, `{"serving":0,"building":2,"highest":2}`)
	if got := <-closed; got != 1 || shown() != "1" {
		t.Errorf("%s companies once generation %d was given up", shown(), got)
	}
	say(t, record, `{"serving":2,"highest":2}`)
	eventually(t, "generation 2 serves", func() bool { return ask(t, at, "") == "2" })
	eventually(t, "the figures are those of generation 2", func() bool { return shown() == "3" })
}

// What isn't there any more doesn't come back: a record that was deleted, or is older.
func TestGenerationsNeverGoBack(t *testing.T) {
	closed := make(chan int, 8)
	v, at, _, record := refreshed(t, nil, closed)
	say(t, record, `{"serving":3,"highest":3}`)
	eventually(t, "generation 3 serves", func() bool { return ask(t, at, "") == "3" })
	for _, entry := range []directory.Entry{{Key: recordKey(v.environment)}, {Key: recordKey(v.environment), Value: []byte(`{"serving":2}`)}, {Key: recordKey(v.environment), Value: []byte(`x`)}} {
		v.hear(entry)
		must(t, v.adjust(t.Context()))
		if got := ask(t, at, ""); got != "3" {
			t.Errorf("after %q generation %s serves", entry.Value, got)
		}
	}
}

// The database of a copy that is being made keeps nobody from being ready, nor does one that has served.
func TestReadyWhileACopyIsMade(t *testing.T) {
	let, closed := make(chan struct{}), make(chan int, 8)
	v, at, internal, record := refreshed(t, let, closed)
	needs := func(name string) (needed, there bool) {
		for _, c := range v.system.observe.Ready(t.Context()).Checks {
			if c.Name == name {
				if c.Environment != v.environment.Name || !c.OK {
					t.Errorf("%+v", c)
				}
				return c.Needed, true
			}
		}
		return false, false
	}
	say(t, record, `{"serving":0,"building":1,"highest":1}`)
	eventually(t, "generation 1 is open", func() bool { return ask(t, internal, "1") == "1" })
	for name, want := range map[string]bool{"store 0": true, "store 1": false} {
		if needed, there := needs(name); needed != want || !there {
			t.Errorf("while generation 1 is made %s is needed: %v", name, needed)
		}
	}
	inFlight := make(chan string, 1)
	go func() { inFlight <- ask(t, at+"/slow", "") }() // it keeps generation 0 open
	<-let
	say(t, record, `{"serving":1,"highest":1}`)
	eventually(t, "generation 1 serves", func() bool { return ask(t, at, "") == "1" })
	for name, want := range map[string]bool{"store 0": false, "store 1": true} {
		if needed, there := needs(name); needed != want || !there {
			t.Errorf("while generation 1 serves %s is needed: %v", name, needed)
		}
	}
	let <- struct{}{}
	<-inFlight
}
