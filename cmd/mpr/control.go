package main

import (
	"context"
	"log/slog"

	"mpr/stack"
)

type controlCommand struct{ role }

func (c *controlCommand) Run(ctx context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if c.Port == 0 {
		return errFreePorts
	}
	c.start(t, slog.LevelInfo)
	return untilStopped(ctx, t, func(ctx context.Context) error {
		return stack.RunRole(ctx, cfg, roleControl, "", "", t.err)
	})
}
