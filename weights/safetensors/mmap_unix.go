//go:build unix

package safetensors

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps n bytes of a file from a page on, read-only. It fails with
// errors.ErrUnsupported where a file system cannot map, for want of address space, and for
// sizes that no slice has: they are read instead. The mapping is private, which file systems
// without shared mappings offer too; nothing writes to it, so pages are those of the page
// cache.
func mapFile(f *os.File, offset, n int64) ([]byte, error) {
	if n == 0 || n > math.MaxInt {
		return nil, errors.ErrUnsupported
	}
	data, err := unix.Mmap(int(f.Fd()), offset, int(n), unix.PROT_READ, unix.MAP_PRIVATE)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOMEM) {
		return nil, errors.ErrUnsupported
	}
	return data, os.NewSyscallError("mmap", err)
}

// willNeed asks for the pages of data, which starts at a page.
func willNeed(data []byte) { _ = unix.Madvise(data, unix.MADV_WILLNEED) }

func unmapFile(data []byte) error { return os.NewSyscallError("munmap", unix.Munmap(data)) }
