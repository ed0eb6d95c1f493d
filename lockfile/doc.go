// Package lockfile keeps two processes from working on one folder: a lock on a file that ends with
// its process, however that ends, and a line in the file that says who has it.
//
// Locks are the system's (flock). Where a system has none, as Windows, nothing is locked, and
// whatever else notices a second process must do. It never waits for long work of others, but
// where [Wait] is asked to, never breaks a lock, and never deletes a file.
package lockfile
