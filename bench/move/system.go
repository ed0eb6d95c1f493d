package main

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/control"
	"mpr/move"
)

const (
	// here is where companies are made, and there the region that they move to.
	here  = company.Region("US01")
	there = company.Region("EU01")
	// within is how long anything may take that isn't measured.
	within = time.Minute
	// again is how often something is tried again.
	again = 50 * time.Millisecond
)

// system is a whole mpr, each role a process.
type system struct {
	o         options
	dir       string
	processes map[string]*process
	stores    map[company.Region]string
	gateways  []string
	login     string
	admin     *control.Client
	app       control.App
	token     string
	closes    machine.Cleanup
}

// newSystem starts a system. Where it is given ways, the mover reaches the regions by them.
func newSystem(ctx context.Context, o options, way func(to string) (string, error)) (s *system, err error) {
	s = &system{o: o, processes: map[string]*process{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.dir, err = os.MkdirTemp(o.dir, "mpr-bench-move"); err != nil {
		return s, err
	}
	s.closes = append(s.closes, func() error { return os.RemoveAll(s.dir) })
	if err := s.openStores(ctx); err != nil {
		return s, err
	}
	order, err := s.configure(way)
	if err != nil {
		return s, err
	}
	for _, name := range order {
		if err := s.start(ctx, name); err != nil {
			return s, err
		}
	}
	return s, s.register(ctx)
}

func (s *system) close() error { return s.closes.Close() }

// configure writes the configuration, and answers the processes in the order of their start.
// Further gateways, and a mover that reaches the regions by other ways, have files of their own.
func (s *system) configure(way func(string) (string, error)) (order []string, err error) {
	a, err := machine.FreeAddresses(8 + s.o.gateways)
	if err != nil {
		return nil, err
	}
	nats, admin, identity, api := a[0], a[1], a[3], a[8:]
	s.login = "http://" + a[2]
	listen := map[company.Region]string{here: a[4], there: a[5]}
	internal := map[company.Region]string{here: a[6], there: a[7]}
	token := crand.Text() + crand.Text()
	s.admin = control.NewClient("http://"+admin, token, "production")
	if err := os.WriteFile(filepath.Join(s.dir, "admin.token"), []byte(token), 0o600); err != nil {
		return nil, err
	}
	write := func(file, api string, internal map[company.Region]string) error {
		var regions strings.Builder
		for i, code := range []company.Region{here, there} {
			fmt.Fprintf(&regions, "      - {code: %s, number: %d, listen: %q, internal: %q, store: %q}\n", code, 17*i, listen[code], internal[code], s.stores[code])
		}
		return os.WriteFile(filepath.Join(s.dir, file), fmt.Appendf(nil, `data: %q
directory: {listen: %q}
control: {listen: %q, token_file: %q}
environments:
  - name: production
    login: {host: login.procore.com, listen: %q}
    api: {host: api.procore.com, listen: %q}
    identity: {internal: %q}
    regions:
%s`, filepath.Join(s.dir, "data"), nats, admin, filepath.Join(s.dir, "admin.token"), a[2], api, identity, &regions), 0o600)
	}
	if err := write("mpr.yaml", api[0], internal); err != nil {
		return nil, err
	}
	s.add("control", "mpr.yaml", "control")
	if way != nil {
		ways := map[company.Region]string{}
		for code, to := range internal {
			if ways[code], err = way(to); err != nil {
				return nil, err
			}
		}
		if err := write("control.yaml", api[0], ways); err != nil {
			return nil, err
		}
		s.add("control", "control.yaml", "control")
	}
	s.add("login", "mpr.yaml", "login")
	s.add(string(here), "mpr.yaml", "region", "--code", string(here))
	s.add(string(there), "mpr.yaml", "region", "--code", string(there))
	order = []string{"control", "login", string(here), string(there)}
	for i, address := range api {
		name, file := fmt.Sprint("gateway ", i+1), "mpr.yaml"
		if i > 0 {
			file = name + ".yaml"
			if err := write(file, address, internal); err != nil {
				return nil, err
			}
		}
		s.add(name, file, "gateway")
		order = append(order, name)
		s.gateways = append(s.gateways, "http://"+address)
	}
	return order, nil
}

// register makes the app that calls all companies, and gets its token.
func (s *system) register(ctx context.Context) error {
	key := crand.Text()
	err := machine.Eventually(ctx, "register a service account", within, again, func(ctx context.Context) error {
		app, err := s.admin.CreateServiceAccount(ctx, control.NewServiceAccount{Name: "Sync", Kind: control.KindDeveloperManaged, IdempotencyKey: key})
		if app.ClientSecret != "" {
			s.app = app
		}
		return err
	})
	if err != nil {
		return err
	}
	return machine.Eventually(ctx, "get a token", within, again, s.grant)
}

// grant gets a token. It is valid for longer than any of the measurements takes, but the large
// one, which gets another.
func (s *system) grant(ctx context.Context) error {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.app.ClientID}, "client_secret": {s.app.ClientSecret}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.login+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s %w", resp.Status, data, errors.Join(err))
	}
	var granted struct {
		Token string `json:"access_token"`
	}
	err = json.Unmarshal(data, &granted)
	s.token = granted.Token
	return err
}

// found makes a company, which the app may call, and fills it.
func (s *system) found(ctx context.Context, where company.Region, rows int) (company.ID, error) {
	var c control.Company
	key := crand.Text()
	err := machine.Eventually(ctx, "make a company", within, again, func(ctx context.Context) (err error) {
		if c, err = s.admin.CreateCompany(ctx, control.NewCompany{Name: "Alpine Works", Region: where, IdempotencyKey: key}); err != nil {
			return err
		}
		_, err = s.admin.Install(ctx, s.app.ClientID, c.ID, control.NewInstallation{})
		return err
	})
	if err != nil {
		return 0, err
	}
	return c.ID, s.enlarge(ctx, where, c.ID, rows)
}

// moved asks for a move and waits until its company is through.
func (s *system) moved(ctx context.Context, id company.ID, to company.Region, rate int) (control.ProvenMove, error) {
	if err := s.ask(ctx, id, to, rate); err != nil {
		return control.ProvenMove{}, err
	}
	return s.through(ctx, id, nil)
}

func (s *system) ask(ctx context.Context, id company.ID, to company.Region, rate int) error {
	_, err := s.admin.StartMove(ctx, control.NewMove{Request: move.Request{Company: id, To: to, By: "bench", Rate: rate}})
	return err
}

// through waits until a company's move is over for it. watch is shown how it stands.
func (s *system) through(ctx context.Context, id company.ID, watch func(control.Move) error) (proven control.ProvenMove, err error) {
	for {
		m, err := s.admin.Move(ctx, id.String())
		if err == nil && watch != nil {
			err = watch(m)
		}
		switch {
		case err != nil:
			return proven, err
		case m.Phase == move.Aborted:
			return proven, fmt.Errorf("the move of company %d was given up: %s", id, m.Problem)
		case m.Phase.Over():
			return s.proven(ctx, id)
		}
		select {
		case <-ctx.Done():
			return proven, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// proven is the last move of a company, with what became of it.
func (s *system) proven(ctx context.Context, id company.ID) (last control.ProvenMove, err error) {
	proof, err := s.admin.ProveMoves(ctx, id)
	if err == nil && len(proof.Moves) == 0 {
		err = fmt.Errorf("company %d has never moved", id)
	}
	if err != nil {
		return last, err
	}
	return proof.Moves[len(proof.Moves)-1], nil
}

// entered is when a move came to a phase for the last time.
func entered(m control.ProvenMove, p move.Phase) (at time.Time) {
	for _, e := range m.Events {
		if e.Phase == p {
			at = e.At
		}
	}
	return at
}
