package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"mpr/bench/machine"
)

// copyFile is the copy on disk that the replica of [system.memory] leaves; those of the others
// begin with it.
func (s *system) copyFile() string { return filepath.Join(s.dir, "replica") }

// memory measures a replica that has none of the directory at first, and its copy on disk.
func (s *system) memory(ctx context.Context, r *report) (err error) {
	if err := os.Remove(s.copyFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	c, err := s.follow(ctx, s.copyFile())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.ready(s.o.companies); err != nil {
		return err
	}
	r.add("replica: from nothing until it is in step", "s", c.first.Took.Seconds())
	m, err := c.ask(question{Memory: true})
	if err != nil {
		return err
	}
	r.add("replica: Go heap when loaded", "MB", float64(m.Heap)/1e6)
	r.add("replica: Go heap after a GC", "MB", float64(m.Kept)/1e6)
	r.add("replica: the same for each company", "bytes", float64(m.Kept)/float64(s.o.companies))
	r.add("replica: RSS", "MB", m.RSS/1e6)
	r.add("replica: peak of RSS", "MB", m.Peak/1e6)
	if err := s.pages(c, r); err != nil {
		return err
	}
	return s.lookups(ctx, c, r)
}

// pages measures lists for people, which walk the whole replica.
func (s *system) pages(c *child, r *report) error {
	var took []time.Duration
	for range 10 {
		a, err := c.ask(question{Page: number(rand.N(s.o.companies))})
		if err != nil {
			return err
		}
		took = append(took, a.Took)
	}
	r.add("replica: a page of 100 (Page)", "ms", milliseconds(took)...)
	return nil
}

// lookups measures lookups while companies move.
func (s *system) lookups(ctx context.Context, c *child, r *report) error {
	const rounds, length = 5, 2 * time.Second
	ctx, cancel := context.WithCancel(ctx)
	var moving sync.WaitGroup
	var moved int
	var failed error
	moving.Go(func() {
		for ctx.Err() == nil && failed == nil {
			if _, err := s.move(ctx, number(rand.N(s.o.companies)), nil); err != nil && ctx.Err() == nil {
				failed = err
			}
			moved++
		}
	})
	began := time.Now()
	for _, n := range []int{1, 2} {
		var rate, each, cpu, allocated []float64
		for range rounds {
			a, err := c.ask(question{Lookup: &lookups{n, s.o.companies, length}})
			if err != nil {
				cancel()
				moving.Wait()
				return err
			}
			rate = append(rate, float64(a.Lookups)/a.Took.Seconds()/1e6)
			each = append(each, float64(a.Took.Nanoseconds())*float64(n)/float64(a.Lookups))
			cpu = append(cpu, float64(a.CPU.Nanoseconds())/float64(a.Lookups))
			allocated = append(allocated, float64(a.Allocated)/float64(a.Lookups))
		}
		r.add(fmt.Sprintf("lookups: %d goroutine(s)", n), "million/s", rate...)
		r.add(fmt.Sprintf("lookups: %d goroutine(s), each", n), "ns", each...)
		r.add(fmt.Sprintf("lookups: %d goroutine(s), CPU time of each (with the watch)", n), "ns", cpu...)
		r.add(fmt.Sprintf("lookups: %d goroutine(s), allocations for each (those of the watch among them)", n), "", allocated...)
	}
	took := time.Since(began).Seconds()
	cancel()
	moving.Wait()
	r.add("lookups: changes meanwhile", "1/s", float64(moved)/took)
	return failed
}

// changes measures the time from a change to the last replica that has heard of it.
func (s *system) changes(ctx context.Context, r *report) (err error) {
	children, err := s.children(ctx)
	defer func() {
		for _, c := range children {
			err = errors.Join(err, c.stop())
		}
	}()
	if err != nil {
		return err
	}
	var synced []float64
	for _, c := range children {
		if err := c.ready(s.o.companies); err != nil {
			return err
		}
		synced = append(synced, c.first.Took.Seconds())
	}
	r.add(fmt.Sprintf("replica: %d at once, each with its copy, until in step", len(children)), "s", synced...)
	var last, afterwards, written []time.Duration
	for range s.o.changes {
		t, err := s.move(ctx, number(rand.N(s.o.companies)), children)
		if err != nil {
			return err
		}
		last, written = append(last, t.last-t.began), append(written, t.answered-t.began)
		afterwards = append(afterwards, max(t.last-t.answered, 0))
	}
	r.add("change: until the directory has answered (synced)", "ms", milliseconds(written)...)
	r.add(fmt.Sprintf("change: until the last of %d replicas", len(children)), "ms", milliseconds(last)...)
	r.add("change: the same from the answer on (0: it knew before)", "ms", milliseconds(afterwards)...)
	return nil
}

// children starts all replicas at once, each with a copy of the same file.
func (s *system) children(ctx context.Context) (all []*child, err error) {
	data, err := os.ReadFile(s.copyFile())
	if err != nil {
		return nil, err
	}
	for i := range s.o.replicas {
		file := s.copyFile() + " " + strconv.Itoa(i+1)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return all, err
		}
		c, err := s.follow(ctx, file)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, nil
}

// moment is when a change was asked for, answered, and known to the last replica.
type moment struct{ began, answered, last time.Duration }

// starts measures how long gateways take from their start until they are ready: without a copy
// on disk, with one, and with one while the directory is gone.
func (s *system) starts(ctx context.Context, r *report) error {
	folder := filepath.Join(s.dir, "gateway")
	var without, with, stepped, gone []time.Duration
	var rss, peak []float64
	for range s.o.rounds {
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
		for _, to := range []*[]time.Duration{&without, &with} {
			g, err := s.gateway(ctx, true)
			if err != nil {
				return err
			}
			if *to = append(*to, g.ready); to == &with {
				stepped = append(stepped, g.inStep)
			} else {
				rss, peak = append(rss, g.rss/1e6), append(peak, g.peak/1e6)
			}
		}
	}
	if err := s.stopControl(); err != nil {
		return err
	}
	for range s.o.rounds {
		g, err := s.gateway(ctx, false)
		if err != nil {
			return err
		}
		gone = append(gone, g.ready)
	}
	back, err := s.again(ctx)
	if err != nil {
		return err
	}
	r.add("gateway: ready without a copy", "ms", milliseconds(without)...)
	r.add("gateway: RSS then", "MB", rss...)
	r.add("gateway: peak of RSS then", "MB", peak...)
	r.add("gateway: ready with its copy", "ms", milliseconds(with)...)
	r.add("gateway: in step with its copy", "ms", milliseconds(stepped)...)
	r.add("gateway: ready with its copy, directory gone", "ms", milliseconds(gone)...)
	r.add("control with the server: until it answers again", "ms", milliseconds([]time.Duration{back})...)
	return nil
}

// again starts control, and answers how long that took until a placement could be read.
func (s *system) again(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := s.startControl(ctx); err != nil {
		return 0, err
	}
	err := machine.Eventually(ctx, "the directory answers again", within, 10*time.Millisecond, func(ctx context.Context) error {
		_, _, err := s.kept.Get(ctx, number(0))
		return err
	})
	return time.Since(began), err
}

// started is how a gateway started.
type started struct {
	ready, inStep time.Duration
	rss, peak     float64
}

// gateway starts a gateway and stops it when it is ready and, where the directory is there, in
// step with it.
func (s *system) gateway(ctx context.Context, there bool) (g started, err error) {
	address, err := machine.FreeAddresses(1)
	if err != nil {
		return g, err
	}
	url := "http://" + address[0]
	began := time.Now()
	p, err := s.start(ctx, "gateway", "gateway", "--config", filepath.Join(s.dir, "gateway.yaml"), "--operations", address[0])
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	err = machine.Eventually(ctx, "a gateway is ready", atMost, 2*time.Millisecond, func(ctx context.Context) error {
		_, err := get(ctx, url+"/readyz")
		return err
	})
	if err != nil {
		return g, err
	}
	g.ready = time.Since(began)
	var text string
	err = machine.Eventually(ctx, "a gateway is in step", atMost, 10*time.Millisecond, func(ctx context.Context) (err error) {
		if text, err = get(ctx, url+"/metrics"); err != nil || !there {
			return err
		}
		age, err := metric(text, "mpr_replica_age_seconds")
		return errors.Join(err, unless(age < 3600))
	})
	if err != nil {
		return g, err
	}
	g.inStep = time.Since(began)
	n, err := metric(text, "mpr_replica_companies")
	if err != nil || int(n) != s.o.companies {
		return g, fmt.Errorf("the gateway knows %.0f companies, not %d: %w", n, s.o.companies, err)
	}
	g.rss, g.peak, err = p.Memory()
	return g, err
}

func get(ctx context.Context, url string) (text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return string(data), err
}

// metric is the value of a metric with one series.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+"{"); ok {
			_, value, _ := strings.Cut(rest, "} ")
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}
