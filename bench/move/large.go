package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"mpr/bench/machine"
	"mpr/control"
	"mpr/move"
)

// aRow stands once in each row of a page: keys of JSON objects come quoted, and no text of ours
// has quotes.
var aRow = []byte(`"company_id":`)

// way is a way from the mover to a region, on which rows are counted.
type way struct {
	read, brought atomic.Int64
}

// serve opens the way to an address, and answers its own.
func (w *way) serve(s **system) func(to string) (string, error) {
	return func(to string) (string, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
		proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // a mover that is killed breaks off
		proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 8}
		proxy.ModifyResponse = func(r *http.Response) error {
			if r.Request.Method == http.MethodGet && strings.HasSuffix(r.Request.URL.Path, "/rows") {
				r.Body = &counted{ReadCloser: r.Body, n: &w.read}
			}
			return nil
		}
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/rows") {
				r.Body = &counted{ReadCloser: r.Body, n: &w.brought}
			}
			proxy.ServeHTTP(rw, r)
		})}
		go func() { _ = server.Serve(l) }() // until it is closed
		(*s).closes = append((*s).closes, server.Close)
		return l.Addr().String(), nil
	}
}

// counted counts the rows that pass.
type counted struct {
	io.ReadCloser
	n    *atomic.Int64
	rest []byte // the beginning of a mark, perhaps
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.rest = append(c.rest, p[:n]...)
	c.n.Add(int64(bytes.Count(c.rest, aRow)))
	keep := min(len(c.rest), len(aRow)-1)
	c.rest = append(c.rest[:0], c.rest[len(c.rest)-keep:]...)
	return n, err
}

// big moves a company of very many rows, and kills the mover in the midst.
func big(ctx context.Context, o options) (err error) {
	fmt.Printf("\nLarge company: %d rows, at %.0f writes/s; %s\n", o.rows, o.writes, "load of the machine "+machine.Load())
	var w way
	s := &system{}
	s, err = newSystem(ctx, o, w.serve(&s))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	began := time.Now()
	id, err := s.found(ctx, here, o.rows)
	if err != nil {
		return err
	}
	fmt.Printf("made in %v\n", time.Since(began).Round(time.Second))
	if err := s.restart(ctx, string(here)); err != nil { // what the making took isn't its own
		return err
	}
	c := s.client()
	if err := errors.Join(s.grant(ctx), c.ready(ctx, id)); err != nil {
		return err
	}
	l := every(o.writes, "write", c.writes(id))
	if err := s.ask(ctx, id, there, 0); err != nil {
		return err
	}
	m, died, err := s.interrupted(ctx, id.String(), o.rows)
	calls, failed := l.end()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if err := errors.Join(s.grant(ctx), c.hold(ctx, id, calls)); err != nil {
		return err
	}
	fmt.Printf("%d calls, none failed; each write that was answered is there once. %s\n", len(calls), lateness(calls))
	var latencies []time.Duration
	for _, c := range calls {
		latencies = append(latencies, c.latency())
	}
	head("latency of calls, ms")
	sorted(latencies).row("all along")
	head("of the change-over, ms")
	cut, over := entered(m, move.Cutting), entered(m, move.Retained)
	sorted([]time.Duration{worst(calls, cut.Add(-margin), over.Add(margin))}).row("largest latency")
	sorted([]time.Duration{m.Pause}).row("pause_ns: nobody owned the company")
	copied := took(m, move.Copying, move.Following)
	fmt.Printf("copied in %.0f s, the mover's absence of %.1f s included: %.0f rows/s without it\n", copied, died.Seconds(), float64(o.rows)/(copied-died.Seconds()))
	fmt.Printf("changes and comparing both sides: %.0f s; the whole move: %.0f s\n", took(m, move.Following, move.Ready), over.Sub(m.Requested).Seconds())
	fmt.Printf("%d rows were copied: %d of them were read twice, and %d sent twice, since the mover was killed\n", m.Copied, w.read.Load()-m.Copied, w.brought.Load()-m.Copied)
	return s.peaks()
}

// restart stops a process and starts it again.
func (s *system) restart(ctx context.Context, name string) error {
	if err := s.processes[name].stop(); err != nil {
		return err
	}
	return s.start(ctx, name)
}

// interrupted kills the mover when half of the rows are there, starts it again and waits for the
// end of the move. It answers for how long nothing was copied.
func (s *system) interrupted(ctx context.Context, id string, rows int) (m control.ProvenMove, died time.Duration, err error) {
	var now control.Move
	look := func(what string, done func() bool) error {
		return machine.Eventually(ctx, what, 12*time.Hour, again, func(ctx context.Context) (err error) {
			if now, err = s.admin.Move(ctx, id); err == nil && !done() {
				err = fmt.Errorf("the move is %s: %s", now.Phase, now.Problem)
			}
			return err
		})
	}
	if err := look("copy half of the rows", func() bool { return now.Copied > int64(rows)/2 || now.Phase.Over() }); err != nil {
		return m, 0, err
	}
	_, peak, err := s.processes["control"].Memory()
	if err != nil {
		return m, 0, err
	}
	killed, before := time.Now(), now.Copied
	if err := s.processes["control"].Kill(); err != nil {
		return m, 0, err
	}
	fmt.Printf("the mover is killed when about %d rows are there; its peak until then: %.0f MB\n", before, peak/(1<<20))
	if err := s.start(ctx, "control"); err != nil {
		return m, 0, err
	}
	if err := look("go on", func() bool { return now.Copied > before+2000 }); err != nil {
		return m, 0, err
	}
	died = time.Since(killed)
	if err := look("change over", func() bool { return now.Phase.Over() }); err != nil {
		return m, 0, err
	}
	if now.Phase == move.Aborted {
		return m, 0, fmt.Errorf("the move was given up: %s", now.Problem)
	}
	m, err = s.proven(ctx, now.Company)
	return m, died, err
}

// peaks prints how much memory each process has had at the most.
func (s *system) peaks() error {
	fmt.Printf("peak of memory:")
	for _, name := range []string{"control", string(here), string(there), "gateway 1"} {
		_, bytes, err := s.processes[name].Memory()
		if err != nil {
			return err
		}
		fmt.Printf(" %s %.0f MB;", name, bytes/(1<<20))
	}
	fmt.Println()
	return nil
}
