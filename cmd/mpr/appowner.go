package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"mpr/control"
)

type appOwnerCommands struct {
	Add    appOwnerAddCommand    `cmd:"" help:"Have an app belong to a user as well."`
	Remove appOwnerRemoveCommand `cmd:"" help:"Take an app away from a user."`
	List   appOwnerListCommand   `cmd:"" help:"List to whom an app belongs."`
}

type appOwnerAddCommand struct {
	admin
	App   string `arg:"" help:"The app's id or client id."`
	Login string `arg:"" help:"The user's login."`
}

func (c *appOwnerAddCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.AddAppOwner(ctx, c.App, c.Login)
	if err != nil {
		return err
	}
	return c.showOwners(t, list)
}

type appOwnerRemoveCommand struct {
	admin
	App   string `arg:"" help:"The app's id or client id."`
	Login string `arg:"" help:"The user's login."`
}

func (c *appOwnerRemoveCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.RemoveAppOwner(ctx, c.App, c.Login)
	if err != nil {
		return err
	}
	return c.showOwners(t, list)
}

type appOwnerListCommand struct {
	admin
	App string `arg:"" help:"The app's id or client id."`
}

func (c *appOwnerListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.AppOwners(ctx, c.App)
	if err != nil {
		return err
	}
	return c.showOwners(t, list)
}

func (a *admin) showOwners(t *terminal, list control.OwnerList) error {
	return t.answer(a.JSON, list, func(w io.Writer) {
		rows := make([][]string, len(list.Owners))
		for i, o := range list.Owners {
			rows[i] = []string{o.Login, o.Name, instant(o.Added), o.By}
		}
		table(w, []string{"LOGIN", "NAME", "SINCE", "ADDED BY"}, rows)
		if len(rows) == 0 {
			next(w, "mpr app owner add %s EMAIL%s", list.ClientID, a.environmentFlag())
		}
	})
}

type appRedirectURICommand struct {
	admin
	App string   `arg:"" help:"The app's id or client id."`
	URI []string `arg:"" help:"Where users are sent back to, exactly: these, and no others."`
}

func (c *appRedirectURICommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.SetRedirectURIs(ctx, c.App, control.RedirectURIs{RedirectURIs: c.URI})
	if err != nil {
		return err
	}
	return t.answer(c.JSON, app, func(w io.Writer) { describe(w, app) })
}

type appInstalledCommand struct {
	admin
	App  string `arg:"" help:"The app's id or client id."`
	Page int    `default:"1" help:"Which page of a hundred companies (default 1)."`
}

func (c *appInstalledCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	const perPage = 100
	page, err := client.Installations(ctx, c.App, c.Page, perPage)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, page, func(w io.Writer) {
		rows := make([][]string, len(page.Installations))
		for i, one := range page.Installations {
			rows[i] = []string{one.Company.String(), string(one.Region), one.Name}
		}
		table(w, []string{"COMPANY", "REGION", "NAME"}, rows)
		switch {
		case page.Total == 0:
			next(w, "mpr app install --app=%s --company ID%s", page.ClientID, c.environmentFlag())
		case c.Page*perPage < page.Total:
			next(w, "mpr app installed %s --page %d%s", c.App, c.Page+1, c.environmentFlag())
		}
	})
}

type appCallsCommand struct {
	admin
	App  string `arg:"" help:"The app's id or client id."`
	Page int    `default:"1" help:"Which page of a hundred lines (default 1)."`
}

func (c *appCallsCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	const perPage = 100
	page, err := client.AppCalls(ctx, c.App, c.Page, perPage)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, page, func(w io.Writer) {
		rows := make([][]string, len(page.Lines))
		for i, l := range page.Lines {
			rows[i] = []string{l.Method, l.Route, string(l.Kind), strconv.Itoa(l.Status), strconv.Itoa(l.Companies), strconv.FormatInt(l.Calls, 10), l.Last}
		}
		table(w, []string{"METHOD", "ROUTE", "KIND", "STATUS", "COMPANIES", "CALLS", "LAST"}, rows)
		if page.Total == 0 {
			_, _ = fmt.Fprintln(w, "It has made no non-compliant call in 14 days.")
		} else if c.Page*perPage < page.Total {
			next(w, "mpr app calls %s --page %d%s", c.App, c.Page+1, c.environmentFlag())
		}
	})
}
