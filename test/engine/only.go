package engine

import "testing"

// Of one engine are the tests about what only that engine has. All others run on both.
var (
	sqliteOnly = map[string]string{
		"TestFullDisk":              "a file that can't grow fails each write; of PostgreSQL there is TestFullDiskOfPostgres",
		"TestFullDiskRefusesWrites": "as TestFullDisk; of PostgreSQL there is TestFullDiskOfPostgresRefusesWrites",
	}
	postgresOnly = map[string]string{
		"TestFullDiskOfPostgres":              "its tables are on a small disk of its own",
		"TestFullDiskOfPostgresRefusesWrites": "its tables are on a small disk of its own",
		"TestAPostgresPrimaryIsRestarted":     "a server may go away, and a file can't",
		"TestOneOfManyMigrates":               "a SQLite file belongs to one process",
		"TestSchemasShareADatabase":           "SQLite has no schemas",
	}
)

// Skipped is what the skip of a test begins with that the run on the other engine makes.
const Skipped = "of one engine: "

// Only skips a test that isn't of the engine of this run. The test stands in one of the lists above.
func Only(t testing.TB) {
	t.Helper()
	list, other := sqliteOnly, postgresOnly
	if Server() != "" {
		list, other = other, list
	}
	if why, is := other[t.Name()]; is {
		t.Skip(Skipped + why)
	}
	if _, is := list[t.Name()]; !is {
		t.Fatalf("%s isn't in the lists of test/engine", t.Name())
	}
}
