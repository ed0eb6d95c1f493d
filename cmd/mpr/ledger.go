package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/control"
)

type ledgerCommands struct {
	Show   ledgerShowCommand   `cmd:"" default:"withargs" help:"Show which apps make non-compliant calls (the word show may be left out)."`
	Impact ledgerImpactCommand `cmd:"" help:"Say what a date, or a company's move, would break."`
}

type ledgerShowCommand struct {
	admin
	App  string `placeholder:"CLIENT_ID" help:"Show one app, and what exactly it must change."`
	CSV  string `name:"csv" placeholder:"FILE" help:"Write the calls to a CSV file instead (- for standard output): date, status, method, route, count, company, ..."`
	Days int    `default:"14" help:"How many days the CSV goes back, up to 400 (default 14)."`
}

func (c *ledgerShowCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.CSV != "" {
		return c.writeCSV(ctx, t, client)
	}
	report, err := client.Ledger(ctx, c.App)
	if err != nil {
		return err
	}
	if c.App != "" {
		return c.showApp(t, report)
	}
	return t.answer(c.JSON, report, func(w io.Writer) {
		rows := make([][]string, len(report.Apps))
		for i, a := range report.Apps {
			rows[i] = []string{orDash(report.Names[a.ClientID]), string(a.State), a.Since, bars(a.Trend[:]), strconv.FormatInt(a.Calls, 10), strconv.FormatInt(a.Refused, 10), strconv.Itoa(len(a.Companies)), a.ClientID}
		}
		table(w, []string{"APP", "STATE", "SINCE", "14 DAYS", "CALLS", "REFUSED", "COMPANIES", "CLIENT ID"}, rows)
		if len(report.Strangers) > 0 {
			_, _ = fmt.Fprintln(w)
			rows := make([][]string, len(report.Strangers))
			for i, s := range report.Strangers {
				rows[i] = []string{orDash(s.Host), orDash(s.UserAgent), string(s.Kind), strconv.FormatInt(s.Calls, 10)}
			}
			table(w, []string{"WITHOUT A VALID TOKEN, AT", "USER AGENT", "KIND", "CALLS"}, rows)
		}
		if len(report.Apps) == 0 {
			_, _ = fmt.Fprintln(w, "No app has made a non-compliant call.")
			return
		}
		next(w, "mpr ledger --app=%s%s", report.Apps[0].ClientID, c.environmentFlag())
	})
}

// showApp shows what one app must change.
func (c *ledgerShowCommand) showApp(t *terminal, report control.LedgerReport) error {
	a := report.Apps[0]
	return t.answer(c.JSON, a, func(w io.Writer) {
		list(w, "name", report.Names[a.ClientID], "client_id", a.ClientID, "state", string(a.State), "since", orDash(a.Since),
			"14 days", bars(a.Trend[:])+"  "+report.Days[0]+" to "+report.Days[len(report.Days)-1],
			"calls", strconv.FormatInt(a.Calls, 10), "refused", strconv.FormatInt(a.Refused, 10), "companies", joinIDs(a.Companies))
		if len(a.Kinds) > 0 {
			_, _ = fmt.Fprintln(w)
			rows := make([][]string, len(a.Kinds))
			for i, k := range a.Kinds {
				rows[i] = []string{string(k.Kind), strconv.FormatInt(k.Calls, 10), k.Change}
			}
			table(w, []string{"KIND", "CALLS", "WHAT TO CHANGE"}, rows)
		}
		next(w, "mpr app rehearse %s --to TIME%s", a.ClientID, c.environmentFlag())
	})
}

func (c *ledgerShowCommand) writeCSV(ctx context.Context, t *terminal, client *control.Client) error {
	if c.CSV == "-" {
		return client.LedgerCSV(ctx, t.out, c.App, c.Days)
	}
	f, err := os.Create(c.CSV)
	if err != nil {
		return fmt.Errorf("write the CSV: %w", err)
	}
	if err := client.LedgerCSV(ctx, f, c.App, c.Days); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the CSV: %w", err)
	}
	return t.answer(c.JSON, map[string]string{"file": c.CSV}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "The calls of the last %d days are in %s.\n", c.Days, c.CSV)
	})
}

// bars draws numbers as a small bar chart, the largest as a full block.
func bars(values []int64) string {
	const levels = "▁▂▃▄▅▆▇█"
	most := int64(1)
	for _, v := range values {
		most = max(most, v)
	}
	steps := []rune(levels)
	var b strings.Builder
	for _, v := range values {
		step := '·'
		if v > 0 {
			step = steps[(v*int64(len(steps))-1)/most]
		}
		b.WriteRune(step)
	}
	return b.String()
}

type ledgerImpactCommand struct {
	admin
	On   string     `xor:"what" placeholder:"DAY" help:"What would break on that day, such as 2019-07-01."`
	Move company.ID `xor:"what" placeholder:"COMPANY" help:"Which apps the company would lose by moving now."`
	To   string     `placeholder:"REGION" help:"Where it would move."`
}

func (c *ledgerImpactCommand) Run(ctx context.Context, t *terminal) error {
	if (c.On == "") == (c.Move == 0) || (c.Move != 0) != (c.To != "") {
		return wrongUsage("say --on DAY, or --move COMPANY --to REGION")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var impact control.LedgerImpact
	if c.On != "" {
		impact, err = client.ImpactOn(ctx, c.On)
	} else {
		impact, err = client.ImpactOfMove(ctx, c.Move, company.Region(c.To))
	}
	if err != nil {
		return err
	}
	return t.answer(c.JSON, impact, func(w io.Writer) {
		if len(impact.Apps) == 0 {
			_, _ = fmt.Fprintln(w, "By the calls of the last 14 days, nothing would break.")
			return
		}
		rows := make([][]string, len(impact.Apps))
		for i, a := range impact.Apps {
			rows[i] = []string{orDash(impact.Names[a.ClientID]), strconv.FormatInt(a.Calls, 10), orDash(joinIDs(a.Companies)), a.ClientID}
		}
		table(w, []string{"APP THAT WOULD BREAK", "CALLS IN 14 DAYS", "COMPANIES", "CLIENT ID"}, rows)
		_, _ = fmt.Fprintln(w)
		for i, change := range impact.Apps[0].Changes {
			_, _ = fmt.Fprintf(w, "%d. %s\n", i+1, change)
		}
	})
}
