//go:build unix

package stack

import "syscall"

// maxFiles is how many files the process may open. Go has raised it as far as it may.
func maxFiles() (n uint64, known bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), err == nil // signed on some systems
}
