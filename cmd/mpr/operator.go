package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"mpr/control"
)

type operatorCommands struct {
	Grant    operatorGrantCommand    `cmd:"" help:"Give a user a role: viewer, operator or admin."`
	Revoke   operatorRevokeCommand   `cmd:"" help:"Take a user's role away, and end the sessions."`
	List     operatorListCommand     `cmd:"" help:"List who was granted a role."`
	Sessions operatorSessionsCommand `cmd:"" help:"List who is signed in, or end a session. Who is no admin sees their own."`
	Whoami   operatorWhoamiCommand   `cmd:"" help:"Show who you are to the admin API, and your role."`
}

type operatorGrantCommand struct {
	admin
	Login string `arg:"" name:"email" help:"Who the user signs in as."`
	Role  string `required:"" enum:"viewer,operator,admin" placeholder:"ROLE" help:"viewer sees all but secrets, operator runs the system, admin also changes regions, keys and operators."`
}

func (c *operatorGrantCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	change, err := client.GrantRole(ctx, c.Login, c.Role)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, change, func(w io.Writer) {
		before := ""
		if change.Before != "" && change.Before != change.After {
			before = fmt.Sprintf(" in place of %s", change.Before)
		}
		_, _ = fmt.Fprintf(w, "%s has the role %s%s, from the next request on.\n", change.Login, change.After, before)
		next(w, "mpr signin%s", c.environmentFlag())
	})
}

type operatorRevokeCommand struct {
	admin
	Login string `arg:"" name:"email" help:"Who the user signs in as."`
}

func (c *operatorRevokeCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	change, err := client.RevokeRole(ctx, c.Login)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, change, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s was %s, and has no role any more. The sessions have ended.\n", change.Login, change.Before)
		next(w, "mpr operator list%s", c.environmentFlag())
	})
}

type operatorListCommand struct{ admin }

func (c *operatorListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	all, err := client.Operators(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, all, func(w io.Writer) {
		rows := make([][]string, len(all.Operators))
		for i, g := range all.Operators {
			role := string(g.Role)
			if g.Disabled {
				role += " (disabled)"
			}
			rows[i] = []string{g.Login, role, g.Name, instant(g.At), g.By}
		}
		table(w, []string{"LOGIN", "ROLE", "NAME", "GRANTED AT", "BY"}, rows)
		next(w, "mpr operator grant EMAIL --role ROLE%s", c.environmentFlag())
	})
}

type operatorSessionsCommand struct {
	admin
	End string `placeholder:"ID" help:"End this session."`
}

func (c *operatorSessionsCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.End != "" {
		if err := client.EndSession(ctx, c.End); err != nil {
			return err
		}
	}
	all, err := client.Sessions(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, all, func(w io.Writer) {
		rows := make([][]string, len(all.Sessions))
		for i, n := range all.Sessions {
			rows[i] = []string{n.ID, n.Login, string(n.Role), string(n.Kind), instant(n.Created), instant(n.Used), instant(n.Expires)}
		}
		table(w, []string{"SESSION", "LOGIN", "ROLE", "WITH", "SINCE", "LAST USED", "UNTIL"}, rows)
		next(w, "mpr operator sessions --end SESSION%s", c.environmentFlag())
	})
}

type operatorWhoamiCommand struct{ admin }

func (c *operatorWhoamiCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	me, err := client.Me(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, me, func(w io.Writer) {
		until := ""
		if me.Session != nil {
			until = instant(me.Session.Expires)
		}
		list(w, "signed in as", me.By, "role", string(me.Role), "at", c.base(), "until", until)
	})
}

type auditCommand struct {
	admin
	Since   string `placeholder:"TIME" help:"Not before this time, such as 2019-04-01T14:00:00Z, or not longer ago than 36h."`
	Until   string `placeholder:"TIME" help:"Before this time, or longer ago."`
	By      string `placeholder:"LOGIN" help:"Who asked for it; the word token for whoever had the admin token."`
	Subject string `placeholder:"ID" help:"What it was about: the id of a company, a client id, a login, a session."`
	In      string `placeholder:"NAME" help:"In this environment (default all, and what concerns the whole system)."`
	Limit   int    `default:"100" help:"How many entries, the newest first (default 100). --csv and 0 have no limit."`
	CSV     bool   `name:"csv" help:"Write CSV."`
}

// ago reads a time, or how long ago it was.
func ago(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, wrongUsage("%s must be a time such as 2019-04-01T14:00:00Z, or how long ago, such as 36h; not %q", flag, text)
	}
	return now.Add(-d), nil
}

func (c *auditCommand) Run(ctx context.Context, t *terminal) error {
	q := control.AuditQuery{By: c.By, Subject: c.Subject, Environment: c.In}
	if c.By == "token" {
		q.By = control.ByToken
	}
	var err error
	now := time.Now()
	if q.Since, err = ago("--since", c.Since, now); err != nil {
		return err
	}
	if q.Until, err = ago("--until", c.Until, now); err != nil {
		return err
	}
	if c.Limit < 0 || c.CSV && c.JSON {
		return wrongUsage("--limit must be a number from 0, and --csv and --json don't go together")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.CSV {
		return client.AuditCSV(ctx, t.out, q)
	}
	page, err := c.pages(ctx, client, q)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, page, func(w io.Writer) {
		rows := make([][]string, len(page.Entries))
		for i, e := range page.Entries {
			who := e.By
			if e.Claimed != "" {
				who += " (" + e.Claimed + ")"
			}
			rows[i] = []string{instant(e.At), who, e.Action, e.Subject, orDash(e.Environment), orDash(e.Outcome), changed(e.Before, e.After)}
		}
		table(w, []string{"AT", "BY", "ACTION", "SUBJECT", "ENVIRONMENT", "OUTCOME", "CHANGE"}, rows)
		if page.Next != "" {
			next(w, "mpr audit --limit 0%s", c.environmentFlag())
		}
	})
}

// pages reads as many entries as were asked for.
func (c *auditCommand) pages(ctx context.Context, client *control.Client, q control.AuditQuery) (all control.AuditPage, err error) {
	const most = 1000
	all.Entries = nil
	for {
		q.Limit = most
		if c.Limit > 0 {
			q.Limit = min(most, c.Limit-len(all.Entries))
		}
		page, err := client.Audit(ctx, q)
		if err != nil {
			return all, err
		}
		all.Entries, all.Next = append(all.Entries, page.Entries...), page.Next
		if page.Next == "" || c.Limit > 0 && len(all.Entries) >= c.Limit {
			return all, nil
		}
		q.After = page.Next
	}
}

// changed shows a change on a line; what is long is for --json.
func changed(before, after json.RawMessage) string {
	const most = 60
	text := shorten(string(after), most)
	if len(before) > 0 {
		text = shorten(string(before), most) + " -> " + text
	}
	return text
}
