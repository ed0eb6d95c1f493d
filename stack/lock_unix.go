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
