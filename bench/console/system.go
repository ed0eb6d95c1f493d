package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/control"
	"mpr/operator"
	"mpr/store"
)

const (
	environment = "production"
	within      = 2 * time.Minute
	again       = 50 * time.Millisecond
)

var (
	codes   = []company.Region{"US01", "EU01"}
	numbers = []int{0, 17}
)

// system is mpr with a process for each role.
type system struct {
	o                options
	dir              string
	url, nats, login string
	admin            *control.Client
	running          []*machine.Process
	closes           machine.Cleanup
	// cookie is that of an operator who has signed in.
	cookie *http.Cookie
	sample company.ID // a company that its region knows
	app    string     // an app that has a lot to change
	search string     // a name that one company has
}

func newSystem(ctx context.Context, o options) (s *system, err error) {
	s = &system{o: o}
	if s.dir, err = os.MkdirTemp(o.dir, "mpr-bench-console"); err != nil {
		return nil, err
	}
	s.closes = append(s.closes, func() error { return os.RemoveAll(s.dir) })
	a, err := machine.FreeAddresses(9)
	if err != nil {
		return s, err
	}
	s.nats, s.url, s.login = a[0], "http://"+a[1], "http://"+a[2]
	token := crand.Text() + crand.Text()
	s.admin = control.NewClient(s.url, token, environment)
	if err := os.WriteFile(filepath.Join(s.dir, "admin.token"), []byte(token), 0o600); err != nil {
		return s, err
	}
	var regions strings.Builder
	for i, code := range codes {
		fmt.Fprintf(&regions, "      - {code: %s, number: %d, listen: %q, internal: %q}\n", code, numbers[i], a[5+2*i], a[6+2*i])
	}
	text := fmt.Appendf(nil, `data: %q
directory: {listen: %q}
control: {listen: %q, token_file: %q, login_url: %q}
environments:
  - name: %s
    login: {host: login.procore.com, listen: %q}
    api: {host: api.procore.com, listen: %q}
    legacy: {host: app.procore.com, listen: "127.0.0.1:0"}
    identity: {internal: %q}
    regions:
%s`, filepath.Join(s.dir, "data"), a[0], a[1], filepath.Join(s.dir, "admin.token"), s.login, environment, a[2], a[3], a[4], &regions)
	if err := os.WriteFile(s.config(), text, 0o600); err != nil {
		return s, err
	}
	for _, role := range [][]string{{"control"}, {"login"}, {"region", "--code", "US01"}, {"region", "--code", "EU01"}, {"gateway"}} {
		if err := s.start(ctx, role...); err != nil {
			return s, err
		}
	}
	return s, machine.Eventually(ctx, "wait for all processes", within, again, func(ctx context.Context) error {
		made, err := s.admin.CreateCompany(ctx, control.NewCompany{Name: "Sample Works", Region: "US01", Onboarded: "2016-03-01", IdempotencyKey: "sample"})
		s.sample = made.ID
		return err
	})
}

func (s *system) config() string { return filepath.Join(s.dir, "mpr.yaml") }

func (s *system) start(ctx context.Context, role ...string) error {
	p, err := machine.Start(ctx, s.dir, strings.Join(role, "-"), s.o.binary, append(role, "--config", s.config())...)
	if err != nil {
		return err
	}
	s.running = append(s.running, p)
	s.closes = append(s.closes, p.Stop)
	return nil
}

func (s *system) close() error { return s.closes.Close() }

// dataFile is the path of a database in the data folder, which has been made by its process.
func (s *system) dataFile(ctx context.Context, pattern string) (string, error) {
	found := ""
	err := machine.Eventually(ctx, "find "+pattern, within, again, func(context.Context) error {
		list, err := filepath.Glob(filepath.Join(s.dir, "data", pattern))
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("there are %d", len(list))
		}
		if err == nil {
			found = list[0]
		}
		return err
	})
	return found, err
}

// signIn begins a session for an operator, as signing in would.
func (s *system) signIn(ctx context.Context, db *store.DB) error {
	made, err := s.admin.CreateUser(ctx, control.NewUser{Login: "eva@example.com", Name: "Eva Lang"})
	if err != nil {
		return err
	}
	if _, err := s.admin.GrantRole(ctx, made.Login, string(operator.Admin)); err != nil {
		return err
	}
	o := operator.New(operator.Options{DB: db, Environment: environment, Identity: anybody{}, Lifetime: time.Hour, Idle: time.Hour, Kept: 24 * time.Hour, Now: time.Now})
	secret, _, err := o.Begin(ctx, operator.User{ID: made.ID, Login: made.Login, Name: made.Name}, operator.Browser, "bench")
	port := s.url[strings.LastIndexByte(s.url, ':')+1:]
	s.cookie = &http.Cookie{Name: "mpr_operator_" + port, Value: secret}
	return errors.Join(err, o.Close())
}

// anybody is a login service that nobody asks.
type anybody struct{}

// User knows nobody.
func (anybody) User(context.Context, int64) (operator.User, error) {
	return operator.User{}, errors.New("nobody is asked")
}
