package asm

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// signature is a function's Go declaration, and where its arguments lie: one after the
// other, each at a multiple of its size, and the results from the next whole word on.
type signature struct {
	text     string // without "func"
	name     string
	offsets  map[string]int
	bytes    int    // of arguments and results
	points   string // the type that the first argument points to
	pointers bool   // some argument is a pointer
}

func parse(text string) signature {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p; func "+text, 0)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	decl := file.Decls[0].(*ast.FuncDecl)
	s := signature{text: text, name: decl.Name.Name, offsets: map[string]int{}}
	place := func(fields *ast.FieldList) {
		if fields == nil {
			return
		}
		for _, field := range fields.List {
			size := sizeOf(field.Type)
			names := field.Names
			if names == nil {
				names = []*ast.Ident{{Name: "ret"}}
			}
			for _, n := range names {
				s.bytes = (s.bytes + size - 1) / size * size
				s.offsets[n.Name] = s.bytes
				s.bytes += size
			}
			if star, ok := field.Type.(*ast.StarExpr); ok {
				s.pointers = true
				if id, ok := star.X.(*ast.Ident); ok && s.points == "" {
					s.points = id.Name
				}
			}
		}
	}
	place(decl.Type.Params)
	if decl.Type.Results != nil {
		s.bytes = (s.bytes + 7) / 8 * 8
	}
	place(decl.Type.Results)
	return s
}

// sizeOf knows the types that arguments have.
func sizeOf(t ast.Expr) int {
	switch t := t.(type) {
	case *ast.StarExpr:
		return 8
	case *ast.Ident:
		switch strings.TrimPrefix(t.Name, "u") {
		case "int", "int64", "intptr", "float64":
			return 8
		case "int32", "float32":
			return 4
		}
	}
	panic(fmt.Sprintf("an argument of type %T is not known", t))
}
