package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
	"github.com/drafthead/drafthead/weights/safetensors"
)

var (
	errNotEmpty  = errors.New("folder is not empty")
	errNotFolder = errors.New("a file, want a folder that is absent or empty")
	errNoSpace   = errors.New("not enough space on the disk")
)

// spaceError is a disk that is too full; it wraps errNoSpace.
type spaceError struct {
	dir          string
	needed, free int64 // bytes
}

func (e *spaceError) Error() string {
	return fmt.Sprintf("%s: %v: needed %s, available %s; -out another disk, or write fewer -experts or a smaller -shape", e.dir, errNoSpace, cli.FormatBytes(e.needed), cli.FormatBytes(e.free))
}

func (e *spaceError) Unwrap() error { return errNoSpace }

// writer writes a checkpoint to a folder. It is used once.
type writer struct {
	dir string
	// freeSpace returns the bytes that the disk of an existing folder has left for
	// this user, or an error that matches errors.ErrUnsupported.
	freeSpace func(dir string) (int64, error)
	// progress is called with bytes, by one goroutine at a time.
	progress func(done, total int64)

	total   int64
	mu      sync.Mutex
	done    int64    // bytes written so far, under mu
	written []string // paths to remove should it fail, the folder first if it was made
}

// write writes all files under temporary names and renames them at the end,
// config.json last: a folder that has one is complete. On any error, the end of
// ctx among them, everything written is removed again, and the folder too if it
// was not there before.
func (w *writer) write(ctx context.Context, c *synthetic.Checkpoint) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	exists, err := w.checkFolder()
	if err != nil {
		return err
	}
	w.total = c.Size()
	if err := w.checkSpace(exists); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.remove())
		}
	}()
	if !exists {
		if err := os.Mkdir(w.dir, 0o777); err != nil {
			return err
		}
		w.written = append(w.written, w.dir)
	}
	files := c.Files()
	temporary := make([]string, len(files))
	for i := range files {
		if temporary[i], err = w.writeTemporary(ctx, &files[i]); err != nil {
			return err
		}
	}
	for i := range files {
		path := filepath.Join(w.dir, files[i].Name)
		if err := os.Rename(temporary[i], path); err != nil {
			return err
		}
		w.written = append(w.written, path)
	}
	return nil
}

// checkFolder reports whether the folder is there, and refuses one with anything in it.
func (w *writer) checkFolder() (exists bool, err error) {
	info, err := os.Stat(w.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.IsDir():
		return false, fmt.Errorf("%s: %w", safetensors.Printable(w.dir), errNotFolder)
	}
	d, err := os.Open(w.dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	switch {
	case len(names) > 0:
		return false, fmt.Errorf("%s: %w: it holds %q, want one that is absent or empty", safetensors.Printable(w.dir), errNotEmpty, names[0])
	case !errors.Is(err, io.EOF):
		return false, err
	}
	return true, nil
}

func (w *writer) checkSpace(exists bool) error {
	dir := w.dir
	if !exists {
		dir = filepath.Dir(filepath.Clean(dir))
	}
	free, err := w.freeSpace(dir)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no folder %s to make it in: %w", w.dir, dir, err)
	case err != nil:
		return fmt.Errorf("free space of %s: %w", safetensors.Printable(dir), err)
	case free < w.total:
		return &spaceError{w.dir, w.total, free}
	}
	return nil
}

// writeTemporary writes a file under another name, which it returns.
func (w *writer) writeTemporary(ctx context.Context, f *synthetic.File) (path string, err error) {
	out, err := os.OpenFile(filepath.Join(w.dir, "."+f.Name+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return "", err
	}
	w.written = append(w.written, out.Name())
	err = w.copy(ctx, out, f)
	return out.Name(), errors.Join(err, out.Close())
}

// copy makes chunks of f on every core and writes each to its place. Memory in use is one
// chunk per worker, whatever the size of the checkpoint.
func (w *writer) copy(ctx context.Context, out io.WriterAt, f *synthetic.File) error {
	return synthetic.EachChunk(ctx, f.Size(), func() func(off, n int64) error {
		buffer := make([]byte, min(synthetic.ChunkSize, f.Size()))
		return func(off, n int64) error { return w.copyChunk(out, f, buffer[:n], off) }
	})
}

func (w *writer) copyChunk(out io.WriterAt, f *synthetic.File, chunk []byte, off int64) error {
	// A full read may come with io.EOF, at the end of the file.
	if n, err := f.ReadAt(chunk, off); n < len(chunk) {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if _, err := out.WriteAt(chunk, off); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += int64(len(chunk))
	w.progress(w.done, w.total)
	return nil
}

// remove takes away what was written, the last first, under whichever of its
// names it is.
func (w *writer) remove() error {
	var errs []error
	for i := len(w.written) - 1; i >= 0; i-- {
		if err := os.Remove(w.written[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
