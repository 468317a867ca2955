package synthetic

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// folder is a checkpoint's folder as a file system.
type folder []File

var errIsFolder = errors.New("is a folder")

// Open opens a file of the checkpoint, or the folder itself as ".".
func (d folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return &openFolder{left: d.entries()}, nil
	}
	for i := range d {
		if f := &d[i]; f.Name == name {
			open := openFile{io.NewSectionReader(f, 0, f.Size()), fileInfo{name, f.Size()}}
			if data, ok := f.contents.(inMemory); ok {
				return &openInMemory{open, data}, nil
			}
			return &open, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// entries returns the files by name.
func (d folder) entries() []fs.DirEntry {
	entries := make([]fs.DirEntry, len(d))
	for i := range d {
		entries[i] = fs.FileInfoToDirEntry(fileInfo{d[i].Name, d[i].Size()})
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries
}

// openFile reads in order, and at any offset from several goroutines.
type openFile struct {
	*io.SectionReader
	info fileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

// inMemory is the contents of a file as bytes.
type inMemory []byte

func (b inMemory) Size() int64 { return int64(len(b)) }

func (b inMemory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(b).ReadAt(p, off)
}

// openInMemory is an open file whose bytes lie in memory: see [safetensors.Open].
type openInMemory struct {
	openFile
	data inMemory
}

func (f *openInMemory) Bytes() []byte { return f.data }

// openFolder lists the files.
type openFolder struct{ left []fs.DirEntry }

func (d *openFolder) Stat() (fs.FileInfo, error) { return folderInfo{fileInfo{name: "."}}, nil }
func (d *openFolder) Close() error               { return nil }

func (d *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: errIsFolder}
}

func (d *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.left) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.left) {
		n = len(d.left)
	}
	entries := d.left[:n]
	d.left = d.left[n:]
	return entries, nil
}

// fileInfo describes a file, which has no time.
type fileInfo struct {
	name string
	size int64
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return 0o444 }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }

// folderInfo describes the folder.
type folderInfo struct{ fileInfo }

func (i folderInfo) Mode() fs.FileMode { return fs.ModeDir | 0o555 }
func (i folderInfo) IsDir() bool       { return true }
