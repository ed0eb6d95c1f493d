//go:build !unix

package stack

import "os"

// lock does nothing where the system has no flock: SQLite and the directory's store
// still refuse a second process.
func lock(*os.File, bool) error { return nil }

// maxFiles isn't known there.
func maxFiles() (n uint64, known bool) { return 0, false }
