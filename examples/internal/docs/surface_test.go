package docs

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"
)

// mostExported is how many identifiers a user may have to learn.
const mostExported = 593

// TestSurface counts what the library packages export: types, functions, methods,
// fields, constants and variables. A name that files of several systems declare counts
// once, and members of what is not exported do not count.
func TestSurface(t *testing.T) {
	total := 0
	packages := libraryPackages(t, root)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, folder := range slices.Sorted(maps.Keys(packages)) {
		symbols := map[string]bool{}
		for _, file := range packages[folder] {
			for _, d := range file.ast.Decls {
				addSymbols(symbols, d)
			}
		}
		n := 0
		for name := range symbols {
			if exported(name) {
				n++
			}
		}
		fmt.Fprintf(w, "%s\t%d\n", folder, n)
		total += n
	}
	fmt.Fprintf(w, "in all\t%d\tof %d\n", total, mostExported)
	require.NoError(t, w.Flush())
	t.Log("exported identifiers\n" + table.String())
	require.LessOrEqual(t, total, mostExported)
}

// exported reports whether users see a symbol: "Name", or "Type.Member" with both.
func exported(symbol string) bool {
	for name := range strings.SplitSeq(symbol, ".") {
		if !ast.IsExported(name) {
			return false
		}
	}
	return true
}
