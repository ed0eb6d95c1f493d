package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"mpr/bench/machine"
	"mpr/company"
)

const (
	// atOnce bounds the calls under way; a pause of 250 ms at 200 calls/s holds 50 of them.
	atOnce = 2000
	// answerWithin is how long a client waits for an answer.
	answerWithin = 30 * time.Second
	// onTime is how late a call may be sent without being told as late.
	onTime = 5 * time.Millisecond
)

// sent is a call as a client saw it. Its latency counts from when it was due, which is before it
// was sent where the client couldn't keep up.
type sent struct {
	due, begun, done time.Time
	name             string // of what it wrote
	err              error
}

func (c *sent) latency() time.Duration { return c.done.Sub(c.due) }

// overlaps says whether a call was under way at some time between two.
func (c *sent) overlaps(from, to time.Time) bool { return c.due.Before(to) && c.done.After(from) }

// load is calls that are sent at times that are fixed beforehand.
type load struct {
	stop func()

	mu   sync.Mutex
	all  []*sent
	work sync.WaitGroup
}

// every starts calls at a rate, each from its due time on, whatever became of those before. name
// is what the call with that number is known by.
func every(rate float64, name string, call func(ctx context.Context, n int, name string) error) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	slots := make(chan struct{}, atOnce)
	began := time.Now()
	l.work.Go(func() {
		for n := 0; ; n++ {
			due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
			timer := time.NewTimer(time.Until(due))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			slots <- struct{}{}
			c := &sent{due: due, name: fmt.Sprintf("%s %d", name, n)}
			l.mu.Lock()
			l.all = append(l.all, c)
			l.mu.Unlock()
			l.work.Go(func() {
				defer func() { <-slots }()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
				defer cancel()
				c.begun = time.Now()
				c.err = call(ctx, n, c.name)
				c.done = time.Now()
			})
		}
	})
	return l
}

// end stops the sending, waits for the answers, and answers all calls in the order in which they
// were due. It fails where a call failed.
func (l *load) end() ([]*sent, error) {
	l.stop()
	l.work.Wait()
	failed := 0
	var first *sent
	for _, c := range l.all {
		if c.err != nil {
			failed++
			if first == nil {
				first = c
			}
		}
	}
	if failed > 0 {
		return l.all, fmt.Errorf("%d of %d calls failed, the first one %v after it was due: %w", failed, len(l.all), first.latency(), first.err)
	}
	return l.all, nil
}

// late says how many calls were sent too late, and how late the last of them was at the most.
func late(all []*sent) (n int, most time.Duration) {
	for _, c := range all {
		if by := c.begun.Sub(c.due); by > onTime {
			n++
			most = max(most, by)
		}
	}
	return n, most
}

// client calls the gateways as an app does.
type client struct {
	s    *system
	http *http.Client
}

func (s *system) client() *client {
	return &client{s, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}}
}

// call makes a call through one of the gateways.
func (c *client) call(ctx context.Context, gateway int, id company.ID, method, path, body string, want int) ([]byte, error) {
	data, _, err := c.exchange(ctx, gateway, id, method, path, body, want)
	return data, err
}

func (c *client) exchange(ctx context.Context, gateway int, id company.ID, method, path, body string, want int) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.s.gateways[gateway%len(c.s.gateways)]+"/rest/v1.0"+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.s.token)
	req.Header.Set("Procore-Company-Id", id.String())
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, data)
	}
	return data, resp.Header, err
}

// writes makes RFIs of a company, in some of its projects.
func (c *client) writes(id company.ID) func(context.Context, int, string) error {
	return func(ctx context.Context, n int, name string) error {
		body := fmt.Sprintf(`{"rfi":{"subject":%q,"question":"Is it there?"}}`, name)
		_, err := c.call(ctx, n, id, http.MethodPost, fmt.Sprintf("/projects/%d/rfis", 1+n%writtenTo), body, http.StatusCreated)
		return err
	}
}

// writtenTo is how many projects of a company get new RFIs.
const writtenTo = 10

// reads reads RFIs of a company, one at a time.
func (c *client) reads(id company.ID, rows int) func(context.Context, int, string) error {
	return func(ctx context.Context, n int, _ string) error {
		at := n * 7919 % rows // all over them
		_, err := c.call(ctx, n, id, http.MethodGet, fmt.Sprintf("/projects/%d/rfis/%d", 1+at/rowsOfProject, 1+at), "", http.StatusOK)
		return err
	}
}

// ready waits until the company can be called through each gateway.
func (c *client) ready(ctx context.Context, id company.ID) error {
	for gateway := range c.s.gateways {
		err := machine.Eventually(ctx, "call the company", within, again, func(ctx context.Context) error {
			_, err := c.call(ctx, gateway, id, http.MethodGet, "/projects/1", "", http.StatusOK)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hold wants each write that was answered to be there exactly once.
func (c *client) hold(ctx context.Context, id company.ID, all []*sent) error {
	times := map[string]int{}
	for project := 1; project <= writtenTo; project++ {
		for page := 1; ; page++ {
			data, header, err := c.exchange(ctx, 0, id, http.MethodGet, fmt.Sprintf("/projects/%d/rfis?per_page=1000&page=%d", project, page), "", http.StatusOK)
			if err != nil {
				return err
			}
			var rfis []struct{ Subject string }
			if err := json.Unmarshal(data, &rfis); err != nil {
				return err
			}
			for _, r := range rfis {
				times[r.Subject]++
			}
			if !slices.ContainsFunc(header.Values("Link"), func(l string) bool { return strings.Contains(l, `rel="next"`) }) {
				break
			}
		}
	}
	var wrong []error
	for _, s := range all {
		if n := times[s.name]; s.err == nil && n != 1 {
			wrong = append(wrong, fmt.Errorf("%q was answered as written and is there %d times", s.name, n))
		}
	}
	if len(wrong) > 5 {
		wrong = append(wrong[:5], fmt.Errorf("and %d more", len(wrong)-5))
	}
	return errors.Join(wrong...)
}
