package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"mpr/control"
)

type userDisableCommand struct {
	admin
	Login string `arg:"" name:"email" help:"What the user signs in with."`
}

func (c *userDisableCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	change, err := client.DisableUser(ctx, c.Login)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, change, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s can't sign in any more. %s\n", change.Login, hasEnded(change.Ended))
		if change.Ended.Grants > 0 {
			_, _ = fmt.Fprintln(w, "Gateways hear of the tokens within a moment, and of those that they can't be told of now as soon as the directory is back.")
		}
		next(w, "mpr user enable %s%s, to undo it", change.Login, c.environmentFlag())
	})
}

// hasEnded says what a change has ended.
func hasEnded(e control.EndedAccess) string {
	text := fmt.Sprintf("Ended: %d sessions", e.Sessions+e.OperatorSessions)
	if e.OperatorSessions > 0 {
		text += fmt.Sprintf(" (%d of them as an operator)", e.OperatorSessions)
	}
	if e.Grants > 0 {
		text += fmt.Sprintf(", %d grants of apps with their tokens", e.Grants)
	}
	return text + "."
}

type userEnableCommand struct {
	admin
	Login string `arg:"" name:"email" help:"What the user signs in with."`
}

func (c *userEnableCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	change, err := client.EnableUser(ctx, c.Login)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, change, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s can sign in again, with the password of before. What was ended stays so: apps must be allowed again.\n", change.Login)
		next(w, "mpr user password %s%s, if somebody else knows that", change.Login, c.environmentFlag())
	})
}

type userPasswordCommand struct {
	admin
	Login string `arg:"" name:"email" help:"What the user signs in with."`
	passwordFlag
}

// changedPassword is the answer of the command; the password stands in it where it was made here.
type changedPassword struct {
	control.AccountChange
	Password string `json:"password,omitempty"`
}

func (c *userPasswordCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	password, shown, err := c.password(t)
	if err != nil {
		return err
	}
	change, err := client.SetPassword(ctx, c.Login, control.NewPassword{Password: password})
	if err != nil {
		return err
	}
	answer := changedPassword{AccountChange: change, Password: shown}
	return t.answer(c.JSON, answer, func(w io.Writer) {
		note := ""
		if change.Disabled {
			note = "the account is disabled: nobody signs in with it until it is enabled"
		}
		list(w, "id", strconv.FormatInt(change.ID, 10), "login", change.Login, "password", answer.Password, "note", note)
		_, _ = fmt.Fprintln(w, hasEnded(change.Ended))
		if change.Disabled {
			next(w, "mpr user enable %s%s", change.Login, c.environmentFlag())
			return
		}
		_, _ = fmt.Fprintln(w, "What apps were granted goes on.")
		next(w, "mpr user disable %s%s, to end that as well", change.Login, c.environmentFlag())
	})
}
