package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mpr/config"
	"mpr/ledger"
	"mpr/login"
	"mpr/move"
	"mpr/operator"
	"mpr/region"
	"mpr/store"
	"mpr/webhook"
)

// Tables that count the versions of the parts of the control store; the ledger's is the first.
const (
	movesVersions    = "moves_version"
	webhooksVersions = "webhooks_version"
)

// storeOptions are the options of the configuration's databases.
func storeOptions(c *config.Config) store.Options {
	p := c.Stores.Postgres
	return store.Options{
		Check:    c.Stores.Migrate == config.MigrateCheck,
		MaxConns: p.MaxConns, IdleConns: p.IdleConns, IdleTime: p.IdleTime, Lifetime: p.Lifetime, ConnectTimeout: p.ConnectTimeout,
		StatementTimeout: p.StatementTimeout, LongTimeout: p.LongTimeout, LockTimeout: p.LockTimeout, IdleTransaction: p.IdleTransaction,
		Patience: p.Patience,
	}
}

// Names of stores, for commands. A region's is its code.
const (
	StoreControl  = "control"
	StoreIdentity = "identity"
)

// aStore is a database of the configuration.
type aStore struct {
	environment string // "" for the control store, which serves all
	name        string
	dsn         string
	generations bool
	parts       []string
	schemas     []store.Schema
}

// StoreStatus says how a part of a store stands.
type StoreStatus struct {
	Environment string `json:"environment,omitempty"`
	Store       string `json:"store"`
	// Part is what the schema is for, where a store has several.
	Part       string `json:"part,omitempty"`
	Generation int    `json:"generation,omitempty"`
	Engine     string `json:"engine"`
	// Where is the file, or the server and the name of the database; never a password.
	Where string `json:"where"`
	store.Status
	Reachable bool `json:"reachable"`
	// Problem says why the store can't be used by this binary as it is; "" where it can.
	Problem string `json:"problem,omitempty"`
	// Migrated are the migrations that were applied just now.
	Migrated []int64 `json:"migrated,omitempty"`
}

// StoreChoice chooses stores by environment and name; all where both are "".
type StoreChoice struct{ Environment, Store string }

// stores are those that the choice names.
func stores(c *config.Config, choice StoreChoice) ([]aStore, error) {
	all := []aStore{{
		name: StoreControl, dsn: c.Control.Store, parts: []string{"ledger", "moves", "webhooks", "operators"},
		schemas: []store.Schema{{Migrations: ledger.Migrations()}, {Versions: movesVersions, Migrations: move.Migrations()}, {Versions: webhooksVersions, Migrations: webhook.Migrations()}, {Versions: operatorsVersions, Migrations: operator.Migrations()}},
	}}
	for i := range c.Environments {
		e := &c.Environments[i]
		refreshed := e.Sandbox == config.SandboxMonthly
		all = append(all, aStore{
			environment: e.Name, name: StoreIdentity, dsn: e.Identity.Store, generations: refreshed,
			parts: []string{""}, schemas: []store.Schema{{Migrations: login.Migrations()}},
		})
		for j := range e.Regions {
			if r := &e.Regions[j]; len(r.Upstreams) == 0 {
				all = append(all, aStore{
					environment: e.Name, name: r.Code, dsn: r.Store, generations: refreshed,
					parts: []string{""}, schemas: []store.Schema{{Migrations: region.Migrations()}},
				})
			}
		}
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(s aStore) bool {
		return choice.Environment != "" && s.environment != choice.Environment || choice.Store != "" && s.name != choice.Store
	})
	if len(chosen) == 0 {
		return nil, noSuchStore(all, choice)
	}
	return chosen, nil
}

// schemasOf are the DSNs of those stores that are schemas in PostgreSQL: with the data folder, all that
// is kept.
func schemasOf(c *config.Config) (dsns []string) {
	all, err := stores(c, StoreChoice{})
	if err != nil {
		return nil // all of them are always there
	}
	for _, s := range all {
		if store.OwnSchema(s.dsn) != "" {
			dsns = append(dsns, s.dsn)
		}
	}
	return dsns
}

func noSuchStore(all []aStore, choice StoreChoice) error {
	var names, environments []string
	for _, s := range all {
		if s.environment != "" && !slices.Contains(environments, s.environment) {
			environments = append(environments, s.environment)
		}
		if !slices.Contains(names, s.name) {
			names = append(names, s.name)
		}
	}
	if choice.Environment != "" && !slices.Contains(environments, choice.Environment) {
		return fmt.Errorf("there is no environment %q in the configuration: it has %q", choice.Environment, environments)
	}
	return fmt.Errorf("there is no store %q there: the stores are %q, and control belongs to no environment", choice.Store, names)
}

// StoreStatuses says how the stores of the configuration stand. It changes nothing.
func StoreStatuses(ctx context.Context, c *config.Config, choice StoreChoice) ([]StoreStatus, error) {
	chosen, err := stores(c, choice)
	if err != nil {
		return nil, err
	}
	var all []StoreStatus
	for _, s := range chosen {
		err := s.each(ctx, func(generation int) { all = append(all, s.inspect(ctx, storeOptions(c), generation)...) })
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// MigrateStores brings the stores up to date, one after the other, and tells of each as it
// is done. It goes on past those that it can't migrate.
func MigrateStores(ctx context.Context, c *config.Config, choice StoreChoice, tell func(StoreStatus)) error {
	chosen, err := stores(c, choice)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range chosen {
		errs = append(errs, s.each(ctx, func(generation int) {
			before := s.inspect(ctx, storeOptions(c), generation)
			err := storeOptions(c).Migrate(ctx, s.dsn, generation, s.schemas...)
			for i, now := range s.inspect(ctx, storeOptions(c), generation) {
				now.Migrated = slices.DeleteFunc(before[i].Pending, func(v int64) bool { return slices.Contains(now.Pending, v) })
				if err != nil {
					now.Problem = err.Error()
				}
				tell(now)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("migrate %s: %w", s.title(), err))
			}
		}))
	}
	return errors.Join(errs...)
}

func (s aStore) title() string {
	if s.environment == "" {
		return s.name
	}
	return s.name + " of " + s.environment
}

// each calls f for generation 0 and for all others that are there.
func (s aStore) each(ctx context.Context, f func(generation int)) error {
	f(0)
	if !s.generations {
		return nil
	}
	list, err := store.Generations(ctx, s.dsn)
	if store.IsAway(err) {
		return nil // generation 0 has said so
	}
	for _, generation := range list {
		f(generation)
	}
	return err
}

func (s aStore) inspect(ctx context.Context, o store.Options, generation int) []StoreStatus {
	found, err := o.Inspect(ctx, s.dsn, generation, s.schemas...)
	all := make([]StoreStatus, len(s.parts))
	for i, part := range s.parts {
		all[i] = StoreStatus{
			Environment: s.environment, Store: s.name, Part: part, Generation: generation,
			Engine: store.Engine(s.dsn), Where: store.Where(s.dsn, generation), Reachable: err == nil,
		}
		if err == nil {
			all[i].Status = found[i]
			err := found[i].Check()
			if err != nil {
				all[i].Problem = err.Error()
			}
			continue
		}
		all[i].Problem, all[i].Pending = err.Error(), []int64{}
	}
	return all
}
