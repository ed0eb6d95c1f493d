package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/control"
	"mpr/rules"
)

type policyCommands struct {
	Show policyShowCommand `cmd:"" help:"Show the dates, brownouts and rehearsals that are in force."`
	Set  policySetCommand  `cmd:"" help:"Change the dates. All gateways follow within a second."`
}

// operator are the flags of commands that change the policy.
type operator struct {
	author
	Note string `placeholder:"TEXT" help:"Why, for the record."`
}

// change reads the campaign in force, changes it, and puts it in force.
func (o *operator) change(ctx context.Context, change func(*rules.Campaign) error) (control.Policy, error) {
	client, err := o.client()
	if err != nil {
		return control.Policy{}, err
	}
	return client.ChangePolicy(ctx, o.who(), o.Note, change)
}

type policyShowCommand struct {
	admin
	History bool `help:"Show who changed what when."`
}

func (c *policyShowCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	p, err := client.Policy(ctx, c.History)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, p, func(w io.Writer) {
		showPolicy(w, p)
		if c.History {
			_, _ = fmt.Fprintln(w)
			showHistory(w, p)
		}
		next(w, "mpr policy set --legacy-sunset DAY%s", c.environmentFlag())
	})
}

func showPolicy(w io.Writer, p control.Policy) {
	by := "the configuration file"
	if p.Revision != 0 {
		by = p.By + ", " + instant(p.At)
		if p.Note != "" {
			by += ": " + p.Note
		}
	}
	list(w, "regions live", day(p.Campaign.RegionsLive), "legacy sunset", day(p.Campaign.LegacySunset)+" (that day still works)",
		"new companies in the default region", map[bool]string{false: "refused at the legacy door", true: "allowed at the legacy door"}[p.Campaign.AllowNewInDefault],
		"brownouts", strconv.Itoa(len(p.Campaign.Brownouts)), "rehearsals", strconv.Itoa(len(p.Campaign.Rehearsals)), "set by", by)
	if len(p.Campaign.Brownouts) > 0 {
		_, _ = fmt.Fprintln(w)
		showBrownouts(w, p.Campaign.Brownouts, p.Now)
	}
	if len(p.Campaign.Rehearsals) > 0 {
		_, _ = fmt.Fprintln(w)
		rows := make([][]string, len(p.Campaign.Rehearsals))
		for i, r := range p.Campaign.Rehearsals {
			from := "at once"
			if !r.From.IsZero() {
				from = instant(r.From)
			}
			rows[i] = []string{r.App, from, instant(r.To)}
		}
		table(w, []string{"REHEARSAL OF", "FROM", "TO"}, rows)
	}
}

func showBrownouts(w io.Writer, brownouts []rules.Brownout, now time.Time) {
	rows := make([][]string, len(brownouts))
	for i, b := range brownouts {
		apps, state := "all", "planned"
		if len(b.Apps) > 0 {
			apps = strings.Join(b.Apps, " ")
		}
		switch {
		case !now.Before(b.To):
			state = "over"
		case b.Paused:
			state = "paused"
		case !now.Before(b.From):
			state = "refusing"
		}
		rows[i] = []string{b.Name, instant(b.From), instant(b.To), strconv.FormatFloat(b.Share*100, 'g', -1, 64) + " %", map[bool]string{false: "left out", true: "too"}[b.Authentication], state, apps}
	}
	table(w, []string{"BROWNOUT", "FROM", "TO", "CALLS", "/OAUTH", "STATE", "APPS"}, rows)
}

func showHistory(w io.Writer, p control.Policy) {
	rows := make([][]string, len(p.History))
	for i, r := range p.History {
		rows[i] = []string{
			instant(r.At), r.By, day(r.Campaign.RegionsLive), day(r.Campaign.LegacySunset),
			strconv.Itoa(len(r.Campaign.Brownouts)), strconv.Itoa(len(r.Campaign.Rehearsals)), orDash(r.Note),
		}
	}
	table(w, []string{"SET AT", "BY", "REGIONS LIVE", "LEGACY SUNSET", "BROWNOUTS", "REHEARSALS", "NOTE"}, rows)
}

func day(t time.Time) string { return t.Format(time.DateOnly) }

type policySetCommand struct {
	operator
	RegionsLive       string `placeholder:"DAY" help:"First day (UTC) on which new companies need the required changes."`
	LegacySunset      string `placeholder:"DAY" help:"Last day (UTC) on which the legacy door works."`
	AllowNewInDefault *bool  `name:"allow-new-in-default-region" placeholder:"true|false" help:"Whether the legacy door reaches new companies that live in the default region."`
}

// readDay reads a day where one is given.
func readDay(flag, text string, to *time.Time) error {
	if text == "" {
		return nil
	}
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return wrongUsage("%s must be a day such as 2019-06-30, not %q", flag, text)
	}
	*to = d
	return nil
}

func (c *policySetCommand) Run(ctx context.Context, t *terminal) error {
	if c.RegionsLive == "" && c.LegacySunset == "" && c.AllowNewInDefault == nil {
		return wrongUsage("nothing to set: add --regions-live DAY, --legacy-sunset DAY or --allow-new-in-default-region=true")
	}
	p, err := c.change(ctx, func(campaign *rules.Campaign) error {
		if err := readDay("--regions-live", c.RegionsLive, &campaign.RegionsLive); err != nil {
			return err
		}
		if err := readDay("--legacy-sunset", c.LegacySunset, &campaign.LegacySunset); err != nil {
			return err
		}
		if c.AllowNewInDefault != nil {
			campaign.AllowNewInDefault = *c.AllowNewInDefault
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.answer(c.JSON, p, func(w io.Writer) {
		showPolicy(w, p)
		next(w, "mpr policy show --history%s", c.environmentFlag())
	})
}

type brownoutCommands struct {
	Add    brownoutAddCommand    `cmd:"" help:"Plan a brownout."`
	List   brownoutListCommand   `cmd:"" help:"List the brownouts."`
	Pause  brownoutPauseCommand  `cmd:"" help:"Suspend a brownout, or all of them, at once."`
	Resume brownoutResumeCommand `cmd:"" help:"End the suspension of a brownout."`
	Remove brownoutRemoveCommand `cmd:"" help:"Remove a brownout."`
}

type brownoutAddCommand struct {
	operator
	Name  string    `arg:"" help:"A name for it, such as april-1."`
	From  time.Time `required:"" placeholder:"TIME" help:"Its start, such as 2019-04-01T14:00:00Z."`
	To    time.Time `required:"" placeholder:"TIME" help:"Its end."`
	App   []string  `placeholder:"CLIENT_ID" help:"An app that it is for (default all); may be repeated."`
	Share float64   `default:"1" help:"How many of the calls are refused: 0.1 is every tenth (default 1, all)."`
	OAuth bool      `name:"oauth" help:"Refuse /oauth/* too. Some client libraries answer an error there by spending their refresh token."`
}

func (c *brownoutAddCommand) Run(ctx context.Context, t *terminal) error {
	if math.IsNaN(c.Share) || math.IsInf(c.Share, 0) {
		return wrongUsage("--share must be above 0 and at most 1, such as 0.1 for every tenth call")
	}
	if len(c.App) > 0 {
		client, err := c.client()
		if err != nil {
			return err
		}
		for i, name := range c.App {
			app, err := client.App(ctx, name)
			if err != nil {
				return err
			}
			c.App[i] = app.ClientID
		}
	}
	return c.brownouts(ctx, t, func(list []rules.Brownout) ([]rules.Brownout, error) {
		return append(list, rules.Brownout{Name: c.Name, From: c.From.UTC(), To: c.To.UTC(), Apps: c.App, Share: c.Share, Authentication: c.OAuth}), nil
	})
}

// brownouts changes the list of brownouts and shows it.
func (o *operator) brownouts(ctx context.Context, t *terminal, change func([]rules.Brownout) ([]rules.Brownout, error)) error {
	p, err := o.change(ctx, func(campaign *rules.Campaign) (err error) {
		campaign.Brownouts, err = change(campaign.Brownouts)
		return err
	})
	if err != nil {
		return err
	}
	return t.answer(o.JSON, p, func(w io.Writer) {
		showBrownouts(w, p.Campaign.Brownouts, p.Now)
		next(w, "mpr brownout pause --all%s", o.environmentFlag())
	})
}

type brownoutListCommand struct{ admin }

func (c *brownoutListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	p, err := client.Policy(ctx, false)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, p.Campaign.Brownouts, func(w io.Writer) {
		showBrownouts(w, p.Campaign.Brownouts, p.Now)
		next(w, "mpr brownout add NAME --from TIME --to TIME%s", c.environmentFlag())
	})
}

type brownoutPauseCommand struct {
	operator
	Name string `arg:"" optional:"" help:"The brownout."`
	All  bool   `help:"All brownouts."`
}

func (c *brownoutPauseCommand) Run(ctx context.Context, t *terminal) error {
	if (c.Name == "") != c.All {
		return wrongUsage("name one brownout, or say --all")
	}
	return c.brownouts(ctx, t, pause(c.Name, true))
}

type brownoutResumeCommand struct {
	operator
	Name string `arg:"" optional:"" help:"The brownout."`
	All  bool   `help:"All brownouts."`
}

func (c *brownoutResumeCommand) Run(ctx context.Context, t *terminal) error {
	if (c.Name == "") != c.All {
		return wrongUsage("name one brownout, or say --all")
	}
	return c.brownouts(ctx, t, pause(c.Name, false))
}

// pause suspends the brownout of that name, or all where it is empty.
func pause(name string, paused bool) func([]rules.Brownout) ([]rules.Brownout, error) {
	return func(list []rules.Brownout) ([]rules.Brownout, error) {
		if name != "" {
			if _, err := find(list, name); err != nil {
				return nil, err
			}
		}
		for i := range list {
			if name == "" || list[i].Name == name {
				list[i].Paused = paused
			}
		}
		return list, nil
	}
}

func find(list []rules.Brownout, name string) (int, error) {
	i := slices.IndexFunc(list, func(b rules.Brownout) bool { return b.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("there is no brownout %q: see `mpr brownout list`", name)
	}
	return i, nil
}

type brownoutRemoveCommand struct {
	operator
	Name string `arg:"" help:"The brownout."`
}

func (c *brownoutRemoveCommand) Run(ctx context.Context, t *terminal) error {
	return c.brownouts(ctx, t, func(list []rules.Brownout) ([]rules.Brownout, error) {
		i, err := find(list, c.Name)
		if err != nil {
			return nil, err
		}
		return slices.Delete(list, i, i+1), nil
	})
}

type appRehearseCommand struct {
	operator
	App  string    `arg:"" help:"The app's id or client id."`
	From time.Time `placeholder:"TIME" help:"When it begins, such as 2019-04-01T14:00:00Z (default at once)."`
	To   time.Time `placeholder:"TIME" help:"When it ends."`
	Stop bool      `help:"End the app's rehearsals now."`
}

func rehearsalStart(from time.Time) string {
	if from.IsZero() {
		return "now on"
	}
	return instant(from)
}

func (c *appRehearseCommand) Run(ctx context.Context, t *terminal) error {
	if c.Stop == !c.To.IsZero() {
		return wrongUsage("say when the rehearsal ends, --to TIME, or --stop to end it now")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := client.App(ctx, c.App)
	if err != nil {
		return err
	}
	var p control.Policy
	if c.Stop {
		p, err = client.EndRehearsal(ctx, c.App, c.who(), c.Note)
	} else {
		p, err = client.Rehearse(ctx, c.App, control.NewRehearsal{From: c.From.UTC(), To: c.To.UTC(), By: c.who(), Note: c.Note})
	}
	if err != nil {
		return err
	}
	return t.answer(c.JSON, p, func(w io.Writer) {
		if c.Stop {
			_, _ = fmt.Fprintf(w, "The app %s finds the legacy door as everybody else does.\n", app.Name)
			return
		}
		_, _ = fmt.Fprintf(w, "From %s to %s the app %s finds the legacy door as it will be after %s. An earlier rehearsal of it is over.\n",
			rehearsalStart(c.From), instant(c.To), app.Name, day(p.Campaign.LegacySunset))
		next(w, "mpr app rehearse %s --stop%s", c.App, c.environmentFlag())
	})
}
