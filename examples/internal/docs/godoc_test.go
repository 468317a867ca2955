package docs

import (
	"go/ast"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocsBeginAsGosDo: the doc of everything exported that has one of its own begins with its
// name, perhaps after an article; constants, variables and fields may share a comment.
func TestDocsBeginAsGosDo(t *testing.T) {
	checked := 0
	for folder, files := range libraryPackages(t, root) {
		for _, file := range files {
			for _, d := range file.ast.Decls {
				for name, doc := range docsOf(d) {
					checked++
					text := strings.TrimSpace(doc.Text())
					begins := regexp.MustCompile(`^(?:(?:A|An|The) )?` + regexp.QuoteMeta(name) + `\b`)
					if !begins.MatchString(text) {
						t.Errorf("%s: %s.%s: the doc begins %.40q, want %q", file.fset.Position(d.Pos()), folder, name, text, name+" …")
					}
				}
			}
		}
	}
	require.Greater(t, checked, 100)
}

// docsOf returns the docs of a declaration's exported functions, methods and types, by name.
// Methods of what is not exported do not count.
func docsOf(d ast.Decl) map[string]*ast.CommentGroup {
	docs := map[string]*ast.CommentGroup{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type))) {
			docs[d.Name.Name] = d.Doc
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if spec, ok := spec.(*ast.TypeSpec); ok && spec.Name.IsExported() {
				docs[spec.Name.Name] = spec.Doc
				if spec.Doc == nil {
					docs[spec.Name.Name] = d.Doc
				}
			}
		}
	}
	return docs
}

// mostExample is how many lines an example may have.
const mostExample = 70

// TestExamples: every package that others can import has an example that runs, which is one
// with an output, and none is long.
func TestExamples(t *testing.T) {
	for _, folder := range slices.Sorted(maps.Keys(libraryPackages(t, root))) {
		runs := 0
		for _, file := range parse(t, filepath.Join(root, folder)) {
			for _, d := range file.ast.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || !strings.HasPrefix(f.Name.Name, "Example") {
					continue
				}
				from, to := file.fset.Position(f.Pos()), file.fset.Position(f.End())
				require.LessOrEqual(t, to.Line-from.Line, mostExample, "%s", from)
				if regexp.MustCompile(`(?m)^\s*// (Unordered o|O)utput:`).Match(file.text[from.Offset:to.Offset]) {
					runs++
				}
			}
		}
		require.Positive(t, runs, "%s has no example that runs", folder)
	}
}

// mostScreen is how many lines "go doc" may print of a package, some forty of which are the
// names of the largest.
const mostScreen = 125

// TestGoDocFits measures what "go doc" prints of each package.
func TestGoDocFits(t *testing.T) {
	for _, folder := range slices.Sorted(maps.Keys(libraryPackages(t, root))) {
		text, err := command("go", "doc", "./"+folder).Output()
		require.NoError(t, err)
		lines := strings.Count(string(text), "\n")
		t.Logf("%-20s %4d lines", folder, lines)
		require.LessOrEqual(t, lines, mostScreen, folder)
	}
}
