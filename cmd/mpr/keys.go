package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"mpr/control"
)

type keysCommands struct {
	List   keysListCommand   `cmd:"" help:"List the signing keys."`
	Rotate keysRotateCommand `cmd:"" help:"Announce a new signing key. Tokens in use stay valid."`
}

type keysListCommand struct{ admin }

func (c *keysListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	keys, err := client.Keys(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, control.KeyList{Keys: keys}, func(w io.Writer) {
		rows := make([][]string, len(keys))
		for i, k := range keys {
			retired := "-"
			if !k.RetiredAt.IsZero() {
				retired = instant(k.RetiredAt)
			}
			rows[i] = []string{k.KID, k.Algorithm, instant(k.Created), instant(k.SignsFrom), retired}
		}
		table(w, []string{"KEY", "ALGORITHM", "CREATED", "SIGNS FROM", "RETIRED"}, rows)
	})
}

type keysRotateCommand struct{ admin }

func (c *keysRotateCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	key, err := client.RotateKey(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, key, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "Key %s is announced and signs from %s. The old key is published until the last token that it signed has expired.\n",
			key.KID, instant(key.SignsFrom))
		next(w, "mpr keys list%s", c.environmentFlag())
	})
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
