package weights

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// part is a tensor to be written.
type part struct {
	name  string
	dtype safetensors.Dtype
	shape []int
	data  string
}

// buildFile returns a safetensors file that holds the parts.
func buildFile(parts ...part) []byte {
	tensors := make([]*safetensors.Tensor, len(parts))
	for i, p := range parts {
		tensors[i] = safetensors.NewTensor(p.name, p.dtype, p.shape, strings.NewReader(p.data))
	}
	var b bytes.Buffer
	if err := safetensors.Write(&b, nil, tensors); err != nil {
		panic(err) // the test's own mistake
	}
	return b.Bytes()
}

// bytePart is a U8 vector.
func bytePart(name, data string) part { return part{name, safetensors.U8, []int{len(data)}, data} }

// onDisk writes files to a new folder.
func onDisk(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return dir
}

// filesOf returns the files of a folder, in the order of their names.
func filesOf(c *safetensors.Folder) (files []*safetensors.File) {
	byName := make(map[string]*safetensors.File)
	for _, t := range c.Tensors() {
		byName[t.File().Name()] = t.File()
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		files = append(files, byName[name])
	}
	return files
}
