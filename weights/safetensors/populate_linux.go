package safetensors

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// populateRead reads the pages of data, which starts at a page, into
// memory and maps them. It fails with errors.ErrUnsupported before Linux 5.14.
func populateRead(data []byte) error {
	for {
		switch err := unix.Madvise(data, unix.MADV_POPULATE_READ); {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			return errors.ErrUnsupported
		default:
			return os.NewSyscallError("madvise", err)
		}
	}
}
