package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"mpr/stack"
)

type backupCommand struct {
	settings
	Admin     string `placeholder:"URL" env:"MPR_ADMIN" help:"Base URL of the admin API, which is then asked for the directory (default: the one that runs on the data folder; where none does, the folder is read)."`
	TokenFile string `placeholder:"FILE" env:"MPR_TOKEN_FILE" help:"File with the admin API's token."`
	To        string `required:"" placeholder:"DIR" help:"The folder to make. It holds secrets: keep it as you keep them."`
	JSON      bool   `name:"json" help:"Print one line of JSON."`
}

func (c *backupCommand) Run(ctx context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	(&logging{}).start(t, slog.LevelError) // what a role would be warned of is no matter here
	online := func(to io.Writer) error {
		a := admin{Env: "production", Data: cfg.Data, Admin: c.Admin, TokenFile: c.TokenFile}
		client, err := a.client()
		if err != nil {
			return err
		}
		return client.BackUpDirectory(ctx, to)
	}
	m, err := stack.Backup(ctx, cfg, c.To, c.Admin != "", online, func(what string) { t.progress("backing up " + what) })
	t.progress("")
	if err != nil {
		return err
	}
	return t.answer(c.JSON, m, func(w io.Writer) {
		showBackup(w, m)
		for _, s := range m.Left {
			why := s.Problem
			if why == "" {
				why = s.Engine + " has backups of its own, docs/stores.md says how"
			}
			_, _ = fmt.Fprintf(w, "%s of %s is not in it: %s (%s).\n", s.Store, orDash(s.Environment), why, s.Where)
		}
		next(w, "mpr restore --from %s --data NEW", filepath.Clean(c.To))
	})
}

type restoreCommand struct {
	settings
	From string `required:"" placeholder:"DIR" help:"The folder of the backup."`
	JSON bool   `name:"json" help:"Print one line of JSON."`
}

func (c *restoreCommand) Run(ctx context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	(&logging{}).start(t, slog.LevelError)
	m, err := stack.Restore(ctx, cfg, c.From, func(what string) { t.progress("restoring " + what) })
	t.progress("")
	if err != nil {
		return err
	}
	return t.answer(c.JSON, m, func(w io.Writer) {
		showBackup(w, m)
		_, _ = fmt.Fprintln(w, "Start the system, then compare the directory with the regions' fences.")
		next(w, "mpr directory verify%s", flag("--data", c.Data))
	})
}

func showBackup(w io.Writer, m stack.Manifest) {
	rows := make([][]string, len(m.Files))
	for i, f := range m.Files {
		rows[i] = []string{f.What, orDash(f.Environment), fmt.Sprint(f.Generation), fmt.Sprint(f.Bytes), f.File}
	}
	table(w, []string{"WHAT", "ENVIRONMENT", "GENERATION", "BYTES", "FILE"}, rows)
}
