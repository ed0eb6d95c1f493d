//go:build !unix

package stack

// maxFiles isn't known there.
func maxFiles() (n uint64, known bool) { return 0, false }
