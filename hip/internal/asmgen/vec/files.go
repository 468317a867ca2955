// Package vec has what the assembly of the library's package hip/vec is made of.
package vec

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

var levels = []asm.Level{asm.AVX512, asm.AVX2}

// Files returns the assembly of package vec.
func Files() []*asm.File {
	return []*asm.File{rmsFile(), softmaxFile(), swiGLUFile(), neonRMSFile(), neonSoftmaxFile()}
}

// doc is the comment of a function: the second level refers to the first, whose name
// ends with AVX512.
func doc(level asm.Level, name, text, otherwise string) string {
	if level == asm.AVX512 {
		return text
	}
	return "is " + name + asm.AVX512.Name + otherwise + "."
}

// clear sets vectors to zero. A zero of 16 bytes clears the rest.
func clear(f *asm.Func, vectors []asm.Vec) {
	for _, v := range vectors {
		f.Op("VXORPS", v.X(), v.X(), v.X())
	}
}

// blocks repeats block for n steps at a time, as long as n has that many, and then does
// the rest: with AVX-512 one step at a time, otherwise it is done once for half of a
// block, or there is none. n counts down.
func blocks(f *asm.Func, n asm.GP, step int, block, rest func()) {
	loop, tail, one, done := f.Label("block"), f.Label("rest"), f.Label("one"), f.Label("done")
	f.Mark(loop)
	f.Op("SUBQ", step, n)
	f.Op("JLT", tail)
	block()
	f.Op("JMP", loop)
	f.Mark(tail)
	f.Op("ADDQ", step, n)
	if f.Level == asm.AVX512 {
		f.Mark(one)
		f.Op("SUBQ", step/4, n)
		f.Op("JLT", done)
		rest()
		f.Op("JMP", one)
	} else {
		f.Op("JZ", done)
		rest()
	}
	f.Mark(done)
}
