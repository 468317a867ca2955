package synthetic

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapMemory returns n zeroed bytes, in huge pages if the kernel has them.
func mapMemory(n int64) ([]byte, error) {
	if n > math.MaxInt {
		return nil, unix.ENOMEM
	}
	data, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE) // a kernel without them takes longer
	return data, nil
}

func unmapMemory(data []byte) error { return os.NewSyscallError("munmap", unix.Munmap(data)) }
