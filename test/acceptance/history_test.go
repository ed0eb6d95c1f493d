package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// history is what clients saw who changed the names of a few projects, and read them.
type history struct {
	d        *dev
	company  int64
	token    string
	projects []int64
	began    time.Time

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	ops    []porcupine.Operation
	failed []string
	round  int
	more   chan struct{} // a token for whoever waits for more operations
}

// naming is an operation on a project: it gives a name, or reads it where there is none.
type naming struct {
	project int64
	name    string
}

// maybe is the output of a write whose answer didn't come.
const maybe = "maybe"

// ever is when an operation returns of which nobody knows whether it has happened.
const ever = math.MaxInt64

const (
	historians   = 4
	historyEvery = 20 * time.Millisecond
)

// begin has clients work, each of them until a call fails: a process that dies leaves few
// operations in doubt.
func (h *history) begin() {
	h.round++
	h.ctx, h.stop = context.WithCancel(context.Background())
	for n := range historians {
		h.work.Go(func() {
			tick := time.NewTicker(historyEvery)
			defer tick.Stop()
			for i := 0; h.operate(n, i); i++ {
				select {
				case <-h.ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
}

func (h *history) end() { h.stop(); h.work.Wait() }

// operate does the next operation of a client, and says whether it was answered.
func (h *history) operate(client, i int) bool {
	in := naming{project: h.projects[(client+i)%len(h.projects)]}
	c := call{URL: fmt.Sprintf("%s/rest/v1.0/projects/%d", h.d.Environments[0].API, in.project), Token: h.token, Company: h.company}
	if (client+i/len(h.projects))%2 == 0 {
		in.name = fmt.Sprintf("round %d, client %d, %d", h.round, client, i)
		c.Method, c.JSON = "PATCH", map[string]any{"project": map[string]any{"name": in.name}}
	}
	began := time.Since(h.began).Nanoseconds()
	got, err := c.do(context.Background())
	op := porcupine.Operation{ClientId: client, Input: in, Call: began, Return: time.Since(h.began).Nanoseconds()}
	var project struct{ Name string }
	if err == nil && got.Status == http.StatusOK {
		err = json.Unmarshal(got.Body, &project)
	} else if err == nil {
		err = fmt.Errorf("%v", got)
	}
	if op.Output = project.Name; err != nil {
		op.Output, op.Return = maybe, ever
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.failed = append(h.failed, err.Error())
	}
	if err == nil || in.name != "" { // a read without an answer says nothing
		h.ops = append(h.ops, op)
	}
	select {
	case h.more <- struct{}{}:
	default:
	}
	return err == nil
}

// waitFor waits for more operations.
func (h *history) waitFor(t *testing.T, more int) {
	t.Helper()
	h.mu.Lock()
	goal := len(h.ops) + more
	h.mu.Unlock()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		h.mu.Lock()
		enough := len(h.ops) >= goal || len(h.failed) > 0
		h.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-h.more:
		case <-limit.C:
			t.Fatalf("no %d more operations in a minute", more)
		}
	}
}

// unfailing wants no call to have failed since it was last asked.
func (h *history) unfailing(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.failed {
		t.Error(f)
	}
	h.failed = nil
}

// names is a project's name, which each write replaces and each read finds.
var names = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		byProject := map[int64][]porcupine.Operation{}
		for _, op := range all {
			in, _ := op.Input.(naming)
			byProject[in.project] = append(byProject[in.project], op)
		}
		var parts [][]porcupine.Operation
		for _, ops := range byProject {
			parts = append(parts, ops)
		}
		return parts
	},
	Init: func() any { return "the beginning" },
	Step: func(state, input, output any) (bool, any) {
		in, _ := input.(naming)
		out, _ := output.(string)
		if in.name == "" {
			return out == state, state
		}
		return out == maybe || out == in.name, in.name
	},
}

// What clients see while a company moves, there and on, and the process dies in the middle of
// a move, is what they would see of one region that never moves and never dies.
func TestHistoriesAreLinearizable(t *testing.T) {
	d := startDev(t, t.TempDir())
	c := d.in(t, "EU01")
	h := &history{d: d, company: c.ID, token: d.userTokens(t).Access, began: time.Now(), more: make(chan struct{}, 1)}
	for range 3 {
		var made struct{ ID int64 }
		call{Method: "POST", URL: d.Environments[0].API + "/rest/v1.0/projects", Token: h.token, Company: c.ID,
			JSON: map[string]any{"project": map[string]any{"name": "the beginning"}}}.send(t).want(t, 201).into(t, &made)
		h.projects = append(h.projects, made.ID)
	}
	t.Cleanup(func() { h.end() })
	h.begin()
	id := fmt.Sprint(c.ID)
	for _, to := range []string{"US02", "EU01"} {
		h.waitFor(t, 50)
		d.move(t, "start", id, "--to", to)
		h.unfailing(t)
	}
	h.waitFor(t, 20)
	d.mpr(t, "move", "start", id, "--to", "US01", "--rate", "10")
	h.waitFor(t, 20)
	h.unfailing(t)
	d.Kill(t)
	h.end()
	h.failed = nil // nobody promised an answer
	d.Restart(t)
	h.begin()
	d.move(t, "status", id)
	h.waitFor(t, 50)
	h.unfailing(t)
	h.end()

	result, info := porcupine.CheckOperationsVerbose(names, h.ops, time.Minute)
	t.Logf("%d operations: %s", len(h.ops), result)
	if result != porcupine.Ok {
		picture, err := os.CreateTemp("", "history-*.html") // it stays
		if err == nil {
			err = errors.Join(porcupine.Visualize(names, info, picture), picture.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Fatalf("one region that never moves would never answer like this: look at %s", picture.Name())
	}
	// The checker finds what is wrong.
	last := h.ops[len(h.ops)-1]
	wrong := append(slices.Clone(h.ops), porcupine.Operation{Input: naming{project: h.projects[0]}, Call: last.Return + 1, Output: "the beginning", Return: last.Return + 2})
	if porcupine.CheckOperationsTimeout(names, wrong, time.Minute) == porcupine.Ok {
		t.Error("the checker takes everything for fine")
	}
}
