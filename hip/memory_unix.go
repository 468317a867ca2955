//go:build unix

package hip

import "golang.org/x/sys/unix"

// systemHas reports whether the system would give the process n bytes. It gives them back
// at once, so two callers at the same time may both be told yes.
func systemHas(n int64) bool {
	mem, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	return err == nil && unix.Munmap(mem) == nil
}
