//go:build unix

package safetensors

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps the whole file read-only. It fails with errors.ErrUnsupported
// where a file system cannot map, for want of address space, and for sizes that no slice has: such a file
// is read instead. The mapping is private, which file systems without shared
// mappings offer too; nothing writes to it, so pages are those of the page cache.
func mapFile(f *os.File, size int64) ([]byte, error) {
	if size == 0 || size > math.MaxInt {
		return nil, errors.ErrUnsupported
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOMEM) {
		return nil, errors.ErrUnsupported
	}
	return data, os.NewSyscallError("mmap", err)
}

// willNeed asks for the pages of data, which starts at a page.
func willNeed(data []byte) { _ = unix.Madvise(data, unix.MADV_WILLNEED) }

func unmapFile(data []byte) error { return os.NewSyscallError("munmap", unix.Munmap(data)) }
