package main

import (
	"context"
	"log/slog"

	"mpr/stack"
)

// Names of the roles.
const (
	roleLogin   = "login"
	roleGateway = "gateway"
	roleRegion  = "region"
	roleControl = "control"
)

// role are the flags of a role's process.
type role struct {
	settings
	logging
}

// inEnvironment are the flags of a role that serves one environment.
type inEnvironment struct {
	role
	Env string `placeholder:"NAME" env:"MPR_ENV" help:"The environment to serve. May be left out where there is one."`
}

// runIn runs a role of one environment; code is the region's, for a region.
func (r *inEnvironment) runIn(ctx context.Context, t *terminal, name, code string) error {
	cfg, err := r.load()
	if err != nil {
		return err
	}
	if r.Port == 0 {
		return errFreePorts
	}
	e, err := chooseEnvironment(cfg, r.Env)
	if err != nil {
		return err
	}
	if name == roleRegion {
		if err := checkRegion(e, code); err != nil {
			return err
		}
	}
	r.start(t, slog.LevelInfo)
	return untilStopped(ctx, t, func(ctx context.Context) error {
		return stack.RunRole(ctx, cfg, name, e.Name, code, t.err)
	})
}

var errFreePorts = wrongUsage("--port 0: processes couldn't find one another on free ports; choose a first port, or addresses in the configuration")
