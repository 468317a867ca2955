//go:build unix

package mtp_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestNamedPipesAreNotOpened: a named pipe under the name of a file of the checkpoint is
// refused by that name, and nothing waits for who writes to it.
func TestNamedPipesAreNotOpened(t *testing.T) {
	golden := hiptest.Shared(t, "golden", "broken", "ok-control")
	for _, name := range []string{"config.json", "model.safetensors", "model.safetensors.index.json"} {
		for _, linked := range []bool{false, true} {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(golden)))
			path := filepath.Join(dir, name)
			require.NoError(t, os.RemoveAll(path))
			if pipe := filepath.Join(dir, "pipe"); linked {
				require.NoError(t, syscall.Mkfifo(pipe, 0o600))
				require.NoError(t, os.Symlink(pipe, path))
			} else {
				require.NoError(t, syscall.Mkfifo(path, 0o600))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			done := make(chan error, 1)
			go func() { _, err := mtp.Load(ctx, dir, mtp.Options{}); done <- err }()
			select {
			case err := <-done:
				require.ErrorContains(t, err, name)
				require.ErrorContains(t, err, "a named pipe")
			case <-ctx.Done():
				require.FailNow(t, "Load waits for the pipe "+name)
			}
			cancel()
		}
	}
}

// TestReadConfigOfOtherKinds: what lies under the name config.json is named.
func TestReadConfigOfOtherKinds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	require.NoError(t, os.Symlink("../blobs/gone", path))
	_, err := mtp.ReadConfig(os.DirFS(dir))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, err, mtp.ErrConfig)
	require.ErrorContains(t, err, "mtp: config.json: link to a file that is not there: got a link to ../blobs/gone")

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), 0o600))
	_, err = mtp.ReadConfig(os.DirFS(dir))
	require.ErrorIs(t, err, mtp.ErrConfig)
	require.ErrorContains(t, err, "Git LFS")
}
