//go:build !unix

package lockfile

import "os"

// Nothing is locked where the system has no flock: SQLite and the directory's store still refuse
// a second process.

func try(*os.File, bool) (held bool, err error) { return false, nil }

func wait(*os.File) error { return nil }
