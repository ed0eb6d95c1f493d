package main

import (
	"context"
	"strings"

	"mpr/company"
	"mpr/control"
)

type serviceAccountCommands struct {
	Create serviceAccountCreateCommand `cmd:"" help:"Create a service account."`
}

type serviceAccountCreateCommand struct {
	admin
	Name    string       `required:"" help:"The account's name."`
	Kind    string       `enum:"developer-managed,traditional" default:"developer-managed" help:"developer-managed, or traditional for an account of one company (default developer-managed)."`
	Company []company.ID `placeholder:"ID" help:"The company of a traditional account; a company to connect a developer-managed one to, which may be repeated."`
	repeatable
}

func (c *serviceAccountCreateCommand) Run(ctx context.Context, t *terminal) error {
	in := control.NewServiceAccount{Name: c.Name, Kind: strings.ReplaceAll(c.Kind, "-", "_"), Companies: c.Company, IdempotencyKey: c.key()}
	if in.Kind == control.KindTraditional {
		if len(c.Company) != 1 {
			return wrongUsage("a traditional service account is tied to one company: name it with one --company ID")
		}
		in.Company, in.Companies = c.Company[0], nil
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.CreateServiceAccount(ctx, in)
	if err != nil {
		return c.advise(err)
	}
	return c.show(t, app)
}
