package main

import (
	"context"

	"mpr/stack"
)

type controlCommand struct{ role }

func (c *controlCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, stack.RoleOptions{Role: stack.RoleControl})
}
