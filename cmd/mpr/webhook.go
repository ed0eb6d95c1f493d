package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"mpr/control"
)

type appWebhookCommands struct {
	Set        webhookSetCommand        `cmd:"" help:"Say where an app hears of moves, and show the secret that signs what it hears."`
	Show       webhookShowCommand       `cmd:"" help:"Show an app's webhook and its secret."`
	Rotate     webhookRotateCommand     `cmd:"" help:"Make a new secret."`
	Remove     webhookRemoveCommand     `cmd:"" help:"Take an app's webhook away."`
	Test       webhookTestCommand       `cmd:"" help:"Send the app a webhook.test event at once, and show what it answers."`
	Deliveries webhookDeliveriesCommand `cmd:"" help:"List what an app was sent and is to be sent."`
	Redeliver  webhookRedeliverCommand  `cmd:"" help:"Send an app an event again."`
}

// ofApp names the app of a webhook.
type ofApp struct {
	admin
	App string `arg:"" name:"client_id" help:"The app's id or client id."`
}

// tell prints an app's webhook.
func (c *ofApp) tell(t *terminal, h control.Webhook, more func(io.Writer)) error {
	return t.answer(c.JSON, h, func(w io.Writer) {
		list(w, "client_id", h.ClientID, "url", h.URL, "secret", h.Secret, "secret before", validUntil(h.PreviousUntil))
		more(w)
	})
}

func validUntil(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return "signs as well until " + at.Format(time.RFC3339)
}

func (c *ofApp) nextTest(w io.Writer) {
	next(w, "mpr app webhook test %s%s", c.App, c.environmentFlag())
}

type webhookSetCommand struct {
	ofApp
	URL string `required:"" name:"url" placeholder:"URL" help:"Where events are sent to, such as https://diary.example/webhook. The secret stays when the URL changes."`
}

func (c *webhookSetCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	h, err := client.SetWebhook(ctx, c.App, control.NewWebhook{URL: c.URL})
	if err != nil {
		return err
	}
	return c.tell(t, h, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, "The app verifies with the secret what it hears: docs/webhooks.md says how.")
		c.nextTest(w)
	})
}

type webhookShowCommand struct{ ofApp }

func (c *webhookShowCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	h, err := client.Webhook(ctx, c.App)
	if err != nil {
		return err
	}
	return c.tell(t, h, func(w io.Writer) { next(w, "mpr app webhook deliveries %s%s", c.App, c.environmentFlag()) })
}

type webhookRotateCommand struct {
	ofApp
	Overlap time.Duration `placeholder:"DURATION" help:"How long the old secret signs beside the new one, such as 24h (default: not at all)."`
}

func (c *webhookRotateCommand) Run(ctx context.Context, t *terminal) error {
	if c.Overlap < 0 || c.Overlap%time.Second != 0 {
		return wrongUsage("--overlap %s: expected whole seconds, such as 24h", c.Overlap)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	h, err := client.RotateWebhook(ctx, c.App, control.SecretRotation{OverlapSeconds: int64(c.Overlap / time.Second)})
	if err != nil {
		return err
	}
	return c.tell(t, h, func(w io.Writer) {
		if c.Overlap == 0 {
			_, _ = fmt.Fprintln(w, "The old secret signs nothing any more: give the app the new one now.")
		}
		c.nextTest(w)
	})
}

type webhookRemoveCommand struct{ ofApp }

func (c *webhookRemoveCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	h, err := client.RemoveWebhook(ctx, c.App)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, h, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "App %s hears of nothing any more. A webhook that it is given later has a new secret.\n", h.ClientID)
		next(w, "mpr app webhook set %s --url URL%s", c.App, c.environmentFlag())
	})
}

type webhookTestCommand struct{ ofApp }

func (c *webhookTestCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	r, err := client.TestWebhook(ctx, c.App)
	if err != nil {
		return err
	}
	err = t.answer(c.JSON, r, func(w io.Writer) {
		list(w, "event", r.Event, "status", statusOrNone(r.Status), "took", (time.Duration(r.Milliseconds) * time.Millisecond).String(), "problem", r.Problem)
		if r.Problem == "" {
			next(w, "mpr app webhook deliveries %s%s", c.App, c.environmentFlag())
		}
	})
	if err == nil && r.Problem != "" {
		err = fmt.Errorf("the app didn't take the event: %s\nA real one would be sent again for two days. Mend the app, or its URL: mpr app webhook set %s --url URL%s", printable([]string{r.Problem})[0], c.App, c.environmentFlag())
	}
	return err
}

// statusOrNone writes the status of an answer, where there was one.
func statusOrNone(status int) string {
	if status == 0 {
		return "no answer"
	}
	return strconv.Itoa(status)
}

type webhookDeliveriesCommand struct{ ofApp }

func (c *webhookDeliveriesCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	all, err := client.Deliveries(ctx, c.App)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, all, func(w io.Writer) {
		rows, stuck := make([][]string, len(all.Deliveries)), ""
		for i, d := range all.Deliveries {
			status, then := statusOrNone(d.Status), string(d.State)
			switch {
			case d.Attempts == 0:
				status = "-"
			case d.Problem != "" && d.Status/100 == 2:
				status += ", " + d.Problem
			case d.Problem != "":
				status = d.Problem
			}
			if !d.Next.IsZero() {
				then = d.Next.Format(time.RFC3339)
			}
			if d.State == "given up" {
				stuck = d.Event
			}
			rows[i] = []string{d.Event, d.Type, d.Company.String(), d.At.Format(time.RFC3339), strconv.FormatInt(d.Attempts, 10), status, then}
		}
		table(w, []string{"EVENT", "TYPE", "COMPANY", "AT", "ATTEMPTS", "LAST STATUS", "NEXT ATTEMPT"}, rows)
		switch {
		case len(rows) == 0:
			next(w, "mpr app webhook test %s%s", c.App, c.environmentFlag())
		case stuck != "":
			next(w, "mpr app webhook redeliver %s %s%s", c.App, stuck, c.environmentFlag())
		}
	})
}

type webhookRedeliverCommand struct {
	ofApp
	Event string `arg:"" name:"event_id" help:"The event's id, which the app sees as webhook-id."`
}

func (c *webhookRedeliverCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	r, err := client.Redeliver(ctx, c.App, c.Event)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, r, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "The event %s is sent to app %s again, under the same id.\n", r.Event, r.ClientID)
		next(w, "mpr app webhook deliveries %s%s", c.App, c.environmentFlag())
	})
}
