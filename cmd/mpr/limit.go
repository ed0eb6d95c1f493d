package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"mpr/control"
)

type appLimitCommand struct {
	author
	App     string `arg:"" help:"The app's id or client id."`
	Hour    *int64 `placeholder:"N" help:"Calls in an hour; 0 for no limit."`
	Spike   *int64 `placeholder:"N" help:"Calls in ten seconds; 0 for no limit."`
	Default bool   `help:"Take back what was set: the limits of all apps."`
}

func (c *appLimitCommand) Run(ctx context.Context, t *terminal) error {
	set := c.Hour != nil || c.Spike != nil
	if set && c.Default {
		return wrongUsage("--default takes back what --hour and --spike set: use one or the other")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var limits control.AppLimits
	switch {
	case c.Default:
		limits, err = client.ResetAppLimits(ctx, c.App)
	case set:
		limits, err = client.SetAppLimits(ctx, c.App, control.NewLimits{Hour: c.Hour, Spike: c.Spike, By: c.who()})
	default:
		limits, err = client.AppLimits(ctx, c.App)
	}
	if err != nil {
		return err
	}
	return t.answer(c.JSON, limits, func(w io.Writer) {
		showLimits(w, limits)
		switch {
		case set, c.Default:
			_, _ = fmt.Fprintln(w, "All gateways follow within a second.")
		case limits.Set.By == "":
			next(w, "mpr app limit %s --hour N --spike N%s", limits.ClientID, c.environmentFlag())
		default:
			next(w, "mpr app limit %s --default%s", limits.ClientID, c.environmentFlag())
		}
	})
}

func showLimits(w io.Writer, l control.AppLimits) {
	calls := func(n int64, set *int64) string {
		text := "no limit"
		if n > 0 {
			text = strconv.FormatInt(n, 10) + " calls"
		}
		if set == nil {
			text += " (as for all apps)"
		}
		return text
	}
	by := ""
	if l.Set.By != "" {
		by = l.Set.By + ", " + instant(l.Set.At)
	}
	list(w, "client_id", l.ClientID, "in an hour", calls(l.InForce.Hour, l.Set.Hour), "in 10 seconds", calls(l.InForce.Spike, l.Set.Spike), "set by", by)
}
