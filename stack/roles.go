package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"mpr/config"
	"mpr/move"
)

// The roles that a process may have.
const (
	RoleLogin   = "login"
	RoleGateway = "gateway"
	RoleRegion  = "region"
	RoleControl = "control"
)

// RoleOptions say which role a process has.
type RoleOptions struct {
	Config *config.Config
	Role   string
	// Environment limits login, gateway and region to one environment; empty for all, or
	// all that have a region with this code.
	Environment string
	// Region is the code of the region, for RoleRegion.
	Region string
	// Process is the name of this one of the region's processes; it may be empty where there is
	// one.
	Process string
	// Bind is the host at which all listeners but that for operators are opened, with the ports
	// of the configuration; empty for the hosts there.
	Bind string
	// Now is the process's clock, and MoverStep sees the steps of the mover, for RoleControl
	// ([move.Options]). Tests set them, to let clocks jump and movers wait; both may be nil.
	Now       func() time.Time
	MoverStep func(ctx context.Context, m *move.Move, name string) error
}

// RunRole runs one role in this process until the context ends.
func RunRole(ctx context.Context, o RoleOptions) (err error) {
	folder, err := openFolder(o.Config.Data, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := whole(o.Config.Data); err != nil {
		return err
	}
	s, err := newSystem(o.Config)
	if err != nil {
		return err
	}
	defer func() {
		slog.Info("stopping: calls in flight may end", "role", o.Role)
		err = errors.Join(err, s.close())
	}()
	s.bindHost, s.region = o.Bind, o.Region
	if err := s.openTLS(o.Role); err != nil {
		return err
	}
	if o.Now != nil {
		s.now, s.rulesNow = o.Now, o.Now
	}
	s.moverStep = o.MoverStep
	ready, err := s.startObserving(ctx, o.name())
	if err != nil {
		return err
	}
	s.showCertificates()
	if o.Role == RoleGateway {
		s.showUpstreams()
	}
	if err := s.startRole(ctx, o); err != nil {
		if ctx.Err() != nil {
			slog.Info("stopped before it was ready", "role", o.Role, "waiting", err)
			return nil
		}
		return fmt.Errorf("start %s: %w", o.Role, err)
	}
	ready()
	slog.Info("ready", "role", o.Role)
	err = s.wait(ctx)
	s.drain()
	return err
}

// name tells the process from those of other roles.
func (o RoleOptions) name() string {
	switch {
	case o.Role != RoleRegion:
		return o.Role
	case o.Process == "":
		return o.Role + "-" + o.Region
	}
	return o.Role + "-" + o.Region + "-" + o.Process
}

func (s *system) startRole(ctx context.Context, o RoleOptions) error {
	if o.Role == RoleControl {
		if err := s.serveDirectory(s.bindable(s.config.Directory.Listen)); err != nil {
			return err
		}
		if s.config.Webhooks.AllowPrivate {
			slog.WarnContext(ctx, "webhooks may be plain HTTP and lead into private networks: that is for tests (webhooks.allow_private)")
		}
		s.checkDirectory(true)
		return s.startControl(ctx)
	}
	name := o.name()
	if err := s.connectDirectory(name); err != nil {
		return err
	}
	s.checkDirectory(false)
	environments, err := s.environments(o)
	if err != nil {
		return err
	}
	for _, e := range environments {
		_, err := s.serveEnvironment(ctx, e, name, func(ctx context.Context, ed *edition) error { return s.startOne(ctx, o, ed) })
		if err != nil {
			return fmt.Errorf("environment %s: %w", e.Name, err)
		}
	}
	return nil
}

func (s *system) startOne(ctx context.Context, o RoleOptions, ed *edition) error {
	switch o.Role {
	case RoleLogin:
		_, err := s.startLogin(ctx, ed)
		return err
	case RoleGateway:
		// A gateway that knows no placement and no key refuses every call: it waits.
		slog.InfoContext(ctx, "waiting for placements and public keys, from the directory or from disk", "environment", ed.environment.Name)
		if err := ed.ready(ctx); err != nil {
			return err
		}
		_, _, err := s.startGateway(ed)
		return err
	case RoleRegion:
		r := findRegion(ed.environment, o.Region)
		if len(r.Upstreams) > 0 {
			return fmt.Errorf("region %s has upstreams: a foreign service stands in for it, so there is nothing to run; take the upstreams out of the configuration to run it here", r.Code)
		}
		here, err := findPlace(r, o.Process)
		if err != nil {
			return err
		}
		return s.startRegion(ctx, ed, r, []config.Place{here})
	}
	return fmt.Errorf("there is no role %q", o.Role)
}

// environments are those that the role serves.
func (s *system) environments(o RoleOptions) ([]*config.Environment, error) {
	var found []*config.Environment
	var names []string
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		names = append(names, e.Name)
		if (o.Environment == "" || o.Environment == e.Name) && (o.Role != RoleRegion || findRegion(e, o.Region) != nil) {
			found = append(found, e)
		}
	}
	switch {
	case o.Environment != "" && !slices.Contains(names, o.Environment):
		return nil, fmt.Errorf("there is no environment %q in the configuration: it has %q", o.Environment, names)
	case len(found) == 0:
		return nil, fmt.Errorf("there is no region %q in the configuration: add it under environments, regions", o.Region)
	}
	return found, nil
}

// findRegion finds a region of the environment by its code; nil if it has none.
func findRegion(e *config.Environment, code string) *config.RegionConfig {
	for i := range e.Regions {
		if e.Regions[i].Code == code {
			return &e.Regions[i]
		}
	}
	return nil
}
