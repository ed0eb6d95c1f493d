package main

import (
	"context"
	"log/slog"
	"net"
	"strings"

	"mpr/stack"
)

// role are the flags of a role's process.
type role struct {
	settings
	logging
	Bind       string `placeholder:"HOST" env:"MPR_BIND" help:"Listen at this host, such as 0.0.0.0, with the ports of the configuration, whose hosts are then only where others find the roles: in containers."`
	Operations string `placeholder:"ADDRESS" env:"MPR_OPERATIONS" help:"Where /livez, /readyz and /metrics are answered, such as 127.0.0.1:9100 (default: what the configuration says)."`
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
	if r.Operations != "" {
		if _, _, err := net.SplitHostPort(r.Operations); err != nil {
			return wrongUsage("--operations %s: expected an address such as 127.0.0.1:9100", r.Operations)
		}
		cfg.Operations.Listen = r.Operations
	}
	if strings.ContainsAny(r.Bind, "[]/ ") || strings.Contains(r.Bind, ":") && net.ParseIP(r.Bind) == nil {
		return wrongUsage("--bind %s: expected a host without a port, such as 0.0.0.0", r.Bind)
	}
	o.Config, o.Bind = cfg, r.Bind
	r.start(t, slog.LevelInfo)
	return untilStopped(ctx, t, func(ctx context.Context) error { return stack.RunRole(ctx, o) })
}

// environment is the flag of a role that may serve one environment.
type environment struct {
	Env string `placeholder:"NAME" env:"MPR_ENV" help:"The environment to serve (default: all)."`
}
