package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

const root = "../../.."

// TestFilesAreGenerated: every file of a room is what the generator writes, and the
// module has no assembly that it does not write.
func TestFilesAreGenerated(t *testing.T) {
	generated := map[string]bool{}
	for _, r := range rooms {
		for name, text := range texts(r.files()) {
			path := filepath.Join(root, r.folder, name)
			generated[path] = true
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, string(got) == text, "go generate ./%s changes %s", r.folder, name)
		}
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".s" {
			require.True(t, generated[path], "%s is written by hand", path)
		}
		return err
	}))
}

// TestDeclarationsReadWell: a comment names its own function first, and no function that
// is not there.
func TestDeclarationsReadWell(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func (\w+)\(`)
	named := regexp.MustCompile(`\b[a-z]\w*(AVX2|AVX512|VBMI|NEON)\b|\b[a-z]\w*Tiles\w*\b`)
	for _, r := range rooms {
		functions, all := map[string]bool{}, ""
		for name, text := range texts(r.files()) {
			if strings.HasSuffix(name, ".go") {
				all += text
				for _, m := range declared.FindAllStringSubmatch(text, -1) {
					require.False(t, functions[m[1]], "%s is declared twice", m[1])
					functions[m[1]] = true
				}
			}
		}
		require.NotContains(t, all, `\n`)
		functions["maxStreamTiles"] = true // a constant
		for _, m := range named.FindAllString(all, -1) {
			require.True(t, functions[m] || strings.HasSuffix(m, "Args"), "%s: %s is not there", r.name, m)
		}
		for _, block := range strings.Split(all, "\n\n") {
			if m := declared.FindStringSubmatch(block); m != nil {
				require.True(t, strings.HasPrefix(block, "// "+m[1]+" "), "%s has no comment of its own", m[1])
			}
		}
	}
}

// TestWriteRemovesOldFiles: what only an earlier generator wrote goes, other files stay.
func TestWriteRemovesOldFiles(t *testing.T) {
	folder := t.TempDir()
	put := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644))
	}
	put("old_amd64.s", asm.Header)
	put("old_arm64.s", asm.Header)
	put("hand_amd64.go", "package p\n")
	require.NoError(t, write(folder, map[string]string{"new_amd64.s": asm.Header}))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"hand_amd64.go", "new_amd64.s"}, names)
}
