// Package store opens the SQL engines: SQLite by default, PostgreSQL by a DSN, behind
// the same queries ("$1" arguments, no engine's dialect) and the same migrations. It
// runs transactions and repeats those that the engine asks to repeat.
//
// It knows no table. Each role keeps its own queries beside the code that needs them.
package store
