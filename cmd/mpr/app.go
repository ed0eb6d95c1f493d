package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/control"
	"mpr/problem"
)

type appCommands struct {
	Create       appCreateCommand       `cmd:"" help:"Create an app."`
	List         appListCommand         `cmd:"" help:"List apps and service accounts."`
	Show         appShowCommand         `cmd:"" help:"Show an app or a service account."`
	RotateSecret appRotateSecretCommand `cmd:"" help:"Make a new client secret."`
	Install      appInstallCommand      `cmd:"" help:"Connect an app to a company."`
	Rehearse     appRehearseCommand     `cmd:"" help:"Let one app live after the legacy door's sunset for a while."`
	Webhook      appWebhookCommands     `cmd:"" help:"Say where an app hears of the moves of its companies, and see what it heard."`
	Limit        appLimitCommand        `cmd:"" help:"Show how many calls an app may make, and set it."`
	Owner        appOwnerCommands       `cmd:"" help:"Say whose an app is: who sees and changes it in the developers' portal."`
	RedirectURI  appRedirectURICommand  `cmd:"" name:"redirect-uri" help:"Change where an app's users are sent back to."`
	Installed    appInstalledCommand    `cmd:"" help:"List the companies in which an app is installed."`
	Calls        appCallsCommand        `cmd:"" help:"List the calls that an app has to change."`
	Sandbox      appSandboxCommand      `cmd:"" help:"Show an app's part of the development sandbox, and make what is missing of it."`
}

type appCreateCommand struct {
	admin
	Name        string       `required:"" help:"The app's name, as users see it."`
	Kind        string       `enum:"web,installed" default:"web" help:"web, or installed for a program on desktops or phones that can keep no secret (default web)."`
	RedirectURI []string     `required:"" name:"redirect-uri" sep:"none" placeholder:"URI" help:"Where users are sent back to, exactly; may be repeated. urn:ietf:wg:oauth:2.0:oob shows the code on a page."`
	Company     []company.ID `placeholder:"ID" help:"A company to connect it to; may be repeated."`
	repeatable
}

// repeatable are the flags of commands that make an app.
type repeatable struct {
	IdempotencyKey string `placeholder:"KEY" help:"Makes it safe to repeat the command: the same key is the same app, whose secret is shown the first time only; with other content it is refused."`
}

// key is the key of this run.
func (r *repeatable) key() string {
	if r.IdempotencyKey == "" {
		r.IdempotencyKey = rand.Text()
	}
	return r.IdempotencyKey
}

// advise says how to repeat the command where the app may have been made: the same key
// finds it.
func (r *repeatable) advise(err error) error {
	if err != nil && problem.From(err).Code.Status() >= http.StatusInternalServerError {
		return fmt.Errorf("%w\nTry again with --idempotency-key %s, so that it isn't made twice", err, r.IdempotencyKey)
	}
	return err
}

func (c *appCreateCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.CreateApp(ctx, control.NewApp{Name: c.Name, Kind: c.Kind, RedirectURIs: c.RedirectURI, Companies: c.Company, IdempotencyKey: c.key()})
	if err != nil {
		return c.advise(err)
	}
	return c.show(t, app)
}

// show prints an app that was just made.
func (a *admin) show(t *terminal, app control.App) error {
	return t.answer(a.JSON, app, func(w io.Writer) {
		describe(w, app)
		if app.ClientSecret != "" {
			_, _ = fmt.Fprintln(w, "The secret is shown this once: keep it.")
		} else if app.Kind != control.KindInstalled {
			_, _ = fmt.Fprintf(w, "It was made before, and its secret shown then: mpr app rotate-secret %s%s makes a new one.\n", app.ClientID, a.environmentFlag())
		}
		a.describeSandbox(w, app)
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

// describeSandbox tells what an app has in the development sandbox.
func (a *admin) describeSandbox(w io.Writer, app control.App) {
	box := app.Sandbox
	if box == nil {
		return
	}
	_, _ = fmt.Fprintf(w, "\nIN THE %s\n", strings.ToUpper(box.Environment))
	if box.Incomplete != "" {
		_, _ = fmt.Fprintf(w, "Not all of it could be made: %s\nTo go on: mpr app sandbox %s%s\n", box.Incomplete, app.ClientID, a.environmentFlag())
		return
	}
	pairs := []string{"login", box.LoginURL, "api", box.APIURL, "client_id", box.ClientID, "client_secret", box.ClientSecret}
	if box.Company != 0 {
		pairs = append(pairs, "company", box.Company.String())
	}
	for _, u := range box.Users {
		pairs = append(pairs, u.Name, u.Login+", password "+u.Password)
	}
	list(w, pairs...)
	if box.ClientSecret == "" && box.Company != 0 && app.Kind != control.KindInstalled {
		there := &admin{Env: box.Environment, Data: a.Data}
		_, _ = fmt.Fprintf(w, "Its secret was shown when it was made: mpr app rotate-secret %s%s makes a new one.\n", box.ClientID, there.environmentFlag())
	}
}

type appSandboxCommand struct {
	admin
	App string `arg:"" help:"The app's id or client id."`
}

func (c *appSandboxCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.CompleteSandbox(ctx, c.App)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, app, func(w io.Writer) { c.describeSandbox(w, app) })
}

type appListCommand struct {
	admin
	Search string `short:"q" placeholder:"TEXT" help:"Only those in whose name each word of the text begins a word, or whose client id begins with it."`
}

func (c *appListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	all, err := c.all(ctx, client)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, all, func(w io.Writer) {
		header, rows := []string{"ID", "KIND", "CLIENT ID", "NAME"}, make([][]string, len(all.Apps))
		if slices.ContainsFunc(all.Apps, func(app control.App) bool { return app.Sandbox != nil }) {
			header = append(header, "IN THE DEVELOPMENT SANDBOX")
		}
		for i, app := range all.Apps {
			rows[i] = []string{strconv.FormatInt(app.ID, 10), app.Kind, app.ClientID, app.Name}
			if app.Sandbox != nil {
				rows[i] = append(rows[i], app.Sandbox.ClientID)
			}
		}
		table(w, header, rows)
		if len(all.Apps) == 0 {
			next(w, "mpr app create --name NAME --redirect-uri URI%s", c.environmentFlag())
		}
	})
}

// all reads the whole list.
func (c *appListCommand) all(ctx context.Context, client *control.Client) (all control.AppPage, err error) {
	const perPage = 200
	all.Apps = []control.App{}
	for page, after := 1, int64(0); ; page++ {
		var part control.AppPage
		if c.Search != "" {
			part, err = client.SearchApps(ctx, c.Search, after, perPage)
		} else {
			part, err = client.Apps(ctx, page, perPage)
		}
		if err != nil {
			return all, err
		}
		all.Apps, all.Total, after = append(all.Apps, part.Apps...), max(part.Total, len(all.Apps)+len(part.Apps)), part.Next
		if c.Search != "" && after == 0 || c.Search == "" && len(part.Apps) < perPage {
			return all, nil
		}
	}
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
	return t.answer(c.JSON, app, func(w io.Writer) {
		describe(w, app)
		c.describeSandbox(w, app)
	})
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
