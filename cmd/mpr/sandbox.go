package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/control"
)

type sandboxCommands struct {
	Refresh sandboxRefreshCommand `cmd:"" help:"Replace the monthly sandbox by a fresh copy of its environment."`
	Show    sandboxShowCommand    `cmd:"" help:"Show when the monthly sandbox was refreshed, and when it will be."`
}

type sandboxRefreshCommand struct {
	admin
	Kind   string `arg:"" enum:"monthly" help:"Which sandbox: monthly. A development sandbox is never refreshed."`
	DryRun bool   `help:"Only say what would be copied."`
}

func (c *sandboxRefreshCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.plan(ctx, client, t)
	}
	run, err := client.RefreshMonthlySandbox(ctx)
	if err != nil {
		return err
	}
	if run, err = c.watch(ctx, client, t, run); err != nil {
		return err
	}
	err = t.answer(c.JSON, run, func(w io.Writer) {
		if run.Error == "" {
			_, _ = fmt.Fprintf(w, "The monthly sandbox is a copy of %s of this moment: %s.\n", c.Env, extent(run))
		}
		for _, s := range run.Skipped {
			_, _ = fmt.Fprintf(w, "Company %d was left out: %s.\n", s.Company, s.Reason)
		}
	})
	if err == nil && run.Error != "" {
		err = fmt.Errorf("the monthly sandbox stays as it was: %s", run.Error)
	}
	return err
}

func (c *sandboxRefreshCommand) plan(ctx context.Context, client *control.Client, t *terminal) error {
	plan, err := client.PlanMonthlySandbox(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, plan, func(w io.Writer) {
		rows := make([][]string, len(plan.Companies))
		for i, one := range plan.Companies {
			rows[i] = []string{one.Company.String(), string(one.Region), strconv.FormatInt(one.Rows, 10), one.Name}
		}
		table(w, []string{"ID", "REGION", "ROWS", "NAME"}, rows)
		_, _ = fmt.Fprintf(w, "Besides these, all users and apps of %s would be copied. What was changed in the sandbox would be gone.\n", c.Env)
		if len(plan.Companies) == 0 {
			next(w, "mpr company sandbox --enable ID%s", c.environmentFlag())
		}
	})
}

// watchEvery is how often the progress is asked for.
const watchEvery = 200 * time.Millisecond

// watch shows the progress of a refresh until it ends. It goes on when nobody watches.
func (c *sandboxRefreshCommand) watch(ctx context.Context, client *control.Client, t *terminal, run control.SandboxRun) (control.SandboxRun, error) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for generation := run.Generation; ; {
		if !c.JSON {
			t.progress(bar(run))
		}
		if !run.Ended.IsZero() {
			break
		}
		select {
		case <-ctx.Done():
			return run, errors.New("stopped watching; the refresh goes on: see `mpr sandbox show`")
		case <-tick.C:
		}
		now, err := client.MonthlySandbox(ctx)
		if err != nil {
			return run, fmt.Errorf("%w\nThe refresh may go on: see `mpr sandbox show`", err)
		}
		if now.Run == nil || now.Run.Generation != generation {
			return run, errors.New("another refresh has begun: this one was taken for dead")
		}
		run = *now.Run
	}
	if !c.JSON {
		t.progress("")
	}
	return run, nil
}

// bar draws how far a refresh is.
func bar(run control.SandboxRun) string {
	const width = 30
	full := 0
	if run.Companies > 0 {
		full = width * run.Copied / run.Companies
	}
	return fmt.Sprintf("[%s%s] %d of %d companies, %d rows: %s", strings.Repeat("#", full), strings.Repeat(".", width-full),
		run.Copied, run.Companies, run.Rows, run.Phase)
}

func extent(run control.SandboxRun) string {
	return fmt.Sprintf("%s with %d rows, %d users, %d apps, in %s", counted(run.Copied, "company", "companies"), run.Rows, run.Users, run.Apps,
		run.Ended.Sub(run.Started).Round(time.Millisecond))
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

type sandboxShowCommand struct{ admin }

func (c *sandboxShowCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	now, err := client.MonthlySandbox(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, now, func(w io.Writer) {
		last, running, failed := "never", "", ""
		if now.Last != nil {
			last = now.Last.Ended.Format(time.RFC3339) + ", " + extent(*now.Last)
		}
		switch {
		case now.Run == nil:
		case now.Building != 0 && time.Now().After(now.Run.Alive):
			failed = now.Run.Started.Format(time.RFC3339) + ", it broke off: run mpr sandbox refresh monthly again"
		case now.Building != 0:
			running = fmt.Sprintf("since %s, %s", now.Run.Started.Format(time.RFC3339), bar(*now.Run))
		case now.Run.Error != "":
			failed = now.Run.Ended.Format(time.RFC3339) + ", " + now.Run.Error
		}
		list(w, "generation", strconv.Itoa(now.Serving), "refreshed", last, "running", running, "failed", failed,
			"next", now.Next.Format(time.RFC3339))
	})
}

type companySandboxCommand struct {
	admin
	ID      company.ID `arg:"" help:"The company's id."`
	Enable  bool       `xor:"setting" required:"" help:"The monthly sandbox gets a copy of it, from the next refresh on."`
	Disable bool       `xor:"setting" required:"" help:"The next refresh leaves it out."`
}

func (c *companySandboxCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	set, err := client.SetSandbox(ctx, c.ID, control.SandboxSetting{Enabled: c.Enable})
	if err != nil {
		return err
	}
	return t.answer(c.JSON, set, func(w io.Writer) {
		if set.Enabled {
			_, _ = fmt.Fprintf(w, "The monthly sandbox gets a copy of company %d with each refresh.\n", c.ID)
			next(w, "mpr sandbox refresh monthly%s", c.environmentFlag())
			return
		}
		_, _ = fmt.Fprintf(w, "The next refresh of the monthly sandbox leaves company %d out.\n", c.ID)
	})
}
