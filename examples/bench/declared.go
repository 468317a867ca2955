package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/drafthead/drafthead/hip"
)

// printDeclared writes the table of the kernels that GPUs run: when each of several that
// compute the same serves, the threads of a block, and the error bound relative to the
// largest result. If the terms of several kernels hold, the one with the most rows or pairs
// is taken.
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
