package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/directory"
	"mpr/ledger"
	"mpr/login"
	"mpr/operator"
	"mpr/store"
)

// Names are of three words, some of which nearly all companies have, and some few.
var (
	first  = []string{"Alder", "Baltic", "Cedar", "Delta", "Eastgate", "Falkland", "Gotthard", "Harbour", "Isar", "Juniper", "Kestrel", "Lindenhof", "Meridian"}
	second = []string{"Construction", "Construction", "Construction", "Bau", "Works", "Civil"}
)

func companyName(i int) string {
	return fmt.Sprintf("%s %s No%d", first[i%len(first)], second[i%len(second)], i)
}

// id is that of the i-th company, behind those that regions have made.
func id(i int) company.ID {
	return company.ID(int64(numbers[i%len(numbers)])<<company.RegionShift + 1_000_000 + int64(i))
}

// fill makes companies, apps and the lines of the ledger.
func (s *system) fill(ctx context.Context) error {
	for what, f := range map[string]func(context.Context) error{"directory": s.fillDirectory, "identity": s.fillIdentity, "ledger": s.fillControl} {
		began := time.Now()
		if err := f(ctx); err != nil {
			return fmt.Errorf("fill the %s: %w", what, err)
		}
		fmt.Printf("filled the %s in %.0f s\n", what, time.Since(began).Seconds())
	}
	return s.awaitSearch(ctx)
}

func (s *system) fillDirectory(ctx context.Context) error {
	secret, err := os.ReadFile(filepath.Join(s.dir, "data", "internal.secret"))
	if err != nil {
		return err
	}
	conn, err := directory.Servers{URLs: []string{"nats://" + s.nats}, Secret: strings.TrimSpace(string(secret))}.Connect("bench")
	if err != nil {
		return err
	}
	defer conn.Close()
	d, err := directory.Open(ctx, conn, environment, 1)
	if err != nil {
		return err
	}
	onboarded := time.Date(2016, time.March, 1, 0, 0, 0, 0, time.UTC)
	_, err = d.Load(ctx, func(yield func(company.Placement) bool) {
		for i := range s.o.companies {
			if !yield(company.Placement{Company: id(i), Region: codes[i%len(codes)], Epoch: 1, Onboarded: onboarded}) {
				return
			}
		}
	})
	return err
}

// atOnce is how many rows are written in a transaction.
const atOnce = 20_000

// write writes n rows.
func write(ctx context.Context, db *store.DB, n int, statement string, row func(i int) []any) error {
	for begin := 0; begin < n; begin += atOnce {
		err := db.Write(ctx, func(tx *sql.Tx) error {
			add, err := tx.PrepareContext(ctx, statement)
			if err != nil {
				return err
			}
			defer add.Close() //nolint:errcheck // it ends with the transaction
			for i := begin; i < min(begin+atOnce, n); i++ {
				if _, err := add.ExecContext(ctx, row(i)...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func clientID(i int) string { return fmt.Sprintf("BENCHAPP%018d", i) }

func (s *system) fillIdentity(ctx context.Context) error {
	file, err := s.dataFile(ctx, "*/identity.db")
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, "sqlite:"+file, login.Migrations())
	if err != nil {
		return err
	}
	s.search = fmt.Sprintf("no%d", s.o.companies/2)
	err = write(ctx, db, s.o.companies, `INSERT INTO index_companies (company_id, name, version) VALUES ($1, $2, 1)`, func(i int) []any { return []any{int64(id(i)), companyName(i)} })
	if err == nil {
		err = write(ctx, db, s.o.apps, `INSERT INTO apps (id, client_id, name, kind, company_id, redirect_uris, secret_hash, old_secret_hash, old_secret_until, created) VALUES ($1, $2, $3, 'web', 0, '["https://a.example/cb"]', 'x', '', 0, 0)`,
			func(i int) []any { return []any{10_000 + i, clientID(i), "App " + companyName(i)} })
	}
	if err == nil {
		err = write(ctx, db, 2000, `INSERT INTO index_installations (app_id, company_id, deleted, version) VALUES ($1, $2, 0, 1)`, func(i int) []any { return []any{10_000, int64(id(i))} })
	}
	return errors.Join(err, db.Close())
}

// fillControl writes the ledger: the first app has a lot to change, the others a few lines a day.
func (s *system) fillControl(ctx context.Context) error {
	file, err := s.dataFile(ctx, "control*.db")
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, "sqlite:"+file, ledger.Migrations())
	if err != nil {
		return err
	}
	if err := db.Also(ctx, "operators_version", operator.Migrations()); err != nil {
		return errors.Join(err, db.Close())
	}
	s.app = clientID(0)
	today := time.Now().Unix() / (24 * 60 * 60)
	each := s.o.lines * ledger.TrendDays
	const add = `INSERT INTO ledger (environment, day, kind, app, client_id, company_id, method, route, status, refused, also, host, agent, count) VALUES ('production', $1, $2, $3, $4, $5, 'GET', $6, $7, $8, 0, '', '', 10)`
	row := func(app, line int) []any {
		refused := int64((app + line) % 2)
		return []any{today - int64(line%ledger.TrendDays), []string{"legacy_api_host", "missing_header"}[refused], 10_000 + app, clientID(app), int64(id(app*7 + line)), fmt.Sprintf("/rest/v1.0/projects/%d", line/ledger.TrendDays), 200 + 200*refused, refused}
	}
	err = write(ctx, db, s.o.apps*each, add, func(i int) []any { return row(i/each, i%each) })
	if err == nil {
		err = write(ctx, db, 5000, add, func(i int) []any { return row(0, each+i) })
	}
	if err == nil {
		err = write(ctx, db, 100_000, `INSERT INTO operator_audit (id, at, who, role, environment, action, subject, request_id) VALUES ($1, $2, 'eva@example.com', 'admin', 'production', 'PUT /policy', 'policy', 'x')`,
			func(i int) []any {
				return []any{fmt.Sprintf("BENCH%010d", i), time.Now().Add(-time.Duration(i) * time.Minute).UnixMicro()}
			})
	}
	if err == nil {
		err = s.signIn(ctx, db)
	}
	return errors.Join(err, db.Close())
}

// awaitSearch waits until the login service has indexed the names.
func (s *system) awaitSearch(ctx context.Context) error {
	began := time.Now()
	last := fmt.Sprintf("no%d", s.o.companies-1)
	err := machine.Eventually(ctx, "wait for the words of names", time.Hour, time.Second, func(ctx context.Context) error {
		page, err := s.get(ctx, "/console/"+environment+"/companies?q="+last)
		if err == nil && !strings.Contains(page, companyName(s.o.companies-1)) {
			err = errors.New("the last name isn't found yet")
		}
		if err == nil {
			page, err = s.get(ctx, "/console/"+environment+"/apps?q="+clientID(s.o.apps-1))
			if err == nil && !strings.Contains(page, "App "+companyName(s.o.apps-1)) {
				err = errors.New("the last app isn't found yet")
			}
		}
		return err
	})
	fmt.Printf("the names were indexed %.0f s later\n", time.Since(began).Seconds())
	return err
}
