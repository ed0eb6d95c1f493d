package acceptance

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// heard is an event that an app has received, after it has verified it.
type heard struct {
	ID   string
	Type string
	Data struct {
		Company     int64     `json:"company_id"`
		Move        string    `json:"move_id"`
		Sequence    int64     `json:"sequence"`
		From        string    `json:"from"`
		To          string    `json:"to"`
		NotBefore   time.Time `json:"not_before"`
		Epoch       int64     `json:"epoch"`
		ChangedOver time.Time `json:"changed_over_at"`
		Reason      string    `json:"reason"`
	}
	at time.Time
}

// listener is an app's server, which verifies what it hears as the Standard Webhooks
// specification says, and answers what it is told to.
type listener struct {
	t      *testing.T
	app    app
	secret string

	mu     sync.Mutex
	all    []heard
	answer func(heard) (status int, body string)
}

// listen gives a new app a webhook, by the command.
func (d *dev) listen(t *testing.T, answer func(heard) (int, string)) *listener {
	t.Helper()
	l := &listener{t: t, app: d.newApp(t, "web", "https://app.example/callback"), answer: answer}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	var made struct {
		ClientID string `json:"client_id"`
		URL      string `json:"url"`
		Secret   string `json:"secret"`
	}
	out := d.mpr(t, "app", "webhook", "set", l.app.ClientID, "--url", server.URL+"/hook", "--json")
	if err := json.Unmarshal(out, &made); err != nil || made.ClientID != l.app.ClientID || made.URL != server.URL+"/hook" || !strings.HasPrefix(made.Secret, "whsec_") {
		t.Fatalf("set as %s %v", out, err)
	}
	l.mu.Lock()
	l.secret = made.Secret
	l.mu.Unlock()
	return l
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	key, wrong := base64.StdEncoding.DecodeString(strings.TrimPrefix(l.secret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, r.Header.Get("webhook-id")+"."+r.Header.Get("webhook-timestamp")+"."+string(body))
	e := heard{ID: r.Header.Get("webhook-id"), at: time.Now()}
	if err != nil || wrong != nil || r.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || json.Unmarshal(body, &e) != nil {
		l.t.Errorf("heard %s with %v", body, r.Header)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	l.all = append(l.all, e)
	status, text := 204, ""
	if l.answer != nil {
		status, text = l.answer(e)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// types are those of the events that were heard of a company, in the order in which they happened.
func (l *listener) types(company int64) (types []string) {
	for _, e := range l.happened(company) {
		types = append(types, strings.TrimPrefix(e.Type, "company.move."))
	}
	return types
}

// events are those that were heard of a company, as they came.
func (l *listener) events(company int64) (events []heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all {
		if e.Data.Company == company {
			events = append(events, e)
		}
	}
	return events
}

// happened are the events of a company in the order in which they happened: "Events may arrive in
// another order than they happened in."
func (l *listener) happened(company int64) []heard {
	events := l.events(company)
	slices.SortStableFunc(events, func(a, b heard) int { return cmp.Compare(a.Data.Sequence, b.Data.Sequence) })
	return events
}

func (l *listener) wants(company int64, want ...string) {
	l.t.Helper()
	eventually(l.t, 30*time.Second, func() (bool, string) {
		got := l.types(company)
		return fmt.Sprint(got) == fmt.Sprint(want), fmt.Sprintf("heard %v, want %v", got, want)
	})
}

// An app hears that a company is to move, that the copying begins, and where the company is at
// last; one that isn't installed there hears nothing.
func TestAppsHearOfMoves(t *testing.T) {
	d := startDev(t, t.TempDir())
	c := d.in(t, "EU01")
	l := d.listen(t, nil)
	other := d.newCompany(t, "US02", "2018-12-01") // where nobody has the app
	d.move(t, "start", fmt.Sprint(c.ID), "--to", "US01")
	d.move(t, "start", fmt.Sprint(other.ID), "--to", "US01")
	l.wants(c.ID, "scheduled", "started", "finished")
	events := l.happened(c.ID)
	last := events[2].Data
	if last.From != "EU01" || last.To != "US01" || last.Epoch != 2 || last.ChangedOver.IsZero() || last.Reason != "" {
		t.Errorf("finished: %+v", last)
	}
	for i, e := range events {
		if e.Data.Move != last.Move || i > 0 && e.Data.Sequence <= events[i-1].Data.Sequence {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	if n := len(l.types(other.ID)); n != 0 {
		t.Errorf("heard %d events of a company that isn't the app's", n)
	}
	// One that is given up: the app hears why, in a word.
	m := d.mpr(t, "move", "start", fmt.Sprint(c.ID), "--to", "EU01", "--at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "--json")
	l.wants(c.ID, "scheduled", "started", "finished", "scheduled", "started")
	d.mpr(t, "move", "abort", fmt.Sprint(c.ID))
	l.wants(c.ID, "scheduled", "started", "finished", "scheduled", "started", "aborted")
	var begun struct{ ID string }
	if err := json.Unmarshal(m, &begun); err != nil {
		t.Fatal(err)
	}
	if given := l.happened(c.ID)[5].Data; given.Reason != "requested" || given.Move != begun.ID || given.Epoch != 0 || given.Sequence <= last.Sequence {
		t.Errorf("aborted: %+v", given)
	}
	var list struct {
		Deliveries []struct {
			Event, State string
			Attempts     int
			Status       int
		}
	}
	if err := json.Unmarshal(d.mpr(t, "app", "webhook", "deliveries", l.app.ClientID, "--json"), &list); err != nil || len(list.Deliveries) != 6 {
		t.Fatalf("deliveries %+v %v", list, err)
	}
	for _, one := range list.Deliveries {
		if one.State != "delivered" || one.Attempts != 1 || one.Status != 204 {
			t.Errorf("delivered as %+v", one)
		}
	}
}

// An app delays the change-over: a little, and then by more than anybody waits for, until an
// operator drops that.
func TestAppsDelayMoves(t *testing.T) {
	d := startDev(t, t.TempDir())
	c := d.in(t, "EU01")
	var mu sync.Mutex
	seconds := 2
	l := d.listen(t, func(e heard) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if e.Type != "company.move.scheduled" {
			return 204, ""
		}
		return 200, fmt.Sprintf(`{"delay_seconds":%d}`, seconds)
	})
	d.move(t, "start", fmt.Sprint(c.ID), "--to", "US01")
	l.wants(c.ID, "scheduled", "started", "finished")
	events := l.happened(c.ID)
	if took := events[2].Data.ChangedOver.Sub(events[0].at); took < 2*time.Second {
		t.Errorf("changed over %s after the app had asked for 2 s", took)
	}
	mu.Lock()
	seconds = 7200
	mu.Unlock()
	d.mpr(t, "move", "start", fmt.Sprint(c.ID), "--to", "EU01")
	eventually(t, 30*time.Second, func() (bool, string) {
		out := string(d.mpr(t, "move", "status", fmt.Sprint(c.ID)))
		return strings.Contains(out, "ready") && strings.Contains(out, "delayed") && strings.Contains(out, "by app App of TestAppsDelayMoves ("+l.app.ClientID+")"), out
	})
	if out := string(d.mpr(t, "move", "resume", fmt.Sprint(c.ID), "--now", "--by", "eva")); !strings.Contains(out, "waits for no app any more") {
		t.Error(out)
	}
	d.move(t, "status", fmt.Sprint(c.ID))
	proof := string(d.mpr(t, "move", "proof", fmt.Sprint(c.ID)))
	for _, want := range []string{"asks for a delay of 2s: the change-over isn't done before", "asks for a delay of 2h0m0s, which is cut to the longest one, 1h0m0s", "resumed by eva, who drops the delays of apps"} {
		if !strings.Contains(proof, want) {
			t.Errorf("the proof lacks %q:\n%s", want, proof)
		}
	}
}

// What an app doesn't take is sent again, by a process that is there after the first was killed.
func TestEventsOutliveAProcess(t *testing.T) {
	d := startDev(t, t.TempDir())
	c := d.in(t, "EU01")
	var mu sync.Mutex
	fails := true
	l := d.listen(t, func(heard) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if fails {
			return 503, ""
		}
		return 204, ""
	})
	d.move(t, "start", fmt.Sprint(c.ID), "--to", "US01")
	eventually(t, 30*time.Second, func() (bool, string) {
		events := l.events(c.ID)
		return len(events) >= 3, fmt.Sprintf("heard %+v", events)
	})
	first := map[string]string{}
	for _, e := range l.events(c.ID) {
		first[e.Type] = e.ID
	}
	d.Kill(t)
	mu.Lock()
	fails = false
	mu.Unlock()
	before := len(l.events(c.ID))
	d.Restart(t)
	eventually(t, 90*time.Second, func() (bool, string) { // one that was under way is taken up after a minute
		again := map[string]bool{}
		for _, e := range l.events(c.ID)[before:] {
			if first[e.Type] != e.ID {
				t.Fatalf("%s had the id %s, and has %s", e.Type, first[e.Type], e.ID)
			}
			again[e.Type] = true
		}
		return len(again) == 3, fmt.Sprintf("again %v", again)
	})
}
