package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// row is a row of the README's table of packages, which links to the package's folder.
var row = regexp.MustCompile("(?m)^\\| \\[`([a-z0-9/]+)`\\]\\(([a-z0-9/]+)\\) \\| \\S")

// TestReadmeListsThePackages: the table has every package that others can import, and
// imports point down it.
func TestReadmeListsThePackages(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	place := map[string]int{}
	var listed []string
	for i, found := range row.FindAllStringSubmatch(string(readme), -1) {
		require.Equal(t, found[1], found[2], "the link")
		if place[found[1]] = i; found[1] != "examples" {
			listed = append(listed, found[1])
		}
	}
	var public []string
	for folder, files := range libraryPackages(t, root) {
		public = append(public, folder)
		for _, imported := range importsOf(files) {
			below, ok := strings.CutPrefix(imported, module+"/")
			below, _, _ = strings.Cut(below, "/internal/") // the room that it is internal to
			if ok && below != folder {
				require.Greater(t, place[below], place[folder], "%s imports %s", folder, below)
			}
		}
	}
	require.ElementsMatch(t, public, listed)
}

// libraryPackages returns the packages that others can import, by their folders, each with
// its files but for tests. examples holds programs.
func libraryPackages(t *testing.T, root string) map[string][]source {
	t.Helper()
	packages := map[string][]source{}
	require.NoError(t, filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || dir == root {
			return err
		}
		name := d.Name()
		if name == "examples" || name == "internal" || name == "testdata" || strings.HasPrefix(name, ".") {
			return filepath.SkipDir
		}
		folder, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		for _, file := range parse(t, dir) {
			if !strings.HasSuffix(file.fset.Position(file.ast.Pos()).Filename, "_test.go") {
				folder := filepath.ToSlash(folder)
				packages[folder] = append(packages[folder], file)
			}
		}
		return nil
	}))
	return packages
}
