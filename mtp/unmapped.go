package mtp

import (
	"io"
	"io/fs"
	"os"
)

// unmapped is a file system whose files are read in place of mapped.
type unmapped struct{ fs.FS }

func (u unmapped) Open(name string) (fs.File, error) {
	f, err := u.FS.Open(name)
	if file, ok := f.(*os.File); ok && err == nil {
		return struct {
			fs.File
			io.ReaderAt
		}{file, file}, nil
	}
	return f, err
}

func (u unmapped) Stat(name string) (fs.FileInfo, error)      { return fs.Stat(u.FS, name) }
func (u unmapped) Lstat(name string) (fs.FileInfo, error)     { return fs.Lstat(u.FS, name) }
func (u unmapped) ReadLink(name string) (string, error)       { return fs.ReadLink(u.FS, name) }
func (u unmapped) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(u.FS, name) }
