package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/drafthead/drafthead/hip"
)

// printDeclared writes the table of the kernels that GPUs run: which of several that
// compute the same serves when, the threads of a block, and what results may be off by, of
// the largest. Of those whose terms hold, the one with the most rows or pairs is taken.
func printDeclared(w io.Writer) error {
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "kernel on a GPU\tserves\tthreads\toff by")
	for _, k := range hip.Kernels() {
		threads, maxError, serves := k.Declared()
		if threads == 0 { // no GPU runs it
			continue
		}
		if serves == "" {
			serves = "all"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%.0e\n", k.Name, serves, threads, maxError)
	}
	return table.Flush()
}
