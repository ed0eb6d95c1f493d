package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"mpr/company"
	"mpr/problem"
)

// cli is the grammar of the command line.
type cli struct {
	Dev devCommand `cmd:"" group:"Try it:" help:"Run all of it in this process, with demo data."`

	Login    loginCommand    `cmd:"" group:"Roles, each a process of its own:" help:"Run the login service."`
	Gateway  gatewayCommand  `cmd:"" group:"Roles, each a process of its own:" help:"Run an API gateway."`
	Region   regionCommands  `cmd:"" group:"Roles, each a process of its own:" help:"Run a region (--code EU01), or add and list regions."`
	Control  controlCommand  `cmd:"" group:"Roles, each a process of its own:" help:"Run the admin API and the directory's server."`
	Overview overviewCommand `cmd:"" group:"Administration:" help:"Show how regions and gateways are doing, the moves under way and the sunset."`
	Company  companyCommands `cmd:"" group:"Administration:" help:"Create, list and show companies."`
	User     userCommands    `cmd:"" group:"Administration:" help:"Create users and add them to companies."`
	App      appCommands     `cmd:"" group:"Administration:" help:"Create, list and install apps, and rotate their secrets."`

	SignIn   signInCommand    `cmd:"" name:"signin" group:"Operators:" help:"Sign in with your browser: commands then act as you."`
	SignOut  signOutCommand   `cmd:"" name:"signout" group:"Operators:" help:"End your session."`
	Operator operatorCommands `cmd:"" group:"Operators:" help:"Grant, revoke and list roles, and list sessions."`
	Audit    auditCommand     `cmd:"" group:"Operators:" help:"Show who changed what, when, and what came of it."`

	ServiceAccount serviceAccountCommands `cmd:"" group:"Administration:" help:"Create service accounts."`
	Sandbox        sandboxCommands        `cmd:"" group:"Administration:" help:"Refresh and show the monthly sandbox."`
	Move           moveCommands           `cmd:"" group:"Administration:" help:"Move companies between regions, and see how far they are."`
	Directory      directoryCommands      `cmd:"" group:"Administration:" help:"Compare the directory with the regions, and rebuild one that was lost."`
	Keys           keysCommands           `cmd:"" group:"Administration:" help:"List and rotate signing keys."`
	Policy         policyCommands         `cmd:"" group:"Administration:" help:"Show and set the dates of the legacy door."`
	Ledger         ledgerCommands         `cmd:"" group:"Administration:" help:"Show which apps still make non-compliant calls, and what a date or a move would break."`
	Brownout       brownoutCommands       `cmd:"" group:"Administration:" help:"Plan windows in which the legacy door refuses, and pause them."`

	PKI     pkiCommands    `cmd:"" name:"pki" group:"Other:" help:"Make a CA and the certificates that our processes show one another."`
	DB      dbCommands     `cmd:"" name:"db" group:"Other:" help:"Show and migrate the schemas of the databases."`
	Backup  backupCommand  `cmd:"" group:"Other:" help:"Copy databases, directory and secrets to a folder, while everything runs."`
	Restore restoreCommand `cmd:"" group:"Other:" help:"Put a backup into an empty system."`
	Config  configCommands `cmd:"" group:"Other:" help:"Check and show the configuration."`
	Version versionCommand `cmd:"" group:"Other:" help:"Show which build this is."`
}

const description = `The multi-region front door of an API.

Start with "mpr dev". Commands under Administration find a running "mpr dev" or "mpr control" by its data folder (--data), and any other by --admin URL. You are known to them by "mpr signin", or by --token-file FILE.`

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is what shells make of an interrupt as well: 128 and the signal's number.
	exitInterrupted = 130
)

// run is the program: it parses the arguments, runs the command and returns the exit
// code.
func run(ctx context.Context, args []string, t *terminal) int {
	parser, err := kong.New(&cli{}, kong.Name("mpr"), kong.Description(description),
		kong.Writers(t.out, t.err), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(t),
		kong.TypeMapper(reflect.TypeFor[company.ID](), kong.MapperFunc(companyID)),
		kong.TypeMapper(reflect.TypeFor[time.Time](), kong.MapperFunc(moment)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		t.fail(err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		t.fail(err)
		_, _ = fmt.Fprintf(t.err, "Run `%s --help` to see what is possible.\n", commandOf(err))
		return exitUsage
	}
	if err := command.Run(); err != nil {
		if slices.Contains(args, "--json") {
			t.failJSON(err)
		} else {
			t.fail(err)
		}
		var wrong usageError
		if errors.As(err, &wrong) {
			return exitUsage
		}
		var stopped interruptedError
		if errors.As(err, &stopped) {
			return exitInterrupted
		}
		return exitFailed
	}
	return exitFine
}

// companyID reads a company's id as strictly as the doors do.
func companyID(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("id", &text); err != nil {
		return err
	}
	id, err := company.ParseID(text)
	if err != nil {
		return fmt.Errorf("%q is %w", text, err)
	}
	target.SetInt(int64(id))
	return nil
}

// moment reads a time or, where the flag says so, a day.
func moment(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("time", &text); err != nil {
		return err
	}
	layout, like := time.RFC3339, "a time such as 2019-04-01T14:00:00Z"
	if ctx.Value.Format != "" {
		layout, like = ctx.Value.Format, "a day such as 2019-04-01"
	}
	at, err := time.Parse(layout, text)
	if err != nil {
		return fmt.Errorf("%q is not %s", text, like)
	}
	target.Set(reflect.ValueOf(at))
	return nil
}

// usageError says that the arguments don't fit together.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func wrongUsage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// interruptedError says that somebody has stopped the command, and what goes on without it.
type interruptedError struct{ text string }

func (e interruptedError) Error() string { return e.text }

// commandOf is the command, as far as it was understood, that a parse error is about.
func commandOf(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if command := parse.Context.Command(); command != "" {
			return "mpr " + command
		}
	}
	return "mpr"
}

// failJSON tells an error to a program: one line on standard error.
func (t *terminal) failJSON(err error) {
	said := struct {
		Code    problem.Code        `json:"code"`
		Message string              `json:"message"`
		Errors  map[string][]string `json:"errors,omitempty"`
		// RequestID finds the refusal in the log of whoever refused.
		RequestID string `json:"request_id,omitempty"`
	}{Code: "failed", Message: err.Error()}
	var p *problem.Problem
	var wrong usageError
	var stopped interruptedError
	switch {
	case errors.As(err, &stopped):
		said.Code = "interrupted"
	case errors.As(err, &p):
		said.Code, said.Message, said.Errors, said.RequestID = p.Code, strings.Replace(err.Error(), p.Error(), p.Message, 1), p.Fields, p.RequestID
	case errors.As(err, &wrong):
		said.Code = "usage"
	}
	_ = writeLine(t.err, said) // where standard error is closed nobody can be told
}

// fail tells an error: a problem by its message and by what is wrong with each field.
func (t *terminal) fail(err error) {
	var p *problem.Problem
	if !errors.As(err, &p) {
		_, _ = fmt.Fprintf(t.err, "mpr: %v\n", err)
		return
	}
	// What wraps the problem has something to say as well; codes and causes are for
	// programs and logs.
	text := strings.Replace(err.Error(), p.Error(), p.Message, 1)
	_, _ = fmt.Fprintf(t.err, "mpr: %s\n", text)
	if p.RequestID != "" && p.Code.Status() >= 500 { // its log says more
		_, _ = fmt.Fprintf(t.err, "The request id is %s.\n", p.RequestID)
	}
	fields := make([]string, 0, len(p.Fields))
	for field, whys := range p.Fields {
		for _, why := range whys {
			if !strings.Contains(text, why) {
				fields = append(fields, fmt.Sprintf("  %s %s\n", field, why))
			}
		}
	}
	slices.Sort(fields)
	_, _ = fmt.Fprint(t.err, strings.Join(fields, ""))
}
