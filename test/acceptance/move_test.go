package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

type moved struct {
	ID       string  `json:"id"`
	Phase    string  `json:"phase"`
	Problem  string  `json:"problem"`
	Attempts int     `json:"attempts"`
	PauseNS  float64 `json:"pause_ns"`
	Reused   bool    `json:"reused"`
}

// move has a company moved, and waits until it has changed over.
func (d *dev) move(t *testing.T, args ...string) moved {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(d.mpr(t, append([]string{"move"}, append(args, "--wait", "--json")...)...))), "\n")
	var last moved
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Phase != "retained" {
		t.Fatalf("mpr move %v says %v %v", args, lines, err)
	}
	return last
}

// traffic writes to a company and reads from it, and notes every call that fails.
type traffic struct {
	d       *dev
	company int64
	token   string
	stop    context.CancelFunc
	ctx     context.Context
	work    sync.WaitGroup

	mu      sync.Mutex
	written map[int64]string // what was answered 201
	failed  []string
	calls   int
	slowest time.Duration
	round   int
	more    chan struct{} // a token for whoever waits for more calls
}

// startTraffic has a person write to a company, and read back what was written.
func (d *dev) startTraffic(t *testing.T, company int64) *traffic {
	t.Helper()
	x := &traffic{d: d, company: company, token: d.userTokens(t).Access, written: map[int64]string{}, more: make(chan struct{}, 1)}
	t.Cleanup(func() { x.end() })
	x.begin()
	return x
}

// writers write side by side, each of them so often at the most: as much as a busy company
// does, and not as much as the machine bears.
const (
	writers    = 4
	writeEvery = 50 * time.Millisecond
)

// paced calls f again and again until it says no or the test ends it.
func (x *traffic) paced(f func(i int) bool) {
	x.work.Go(func() {
		tick := time.NewTicker(writeEvery)
		defer tick.Stop()
		for i := 0; f(i); i++ {
			select {
			case <-x.ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

func (x *traffic) begin() {
	x.round++
	x.failed = nil
	x.ctx, x.stop = context.WithCancel(context.Background())
	for n := range writers {
		x.paced(func(i int) bool { return x.write(fmt.Sprintf("round %d, writer %d, project %d", x.round, n, i)) })
	}
	x.paced(func(int) bool { return x.read() })
}

func (x *traffic) end() { x.stop(); x.work.Wait() }

// answered notes a call and says whether it went well. A call that ends with the test has
// no answer.
func (x *traffic) answered(what string, began time.Time, got answer, err error, want int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls++
	x.slowest = max(x.slowest, time.Since(began))
	select {
	case x.more <- struct{}{}:
	default:
	}
	if err == nil && got.Status == want {
		return true
	}
	x.failed = append(x.failed, fmt.Sprintf("%s: %v %v", what, got, err))
	return false
}

// write says whether it went well.
func (x *traffic) write(name string) bool {
	began := time.Now()
	got, err := call{Method: "POST", URL: x.d.Environments[0].API + "/rest/v1.0/projects", Token: x.token, Company: x.company,
		JSON: map[string]any{"project": map[string]any{"name": name}}}.do(context.Background())
	if !x.answered("write", began, got, err, http.StatusCreated) {
		return false
	}
	var made struct{ ID int64 }
	if err := json.Unmarshal(got.Body, &made); err == nil {
		x.mu.Lock()
		x.written[made.ID] = name
		x.mu.Unlock()
	}
	return true
}

// read reads back something that was written, which must be there.
func (x *traffic) read() bool {
	x.mu.Lock()
	var id int64
	for id = range x.written {
		break
	}
	x.mu.Unlock()
	if id == 0 {
		return true
	}
	began := time.Now()
	got, err := call{URL: fmt.Sprintf("%s/rest/v1.0/projects/%d", x.d.Environments[0].API, id), Token: x.token, Company: x.company}.do(context.Background())
	return x.answered("read", began, got, err, http.StatusOK)
}

// waitFor waits for more calls, or for one that fails.
func (x *traffic) waitFor(t *testing.T, more int) {
	t.Helper()
	x.mu.Lock()
	goal := x.calls + more
	x.mu.Unlock()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		x.mu.Lock()
		enough := x.calls >= goal || len(x.failed) > 0
		x.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-x.more:
		case <-limit.C:
			t.Fatalf("no %d more calls in a minute", more)
		}
	}
}

// hold wants all that was written to be there, once.
func (x *traffic) hold(t *testing.T) {
	t.Helper()
	there := map[int64]string{}
	for page := 1; ; page++ {
		var list []struct {
			ID   int64
			Name string
		}
		call{URL: fmt.Sprintf("%s/rest/v1.0/projects?per_page=1000&page=%d", x.d.Environments[0].API, page), Token: x.token, Company: x.company}.send(t).want(t, 200).into(t, &list)
		for _, p := range list {
			if there[p.ID] != "" {
				t.Errorf("project %d is there twice", p.ID)
			}
			there[p.ID] = p.Name
		}
		if len(list) < 1000 {
			break
		}
	}
	names := map[string]bool{}
	for id, name := range x.written {
		if there[id] != name {
			t.Errorf("project %d, %q, was answered 201; there is %q", id, name, there[id])
		}
		names[name] = true
	}
	for id, name := range there {
		if strings.HasPrefix(name, "round ") && x.written[id] == "" && names[name] {
			t.Errorf("%q is there twice", name)
		}
	}
}

// "Companies move between regions, live, and no write is lost": under load, there and back
// again, no call fails, and what was answered is there once.
func TestMovesUnderLoad(t *testing.T) {
	d := startDev(t, t.TempDir())
	c := d.in(t, "EU01")
	x := d.startTraffic(t, c.ID)
	x.waitFor(t, 50)
	id := fmt.Sprint(c.ID)
	first := d.move(t, "start", id, "--to", "US02")
	x.waitFor(t, 50)
	back := d.move(t, "back", id)
	x.waitFor(t, 50)
	on := d.move(t, "start", id, "--to", "US01")
	x.waitFor(t, 50)
	if first.Reused || !back.Reused || on.Reused {
		t.Errorf("rows that were still there: %v, %v, %v; want no, yes, no", first.Reused, back.Reused, on.Reused)
	}
	x.end()
	for _, f := range x.failed {
		t.Error(f)
	}
	x.hold(t)
	t.Logf("%d calls, %d writes, the slowest took %s; nobody owned the company for %s, %s and %s", x.calls, len(x.written), x.slowest,
		time.Duration(first.PauseNS), time.Duration(back.PauseNS), time.Duration(on.PauseNS))
	// Lists and fences agree on where it lives.
	var shown struct {
		Region string
		Epoch  int64
	}
	if err := json.Unmarshal(d.mpr(t, "company", "show", id, "--json"), &shown); err != nil || shown.Region != "US01" || shown.Epoch != 4 {
		t.Errorf("it lives in %+v %v", shown, err)
	}
	proof := string(d.mpr(t, "move", "proof", id))
	if strings.Count(proof, "phase ") != 3 || !strings.Contains(proof, "lives there") || strings.Count(proof, "unreachable copy") != 2 {
		t.Error(proof)
	}
}

// The process dies in the middle of moves, again and again; the moves go on when it is
// there again, and what was answered is there.
func TestKilledWhileMoving(t *testing.T) {
	d := startDev(t, t.TempDir())
	c := d.in(t, "US02")
	x := d.startTraffic(t, c.ID)
	for round, to := range []string{"EU01", "US01", "US02"} {
		x.waitFor(t, 50)
		// The copying takes two seconds or more, and the process dies within them or soon after.
		var plan struct{ Total int }
		dry := d.mpr(t, "move", "start", fmt.Sprint(c.ID), "--to", to, "--dry-run", "--json")
		if err := json.Unmarshal(dry, &plan); err != nil || plan.Total == 0 {
			t.Fatalf("the plan is %s %v", dry, err)
		}
		d.mpr(t, "move", "start", fmt.Sprint(c.ID), "--to", to, "--rate", fmt.Sprint(max(100, plan.Total/2)))
		x.waitFor(t, 10+20*round)
		d.Kill(t)
		x.end() // what failed meanwhile has no promise
		d.Restart(t)
		x.begin()
		x.waitFor(t, 20)
		d.move(t, "status", fmt.Sprint(c.ID))
		x.waitFor(t, 20)
		for _, f := range x.failed {
			t.Error(f)
		}
	}
	x.end()
	x.hold(t)
}
