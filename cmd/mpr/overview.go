package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"mpr/control"
)

type overviewCommand struct{ admin }

func (c *overviewCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	o, err := client.Overview(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, o, func(w io.Writer) {
		showTraffic(w, o)
		if s := o.Sunset; s != nil {
			_, _ = fmt.Fprintf(w, "\nThe legacy door closes at %s. Apps that break already: %d, at risk: %d.\n", instant(s.At), s.Breaking, s.AtRisk)
		}
		if len(o.Moves) > 0 {
			_, _ = fmt.Fprintf(w, "Moves under way: %d\n", len(o.Moves))
			next(w, "mpr move list%s", c.environmentFlag())
		}
	})
}

// showTraffic prints the regions and the gateways.
func showTraffic(w io.Writer, o control.Overview) {
	perSecond := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	millis := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) + " ms" }
	row := func(name, companies string, t control.Traffic) []string {
		return []string{name, companies, perSecond(t.CallsPerSecond), perSecond(t.ErrorsPerSecond), millis(t.P50Millis), millis(t.P99Millis)}
	}
	var rows [][]string
	for _, r := range o.Regions {
		name := string(r.Code)
		if r.Draining {
			name += ", draining"
		}
		rows = append(rows, row(name, strconv.Itoa(r.Companies), r.Traffic))
	}
	table(w, []string{"REGION", "COMPANIES", "CALLS/S", "ERRORS/S", "P50", "P99"}, append(rows, row("no region", "-", o.Elsewhere), row("all", strconv.Itoa(o.Companies), o.Total)))
	_, _ = fmt.Fprintln(w)
	rows = nil
	for _, g := range o.Gateways {
		rows = append(rows, []string{g.Host, g.Address, perSecond(g.CallsPerSecond), strconv.Itoa(g.Companies), (time.Duration(g.AgeMillis) * time.Millisecond).String()})
	}
	table(w, []string{"GATEWAY", "ADDRESS", "CALLS/S", "COMPANIES", "AGE OF REPLICA"}, rows)
}
