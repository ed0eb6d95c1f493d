package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/directory"
)

const (
	environment = "production"
	// within is how long anything may take that isn't measured.
	within = 2 * time.Minute
	// atMost is how long a replica may take until it has heard everything.
	atMost = time.Hour
)

// codes and numbers are the regions that the companies live in, in turn.
var (
	codes     = []company.Region{"US01", "US02", "EU01"}
	numbers   = []int{0, 16, 17}
	onboarded = time.Date(2017, time.March, 1, 0, 0, 0, 0, time.UTC)
)

// number is the i-th company.
func number(i int) company.ID {
	return company.ID(int64(numbers[i%len(numbers)])<<company.RegionShift + 1000 + int64(i/len(numbers)))
}

// all are that many placements.
func all(companies int) iter.Seq[company.Placement] {
	return func(yield func(company.Placement) bool) {
		for i := range companies {
			if !yield(company.Placement{Company: number(i), Region: codes[i%len(codes)], Epoch: 1, Onboarded: onboarded}) {
				return
			}
		}
	}
}

// system is control with the directory's server, and a login service that announces the keys
// that gateways wait for.
type system struct {
	o       options
	dir     string
	address string // of the directory
	secret  string // file of what it is shown
	control *machine.Process
	nc      *nats.Conn
	kept    *directory.Directory
	closes  machine.Cleanup
}

func newSystem(ctx context.Context, o options) (s *system, err error) {
	s = &system{o: o, dir: o.dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "mpr-bench-directory"); err != nil {
			return s, err
		}
		s.closes = append(s.closes, func() error { return os.RemoveAll(s.dir) })
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return s, err
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return s, err
	}
	if err := s.configure(); err != nil {
		return s, err
	}
	s.closes = append(s.closes, s.stopControl)
	if err := s.startControl(ctx); err != nil {
		return s, err
	}
	login, err := s.start(ctx, "login", "login", "--config", filepath.Join(s.dir, "mpr.yaml"))
	if err != nil {
		return s, err
	}
	s.closes = append(s.closes, login.Stop)
	secret, err := os.ReadFile(s.secret)
	if err != nil {
		return s, err
	}
	if s.nc, err = directory.Connect([]string{"nats://" + s.address}, strings.TrimSpace(string(secret)), "bench"); err != nil {
		return s, err
	}
	s.closes = append(s.closes, func() error { s.nc.Close(); return nil })
	return s, machine.Eventually(ctx, "open the directory", within, 100*time.Millisecond, func(ctx context.Context) (err error) {
		s.kept, err = directory.Open(ctx, s.nc, environment, 1)
		return err
	})
}

func (s *system) close() error { return s.closes.Close() }

// start starts a role of the built binary. Whoever starts it stops it.
func (s *system) start(ctx context.Context, name string, args ...string) (*machine.Process, error) {
	return machine.Start(ctx, s.dir, name, s.o.binary, args...)
}

func (s *system) startControl(ctx context.Context) (err error) {
	s.control, err = s.start(ctx, "control", "control", "--config", filepath.Join(s.dir, "mpr.yaml"))
	return err
}

func (s *system) stopControl() error {
	if s.control == nil {
		return nil
	}
	p := s.control
	s.control = nil
	return p.Stop()
}

// configure writes the configuration of control and login service, and that of gateways, which
// has a folder of its own: starts without a copy begin with none of it.
func (s *system) configure() error {
	a, err := machine.FreeAddresses(13)
	if err != nil {
		return err
	}
	s.address, s.secret = a[0], filepath.Join(s.dir, "secret")
	var regions strings.Builder
	for i, code := range codes {
		fmt.Fprintf(&regions, "      - {code: %s, number: %d, listen: %q, internal: %q}\n", code, numbers[i], a[5+2*i], a[6+2*i])
	}
	if err := os.WriteFile(s.secret, []byte(crand.Text()+crand.Text()), 0o600); err != nil {
		return err
	}
	for file, folder := range map[string]string{"mpr.yaml": "data", "gateway.yaml": "gateway"} {
		text := fmt.Sprintf(`data: %q
secret_file: %q
directory: {listen: %q}
control: {listen: %q}
environments:
  - name: %s
    login: {host: login.procore.com, listen: %q}
    api: {host: api.procore.com, listen: %q}
    identity: {internal: %q}
    regions:
%s`, filepath.Join(s.dir, folder), s.secret, a[0], a[1], environment, a[2], a[3], a[4], &regions)
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// load loads the placements, unless they are there.
func (s *system) load(ctx context.Context, r *report) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return err
	}
	name := "KV_" + directory.BucketName("placements", environment)
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	switch there := stream.CachedInfo().State.Msgs; there {
	case uint64(s.o.companies): //nolint:gosec // not negative
		return nil
	case 0:
	default:
		return fmt.Errorf("%s holds %d placements already, not %d", s.dir, there, s.o.companies)
	}
	began := time.Now()
	n, err := s.kept.Load(ctx, all(s.o.companies))
	if err != nil {
		return fmt.Errorf("after %d placements: %w", n, err)
	}
	took := time.Since(began).Seconds()
	r.add("load: placements", "1/s", float64(n)/took)
	r.add("load: all", "s", took)
	// The folder is named by the server, below that of the data.
	streams, err := filepath.Glob(filepath.Join(s.dir, "data", "*", "jetstream", "*", "streams", name))
	if err != nil || len(streams) != 1 {
		return fmt.Errorf("the folder of %s isn't found: %v, %w", name, streams, err)
	}
	bytes, err := size(streams[0])
	if err != nil {
		return err
	}
	r.add("load: on the server's disk", "MB", bytes/1e6)
	now, peak, err := s.control.Memory()
	if err != nil {
		return err
	}
	r.add("load: control with the server, RSS", "MB", now/1e6)
	r.add("load: control with the server, peak of RSS", "MB", peak/1e6)
	return nil
}

// size is how much the files below a folder hold, in bytes.
func size(folder string) (total float64, err error) {
	err = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it is gone since
		}
		if err == nil {
			total += float64(info.Size())
		}
		return err
	})
	return total, err
}
