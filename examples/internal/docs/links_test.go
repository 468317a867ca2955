// Package docs holds what the documentation says of the module to the module.
package docs

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/drafthead/drafthead"

// link is what gofmt and pkg.go.dev take for a doc link if there is such a symbol, and
// print with its brackets if there is none: a name, its method or field, perhaps of
// another package, between spaces or punctuation. Capitals alone are letters of shapes.
var link = regexp.MustCompile(`(?:^|(\bu?int\d+|\bb?float\d+)?[\s(,;:])\[\*?((?:[a-z]\w*(?:/\w+)*\.)?[A-Z]\w*[a-z]\w*(?:\.[A-Z]\w*)?)\]`)

// TestDocLinks: what is in brackets in a comment of this module is a symbol that there
// is. Code within comments has no links, and comments after code give shapes.
func TestDocLinks(t *testing.T) {
	require.FileExists(t, filepath.Join(root, "go.mod"))
	symbols := symbolTable{}
	checked := 0
	_, missing := os.Stat(filepath.Join(build.Default.GOROOT, "src"))
	goSources := missing == nil
	require.NoError(t, filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); dir != root && (strings.HasPrefix(name, ".") || name == "testdata") {
			return filepath.SkipDir
		}
		files := parse(t, dir)
		imports := importsOf(files)
		for _, file := range files {
			for _, group := range file.ast.Comments {
				for _, found := range link.FindAllStringSubmatch(file.prose(group), -1) {
					if found[1] != "" {
						continue // the shape of what has that type
					}
					checked++
					where, name := dir, found[2]
					if pkg, symbol, qualified := strings.Cut(name, "."); qualified && pkg == strings.ToLower(pkg) {
						from, ok := imports[pkg]
						if !ok {
							from = pkg // the standard library needs no import
						}
						where, name = folderOf(root, from), symbol
					}
					if !strings.HasPrefix(where, root) && !goSources {
						continue
					}
					if !symbols.in(t, where)[name] {
						t.Errorf("%s: [%s] links to nothing", file.fset.Position(group.Pos()), found[2])
					}
				}
			}
		}
		return nil
	}))
	t.Logf("%d doc links", checked)
	if !goSources {
		t.Logf("but none to the standard library, whose sources are not at %q", build.Default.GOROOT)
	}
	require.Greater(t, checked, 100, "what is found is looked at")
}

// folderOf returns where the sources of a package lie.
func folderOf(root, importPath string) string {
	if rest, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return filepath.Join(root, rest)
	}
	return filepath.Join(build.Default.GOROOT, "src", importPath)
}

// importsOf returns the paths of what the files of a package import by the names that
// these have there: links may use them in all of the files.
func importsOf(files []source) map[string]string {
	imports := map[string]string{}
	for _, file := range files {
		for _, i := range file.ast.Imports {
			importPath, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				continue
			}
			name := path.Base(importPath)
			if i.Name != nil {
				name = i.Name.Name
			}
			imports[name] = importPath
		}
	}
	return imports
}

type source struct {
	text []byte
	fset *token.FileSet
	ast  *ast.File
}

// prose is a comment without the code in it, and empty for one after code.
func (s source) prose(group *ast.CommentGroup) string {
	at := s.fset.Position(group.Pos())
	if len(bytes.TrimSpace(s.text[at.Offset-at.Column+1:at.Offset])) > 0 {
		return ""
	}
	var prose strings.Builder
	for line := range strings.Lines(group.Text()) {
		if !strings.HasPrefix(line, "\t") {
			prose.WriteString(line)
		}
	}
	return prose.String()
}

// parse reads the Go files of a folder, for every operating system, with tests.
func parse(t *testing.T, dir string) (files []source) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		fset := token.NewFileSet()
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, source{text, fset, file})
	}
	return files
}

// symbolTable holds the symbols of the packages by their folders: "Name", "Type.Method"
// and "Type.Field".
type symbolTable map[string]map[string]bool

func (s symbolTable) in(t *testing.T, dir string) map[string]bool {
	if s[dir] == nil {
		s[dir] = map[string]bool{}
		for _, file := range parse(t, dir) {
			for _, d := range file.ast.Decls {
				addSymbols(s[dir], d)
			}
		}
	}
	return s[dir]
}

func addSymbols(to map[string]bool, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			name = receiver(d.Recv.List[0].Type) + "." + name
		}
		to[name] = true
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					to[name.Name] = true
				}
			case *ast.TypeSpec:
				to[spec.Name.Name] = true
				addMembers(to, spec)
			}
		}
	}
}

func addMembers(to map[string]bool, spec *ast.TypeSpec) {
	var members *ast.FieldList
	switch t := spec.Type.(type) {
	case *ast.StructType:
		members = t.Fields
	case *ast.InterfaceType:
		members = t.Methods
	default:
		return
	}
	for _, field := range members.List {
		for _, name := range field.Names {
			to[spec.Name.Name+"."+name.Name] = true
		}
	}
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
