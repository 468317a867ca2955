//go:build unix

package gpu

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownFolder returns an error unless the folder is the user's and nobody else can put
// another in its place. The folders above it must be the user's or the administrator's, and
// others must not be able to write to them, except where they cannot rename what is not
// theirs, as in /tmp.
func ownFolder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := own(path, info); err != nil {
		return err
	}
	for above := filepath.Dir(path); ; above = filepath.Dir(above) {
		info, err := os.Stat(above)
		if err != nil {
			return err
		}
		if err := own(above, info); err != nil && (info.Mode()&fs.ModeSticky == 0 || !ownedWell(info)) {
			return err
		}
		if above == filepath.Dir(above) {
			return nil
		}
	}
}

// own returns an error unless a file or folder is the user's or the administrator's, and
// others cannot write to it.
func own(path string, info fs.FileInfo) error {
	if !ownedWell(info) {
		return notOwn(path, "belongs to another user")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return notOwn(path, fmt.Sprintf("may be written by others (%v)", info.Mode().Perm()))
	}
	return nil
}

func ownedWell(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && (s.Uid == 0 || int(s.Uid) == os.Geteuid())
}

// openNonblock opens a file for reading, at once even where it has become a pipe.
func openNonblock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}
