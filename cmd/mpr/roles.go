package main

import (
	"context"
	"log/slog"

	"mpr/stack"
)

// role are the flags of a role's process.
type role struct {
	settings
	logging
}

// run runs the role until it is stopped.
func (r *role) run(ctx context.Context, t *terminal, o stack.RoleOptions) error {
	if r.Port == 0 {
		return wrongUsage("--port 0: processes couldn't find one another on free ports; choose a first port, or addresses in the configuration")
	}
	cfg, err := r.load()
	if err != nil {
		return err
	}
	o.Config = cfg
	r.start(t, slog.LevelInfo)
	return untilStopped(ctx, t, func(ctx context.Context) error { return stack.RunRole(ctx, o) })
}

// environment is the flag of a role that may serve one environment.
type environment struct {
	Env string `placeholder:"NAME" env:"MPR_ENV" help:"The environment to serve (default: all)."`
}
