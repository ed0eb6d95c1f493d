//go:build linux || darwin

package store

import "syscall"

// freeBytes is how much an ordinary user may still write to the folder's file system.
func freeBytes(folder string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return -1, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:gosec // no file system has 2^63 bytes
}
