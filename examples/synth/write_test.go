package main

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert" // in callbacks, which run on other goroutines
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
)

// sharded is a small checkpoint in several shards, over 10 MB so that it is
// written in several chunks.
func sharded(t *testing.T) *synthetic.Checkpoint {
	t.Helper()
	config := synthetic.Nano()
	config.VocabSize = 10_000
	c, err := synthetic.New(config, synthetic.Options{Seed: 3, ShardSize: 5_200_000})
	require.NoError(t, err)
	require.Greater(t, len(c.Files()), 3)
	return c
}

// testWriter writes to dir with all the space there is.
func testWriter(dir string) *writer {
	return &writer{
		dir:       dir,
		freeSpace: func(string) (int64, error) { return math.MaxInt64, nil },
		progress:  func(done, total int64) {},
	}
}

// names lists a folder; nil if there is none.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestDiskEqualsMemory(t *testing.T) {
	c, dir := sharded(t), t.TempDir() // which is there, and empty
	w := testWriter(dir)
	var calls []int64
	w.progress = func(done, total int64) {
		assert.Equal(t, c.Size(), total)
		calls = append(calls, done)
	}
	require.NoError(t, w.write(context.Background(), c))
	require.Len(t, names(t, dir), len(c.Files()))
	for i := range c.Files() {
		f := &c.Files()[i]
		disk, err := os.ReadFile(filepath.Join(dir, f.Name))
		require.NoError(t, err)
		memory := make([]byte, f.Size())
		_, err = f.ReadAt(memory, 0)
		require.NoError(t, err)
		require.True(t, string(memory) == string(disk), f.Name)
	}
	require.IsIncreasing(t, calls)
	require.Equal(t, c.Size(), calls[len(calls)-1])
}

func TestRefusesToOverwrite(t *testing.T) {
	c, dir := sharded(t), t.TempDir()
	precious := filepath.Join(dir, "precious")
	require.NoError(t, os.WriteFile(precious, []byte("data"), 0o600))
	err := testWriter(dir).write(context.Background(), c)
	require.ErrorIs(t, err, errNotEmpty)
	require.ErrorContains(t, err, "precious")
	require.Equal(t, []string{"precious"}, names(t, dir))

	require.ErrorIs(t, testWriter(precious).write(context.Background(), c), errNotFolder)
	require.ErrorIs(t, testWriter(filepath.Join(dir, "no", "parent")).write(context.Background(), c), os.ErrNotExist)
	require.Equal(t, []string{"precious"}, names(t, dir))
}

func TestCanceledWriteLeavesNothing(t *testing.T) {
	c := sharded(t)
	for _, at := range []float64{0, 0.3, 0.7, 1} {
		for _, existing := range []bool{true, false} {
			parent := t.TempDir()
			dir := filepath.Join(parent, "out")
			if existing {
				require.NoError(t, os.Mkdir(dir, 0o700))
			}
			ctx, cancel := context.WithCancel(context.Background())
			w := testWriter(dir)
			w.progress = func(done, total int64) {
				entries, err := os.ReadDir(dir)
				assert.NoError(t, err)
				for _, e := range entries {
					assert.Equal(t, ".tmp", filepath.Ext(e.Name()), "a final name before all is written")
				}
				if float64(done) >= at*float64(total) {
					cancel()
				}
			}
			require.ErrorIs(t, w.write(ctx, c), context.Canceled, "canceled at %g", at)
			require.Empty(t, names(t, dir))
			if existing {
				require.DirExists(t, dir)
			} else {
				require.NoDirExists(t, dir)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := filepath.Join(t.TempDir(), "out")
	require.ErrorIs(t, testWriter(dir).write(ctx, c), context.Canceled)
	require.NoDirExists(t, dir)
}

// TestFailedRename has something in the way of each final name in turn.
func TestFailedRename(t *testing.T) {
	c := sharded(t)
	for i := range c.Files() {
		dir := t.TempDir()
		obstacle := filepath.Join(dir, c.Files()[i].Name)
		w := testWriter(dir)
		w.progress = func(done, total int64) {
			if done == total {
				assert.NoError(t, os.MkdirAll(filepath.Join(obstacle, "precious"), 0o700))
			}
		}
		require.Error(t, w.write(context.Background(), c))
		require.Equal(t, []string{c.Files()[i].Name}, names(t, dir), "only what was not ours is left")
		require.DirExists(t, filepath.Join(obstacle, "precious"))
	}
}

// failingDisk fails writes that reach beyond full.
type failingDisk struct {
	full int64
	err  error
}

func (d *failingDisk) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > d.full {
		return 0, d.err
	}
	return len(p), nil
}

func TestFailedWrite(t *testing.T) {
	f := &sharded(t).Files()[0]
	broken := errors.New("disk is broken")
	for _, full := range []int64{0, synthetic.ChunkSize, f.Size() - 1} {
		err := testWriter("").copy(context.Background(), &failingDisk{full, broken}, f)
		require.ErrorIs(t, err, broken, "full at %d", full)
	}
	require.NoError(t, testWriter("").copy(context.Background(), &failingDisk{f.Size(), broken}, f))
}

func TestSpaceIsCheckedFirst(t *testing.T) {
	c := sharded(t)
	parent := t.TempDir()
	dir := filepath.Join(parent, "out")
	free := c.Size() - 1
	var asked string
	w := testWriter(dir)
	w.freeSpace = func(dir string) (int64, error) {
		asked = dir
		return free, nil
	}
	err := w.write(context.Background(), c)
	require.ErrorIs(t, err, errNoSpace)
	var space *spaceError
	require.ErrorAs(t, err, &space)
	require.Equal(t, spaceError{dir, c.Size(), free}, *space)
	require.ErrorContains(t, err, "needed "+cli.FormatBytes(c.Size()))
	require.ErrorContains(t, err, "available "+cli.FormatBytes(free))
	require.Equal(t, parent, asked, "a folder that is not there yet has no disk")
	require.Empty(t, names(t, parent))

	broken := errors.New("no such disk")
	w.freeSpace = func(string) (int64, error) { return 0, broken }
	require.ErrorIs(t, w.write(context.Background(), c), broken)
	require.Empty(t, names(t, parent))

	w.freeSpace = func(string) (int64, error) { return 0, fs.ErrNotExist }
	err = w.write(context.Background(), c)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no folder "+parent+" to make it in")

	free++
	w = testWriter(dir)
	w.freeSpace = func(string) (int64, error) { return free, nil }
	require.NoError(t, w.write(context.Background(), c), "just enough")

	w = testWriter(filepath.Join(parent, "untold"))
	w.freeSpace = func(string) (int64, error) { return 0, errors.ErrUnsupported }
	require.NoError(t, w.write(context.Background(), c))
}

func TestFreeSpaceOfThisDisk(t *testing.T) {
	free, err := freeSpace(t.TempDir())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this operating system does not tell the free space")
	}
	require.NoError(t, err)
	require.Positive(t, free)
	_, err = freeSpace(filepath.Join(t.TempDir(), "absent"))
	require.Error(t, err)
}
