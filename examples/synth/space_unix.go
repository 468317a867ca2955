//go:build linux || darwin

package main

import "golang.org/x/sys/unix"

// freeSpace returns the bytes that the disk of dir has left for this user.
func freeSpace(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}
