//go:build !unix

package store

import "os"

// lockFile does nothing where files have no such locks: there one process at a time may open
// a new database.
func lockFile(*os.File) error { return nil }
