package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/directory"
)

// look is how often a follower looks whether a change has come. It looks only while one is
// under way.
const look = 100 * time.Microsecond

// A follower is a process with a replica. It takes a question, and gives an answer, as a line of
// JSON each.
type follower struct {
	address, secret, file string
	replica               *directory.Replica
}

// question is what a follower is asked: one of its fields.
type question struct {
	Memory bool       `json:"memory,omitempty"`
	Await  *change    `json:"await,omitempty"`
	Lookup *lookups   `json:"lookup,omitempty"`
	Page   company.ID `json:"page,omitempty"` // list the companies after this one
}

type change struct {
	Company company.ID    `json:"company"`
	Epoch   company.Epoch `json:"epoch"`
}

// lookups are looked up by that many goroutines, of that many companies.
type lookups struct {
	Goroutines int           `json:"goroutines"`
	Companies  int           `json:"companies"`
	Length     time.Duration `json:"length"`
}

type answer struct {
	Error     string        `json:"error,omitempty"`
	Companies int           `json:"companies,omitempty"`
	Took      time.Duration `json:"took,omitempty"`
	// At is when a change was seen, by the clock of all processes of the machine.
	At time.Duration `json:"at,omitempty"`
	// Heap is what Go has in use, and Kept that after a collection.
	Heap, Kept uint64
	RSS, Peak  float64
	Lookups    int64
	CPU        time.Duration
	Allocated  uint64
}

// clock is the time since the start of the machine: the same in all processes.
func clock() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

// processor is the time that this process has used on processors, whatever else they do.
func processor() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}

// run is the process: it says when the replica is in step, then answers questions until there
// are no more.
func (f *follower) run(ctx context.Context) (err error) {
	secret, err := os.ReadFile(f.secret)
	if err != nil {
		return err
	}
	nc, err := directory.Connect([]string{"nats://" + f.address}, strings.TrimSpace(string(secret)), "bench replica")
	if err != nil {
		return err
	}
	defer nc.Close()
	began := time.Now()
	if f.replica, err = directory.OpenReplica(nc, environment, f.file); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.replica.Close()) }()
	// Ready is content with a copy on disk after a while; what is measured here is in step.
	if err := machine.Eventually(ctx, "follow the directory", atMost, 5*time.Millisecond, func(context.Context) error { return unless(f.replica.Age() < time.Hour) }); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(answer{Companies: f.replica.Len(), Took: time.Since(began)}); err != nil {
		return err
	}
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var q question
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := f.answer(ctx, q)
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func (f *follower) answer(ctx context.Context, q question) (a answer, err error) {
	switch {
	case q.Memory:
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		a.Heap = m.HeapAlloc
		runtime.GC()
		runtime.GC() // what the first found to be free is swept by the second
		runtime.ReadMemStats(&m)
		a.Kept = m.HeapAlloc
		a.RSS, a.Peak, err = machine.Memory(os.Getpid())
	case q.Await != nil:
		a.At, err = f.await(ctx, *q.Await)
	case q.Lookup != nil:
		a, err = f.lookup(ctx, *q.Lookup)
	case q.Page != 0:
		began := time.Now()
		a.Companies = len(f.replica.Page(q.Page, 100, ""))
		a.Took = time.Since(began)
	}
	return a, err
}

var errNotYet = errors.New("not yet")

// unless is an error until something is so.
func unless(so bool) error {
	if so {
		return nil
	}
	return errNotYet
}

// await answers when a change was seen.
func (f *follower) await(ctx context.Context, c change) (at time.Duration, err error) {
	err = machine.Eventually(ctx, fmt.Sprintf("company %d at epoch %d", c.Company, c.Epoch), within, look, func(context.Context) error {
		p, _ := f.replica.Placement(c.Company)
		return unless(p.Epoch >= c.Epoch)
	})
	if err != nil {
		return 0, err
	}
	return clock()
}

// lookup looks up random companies for a while.
func (f *follower) lookup(ctx context.Context, l lookups) (a answer, err error) {
	const atOnce = 1000
	var missing atomic.Int64
	var count atomic.Int64
	var before, after runtime.MemStats
	var group sync.WaitGroup
	ids := make([]company.ID, 1<<20) // drawn beforehand: what is measured is the lookup
	for i := range ids {
		ids[i] = number(rand.N(l.Companies))
	}
	runtime.ReadMemStats(&before)
	used, err := processor()
	if err != nil {
		return a, err
	}
	began := time.Now()
	for range l.Goroutines {
		at := rand.N(len(ids))
		group.Go(func() {
			for time.Since(began) < l.Length && ctx.Err() == nil {
				for range atOnce {
					at = (at + 1) & (len(ids) - 1)
					if _, ok := f.replica.Placement(ids[at]); !ok {
						missing.Add(1)
					}
				}
				count.Add(atOnce)
			}
		})
	}
	group.Wait()
	a.Took = time.Since(began)
	if a.CPU, err = processor(); err != nil {
		return a, err
	}
	a.CPU -= used
	runtime.ReadMemStats(&after)
	a.Lookups, a.Allocated = count.Load(), after.Mallocs-before.Mallocs
	if n := missing.Load(); n > 0 {
		return a, fmt.Errorf("%d of %d companies weren't found", n, a.Lookups)
	}
	return a, nil
}

// child is a follower as its parent sees it.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	write *json.Encoder
	read  *json.Decoder
	first answer
}

// follow starts a follower, which says when its replica is in step: see [child.ready].
func (s *system) follow(ctx context.Context, file string) (c *child, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "--follow", s.address, "--secret", s.secret, "--copy", file) //nolint:gosec // ourselves
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, in: in, write: json.NewEncoder(in), read: json.NewDecoder(out)}, nil
}

// ready waits until the replica is in step, and fails where it doesn't hold that many companies.
func (c *child) ready(companies int) error {
	if err := c.read.Decode(&c.first); err != nil {
		return fmt.Errorf("a process with a replica: %w", err)
	}
	if c.first.Companies != companies {
		return fmt.Errorf("a replica holds %d companies, not %d", c.first.Companies, companies)
	}
	return nil
}

func (c *child) ask(q question) (a answer, err error) {
	if err := c.write.Encode(q); err != nil {
		return a, err
	}
	if err := c.read.Decode(&a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// stop ends a follower, which writes its copy before.
func (c *child) stop() error {
	return errors.Join(c.in.Close(), c.cmd.Wait())
}
