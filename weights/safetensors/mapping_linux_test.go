package safetensors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mappings counts the mappings of files in dir.
func mappings(t *testing.T, dir string) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(maps), dir+"/")
}

// descriptors counts the open descriptors of files in dir.
func descriptors(t *testing.T, dir string) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	n := 0
	for _, fd := range open {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, dir+"/") {
			n++
		}
	}
	return n
}

func TestFileIsUnmapped(t *testing.T) {
	dir := onDisk(t, map[string][]byte{"x": sample, "broken": sample[:len(sample)-1]})
	f, err := Open(os.DirFS(dir), "x")
	require.NoError(t, err)
	require.Equal(t, 1, mappings(t, dir))
	require.Zero(t, descriptors(t, dir), "the descriptor is closed right after mapping")
	require.NoError(t, f.Close())
	require.Zero(t, mappings(t, dir))

	_, err = Open(os.DirFS(dir), "broken")
	require.ErrorIs(t, err, ruleTruncated)
	require.Zero(t, mappings(t, dir))
	require.Zero(t, descriptors(t, dir))
}

func TestCheckpointIsUnmapped(t *testing.T) {
	dir := onDisk(t, map[string][]byte{
		"a.safetensors": buildFile(bytePart("a", "1")),
		"b.safetensors": buildFile(bytePart("b", "2")),
	})
	c, err := OpenFolder(os.DirFS(dir), nil)
	require.NoError(t, err)
	require.Equal(t, 2, mappings(t, dir))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.Zero(t, mappings(t, dir))

	// One broken file, one with a tensor of another: what was mapped before is released.
	for name, data := range map[string][]byte{"c.safetensors": []byte("broken"), "d.safetensors": buildFile(bytePart("a", "1"))} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		_, err = OpenFolder(os.DirFS(dir), nil)
		require.Error(t, err)
		require.Zero(t, mappings(t, dir))
		require.Zero(t, descriptors(t, dir))
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
	}
}
