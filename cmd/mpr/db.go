package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"mpr/stack"
)

type dbCommands struct {
	Status  dbStatusCommand  `cmd:"" help:"Show the schema of each database: its version, and what this binary would migrate."`
	Migrate dbMigrateCommand `cmd:"" help:"Bring the schemas up to date, ahead of a rollout; older processes may run on meanwhile."`
}

// dbChoice are the flags that choose databases.
type dbChoice struct {
	settings
	Env   string `placeholder:"NAME" env:"MPR_ENV" help:"Only those of this environment."`
	Store string `placeholder:"NAME" help:"Only this one: control, identity or the code of a region."`
	JSON  bool   `name:"json" help:"Print one line of JSON."`
}

func (c *dbChoice) choice() stack.StoreChoice {
	return stack.StoreChoice{Environment: c.Env, Store: c.Store}
}

// storeList is what both commands answer.
type storeList struct {
	Stores []stack.StoreStatus `json:"stores"`
}

type dbStatusCommand struct{ dbChoice }

func (c *dbStatusCommand) Run(ctx context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	all, err := stack.StoreStatuses(ctx, cfg, c.choice())
	if err != nil {
		return err
	}
	away := 0
	for _, s := range all {
		if !s.Reachable {
			away++
		}
	}
	err = t.answer(c.JSON, storeList{all}, func(w io.Writer) {
		showStores(w, all)
		for _, s := range all {
			if s.Reachable && len(s.Pending) > 0 {
				next(w, "mpr db migrate%s", c.flags())
				return
			}
		}
	})
	if err == nil && away > 0 {
		err = fmt.Errorf("%d of %d stores can't be read: the column STATE (--json: problem) says why", away, len(all))
	}
	return err
}

type dbMigrateCommand struct{ dbChoice }

func (c *dbMigrateCommand) Run(ctx context.Context, t *terminal) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	all := []stack.StoreStatus{}
	migrateErr := stack.MigrateStores(ctx, cfg, c.choice(), func(s stack.StoreStatus) {
		all = append(all, s)
		t.progress(fmt.Sprintf("%s is done", storeTitle(s)))
	})
	t.progress("")
	if len(all) == 0 {
		return migrateErr
	}
	if err := t.answer(c.JSON, storeList{all}, func(w io.Writer) { showStores(w, all) }); err != nil {
		return err
	}
	return migrateErr
}

func (c *dbChoice) flags() string {
	return flag("--config", c.Config) + flag("--data", c.Data) + flag("--env", c.Env) + flag("--store", c.Store)
}

func storeTitle(s stack.StoreStatus) string {
	title := s.Store
	if s.Part != "" {
		title += " (" + s.Part + ")"
	}
	if s.Generation > 0 {
		title += " " + strconv.Itoa(s.Generation)
	}
	return title
}

func showStores(w io.Writer, all []stack.StoreStatus) {
	rows := make([][]string, len(all))
	for i, s := range all {
		state := "up to date"
		switch {
		case !s.Reachable:
			state = "can't be read: " + s.Problem
		case len(s.Migrated) > 0 && s.Problem == "":
			state = "migrated: " + numbers(s.Migrated)
		case s.Version > s.Known && s.Problem == "":
			state = "newer than this binary, which may use it"
		case len(s.Pending) > 0:
			state = "pending: " + numbers(s.Pending)
		case s.Problem != "":
			state = s.Problem
		}
		version, known := strconv.FormatInt(s.Version, 10), strconv.FormatInt(s.Known, 10)
		if !s.Reachable {
			version, known = "-", "-"
		}
		rows[i] = []string{orDash(s.Environment), storeTitle(s), s.Engine, version, known, state, s.Where}
	}
	table(w, []string{"ENVIRONMENT", "STORE", "ENGINE", "VERSION", "BINARY", "STATE", "WHERE"}, rows)
}

func numbers(list []int64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, ", ")
}
