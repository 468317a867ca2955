package safetensors

import (
	"errors"
	"io"
	"io/fs"
)

// ReadText reads the file called name in fsys, a config or an index: at most limit bytes
// of it, and one more where it is longer. The file must be a regular one or a link to
// one. Anything else, which could block or never end, is not opened: it is a
// [*FormatError], and so are a link that leads nowhere and a file of another kind, such as
// a pointer of Git LFS or a web page. The error matches fs.ErrNotExist if there is no file.
func ReadText(fsys fs.FS, name string, limit int64) ([]byte, error) {
	text, err := readText(fsys, name, limit)
	if own, ok := err.(*fileError); ok { // the caller says whose file it is
		return nil, own.err
	}
	return text, err
}

func readText(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, _, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, &fileError{file: name, err: err}
	}
	if kind := kindOf(text[:min(len(text), kindBytes)]); kind != nil {
		return nil, kind.error(name)
	}
	return text, nil
}

// openRegular opens a regular file or a link to one, and returns its size. It looks before
// it opens, since opening a named pipe waits for whoever writes to it.
func openRegular(fsys fs.FS, name string) (fs.File, int64, error) {
	if s, ok := fsys.(fs.StatFS); ok {
		info, err := s.Stat(name)
		switch {
		case err == nil:
			if err := checkRegular(fsys, name, info); err != nil {
				return nil, 0, err
			}
		case errors.Is(err, fs.ErrNotExist):
			if target := linkTarget(fsys, name); target != "" {
				return nil, 0, &FormatError{File: name, Rule: ruleDeadLink, Got: "a link to " + Printable(target), Want: "a file there", system: fs.ErrNotExist}
			}
		}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, 0, &fileError{err: err} // which names the file
	}
	info, err := f.Stat()
	if err != nil {
		err = &fileError{err: err}
	} else {
		err = checkRegular(fsys, name, info)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// checkRegular refuses what is not a regular file, and says what it is.
func checkRegular(fsys fs.FS, name string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	got := "another kind of file"
	switch mode := info.Mode(); {
	case mode.IsDir():
		got = "a folder"
	case mode&fs.ModeNamedPipe != 0:
		got = "a named pipe"
	case mode&fs.ModeSocket != 0:
		got = "a socket"
	case mode&fs.ModeDevice != 0:
		got = "a device"
	}
	if target := linkTarget(fsys, name); target != "" {
		got = "a link to " + Printable(target) + ", which is " + got
	}
	return &FormatError{File: name, Rule: ruleNotRegular, Got: got, Want: "a file, or a link to one"}
}

// linkTarget returns where a link leads; "" for anything else.
func linkTarget(fsys fs.FS, name string) string {
	info, err := fs.Lstat(fsys, name)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return ""
	}
	target, err := fs.ReadLink(fsys, name)
	if err != nil {
		return ""
	}
	return target
}
