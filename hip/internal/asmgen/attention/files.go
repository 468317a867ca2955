// Package attention has what the assembly of the library's package attention is made
// of.
package attention

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

var levels = []asm.Level{asm.AVX512, asm.AVX2}

// Files returns the assembly of package attention.
func Files() []*asm.File {
	return []*asm.File{headsFile(), convertFile(), indexFile(), indexTilesFile(), neonHeadsFile(), neonConvertFile(), neonIndexFile()}
}

func file(name, doc string) *asm.File { return &asm.File{Package: "attention", Name: name, Doc: doc} }

// neonFile is a file of the same name for arm64.
func neonFile(name, doc string) *asm.File {
	f := file(name, doc)
	f.ARM64 = true
	return f
}

// doc is the comment of a function of several levels: others refer to the first, whose
// name ends with AVX512.
func doc(level asm.Level, name, text, otherwise string) string {
	if level == asm.AVX512 {
		return text
	}
	return "is " + name + asm.AVX512.Name + otherwise + "."
}

// clear sets sums to zero.
func clear(f *asm.Func, sums []asm.Vec) {
	if f.Level.Bytes == 64 {
		f.Clear(sums...)
		return
	}
	for _, v := range sums {
		f.Op("VXORPS", v, v, v)
	}
}
