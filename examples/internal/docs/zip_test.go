package docs

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	modmodule "golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// mostZipped is how many bytes go get may download.
const mostZipped = 16_000_000

// TestModuleZip makes the zip that go get downloads and measures it, room by room.
// Reference data is not in it: its folder is a module of its own, and a module's zip
// has none of the modules below.
func TestModuleZip(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		t.Skipf("not a clone: %v", err)
	}
	listed, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate").Output()
	require.NoError(t, err)
	var files []modzip.File
	for name := range strings.SplitSeq(string(listed), "\x00") {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil && name != "" { // a deleted file is still listed
			files = append(files, file{root, name})
		}
	}
	var made bytes.Buffer
	require.NoError(t, modzip.Create(&made, modmodule.Version{Path: module, Version: "v0.0.0"}, files))

	entries, err := zip.NewReader(bytes.NewReader(made.Bytes()), int64(made.Len()))
	require.NoError(t, err)
	rooms := map[string]uint64{}
	for _, entry := range entries.File {
		require.NotContains(t, entry.Name, "testdata/golden")
		name := strings.TrimPrefix(entry.Name, module+"@v0.0.0/")
		room, _, inRoom := strings.Cut(name, "/")
		if !inRoom {
			room = "."
		}
		rooms[room] += entry.CompressedSize64
	}
	t.Logf("the module's zip has %d bytes of %d; compressed: %v", made.Len(), mostZipped, rooms)
	require.Less(t, made.Len(), mostZipped)
}

// file is a file of the module, in the form that the zip's maker takes.
type file struct{ root, name string }

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(filepath.Join(f.root, f.name)) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(f.root, f.name)) }
