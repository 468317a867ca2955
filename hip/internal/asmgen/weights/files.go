// Package weights has what the assembly of the library's package weights is made of.
package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// chunk is the columns that one turn of a dot or decode loop takes, whatever
// the width of the vectors.
const chunk = 64

// How many bytes ahead of their use weights are asked for, as measured: for the first
// cache, and where many rows are read one after the other for the second cache in a
// page or two, since the processor follows a stream only within a page.
const (
	prefetchRow       = 2048
	prefetchRowFar    = 8192
	prefetchRowsAlone = 256 // rows side by side, for one row of x
	prefetchRowAlone  = 512 // a row by itself, of few
	prefetchRows      = 512
)

// levels are those that decoders serve.
var levels = []asm.Level{asm.AVX2, asm.AVX512, asm.VBMI}

// Files returns the assembly of package weights: a file for each family of functions,
// and for dots one for each format.
func Files() []*asm.File {
	files := append([]*asm.File{tables(), dotFile()}, dotsFiles()...)
	files = append(files, decodeFile(), panelFile(), splitFile(), pairsFile(), pairsPanelFile(), digitsFile(), tilesFile(), streamFile(), tilePanelsFile())
	files = append(files, neonTables(), neonDotFile())
	return append(append(files, neonDotsFiles()...), neonDecodeFile(), neonPanelFile(), neonPairsFile(), neonSplitFile(), neonPairsPanelFile())
}

func file(name, doc string, constants ...asm.Constant) *asm.File {
	return &asm.File{Package: "weights", Name: name, Doc: doc, Constants: constants}
}

// neonFile is a file of the same name for arm64.
func neonFile(name, doc string, constants ...asm.Constant) *asm.File {
	f := file(name, doc, constants...)
	f.ARM64 = true
	return f
}
