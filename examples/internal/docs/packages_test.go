package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the repository's.
var root = filepath.Join("..", "..", "..")

// row is a row of the table of packages in .github/ARCHITECTURE.md, which links to the
// package's folder; node and arrow are those of the picture.
var (
	row   = regexp.MustCompile("(?m)^\\| \\[`([a-z0-9/]+)`\\]\\(\\.\\./([a-z0-9/]+)\\) \\| \\S")
	node  = regexp.MustCompile(`(\w+)\["([a-z0-9/]+)"\]`)
	arrow = regexp.MustCompile(`(?m)^  (\w+)(?:\[.*?\])? --> (\w+)`)
)

// TestPackages: the table has every package that others can import, and imports point down
// it. Every arrow of the picture is an import, and every import is on a way along arrows.
func TestPackages(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, ".github", "ARCHITECTURE.md"))
	require.NoError(t, err)
	place := map[string]int{}
	var listed []string
	for i, found := range row.FindAllStringSubmatch(string(page), -1) {
		require.Equal(t, found[1], found[2], "the link")
		if place[found[1]] = i; found[1] != "examples" {
			listed = append(listed, found[1])
		}
	}
	picture := block(t, string(page), "```mermaid\n", "```")
	name := map[string]string{}
	for _, found := range node.FindAllStringSubmatch(picture, -1) {
		name[found[1]] = found[2]
	}
	below := map[string][]string{} // by package, along the arrows
	for _, found := range arrow.FindAllStringSubmatch(picture, -1) {
		below[name[found[1]]] = append(below[name[found[1]]], name[found[2]])
	}
	require.Len(t, name, len(place), "packages of the picture")

	var public []string
	for folder, imports := range imported(t) {
		if folder != "examples" {
			public = append(public, folder)
		}
		for _, to := range imports {
			require.Greater(t, place[to], place[folder], "%s imports %s", folder, to)
			require.True(t, leads(below, folder, to), "the picture has no way from %s to %s", folder, to)
		}
		for _, to := range below[folder] {
			require.Contains(t, imports, to, "%s does not import %s, as the picture says", folder, to)
		}
	}
	require.ElementsMatch(t, public, listed)
}

// leads reports whether arrows lead from one package to another.
func leads(below map[string][]string, from, to string) bool {
	return slices.ContainsFunc(below[from], func(next string) bool { return next == to || leads(below, next, to) })
}

// imported returns what the packages that others can import, and the programs, import of this
// module, without tests. hip knows hip/gpu by its internal rooms alone.
func imported(t *testing.T) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	add := func(folder string, files []source) {
		for _, path := range importsOf(files) {
			room, ok := strings.CutPrefix(path, module+"/")
			room, _, _ = strings.Cut(room, "/internal/") // the room that it is internal to
			room, _, _ = strings.Cut(strings.Replace(room, "examples/", "examples\n", 1), "\n")
			if ok && room != folder {
				imports[folder] = append(imports[folder], room)
			}
		}
	}
	for folder, files := range libraryPackages(t, root) {
		imports[folder] = nil
		add(folder, files)
	}
	require.NoError(t, filepath.WalkDir(filepath.Join(root, "examples"), func(dir string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			files := parse(t, dir)
			files = slices.DeleteFunc(files, func(f source) bool {
				return strings.HasSuffix(f.fset.Position(f.ast.Pos()).Filename, "_test.go")
			})
			add("examples", files)
		}
		return err
	}))
	return imports
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
