package faults

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpr/company"
	"mpr/control"
	"mpr/move"
	"mpr/test/engine"
	"mpr/test/loopback"
)

const (
	here  = company.Region("US01")
	there = company.Region("EU01")
	// within is how long anything may take before the test gives up.
	within = time.Minute
)

// system is a whole mpr: each role is a process, and the ways between them can be broken.
type system struct {
	t         *testing.T
	dir       string
	stores    string
	secret    string
	processes map[string]*process
	internal  map[company.Region]string   // the regions' real internal addresses
	ways      map[company.Region]*channel // from the mover to them
	wire      *wire                       // from the second gateway to the directory
	gateways  []string
	login     string
	admin     *control.Client
	steps     *steps
	app       control.App
	token     string
}

// newSystem starts a system with two regions and two gateways.
func newSystem(t *testing.T) *system {
	t.Helper()
	t.Parallel() // nobody else comes to it, and most of a test's time is waiting for leases
	s := &system{t: t, dir: t.TempDir(), stores: engine.Stores(t), secret: crand.Text() + crand.Text(), processes: map[string]*process{},
		internal: map[company.Region]string{}, ways: map[company.Region]*channel{}, steps: newSteps(t)}
	adminToken := crand.Text() + crand.Text()
	s.file("secret", s.secret)
	s.file("admin.token", adminToken)
	a := loopback.FreeAddresses(t, 10)
	nats, admin, login, identity := a[0], a[1], a[2], a[3]
	s.login, s.gateways = "http://"+login, []string{"http://" + a[4], "http://" + a[5]}
	listen := map[company.Region]string{here: a[6], there: a[7]}
	s.internal[here], s.internal[there] = "http://"+a[8], "http://"+a[9]
	for code, to := range s.internal {
		s.ways[code] = newChannel(t, to)
	}
	s.wire = newWire(t, nats)
	for name, role := range map[string]string{
		"directory": "directory", "control": "control", "login": "login", "gateway 1": "gateway", "gateway 2": "gateway",
		string(here): "region " + string(here), string(there): "region " + string(there),
	} {
		api, directory := a[4], nats
		if name == "gateway 2" {
			api, directory = a[5], s.wire.listener.Addr().String()
		}
		urls := fmt.Sprintf(", urls: [\"nats://%s\"]", directory)
		if role == "directory" {
			urls = ""
		}
		var regions strings.Builder
		for i, code := range []company.Region{here, there} {
			internal := s.internal[code]
			if role == "control" { // the mover goes by ways that can be broken
				internal = s.ways[code].server.URL
			}
			fmt.Fprintf(&regions, "      - {code: %s, number: %d, listen: %q, internal: %q}\n", code, 16*i, listen[code], strings.TrimPrefix(internal, "http://"))
		}
		s.file(name+".yaml", fmt.Sprintf(`data: %q
secret_file: %q
stores: {dsn: %q}
directory: {listen: %q%s}
control: {listen: %q, token_file: %q}
moves: {at_once: 64}
gateway: {hold_timeout: 30s, rate_limits: {hour: 0, spike: 0}}
environments:
  - name: production
    login: {host: login.procore.com, listen: %q}
    api: {host: api.procore.com, listen: %q}
    identity: {internal: %q}
    regions:
%s`, filepath.Join(s.dir, name), filepath.Join(s.dir, "secret"), s.stores, nats, urls, admin, filepath.Join(s.dir, "admin.token"), login, api, identity, &regions))
		s.processes[name] = s.process(role, filepath.Join(s.dir, name+".yaml"))
	}
	for _, name := range []string{"directory", "control", "login", "gateway 1", "gateway 2", string(here), string(there)} {
		s.start(name)
	}
	s.admin = control.NewClient("http://"+admin, adminToken, "production")
	s.register()
	return s
}

func (s *system) file(name, text string) {
	s.t.Helper()
	s.check(os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
}

func (s *system) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits until f succeeds.
func (s *system) eventually(what string, f func(ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: still not after %v: %v", what, within, err)
		case <-tick.C:
		}
	}
}

// register makes the app that writes to all companies, and gets its token.
func (s *system) register() {
	s.t.Helper()
	s.eventually("register a service account", func(ctx context.Context) (err error) {
		s.app, err = s.admin.CreateServiceAccount(ctx, control.NewServiceAccount{Name: "Sync", Kind: control.KindDeveloperManaged})
		return err
	})
	s.grant()
}

// grant gets the app's token.
func (s *system) grant() {
	s.t.Helper()
	s.eventually("get a token", func(ctx context.Context) error {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.app.ClientID}, "client_secret": {s.app.ClientSecret}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.login+"/oauth/token", strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		var granted struct {
			Token string `json:"access_token"`
		}
		status, data, err := exchange(req)
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal(data, &granted)
		}
		if s.token = granted.Token; s.token == "" {
			return fmt.Errorf("%d %s %w", status, data, errors.Join(err))
		}
		return err
	})
}

func exchange(req *http.Request) (int, []byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// found makes companies in a region, which the app may write to.
func (s *system) found(n int, where company.Region) []company.ID {
	s.t.Helper()
	ids := make([]company.ID, n)
	for i := range ids {
		key := crand.Text()
		s.eventually("make a company", func(ctx context.Context) error {
			c, err := s.admin.CreateCompany(ctx, control.NewCompany{Name: fmt.Sprint("Company ", i), Region: where, IdempotencyKey: key})
			if err != nil {
				return err
			}
			ids[i] = c.ID
			_, err = s.admin.Install(ctx, s.app.ClientID, c.ID, control.NewInstallation{})
			return err
		})
	}
	return ids
}

// settled waits until the moves of the companies are over for them, wants each company to live
// where its move says, and answers the moves.
func (s *system) settled(ids []company.ID) map[company.ID]move.Move {
	s.t.Helper()
	all := map[company.ID]move.Move{}
	for _, id := range ids {
		s.eventually(fmt.Sprint("the move of company ", id), func(ctx context.Context) error {
			m, err := s.admin.Move(ctx, id.String())
			if err == nil && !m.Phase.Over() {
				err = fmt.Errorf("it is %s: %s", m.Phase, m.Problem)
			}
			all[id] = m
			return err
		})
		m, want := all[id], all[id].To
		if m.Phase == move.Aborted {
			want = m.From
		}
		if lives := s.owned(id); lives != want {
			s.t.Errorf("the move of company %d from %s to %s is %s, and the company lives in %s", id, m.From, m.To, m.Phase, lives)
		}
	}
	return all
}

// owned wants one region to own a company, the one where the directory says it lives.
func (s *system) owned(id company.ID) company.Region {
	s.t.Helper()
	var c control.CompanyDetails
	s.eventually("show a company", func(ctx context.Context) (err error) {
		c, err = s.admin.Company(ctx, id)
		return err
	})
	for code, base := range s.internal {
		var st struct {
			Fence *struct {
				State string
				Epoch company.Epoch
			}
			Arrival *struct{ Move string }
		}
		s.eventually("ask a region for its fence", func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/contract/v1/companies/%d/state", base, id), http.NoBody)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+s.secret)
			status, data, err := exchange(req)
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("%d %s %w", status, data, errors.Join(err))
			}
			return json.Unmarshal(data, &st)
		})
		owns := st.Fence != nil && st.Fence.State == "owned"
		switch {
		case code == c.Region && (!owns || st.Fence.Epoch != c.Epoch):
			s.t.Errorf("company %d lives in %s at epoch %d, and the region says %+v", id, code, c.Epoch, st.Fence)
		case code != c.Region && (owns || st.Arrival != nil || st.Fence != nil && st.Fence.State != "gone"):
			s.t.Errorf("company %d lives in %s, and %s says %+v, %+v", id, c.Region, code, st.Fence, st.Arrival)
		}
	}
	return c.Region
}

// process is a role.
type process struct {
	s     *system
	role  string
	file  string
	log   *os.File
	cmd   *exec.Cmd
	clock io.Writer
}

func (s *system) process(role, file string) *process {
	s.t.Helper()
	log, err := os.Create(file + ".log")
	s.check(err)
	p := &process{s: s, role: role, file: file, log: log}
	s.t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
		text, err := os.ReadFile(log.Name())
		s.check(errors.Join(err, log.Close()))
		for _, sign := range []string{"WARNING: DATA RACE", "panic", `level=ERROR msg="request failed"`} {
			if i := bytes.Index(text, []byte(sign)); i >= 0 {
				s.t.Errorf("the log of %s tells of a fault: %s", role, text[i:min(len(text), i+4000)])
			}
		}
		if s.t.Failed() {
			s.t.Logf("the end of the log of %s:\n%s", role, text[max(0, len(text)-8000):])
		}
	})
	return p
}

func (s *system) start(name string) {
	s.t.Helper()
	p := s.processes[name]
	cmd := exec.Command(os.Args[0]) //nolint:noctx,gosec // it is ended by the test, whose own binary it is
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.Env = append(os.Environ(), envRole+"="+p.role, envConfig+"="+p.file, envSteps+"="+s.steps.server.URL, "GORACE=exitcode=66 atexit_sleep_ms=0")
	var err error
	p.clock, err = cmd.StdinPipe()
	s.check(err)
	s.check(cmd.Start())
	p.cmd = cmd
}

// kill ends a process as a loss of power would.
func (p *process) kill() {
	p.s.t.Helper()
	p.s.check(p.cmd.Process.Kill())
	err := p.cmd.Wait()
	p.cmd = nil
	exit, is := errors.AsType[*exec.ExitError](err)
	if !is {
		p.s.t.Errorf("%s after SIGKILL: %v", p.role, err)
		return
	}
	if status, is := exit.Sys().(syscall.WaitStatus); !is || status.Signal() != syscall.SIGKILL {
		p.s.t.Errorf("%s had ended by itself: %v", p.role, err)
	}
}

// jump sets a process's clock ahead of the true time, or behind it.
func (s *system) jump(name string, by time.Duration) {
	s.t.Helper()
	_, err := fmt.Fprintln(s.processes[name].clock, by)
	s.check(err)
}
