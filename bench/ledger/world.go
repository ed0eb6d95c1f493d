package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/directory"
	"mpr/ledger"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
	"mpr/token"
)

const (
	environment = "bench"
	ledgerKind  = "ledger"
	issuer      = "https://login.procore.com"
	secret      = "only-on-loopback-while-this-runs"
	companies   = 1000
	apps        = 100
)

// world is all but the gateways.
type world struct {
	dir    string
	self   string
	server *directory.Server
	nc     *nats.Conn
	ring   *token.Ring
	book   *ledger.Book
	db     *store.DB
	region *http.Server
	url    string
	tokens []string
	closes machine.Cleanup
}

// newWorld makes the directory, the tokens and the region, and keeps this process off the
// gateways' core.
func newWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if out, err := exec.CommandContext(ctx, "taskset", "-apc", "1", strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return w, fmt.Errorf("this needs two cores and taskset (Debian package util-linux): %w: %s", err, out)
	}
	if w.self, err = os.Executable(); err != nil {
		return w, err
	}
	if w.dir, err = os.MkdirTemp("", "mpr-bench-ledger"); err != nil {
		return w, err
	}
	w.closes = append(w.closes, func() error { return os.RemoveAll(w.dir) })
	if w.server, err = directory.StartServer(directory.ServerOptions{Dir: filepath.Join(w.dir, "directory"), Listen: "127.0.0.1:0", Secret: secret}); err != nil {
		return w, err
	}
	w.closes = append(w.closes, func() error { w.server.Close(); return nil })
	if w.nc, err = w.server.Connect("bench"); err != nil {
		return w, err
	}
	w.closes = append(w.closes, func() error { w.nc.Close(); return nil })
	if err := w.serveRegion(); err != nil {
		return w, err
	}
	if err := w.place(ctx); err != nil {
		return w, err
	}
	if err := w.sign(ctx); err != nil {
		return w, err
	}
	if w.db, err = store.Open(ctx, "sqlite:"+filepath.Join(w.dir, "ledger.db"), ledger.Migrations()); err != nil {
		return w, err
	}
	w.closes = append(w.closes, w.db.Close)
	w.book = ledger.OpenBook(w.db, environment, directory.OpenLateStream(w.nc, ledgerKind, environment, 1), func() time.Time { return asOf })
	w.closes = append(w.closes, w.book.Close)
	return w, nil
}

func (w *world) close() {
	if err := w.closes.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/ledger: clean up:", err)
	}
}

func (w *world) serveRegion() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := []byte(`{"padding":"` + strings.Repeat("x", 1024-14) + `"}`)
	w.region = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header()["Content-Type"] = []string{"application/json"}
		_, _ = rw.Write(answer) // the gateway sees what is missing
	})}
	w.url = "http://" + l.Addr().String()
	served := make(chan struct{})
	go func() { defer close(served); _ = w.region.Serve(l) }()
	w.closes = append(w.closes, func() error { err := w.region.Close(); <-served; return err })
	return nil
}

func (w *world) place(ctx context.Context) error {
	d, err := directory.Open(ctx, w.nc, environment, 1)
	if err != nil {
		return err
	}
	if err := d.PutRegion(ctx, company.RegionInfo{Code: "US01", Upstreams: []string{w.url}}); err != nil {
		return err
	}
	_, err = d.Load(ctx, func(yield func(company.Placement) bool) {
		for id := company.ID(1); id <= companies; id++ {
			if !yield(company.Placement{Company: id, Region: "US01", Epoch: 1, Onboarded: time.Date(2015, 5, 4, 0, 0, 0, 0, time.UTC)}) {
				return
			}
		}
	})
	return err
}

func (w *world) sign(ctx context.Context) (err error) {
	buckets, err := token.OpenBuckets(ctx, w.nc, environment, 1)
	if err != nil {
		return err
	}
	if w.ring, err = token.NewRing(ctx, &oneKey{}, buckets, token.RingOptions{Algorithm: "ES256", Lifetime: time.Hour, Now: time.Now}); err != nil {
		return err
	}
	w.closes = append(w.closes, w.ring.Close)
	now := time.Now().Truncate(time.Second)
	for app := int64(1); app <= apps; app++ {
		raw, err := w.ring.Sign(token.Claims{
			Issuer: issuer, Subject: 7, ClientID: fmt.Sprintf("client-%d", app), App: app, Kind: rules.UserToken,
			Grant: "grant", ID: problem.NewRequestID(), IssuedAt: now, Expires: now.Add(time.Hour),
		})
		if err != nil {
			return err
		}
		w.tokens = append(w.tokens, raw)
	}
	return nil
}

// oneKey keeps the signing key of a run.
type oneKey struct {
	mu   sync.Mutex
	keys []token.StoredKey
}

func (k *oneKey) SigningKeys(context.Context) ([]token.StoredKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]token.StoredKey(nil), k.keys...), nil
}

func (k *oneKey) AddSigningKey(_ context.Context, key token.StoredKey, _ bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys, key)
	return nil
}

func (k *oneKey) DeleteSigningKey(context.Context, string) error { return nil }

// contender is a gateway process.
type contender struct {
	process *exec.Cmd
	address string
	calls   int64
	client  *http.Client
}

func (w *world) start(ctx context.Context, counts bool) (*contender, error) {
	cmd := exec.CommandContext(ctx, "env", "GOMAXPROCS=1", "taskset", "-c", "0", w.self, "--directory", w.server.Addr(), "--region", w.url)
	if counts {
		cmd.Args = append(cmd.Args, "--counts", "--profile", filepath.Join(w.dir, profileFile))
	}
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a gateway didn't start: %w", err), cmd.Wait())
	}
	return &contender{process: cmd, address: strings.TrimSpace(line), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}}, nil
}

func (g *contender) stop() {
	if g.process.ProcessState != nil {
		return
	}
	g.client.CloseIdleConnections()
	if err := errors.Join(g.process.Process.Signal(syscall.SIGTERM), g.process.Wait()); err != nil {
		fmt.Fprintln(os.Stderr, "bench/ledger: stop a gateway:", err)
	}
}

// round sends calls for a while and answers CPU microseconds of the gateway per call.
func (w *world) round(ctx context.Context, g *contender, connections int, length time.Duration) (float64, error) {
	before, err := g.cpu()
	if err != nil {
		return 0, err
	}
	parent := ctx
	var calls atomic.Int64
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	failed := make(chan error, connections)
	var callers sync.WaitGroup
	for n := range connections {
		callers.Go(func() {
			for i := n; ctx.Err() == nil; i += connections {
				if err := w.call(g, i); err != nil {
					failed <- err
					return
				}
				calls.Add(1)
			}
		})
	}
	callers.Wait()
	g.calls += calls.Load()
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	if parent.Err() != nil {
		return 0, parent.Err()
	}
	after, err := g.cpu()
	return float64((after - before).Microseconds()) / float64(calls.Load()), err
}

// call makes one call, to its end: what is answered must also be counted.
func (w *world) call(g *contender, i int) error {
	url := fmt.Sprintf("http://%s/rest/v1.0/companies/%d/projects/%d", g.address, i%companies+1, 1000+i%50)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+w.tokens[i%apps])
	req.Header.Set("Procore-Company-Id", strconv.Itoa(i%companies+1))
	resp, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != 1024) {
		err = fmt.Errorf("%s answered %s with %d bytes", url, resp.Status, n)
	}
	return err
}

// cpu is the time that the process's threads have used on processors.
func (g *contender) cpu() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", g.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file) //nolint:gosec // of the kernel
		if err != nil {
			return 0, err
		}
		used, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(used, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n)
	}
	return total, nil
}

const profileFile = "cpu.pprof"

var accounted = regexp.MustCompile(`Showing nodes accounting for [^,]+, ([0-9.]+)% of`)

// share is how much of the counting gateway's CPU time was spent below functions of the
// ledger, in percent.
func (w *world) share(ctx context.Context) (float64, error) {
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodefraction=0", "-nodecount=100000", "-focus=^mpr/ledger", w.self, filepath.Join(w.dir, profileFile)).CombinedOutput() //nolint:gosec // our own files
	if err != nil {
		return 0, fmt.Errorf("read the profile: %w: %s", err, out)
	}
	match := accounted.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("the profile says nothing of the ledger: %s", out)
	}
	return strconv.ParseFloat(string(match[1]), 64)
}

// await waits until the ledger has stored as many calls, and fails where it stores others.
func (w *world) await(ctx context.Context, calls int64) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var stored int64
		if err := w.db.Read().QueryRowContext(ctx, "SELECT COALESCE(SUM(count), 0) FROM ledger").Scan(&stored); err != nil {
			return err
		}
		if stored == calls {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d calls were answered and %d counted: the figures are worth nothing", calls, stored)
		case <-look.C:
		}
	}
}
