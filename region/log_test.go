package region_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"mpr/directory"
	"mpr/region"
	"mpr/test/engine"
)

// tables.go "lists every table with a company_id column": a table that isn't there would
// stay behind when its company moves.
func TestEveryTableOfCompaniesIsListed(t *testing.T) {
	w := newWorld(t)
	for _, found := range w.unlisted() {
		t.Error(found)
	}
	listed := region.ListedTables()
	for table, key := range region.MovingTables() {
		if key[0] != "company_id" {
			t.Errorf("the key of %s doesn't start with the company", table)
		}
		if columns := w.columns()[table]; len(columns) == 0 {
			t.Errorf("%s is listed and isn't there", table)
		}
		delete(listed, table)
	}
	// What stays behind stays for a reason: think twice before you add to it.
	stays := []string{"arrivals", "change_log", "creations", "fence", "moves"}
	if got := slices.Sorted(maps.Keys(listed)); !slices.Equal(got, stays) {
		t.Errorf("the tables %v stay where they are when a company moves, expected %v", got, stays)
	}
}

// A table that is added later and forgotten in tables.go is found, whatever its column is
// called, and one whose rows the company can be told of only by another table as well.
func TestForgottenTablesAreFound(t *testing.T) {
	for name, c := range map[string]struct{ statement, want string }{
		"a new table":          {`CREATE TABLE drawings (company_id BIGINT NOT NULL, drawing_id BIGINT NOT NULL, PRIMARY KEY (company_id, drawing_id))`, "drawings has"},
		"another column":       {`CREATE TABLE hooks (hook_id BIGINT PRIMARY KEY, company BIGINT NOT NULL)`, "hooks has"},
		"no column":            {`CREATE TABLE answers (rfi_id BIGINT PRIMARY KEY, answer TEXT NOT NULL)`, "answers isn't"},
		"a type of its engine": {`ALTER TABLE rfis ADD COLUMN due TIMESTAMP`, "rfis.due"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.exec(c.statement)
			if found := w.unlisted(); len(found) != 1 || !strings.HasPrefix(found[0], c.want) {
				t.Errorf("found %q, expected %q", found, c.want)
			}
		})
	}
}

// column is a column of the schema as it is.
type column struct {
	name, kind string
	key        int // its place in the primary key; 0 for none
}

// columns are those of all tables, by table.
func (w *world) columns() map[string][]column {
	w.t.Helper()
	query := `SELECT m.name, c.name, c.type, c.pk FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.pk`
	if engine.Server() != "" {
		query = `SELECT c.table_name, c.column_name, c.data_type, COALESCE(k.ordinal_position, 0) FROM information_schema.columns c
			LEFT JOIN (information_schema.key_column_usage k JOIN information_schema.table_constraints t
				ON t.constraint_type = 'PRIMARY KEY' AND t.table_schema = k.table_schema AND t.constraint_name = k.constraint_name)
			ON k.table_schema = c.table_schema AND k.table_name = c.table_name AND k.column_name = c.column_name
			WHERE c.table_schema = current_schema() ORDER BY 1, 4`
	}
	rows, err := w.db.Read().QueryContext(w.t.Context(), query)
	check(w.t, err)
	defer rows.Close()
	all := map[string][]column{}
	for rows.Next() {
		var table string
		var c column
		check(w.t, rows.Scan(&table, &c.name, &c.kind, &c.key))
		c.kind = strings.ToUpper(c.kind)
		all[table] = append(all[table], c)
	}
	check(w.t, rows.Err())
	return all
}

// unlisted says what a move would forget of the schema, or couldn't compare.
func (w *world) unlisted() (found []string) {
	w.t.Helper()
	listed, moving := region.ListedTables(), region.MovingTables()
	for table, columns := range w.columns() {
		var key []string
		ofCompanies := false
		for _, c := range columns {
			ofCompanies = ofCompanies || strings.Contains(c.name, "company")
			if c.key > 0 {
				key = append(key, c.name)
			}
			// Both engines read the same values from these, so that checksums agree.
			if moving[table] != nil && c.kind != "BIGINT" && c.kind != "TEXT" {
				found = append(found, fmt.Sprintf("%s.%s is a %s: columns that move are BIGINT (numbers, truths, times in microseconds) or TEXT", table, c.name, c.kind))
			}
		}
		switch {
		case table == "ids" || table == "index_feed" || table == "sqlite_sequence" || strings.HasPrefix(table, "goose_"): // the region's own
		case listed[table] == nil && ofCompanies:
			found = append(found, fmt.Sprintf("%s has rows of companies and isn't listed in tables.go: it would stay behind when they move", table))
		case listed[table] == nil:
			found = append(found, fmt.Sprintf("%s isn't listed in tables.go: give it a company_id, and list it", table))
		case !slices.Equal(listed[table], key):
			found = append(found, fmt.Sprintf("%s has the key %v and is listed with %v", table, key, listed[table]))
		}
	}
	return found
}

// "Later capabilities move a company's data from the change log": applied to nothing, the
// log makes exactly the rows that the tables have.
func TestTheLogRebuildsTheTables(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	other := w.as(w.user(alice), w.newCompany("two"))
	other.newProject("not ours")
	kept, dropped := c.newProject("kept"), c.newProject("dropped")
	for _, project := range []int64{kept, dropped} {
		path := fmt.Sprintf("/rest/v1.0/projects/%d", project)
		rfi := c.post(path+"/rfis", `{"rfi":{"subject":"a \"quoted\" <subject> \u2028","question":"?"}}`).want(201).object().ID
		c.post(path+"/rfis", `{"rfi":{"subject":"b"}}`).want(201)
		c.patch(fmt.Sprintf("%s/rfis/%d", path, rfi), `{"rfi":{"status":"closed"}}`).want(200)
		c.post(fmt.Sprintf("%s/users/%d/actions/add", path, alice), "").want(200)
		w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/%d", id, project), `{"login":"l@example.com","name":"L"}`).want(200)
		c.post(fmt.Sprintf("%s/users/%d/actions/add", path, project), "").want(200)
	}
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/90", id), fmt.Sprintf(`{"client_id":"m","name":"M","kind":"developer_managed","permitted_projects":[%d,%d]}`, kept, dropped)).want(200)
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/91", id), fmt.Sprintf(`{"client_id":"m","name":"M","kind":"developer_managed","permitted_projects":[%d]}`, kept)).want(200)
	c.patch(fmt.Sprintf("/rest/v1.0/companies/%d", id), `{"company":{"name":"Renamed"}}`).want(200)
	c.patch("/rest/v1.0/projects/sync", fmt.Sprintf(`{"updates":[{"id":%d,"project_number":"9"},{"name":"new"},{"name":""}]}`, kept)).want(200)
	c.patch(fmt.Sprintf("/rest/v1.0/companies/%d/users/%d", id, kept), `{"user":{"is_active":false}}`).want(200)
	c.delete(fmt.Sprintf("/rest/v1.0/projects/%d", dropped)).want(200)
	c.delete(fmt.Sprintf("/rest/v1.0/companies/%d/users/%d", id, dropped)).want(200)
	c.delete(fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/91", id)).want(200)

	replayed := w.replay(int64(id))
	for table, key := range region.MovingTables() {
		actual := w.rows(table, key, int64(id))
		if len(actual) == 0 {
			t.Errorf("%s is empty: the test shows nothing", table)
		}
		if !maps.Equal(actual, replayed[table]) {
			t.Errorf("%s has\n%v\nbut the change log makes\n%v", table, actual, replayed[table])
		}
	}
}

// replay applies the change log of a company: by table and key, the row as JSON.
func (w *world) replay(id int64) map[string]map[string]string {
	w.t.Helper()
	rows, err := w.db.Read().QueryContext(w.t.Context(), `SELECT name, deleted, data FROM change_log WHERE company_id = $1 ORDER BY version`, id)
	check(w.t, err)
	defer rows.Close()
	made := map[string]map[string]string{}
	for rows.Next() {
		var table, data string
		var deleted bool
		check(w.t, rows.Scan(&table, &deleted, &data))
		if made[table] == nil {
			made[table] = map[string]string{}
		}
		key := keyOf(w.t, data, region.MovingTables()[table])
		if made[table][key] = data; deleted {
			delete(made[table], key)
		}
	}
	check(w.t, rows.Err())
	return made
}

func keyOf(t *testing.T, data string, columns []string) string {
	t.Helper()
	var row map[string]any
	dec := json.NewDecoder(strings.NewReader(data))
	dec.UseNumber()
	check(t, dec.Decode(&row))
	values := make([]string, len(columns))
	for i, column := range columns {
		values[i] = fmt.Sprint(row[column])
	}
	return strings.Join(values, "/")
}

// rows are a company's rows of a table, by key, as JSON.
func (w *world) rows(table string, key []string, id int64) map[string]string {
	w.t.Helper()
	rows, err := w.db.Read().QueryContext(w.t.Context(), `SELECT * FROM `+table+` WHERE company_id = $1`, id)
	check(w.t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	check(w.t, err)
	all := map[string]string{}
	for rows.Next() {
		values, targets, row := make([]any, len(columns)), make([]any, len(columns)), map[string]any{}
		for i := range values {
			targets[i] = &values[i]
		}
		check(w.t, rows.Scan(targets...))
		for i, column := range columns {
			row[column] = values[i]
		}
		data, err := json.Marshal(row)
		check(w.t, err)
		all[keyOf(w.t, string(data), key)] = string(data)
	}
	check(w.t, rows.Err())
	return all
}

// index consumes the stream as the login service does, and keeps what it was told.
type index struct {
	w       *world
	changes chan directory.Change
	seen    []directory.Change
}

func (w *world) follow() *index {
	ctx, cancel := context.WithCancel(context.Background())
	i := &index{w: w, changes: make(chan directory.Change, 10_000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.changes.Consume(ctx, "test", func(_ context.Context, all []directory.Change) error {
			for _, c := range all {
				i.changes <- c
			}
			return nil
		})
	}()
	w.t.Cleanup(func() { cancel(); <-ended })
	return i
}

// until takes changes until one is like that.
func (i *index) until(what string, is func(directory.Change) bool) directory.Change {
	i.w.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		select {
		case c := <-i.changes:
			if i.seen = append(i.seen, c); is(c) {
				return c
			}
		case <-deadline.C:
			i.w.t.Fatalf("in 20 s the index didn't hear of: %s", what)
		}
	}
}

func TestTheIndexHears(t *testing.T) {
	w := newWorld(t)
	heard := w.follow()
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	project := c.newProject("not for the index")
	expect := func(what, kind string, key int64, deleted bool, data string) {
		t.Helper()
		got := heard.until(what, func(c directory.Change) bool {
			return c.Company == id && c.Kind == kind && c.Key == key && c.Deleted == deleted
		})
		if data != string(bytes.TrimSpace(got.Data)) {
			t.Errorf("%s: heard %s, want %s", what, got.Data, data)
		}
	}
	expect("the company", directory.ChangeCompany, int64(id), false, `{"name":"Company one"}`)
	expect("a member", directory.ChangeMembership, alice, false, `{"login":"alice@example.com","name":"Alice Ng"}`)
	expect("an app", directory.ChangeInstallation, webApp, false, `{"kind":"web"}`)
	c.patch(fmt.Sprintf("/rest/v1.0/companies/%d", id), `{"company":{"name":"Renamed"}}`).want(200)
	expect("a new name", directory.ChangeCompany, int64(id), false, `{"name":"Renamed"}`)
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/80", id), `{"login":"x@example.com","name":"X"}`).want(200)
	c.patch(fmt.Sprintf("/rest/v1.0/companies/%d/users/80", id), `{"user":{"is_active":false}}`).want(200)
	expect("a member who isn't active", directory.ChangeMembership, 80, true, ``)
	c.patch(fmt.Sprintf("/rest/v1.0/companies/%d/users/80", id), `{"user":{"is_active":true}}`).want(200)
	expect("a member who is active again", directory.ChangeMembership, 80, false, `{"login":"x@example.com","name":"X"}`)
	c.post(fmt.Sprintf("/rest/v1.0/projects/%d/users/80/actions/add", project), "").want(200)
	c.delete(fmt.Sprintf("/rest/v1.0/companies/%d/users/80", id)).want(200)
	expect("a member who left", directory.ChangeMembership, 80, true, ``)
	c.delete(fmt.Sprintf("/rest/v1.0/companies/%d/app_installations/%d", id, webApp)).want(200)
	expect("an app that left", directory.ChangeInstallation, webApp, true, ``)
	for i := 1; i < len(heard.seen); i++ {
		if heard.seen[i].Version <= heard.seen[i-1].Version {
			t.Errorf("version %d came after %d", heard.seen[i].Version, heard.seen[i-1].Version)
		}
	}
	until(t, "everything is noted as published", func() bool { return w.count(`SELECT COUNT(*) FROM change_log WHERE published = 0`) == 0 })
}

// Writes go on without the directory; what the index missed it hears later.
func TestThePumpSurvivesTheDirectory(t *testing.T) {
	w := newWorld(t)
	heard := w.follow()
	w.publisher.away.Store(true)
	id := w.newCompany("one")
	for i := range 30 {
		w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/%d", id, 100+i), fmt.Sprintf(`{"login":"%d@example.com","name":"N"}`, i)).want(200)
	}
	before := w.publisher.tries.Load()
	if before > 20 {
		t.Errorf("tried %d times for 33 writes: each write makes it try again", before)
	}
	until(t, "another try", func() bool { return w.publisher.tries.Load() > before })
	if got := w.count(`SELECT COUNT(*) FROM change_log WHERE published = 0`); got != 33 {
		t.Errorf("%d changes wait, want 33", got)
	}
	w.publisher.away.Store(false)
	heard.until("the last change", func(c directory.Change) bool { return c.Company == id && c.Version == 33 })
}

// A process that dies with changes that weren't published, or weren't noted as published,
// publishes them when it is there again.
func TestARestartPublishesWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	w.publisher.away.Store(true)
	id := w.newCompany("one")
	w.stop()
	w.publisher.away.Store(false)
	heard := w.follow()
	w.start()
	heard.until("what was written before", func(c directory.Change) bool { return c.Company == id && c.Version == 3 })
	until(t, "all is noted", func() bool { return w.count(`SELECT COUNT(*) FROM change_log WHERE published = 0`) == 0 })

	// It died after publishing and before noting it: it does both again.
	w.exec(`UPDATE change_log SET published = 0 WHERE company_id = $1`, int64(id))
	tries := w.publisher.tries.Load()
	until(t, "all is noted again", func() bool { return w.count(`SELECT COUNT(*) FROM change_log WHERE published = 0`) == 0 })
	if w.publisher.tries.Load() == tries {
		t.Error("noted without publishing")
	}
}

// More changes than fit one step are published all the same.
func TestManyChangesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.publisher.away.Store(true)
	id := w.newCompany("one")
	c := w.as(w.user(alice), id)
	var updates []string
	for i := range 450 {
		updates = append(updates, fmt.Sprintf(`{"login":"u%d@example.com","name":"U"}`, i))
	}
	c.patch(fmt.Sprintf("/rest/v1.0/companies/%d/users/sync", id), `{"updates":[`+strings.Join(updates, ",")+`]}`).want(200)
	heard := w.follow()
	w.publisher.away.Store(false)
	heard.until("the last change", func(c directory.Change) bool { return c.Company == id && c.Version == 453 })
}

// The log doesn't grow for ever, and loses nothing that somebody needs.
func TestTheLogIsShortened(t *testing.T) {
	w := newWorld(t)
	id := w.newCompany("one")
	w.as(w.user(alice), id).newProject("one")
	until(t, "all is published", func() bool { return w.count(`SELECT COUNT(*) FROM change_log WHERE published = 0`) == 0 })
	check(t, region.ForgetOld(w.service, t.Context()))
	if got := w.count(`SELECT COUNT(*) FROM change_log`); got != 4 {
		t.Fatalf("%d changes are left of 4 new ones", got)
	}
	w.publisher.away.Store(true)
	w.exec(`UPDATE change_log SET at = at - $1 WHERE version <= 3`, (8 * 24 * time.Hour).Microseconds())
	w.exec(`UPDATE change_log SET published = 0 WHERE version = 2`)
	check(t, region.ForgetOld(w.service, t.Context()))
	if got := w.count(`SELECT SUM(version) FROM change_log`); got != 2+4 {
		t.Errorf("left are versions that sum up to %d; the one that isn't published and the new one must stay", got)
	}
}

// What is kept for moves doesn't keep the rest, however much of it is from the same moment.
func TestWhatIsKeptForMovesStays(t *testing.T) {
	w := newWorld(t)
	fill := `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
		INSERT INTO change_log (company_id, version, name, deleted, data, at, published) SELECT $1, i, 'projects', 0, '{}', 1000, 1 FROM n`
	w.exec(fill, int64(5))
	w.exec(fill, int64(6))
	w.exec(`INSERT INTO moves (company_id, move_id, turn, keep_after) VALUES (5, 'move', 1, 100)`)
	check(t, region.ForgetOld(w.service, t.Context()))
	if kept, rest := w.count(`SELECT COUNT(*) FROM change_log WHERE company_id = 5 AND version > 100`), w.count(`SELECT COUNT(*) FROM change_log`); kept != 2400 || rest != kept {
		t.Errorf("%d changes are kept for the move, want 2400, and %d in all", kept, rest)
	}
}
