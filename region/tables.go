package region

import (
	"encoding/json"
	"fmt"

	"mpr/company"
	"mpr/directory"
)

// table is a table that has rows of companies.
type table struct {
	name string
	// key names the columns that tell its rows apart.
	key []string
	// stays says that its rows are notes of this region, and no data of the company that
	// would go along when it moves.
	stays bool
	// index says what the global index hears of its rows; nil for nothing.
	index *indexed
}

// indexed says how a row becomes a change for the global index.
type indexed struct {
	kind string
	// key is the column with the id that the index knows the row by.
	key string
	// data are the columns that the index keeps.
	data []string
	// active is a column that must be 1, or the index hears that the row is gone.
	active string
}

// The tables with companies' data. All writes to them go through a [writer] and name the
// table, so that the change log knows it.
var (
	companies = &table{name: "companies", key: []string{"company_id"},
		index: &indexed{kind: directory.ChangeCompany, key: "company_id", data: []string{"name"}}}
	memberships = &table{name: "memberships", key: []string{"company_id", "user_id"},
		index: &indexed{kind: directory.ChangeMembership, key: "user_id", data: []string{"login", "name"}, active: "is_active"}}
	installations = &table{name: "installations", key: []string{"company_id", "app_id"},
		index: &indexed{kind: directory.ChangeInstallation, key: "app_id", data: []string{"kind"}}}
	permittedProjects = &table{name: "permitted_projects", key: []string{"company_id", "app_id", "project_id"}}
	projects          = &table{name: "projects", key: []string{"company_id", "project_id"}}
	projectUsers      = &table{name: "project_users", key: []string{"company_id", "project_id", "user_id"}}
	rfis              = &table{name: "rfis", key: []string{"company_id", "project_id", "rfi_id"}}
)

// tables lists every table with a company_id column. A test fails where the schema has
// one that isn't listed, or has another key.
var tables = []*table{
	companies, memberships, installations, permittedProjects, projects, projectUsers, rfis,
	{name: "fence", key: []string{"company_id"}, stays: true},
	{name: "creations", key: []string{"idempotency_key"}, stays: true},
	{name: "arrivals", key: []string{"company_id"}, stays: true},
	{name: "moves", key: []string{"company_id"}, stays: true},
	{name: "change_log", key: []string{"company_id", "version"}, stays: true},
}

// indexedTable finds what the global index hears of a table's rows.
func indexedTable(name string) (*indexed, error) {
	for _, t := range tables {
		if t.name == name && t.index != nil {
			return t.index, nil
		}
	}
	return nil, fmt.Errorf("the change log wants to publish rows of %q, which isn't for the index", name)
}

// change is what the global index hears of a row in the change log.
func (x *indexed) change(id company.ID, version int64, deleted bool, row string) (directory.Change, error) {
	c := directory.Change{Company: id, Version: version, Kind: x.kind, Deleted: deleted}
	var columns map[string]json.RawMessage
	if err := json.Unmarshal([]byte(row), &columns); err != nil {
		return c, fmt.Errorf("change %d of company %d: %w", version, id, err)
	}
	if err := json.Unmarshal(columns[x.key], &c.Key); err != nil {
		return c, fmt.Errorf("change %d of company %d: %w", version, id, err)
	}
	if x.active != "" && string(columns[x.active]) != "1" {
		c.Deleted = true
	}
	if c.Deleted {
		return c, nil
	}
	kept := make(map[string]json.RawMessage, len(x.data))
	for _, name := range x.data {
		kept[name] = columns[name]
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return c, fmt.Errorf("change %d of company %d: %w", version, id, err)
	}
	c.Data = data
	return c, nil
}
