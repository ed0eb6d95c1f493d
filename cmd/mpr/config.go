package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mpr/config"
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
	if err := errors.Join(stack.CheckCertificates(cfg), checkAccessLog(cfg.AccessLog)); err != nil {
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

// checkAccessLog wants the folder of the log to be there: who writes it makes the file, and no folder.
func checkAccessLog(log config.AccessLog) error {
	if log.File == "" || log.File == "-" {
		return nil
	}
	folder := filepath.Dir(log.File)
	switch there, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("access_log.file: there is no folder %s: make it, for the user that mpr runs as, or name another file", folder)
	case err != nil:
		return fmt.Errorf("access_log.file: %w", err)
	case !there.IsDir():
		return fmt.Errorf("access_log.file: %s is no folder: name another file", folder)
	}
	if there, err := os.Stat(log.File); err == nil && there.IsDir() {
		return fmt.Errorf("access_log.file: %s is a folder: name a file in it", log.File)
	}
	return nil
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
