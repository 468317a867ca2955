//go:build unix

package safetensors

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// inTime calls f and fails if it does not return.
func inTime(t *testing.T, f func() error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		require.FailNow(t, "it waits for a file that is not a regular one")
		return nil
	}
}

// TestOnlyRegularFilesAreOpened: what can block for ever is named and not opened, under
// the names of weights, of shards and of an index.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	for what, make := range map[string]func(t *testing.T, name string){
		"a named pipe": func(t *testing.T, name string) { require.NoError(t, syscall.Mkfifo(name, 0o600)) },
		"a socket": func(t *testing.T, name string) {
			t.Chdir(filepath.Dir(name)) // paths of sockets are short
			l, err := net.Listen("unix", filepath.Base(name))
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { l.Close() })
		},
		"a device": func(t *testing.T, name string) { require.NoError(t, os.Symlink("/dev/zero", name)) },
		"a folder": func(t *testing.T, name string) { require.NoError(t, os.Mkdir(name, 0o700)) },
	} {
		t.Run(what, func(t *testing.T) {
			for _, name := range []string{"model.safetensors", indexName} {
				dir := onDisk(t, map[string][]byte{"other.safetensors": sample})
				make(t, filepath.Join(dir, name))
				if what == "a folder" && name != indexName {
					_, err := Open(os.DirFS(dir), name)
					require.ErrorIs(t, err, ruleNotRegular)
					continue
				}
				err := inTime(t, func() error { _, err := OpenFolder(os.DirFS(dir), nil); return err })
				require.ErrorIs(t, err, ruleNotRegular)
				require.ErrorContains(t, err, name)
				require.ErrorContains(t, err, what)
			}
			linked := onDisk(t, nil)
			make(t, filepath.Join(linked, "target"))
			require.NoError(t, os.Symlink("target", filepath.Join(linked, "x.safetensors")))
			err := inTime(t, func() error { _, err := OpenFolder(os.DirFS(linked), nil); return err })
			require.ErrorIs(t, err, ruleNotRegular)
			require.ErrorContains(t, err, "a link to target, which is "+what)
		})
	}
}

// TestLinks: a link to a file is as good as the file; one that leads nowhere says so.
func TestLinks(t *testing.T) {
	dir := onDisk(t, map[string][]byte{"blob": sample})
	require.NoError(t, os.Symlink("blob", filepath.Join(dir, "x.safetensors")))
	c, err := OpenFolder(os.DirFS(dir), nil)
	require.NoError(t, err)
	require.Len(t, c.Tensors(), 3)
	require.NoError(t, c.Close())

	require.NoError(t, os.Symlink("../blobs/\x1bgone", filepath.Join(dir, "y.safetensors")))
	_, err = OpenFolder(os.DirFS(dir), nil)
	require.ErrorIs(t, err, ruleMissingShard)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, `safetensors: y.safetensors: missing shard: got a link to "../blobs/\x1bgone", want a file there: file does not exist`)

	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, indexName)))
	_, err = OpenFolder(os.DirFS(dir), nil)
	require.ErrorIs(t, err, ruleDeadLink, "the folder is not one without an index")
	require.ErrorContains(t, err, "a link to nowhere")
}
