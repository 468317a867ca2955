//go:build unix

package mtp_test

import (
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// processTime is the time of processors that this process has used: other processes that
// keep them busy do not count.
func processTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// makeSpecial makes a file that is not a regular one: a socket, a link to a device, which
// only root may make, or a named pipe.
func makeSpecial(path string, mode fs.FileMode) error {
	if mode == fs.ModeSocket {
		if l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err == nil {
			l.SetUnlinkOnClose(false)
			return l.Close()
		}
	}
	if mode&fs.ModeDevice != 0 {
		return os.Symlink("/dev/zero", path)
	}
	return syscall.Mkfifo(path, 0o600)
}
