//go:build linux && (amd64 || arm64)

package gpu_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
)

// TestForeignCode: a folder or an entry that others may have written is not read, nothing
// but a regular file is opened, and the log says so once for a device.
func TestForeignCode(t *testing.T) {
	const unread, unwritten = "may have written it", "cannot be written"
	m := emulator.New(t, emulator.Settings{})
	// run uses two kernels. It returns whether the first was compiled, and what the log has.
	run := func(t *testing.T, dir string) (bool, string) {
		var log bytes.Buffer
		opts := m.Options()
		opts.CacheDir, opts.Logger = dir, slog.New(slog.NewTextHandler(&log, nil))
		d := must(hip.Open(0, opts))
		defer d.Close()
		y := must(hip.Upload(d, values(64)))
		m.FailAt(0)
		require.NoError(t, scaleOn(d, y, 64, 2))
		calls := m.FailAt(0)
		require.NoError(t, expect(d, y, 64, 2))
		require.NoError(t, hip.Compile(t.Context(), d, &wild.Kernel))
		return calls > 5, log.String()
	}
	made := filepath.Join(t.TempDir(), "kernels")
	compiled, log := run(t, made)
	require.True(t, compiled)
	require.Empty(t, log)
	for name, c := range map[string]struct {
		change func(t *testing.T, above, dir, entry string)
		log    string // "": the entry is used
		stays  bool   // the next device compiles too
	}{
		"untouched": {change: func(*testing.T, string, string, string) {}},
		"a link to the folder": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Rename(dir, filepath.Join(above, "elsewhere")))
			require.NoError(t, os.Symlink("elsewhere", dir))
		}},
		"a link to the entry": {change: func(t *testing.T, above, dir, entry string) {
			moved := filepath.Join(above, filepath.Base(entry))
			require.NoError(t, os.Rename(entry, moved))
			require.NoError(t, os.Symlink(moved, entry))
		}},
		"entry others write": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Chmod(entry, 0o646))
		}, log: unread},
		"entry the group writes": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Chmod(entry, 0o664))
		}, log: unread},
		"entry of another user": {change: func(t *testing.T, above, dir, entry string) {
			chown(t, entry)
		}, log: unread},
		"pipe": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Remove(entry))
			require.NoError(t, syscall.Mkfifo(entry, 0o600))
		}, log: unread},
		"link to a device": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Remove(entry))
			require.NoError(t, os.Symlink("/dev/zero", entry))
		}, log: unread},
		"folder others write": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Chmod(dir, 0o777))
		}, log: unread, stays: true},
		"folder in which others delete nothing": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky)) // but make entries
		}, log: unread, stays: true},
		"folder of another user": {change: func(t *testing.T, above, dir, entry string) {
			chown(t, dir)
		}, log: unread, stays: true},
		"folder above others write": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Chmod(above, 0o777))
		}, log: unread, stays: true},
		"folder above of another user": {change: func(t *testing.T, above, dir, entry string) {
			chown(t, above)
		}, log: unread, stays: true},
		"folder above as /tmp": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.Chmod(above, 0o777|os.ModeSticky))
		}},
		"link to a folder others write": {change: func(t *testing.T, above, dir, entry string) {
			moved := filepath.Join(above, "elsewhere")
			require.NoError(t, os.Rename(dir, moved))
			require.NoError(t, os.Symlink("elsewhere", dir))
			require.NoError(t, os.Chmod(moved, 0o777))
		}, log: unread, stays: true},
		"folder is a file": {change: func(t *testing.T, above, dir, entry string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, log: unwritten, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			above := filepath.Join(t.TempDir(), "above")
			dir := filepath.Join(above, "kernels")
			require.NoError(t, os.CopyFS(dir, os.DirFS(made)))
			run := func() (bool, string) { return run(t, dir) }
			entries := must(filepath.Glob(filepath.Join(dir, "*.code")))
			require.Len(t, entries, 2)
			for _, entry := range entries {
				if name == "folder is a file" || !strings.Contains(name, "folder") {
					if _, err := os.Lstat(entry); err == nil {
						c.change(t, above, dir, entry)
					}
					continue
				}
				c.change(t, above, dir, entry)
				break
			}
			compiled, log := run()
			require.Equal(t, c.log != "", compiled)
			if c.log == "" {
				require.Empty(t, log)
				return
			}
			require.Equal(t, 1, strings.Count(log, "level=WARN"), log)
			require.Contains(t, log, c.log)
			compiled, log = run()
			require.Equal(t, c.stays, compiled)
			require.Equal(t, c.stays, log != "")
		})
	}
}

// chown gives a file to somebody else.
func chown(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only the administrator gives files away")
	}
	require.NoError(t, os.Chown(path, 12345, -1))
}
