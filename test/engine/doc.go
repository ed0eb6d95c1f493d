// Package engine says on which SQL engine the tests' stores are: SQLite, or PostgreSQL where the
// environment variable MPR_TEST_POSTGRES holds the DSN of a server on which schemas may be made.
// Each store of a test is its own, and gone with the test. The package also lists the tests that
// are of one engine, with the reason.
//
// It starts no server: scripts/test.sh does, and package postgres for tests that kill theirs.
package engine
