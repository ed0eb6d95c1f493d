package main

import (
	"context"
	"fmt"
	"io"

	"mpr/stack"
)

type configCommands struct {
	Check configCheckCommand `cmd:"" help:"Say what is wrong with a configuration, and where."`
	Show  configShowCommand  `cmd:"" help:"Show every setting, the defaults included."`
}

type configCheckCommand struct {
	settings
	JSON bool `name:"json" help:"Print one line of JSON."`
}

func (c *configCheckCommand) Run(_ context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := stack.CheckCertificates(cfg); err != nil {
		return err
	}
	names := make([]string, len(cfg.Environments))
	for i := range cfg.Environments {
		names[i] = cfg.Environments[i].Name
	}
	return t.answer(c.JSON, map[string]any{"file": c.Config, "environments": names}, func(w io.Writer) {
		what := c.Config
		if what == "" {
			what = "No file is named with --config; the default configuration"
		}
		_, _ = fmt.Fprintf(w, "%s is fine.\n", what)
		next(w, "mpr config show%s", flag("--config", c.Config))
	})
}

type configShowCommand struct{ settings }

func (c *configShowCommand) Run(_ context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	text, err := cfg.Show()
	if err != nil {
		return err
	}
	_, err = t.out.Write(text)
	return err
}

// flag is a flag of a suggested command, or nothing where it has no value.
func flag(name, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf(" %s %q", name, value)
}
