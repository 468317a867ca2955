package synthetic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/drafthead/drafthead/examples/internal/cli"
)

// Memory is a checkpoint's folder in memory: a file system whose files are
// in memory, so that a CPU device uses them in place: see [safetensors.Open].
type Memory struct {
	folder folder
	mapped [][]byte
}

// InMemory makes all files of the checkpoint in memory. On Linux that is huge
// pages outside of Go's heap, where the kernel has them: with small ones the
// first touch takes longer than making the weights. progress is called by one
// goroutine at a time.
func (c *Checkpoint) InMemory(ctx context.Context, progress func(done, total int64)) (m *Memory, err error) {
	m = &Memory{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
			m = nil
		}
	}()
	var mu sync.Mutex
	done, total := int64(0), c.Size()
	for i := range c.files {
		f := &c.files[i]
		data, err := mapMemory(f.Size())
		if err != nil {
			return m, fmt.Errorf("%s: %s of memory: %w", f.Name, cli.FormatBytes(f.Size()), err)
		}
		m.mapped = append(m.mapped, data)
		err = EachChunk(ctx, f.Size(), func() func(off, n int64) error {
			return func(off, n int64) error {
				// A full read may come with io.EOF, at the end of the file.
				if got, err := f.ReadAt(data[off:off+n], off); int64(got) < n {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				done += n
				progress(done, total)
				return nil
			}
		})
		if err != nil {
			return m, err
		}
		m.folder = append(m.folder, File{f.Name, inMemory(data)})
	}
	return m, nil
}

// Open opens a file, or the folder itself as ".".
func (m *Memory) Open(name string) (fs.File, error) { return m.folder.Open(name) }

// Size returns the bytes of all files.
func (m *Memory) Size() (n int64) {
	for _, data := range m.mapped {
		n += int64(len(data))
	}
	return n
}

// Close gives the memory back. Nothing may use the files any more.
func (m *Memory) Close() error {
	var errs []error
	for _, data := range m.mapped {
		errs = append(errs, unmapMemory(data))
	}
	m.folder, m.mapped = nil, nil
	return errors.Join(errs...)
}
