package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"

	"mpr/company"
)

const (
	// clients work on each company, each of them so often at the most; after a failure they
	// wait for longer, so that little is left in doubt.
	clients   = 2
	callEvery = 200 * time.Millisecond
	failEvery = time.Second
)

// traffic is what the clients of a company do, and what they were answered. They make
// projects, give one of them new names, and read its name.
type traffic struct {
	s       *system
	company company.ID
	began   time.Time
	stop    context.CancelFunc
	ctx     context.Context
	work    sync.WaitGroup

	mu       sync.Mutex
	register int64            // the project that gets new names
	made     map[int64]string // projects that were answered 201
	names    []porcupine.Operation
	wrong    []string         // answers of somebody who doesn't own the company
	failed   map[int][]string // by gateway: calls without a good answer
	good     map[int]int      // by gateway: how many in a row went well
	written  int              // writes that went well
}

func (s *system) traffic(id company.ID) *traffic {
	s.t.Helper()
	x := &traffic{s: s, company: id, began: time.Now(), made: map[int64]string{}, failed: map[int][]string{}, good: map[int]int{}}
	s.eventually("make a first project", func(context.Context) error {
		x.create(0, "register")
		for x.register = range x.made {
			return nil
		}
		return fmt.Errorf("%v %v", x.failed, x.wrong)
	})
	x.names = append(x.names, porcupine.Operation{Input: naming{"register"}, Output: "register", Call: 0, Return: time.Since(x.began).Nanoseconds()})
	clear(x.failed)
	x.wrong = nil
	x.ctx, x.stop = context.WithCancel(context.Background())
	for n := range clients {
		x.work.Go(func() { x.client(n) })
	}
	s.t.Cleanup(x.end)
	return x
}

func (s *system) traffics(ids []company.ID) []*traffic {
	s.t.Helper()
	all := make([]*traffic, len(ids))
	for i, id := range ids {
		all[i] = s.traffic(id)
	}
	return all
}

func (x *traffic) end() { x.stop(); x.work.Wait() }

func (x *traffic) client(n int) {
	tick := time.NewTicker(callEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		gateway, name := (n+i)%2, fmt.Sprintf("client %d, %d", n, i)
		well := true
		switch i % 3 {
		case 0:
			well = x.create(gateway, name)
		case 1:
			well = x.name(gateway, name)
		case 2:
			well = x.name(gateway, "")
		}
		wait := tick.C
		if !well {
			wait = time.After(failEvery)
		}
		select {
		case <-x.ctx.Done():
			return
		case <-wait:
		}
	}
}

// call makes a call by a gateway, and says how it went. done is false where it has certainly
// had no effect.
func (x *traffic) call(gateway int, method, path, name string, want int, out any) (well, done bool) {
	body := ""
	if name != "" {
		body = fmt.Sprintf(`{"project":{"name":%q}}`, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, x.s.gateways[gateway]+path, strings.NewReader(body))
	if err != nil {
		panic(err) // the test is wrong
	}
	req.Header.Set("Authorization", "Bearer "+x.s.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Procore-Company-Id", x.company.String())
	began := time.Now()
	status, data, err := exchange(req)
	if err == nil && status == want {
		if err = json.Unmarshal(data, out); err == nil {
			x.mu.Lock()
			x.good[gateway]++
			if method != http.MethodGet {
				x.written++
			}
			x.mu.Unlock()
			return true, true
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.good[gateway] = 0
	what := fmt.Sprintf("%s %s %s by gateway %d after %s: %d %s %v", began.Format("15:04:05.000"), method, path, gateway+1, time.Since(began).Round(time.Millisecond), status, data, err)
	// Of what is refused, only what can't be reached is an answer that anybody may give: that a
	// project isn't there, or that the app isn't known, says who doesn't have the company's rows.
	if err == nil && status < http.StatusInternalServerError {
		x.wrong = append(x.wrong, what)
	} else {
		x.failed[gateway] = append(x.failed[gateway], what)
	}
	return false, !errors.Is(err, syscall.ECONNREFUSED)
}

func (x *traffic) create(gateway int, name string) bool {
	var p struct{ ID int64 }
	well, _ := x.call(gateway, http.MethodPost, "/rest/v1.0/projects", name, http.StatusCreated, &p)
	if well {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.made[p.ID] = name
	}
	return well
}

// naming gives the project a name, or reads it where there is none.
type naming struct{ name string }

// maybe is the output of a write whose answer didn't come.
const maybe = "maybe"

// name gives the register a name, or reads it.
func (x *traffic) name(gateway int, name string) bool {
	method := http.MethodGet
	if name != "" {
		method = http.MethodPatch
	}
	var p struct{ Name string }
	op := porcupine.Operation{Input: naming{name}, Call: time.Since(x.began).Nanoseconds()}
	well, done := x.call(gateway, method, fmt.Sprintf("/rest/v1.0/projects/%d", x.register), name, http.StatusOK, &p)
	op.Output, op.Return = p.Name, time.Since(x.began).Nanoseconds()
	if !well {
		op.Output, op.Return = maybe, math.MaxInt64
	}
	if well || name != "" && done {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.names = append(x.names, op)
	}
	return well
}

// register is a name, which each write replaces and each read finds.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(naming); in.name != "" { //nolint:forcetypeassert,errcheck // it is ours
			return true, in.name
		}
		return output == state, state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " ", output) },
}

// anew has calls that went well counted from now on.
func (x *traffic) anew() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.good)
}

// writes waits until one more write has gone well.
func (x *traffic) writes() {
	x.s.t.Helper()
	x.mu.Lock()
	before := x.written
	x.mu.Unlock()
	x.s.eventually(fmt.Sprint("a write of company ", x.company), func(context.Context) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.written > before {
			return nil
		}
		return fmt.Errorf("%d writes went well", before)
	})
}

// flows waits until calls go well by each gateway.
func (x *traffic) flows() {
	x.s.t.Helper()
	x.s.eventually(fmt.Sprint("calls of company ", x.company), func(context.Context) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.good[0] > 2 && x.good[1] > 2 {
			return nil
		}
		return fmt.Errorf("%v went well; %v", x.good, x.failed)
	})
}

// hold ends the traffic and wants all that was answered to be true. excused are gateways by
// which calls may have failed.
func (x *traffic) hold(excused ...int) {
	t := x.s.t
	t.Helper()
	x.end()
	for _, what := range x.wrong {
		t.Errorf("company %d: it was answered by somebody who doesn't own it: %s", x.company, what)
	}
	for _, gateway := range excused {
		delete(x.failed, gateway)
	}
	for _, failed := range x.failed {
		t.Errorf("company %d: %d calls failed, the first one: %s", x.company, len(failed), failed[0])
	}
	if result := porcupine.CheckOperationsTimeout(register, x.names, within); result != porcupine.Ok {
		t.Errorf("company %d: a history of %d operations is no history of one register: %v", x.company, len(x.names), result)
	}
	var list []struct {
		ID   int64
		Name string
	}
	if well, _ := x.call(0, http.MethodGet, "/rest/v1.0/projects?per_page=1000", "", http.StatusOK, &list); !well {
		t.Fatalf("company %d: its projects can't be listed: %v %v", x.company, x.failed, x.wrong)
	}
	found, names := map[int64]bool{}, map[string]int{}
	for _, p := range list {
		found[p.ID] = true
		if p.ID != x.register {
			names[p.Name]++
		}
	}
	for id, name := range x.made {
		if !found[id] {
			t.Errorf("company %d: project %d, %q, was answered 201 and isn't there", x.company, id, name)
		}
	}
	for name, n := range names {
		if n > 1 {
			t.Errorf("company %d: %q is there %d times", x.company, name, n)
		}
	}
}
