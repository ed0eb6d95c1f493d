package main

import (
	"context"

	"mpr/stack"
)

type gatewayCommand struct {
	role
	environment
}

func (c *gatewayCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, stack.RoleOptions{Role: stack.RoleGateway, Environment: c.Env})
}
