package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

	"mpr/config"
	"mpr/control"
	"mpr/intercom"
	"mpr/operator"
	"mpr/store"
)

// operatorsVersions is the table that counts the versions of their part of the control store.
const operatorsVersions = "operators_version"

// startOperators starts what knows operators, and says how they sign in.
func (s *system) startOperators(ctx context.Context, db *store.DB) (control.SignIn, error) {
	c := s.config.Control
	i := slices.IndexFunc(s.config.Environments, func(e config.Environment) bool { return e.Name == c.Operators })
	if i < 0 {
		return control.SignIn{}, fmt.Errorf("control.operators: there is no environment %q", c.Operators)
	}
	e := &s.config.Environments[i]
	if err := db.Also(ctx, operatorsVersions, operator.Migrations()); err != nil {
		return control.SignIn{}, fmt.Errorf("control store: %w", err)
	}
	identity := identityClient{intercom.NewCaller(s.transport, s.secret), s.inside(e.Identity.Internal)}
	s.add(identity)
	service := operator.New(operator.Options{
		DB: db, Environment: e.Name, Identity: identity, Lifetime: c.SessionLifetime, Idle: c.SessionIdle, Kept: c.AuditRetention,
		KeepAdmin: c.AdminToken == config.TokenOff, Now: s.now,
	})
	s.add(service)
	in := control.SignIn{Operators: service, Verify: s.served[e.Name].edition().verifier.Verify}
	in.URL, in.LoginURL = s.forBrowsers(e)
	if c.AdminToken == config.TokenOff {
		return in, s.withoutToken(ctx, in)
	}
	return in, nil
}

// forBrowsers are the base URLs at which operators' browsers find the admin API and the login door;
// "" where it isn't known. A wildcard or a name of the inside is no address for a browser.
func (s *system) forBrowsers(e *config.Environment) (own, login string) {
	c := s.config.Control
	onThisMachine := func(address string) bool {
		host, _, err := net.SplitHostPort(address)
		return err == nil && config.Loopback(host)
	}
	own, login = strings.TrimSuffix(c.URL, "/"), strings.TrimSuffix(c.LoginURL, "/")
	if own == "" && onThisMachine(c.Listen) {
		own = s.adminScheme() + "://" + c.Listen
	}
	if own == "" {
		return "", ""
	}
	if login == "" {
		login = e.Login.BaseURL()
		if strings.HasPrefix(own, "http://") && !s.config.TLS.On() && onThisMachine(e.Login.Listen) {
			login = "http://" + e.Login.Listen
		}
	}
	return own, login
}

// withoutToken refuses to start where the token is turned off and nobody could do anything.
func (s *system) withoutToken(ctx context.Context, in control.SignIn) error {
	const mend = "start with control.admin_token: on, and turn it off again afterwards"
	if in.URL == "" {
		return errors.New("control.admin_token is off, and nobody can sign in: set control.url to the URL at which browsers find the admin API, or " + mend)
	}
	has, err := in.Operators.HasAdmin(ctx)
	if err != nil {
		return err
	}
	if !has {
		return fmt.Errorf("control.admin_token is off, and no user of %s is an admin: nobody could make one. To mend it, %s, once `mpr operator grant EMAIL --role admin` has made one", in.Operators.Environment, mend)
	}
	slog.InfoContext(ctx, "the admin API's token is turned off: operators sign in", "at", in.URL)
	return nil
}

// User answers a user of the login service; [problem.NotFound] where there is none.
func (c identityClient) User(ctx context.Context, id int64) (u operator.User, err error) {
	_, err = c.Call(ctx, http.MethodGet, fmt.Sprintf("%s/internal/users/%d", c.base, id), nil, &u)
	return u, err
}
