//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

// lockFile waits until nobody else has the lock of the file, and takes it.
func lockFile(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
