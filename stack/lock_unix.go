//go:build unix

package stack

import (
	"os"
	"syscall"
)

// lock takes the file for this process alone, or together with others that share it, or
// fails at once.
func lock(f *os.File, shared bool) error {
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	return syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
}

// maxFiles is how many files the process may open. Go has raised it as far as it may.
func maxFiles() (n uint64, known bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), err == nil // signed on some systems
}
