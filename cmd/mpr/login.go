package main

import (
	"context"

	"mpr/stack"
)

type loginCommand struct {
	role
	environment
}

func (c *loginCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, stack.RoleOptions{Role: stack.RoleLogin, Environment: c.Env})
}
