package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/control"
)

type userCommands struct {
	Create userCreateCommand `cmd:"" help:"Create a user."`
	Add    userAddCommand    `cmd:"" help:"Add a user to a company."`

	Disable  userDisableCommand  `cmd:"" help:"Keep a user from signing in, and end sessions and tokens."`
	Enable   userEnableCommand   `cmd:"" help:"Let a user sign in again who was disabled."`
	Password userPasswordCommand `cmd:"" help:"Give a user another password, and end the sessions."`
}

type userCreateCommand struct {
	admin
	Login string `required:"" help:"What the user signs in with, such as an e-mail address."`
	Name  string `required:"" help:"The user's name."`
	passwordFlag
	Company []company.ID `placeholder:"ID" help:"A company that the user joins; may be repeated."`
}

// createdUser is the answer of the command; a password stands in it where it was made
// here.
type createdUser struct {
	control.User
	Password string `json:"password,omitempty"`
}

func (c *userCreateCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	password, shown, err := c.password(t)
	if err != nil {
		return err
	}
	user, err := client.CreateUser(ctx, control.NewUser{Login: c.Login, Name: c.Name, Password: password, Companies: c.Company})
	if err != nil {
		return err
	}
	answer := createdUser{User: user, Password: shown}
	return t.answer(c.JSON, answer, func(w io.Writer) {
		list(w, "id", strconv.FormatInt(user.ID, 10), "login", user.Login, "name", user.Name,
			"password", answer.Password, "companies", joinIDs(user.Companies), "note", pending(user.Listed))
		if len(user.Companies) == 0 {
			next(w, "mpr user add --login %s --company ID%s", user.Login, c.environmentFlag())
		}
	})
}

// passwordFlag says what a user's password will be.
type passwordFlag struct {
	PasswordFile string `placeholder:"FILE" help:"File with the password, - for standard input. Without it a password is made and shown."`
}

// password reads the password, or makes one, which is then to be shown; "" where it isn't. It
// doesn't come from an argument, which every user of the machine could see.
func (c *passwordFlag) password(t *terminal) (password, shown string, err error) {
	const most = 4096
	var from io.Reader
	switch c.PasswordFile {
	case "":
		password = rand.Text()
		return password, password, nil
	case "-":
		from = t.in
	default:
		f, err := os.Open(c.PasswordFile)
		if err != nil {
			return "", "", fmt.Errorf("read the password: %w", err)
		}
		defer f.Close() //nolint:errcheck // only read
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, most))
	if err != nil {
		return "", "", fmt.Errorf("read the password: %w", err)
	}
	password = strings.TrimRight(string(data), "\r\n")
	if password == "" {
		return "", "", errors.New("the password is empty")
	}
	return password, "", nil
}

type userAddCommand struct {
	admin
	Login   string     `required:"" help:"Who joins."`
	Company company.ID `required:"" placeholder:"ID" help:"The company."`
}

func (c *userAddCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	user, err := client.AddUser(ctx, c.Company, control.Member{Login: c.Login})
	if err != nil {
		return err
	}
	return t.answer(c.JSON, user, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s is a member of company %d. %s\n", user.Login, c.Company, pending(user.Listed))
	})
}
