package region

// Table is a table that holds companies' data.
type Table struct {
	Name string
	// Key names the columns that tell its rows apart.
	Key []string
}

// Tables lists every table with a company_id column: all that belongs to a company, and
// so all that has to go along when it changes its region. A test fails where the schema
// has one that isn't listed.
func Tables() []Table {
	return []Table{
		{"fence", []string{"company_id"}},
		{"companies", []string{"company_id"}},
		{"memberships", []string{"company_id", "user_id"}},
		{"installations", []string{"company_id", "app_id"}},
		{"permitted_projects", []string{"company_id", "app_id", "project_id"}},
		{"projects", []string{"id"}},
		{"project_users", []string{"project_id", "user_id"}},
		{"rfis", []string{"id"}},
		{"change_log", []string{"company_id", "version"}},
	}
}
