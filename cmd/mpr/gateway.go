package main

import "context"

type gatewayCommand struct{ inEnvironment }

func (c *gatewayCommand) Run(ctx context.Context, t *terminal) error {
	return c.runIn(ctx, t, roleGateway, "")
}
