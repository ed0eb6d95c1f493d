package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"mpr/bench/machine"
)

// halfLoad measures what a proxy adds to the latency of calls at half of the rate that it takes
// at the most: the same calls at the same rate go to the upstream directly, in the same round.
func (j *job) halfLoad(ctx context.Context, proxies []*proxy, r *report) error {
	for i, p := range proxies {
		if err := j.script(fmt.Sprintf("%d.lua", i), p.tokens); err != nil {
			return err
		}
		r.progress("what " + p.name + " takes at the most")
		most, err := j.load(ctx, fmt.Sprintf("%d.lua", i), p.url(false), j.o.length)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		rate := float64(most.Calls) / most.Micros * 1e6 / 2
		for round := range j.o.rounds {
			r.progress(fmt.Sprintf("latency of %s at %.0f calls/s, round %d of %d", p.name, rate, round+1, j.o.rounds))
			direct, err := j.paced(ctx, j.upstreams[0], p.tokens, rate)
			if err != nil {
				return fmt.Errorf("the upstream: %w", err)
			}
			through, err := j.paced(ctx, p.address, p.tokens, rate)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			r.addLatency(p.name, latency{
				Rate: rate, P50: machine.At(through, 0.5), P99: machine.At(through, 0.99),
				Added50: machine.At(through, 0.5) - machine.At(direct, 0.5), Added99: machine.At(through, 0.99) - machine.At(direct, 0.99),
			})
		}
	}
	return nil
}

// paced sends calls at a rate over all connections, and answers how long each took, in
// milliseconds. A call that comes late because the one before it was late counts from when it was
// due; one that this program itself was late with counts from when it was sent.
func (j *job) paced(ctx context.Context, address string, accessTokens []string, rate float64) ([]float64, error) {
	n := j.o.connections
	took, failed := make([][]float64, n), make([]error, n)
	began := time.Now().Add(10 * time.Millisecond)
	gap := time.Duration(float64(n) / rate * float64(time.Second))
	var callers sync.WaitGroup
	for c := range n {
		callers.Go(func() {
			first := began.Add(gap * time.Duration(c) / time.Duration(n))
			took[c], failed[c] = j.caller(ctx, address, accessTokens, c, first, gap, began.Add(j.o.length))
		})
	}
	callers.Wait()
	var all []float64
	for _, t := range took {
		all = append(all, t...)
	}
	return all, errors.Join(failed...)
}

// caller sends the calls of one connection.
func (j *job) caller(ctx context.Context, address string, accessTokens []string, c int, due time.Time, gap time.Duration, end time.Time) (took []float64, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	var requests [][]byte
	for i := c; i < called; i += j.o.connections {
		requests = append(requests, fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: api.procore.com\r\nAccept: */*\r\nUser-Agent: bench\r\nProcore-Company-Id: %d\r\nAuthorization: Bearer %s\r\n\r\n",
			path(i), number(j.calledOne(i)), accessTokens[i%tokens]))
	}
	for i := 0; due.Before(end) && ctx.Err() == nil; i++ {
		from := due
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
			from = time.Now()
		}
		if _, err := conn.Write(requests[i%len(requests)]); err != nil {
			return took, err
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return took, err
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || n != bodySize {
			return took, fmt.Errorf("answered %s with %d bytes: %w", resp.Status, n, err)
		}
		resp.Body.Close()
		took = append(took, float64(time.Since(from))/float64(time.Millisecond))
		due = due.Add(gap)
	}
	return took, ctx.Err()
}
