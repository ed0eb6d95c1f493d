package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/control"
)

type appCommands struct {
	Create       appCreateCommand       `cmd:"" help:"Create an app."`
	List         appListCommand         `cmd:"" help:"List apps and service accounts."`
	Show         appShowCommand         `cmd:"" help:"Show an app or a service account."`
	RotateSecret appRotateSecretCommand `cmd:"" help:"Make a new client secret."`
	Install      appInstallCommand      `cmd:"" help:"Connect an app to a company."`
	Rehearse     appRehearseCommand     `cmd:"" help:"Let one app live after the legacy door's sunset for a while."`
}

type appCreateCommand struct {
	admin
	Name        string       `required:"" help:"The app's name, as users see it."`
	Kind        string       `enum:"web,installed" default:"web" help:"web, or installed for a program on desktops or phones that can keep no secret (default web)."`
	RedirectURI []string     `required:"" name:"redirect-uri" sep:"none" placeholder:"URI" help:"Where users are sent back to, exactly; may be repeated. urn:ietf:wg:oauth:2.0:oob shows the code on a page."`
	Company     []company.ID `placeholder:"ID" help:"A company to connect it to; may be repeated."`
}

func (c *appCreateCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.CreateApp(ctx, control.NewApp{Name: c.Name, Kind: c.Kind, RedirectURIs: c.RedirectURI, Companies: c.Company})
	if err != nil {
		return err
	}
	return c.show(t, app)
}

// show prints an app that was just made.
func (a *admin) show(t *terminal, app control.App) error {
	return t.answer(a.JSON, app, func(w io.Writer) {
		describe(w, app)
		if app.ClientSecret != "" {
			_, _ = fmt.Fprintln(w, "The secret is shown this once: keep it.")
		}
		if len(app.Companies) == 0 {
			next(w, "mpr app install --app=%s --company ID%s", app.ClientID, a.environmentFlag())
		} else if note := pending(app.Listed); note != "" {
			_, _ = fmt.Fprintln(w, note)
		}
	})
}

func describe(w io.Writer, app control.App) {
	owner := ""
	if app.Company != 0 {
		owner = app.Company.String()
	}
	list(w, "id", strconv.FormatInt(app.ID, 10), "name", app.Name, "kind", app.Kind, "client_id", app.ClientID,
		"client_secret", app.ClientSecret, "redirect_uris", strings.Join(app.RedirectURIs, " "),
		"company", owner, "installed in", joinIDs(app.Companies))
}

type appListCommand struct{ admin }

func (c *appListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	const perPage = 200
	all := control.AppPage{Apps: []control.App{}}
	for page := 1; ; page++ {
		part, err := client.Apps(ctx, page, perPage)
		if err != nil {
			return err
		}
		all.Apps, all.Total = append(all.Apps, part.Apps...), part.Total
		if len(part.Apps) < perPage {
			break
		}
	}
	return t.answer(c.JSON, all, func(w io.Writer) {
		rows := make([][]string, len(all.Apps))
		for i, app := range all.Apps {
			rows[i] = []string{strconv.FormatInt(app.ID, 10), app.Kind, app.ClientID, app.Name}
		}
		table(w, []string{"ID", "KIND", "CLIENT ID", "NAME"}, rows)
		if len(all.Apps) == 0 {
			next(w, "mpr app create --name NAME --redirect-uri URI%s", c.environmentFlag())
		}
	})
}

type appShowCommand struct {
	admin
	App string `arg:"" help:"The app's id or client id."`
}

func (c *appShowCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.App(ctx, c.App)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, app, func(w io.Writer) { describe(w, app) })
}

type appRotateSecretCommand struct {
	admin
	App     string        `arg:"" help:"The app's id or client id."`
	Overlap time.Duration `placeholder:"DURATION" help:"How long the old secret stays valid beside the new one, such as 24h (default: not at all)."`
}

func (c *appRotateSecretCommand) Run(ctx context.Context, t *terminal) error {
	if c.Overlap < 0 || c.Overlap%time.Second != 0 {
		return wrongUsage("--overlap %s: expected whole seconds, such as 24h", c.Overlap)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.RotateSecret(ctx, c.App, control.SecretRotation{OverlapSeconds: int64(c.Overlap / time.Second)})
	if err != nil {
		return err
	}
	return t.answer(c.JSON, app, func(w io.Writer) {
		list(w, "client_id", app.ClientID, "client_secret", app.ClientSecret)
		old := "stopped working"
		if c.Overlap > 0 {
			old = "works for another " + c.Overlap.String()
		}
		_, _ = fmt.Fprintf(w, "The secret is shown this once: keep it. The old one %s.\n", old)
	})
}

type appInstallCommand struct {
	admin
	App     string     `required:"" help:"The app's id or client id."`
	Company company.ID `required:"" placeholder:"ID" help:"The company."`
	Project []int64    `placeholder:"ID" help:"A project that a developer-managed service account may see; may be repeated (default: all projects)."`
}

func (c *appInstallCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	in := control.NewInstallation{}
	if len(c.Project) > 0 {
		in.PermittedProjects = &c.Project
	}
	done, err := client.Install(ctx, c.App, c.Company, in)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, done, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "App %s is connected to company %d. %s\n", c.App, c.Company, pending(done.Listed))
	})
}
