package main

import (
	"context"
	"log/slog"
	"time"

	"mpr/stack"
)

type devCommand struct {
	settings
	logging
	TLSPort int       `name:"tls-port" placeholder:"PORT" help:"Port that answers for every host name of the system (default --port + 443)."`
	AsOf    time.Time `name:"as-of" format:"2006-01-02" placeholder:"DAY" help:"Run the rules at that day (UTC), such as 2019-01-15, to see before and after the dates. Tokens live in real time."`
	Reset   bool      `help:"Delete all data in the data folder first. Asks."`
	Yes     bool      `short:"y" help:"Don't ask."`
	JSON    bool      `name:"json" help:"Print the facts as one line of JSON once all doors answer."`
}

func (c *devCommand) Run(ctx context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if c.TLSPort < 0 || c.TLSPort > 65535 {
		return wrongUsage("--tls-port %d: choose a port from 1 to 65535", c.TLSPort)
	}
	confirm := t.confirm
	if c.Yes {
		confirm = func(string) (bool, error) { return true, nil }
	}
	c.start(t, slog.LevelWarn)
	return untilStopped(ctx, t, func(ctx context.Context) error {
		return stack.Dev(ctx, stack.DevOptions{
			Config: cfg, Port: c.Port, TLSPort: c.TLSPort, JSON: c.JSON, AsOf: c.AsOf,
			Reset: c.Reset, Confirm: confirm, Stdout: t.out,
		})
	})
}
