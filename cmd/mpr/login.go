package main

import "context"

type loginCommand struct{ inEnvironment }

func (c *loginCommand) Run(ctx context.Context, t *terminal) error {
	return c.runIn(ctx, t, roleLogin, "")
}
