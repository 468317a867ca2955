// Package cpu has what the assembly of the library's package hip is made of.
package cpu

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// Files returns the assembly of package hip: what asks the processor for what it has.
func Files() []*asm.File {
	file := &asm.File{Package: "hip", Name: "cpuid", Doc: "What the processor says of itself."}
	f := file.Func(asm.NoVectors, "cpuid(leaf, subleaf uint32) (a, b, c, d uint32)", "runs the instruction of that name.")
	// The instruction has these registers.
	f.Op("MOVL", f.Arg("leaf"), asm.AX)
	f.Op("MOVL", f.Arg("subleaf"), asm.CX)
	f.Op("CPUID")
	f.Op("MOVL", asm.AX, f.Arg("a"))
	f.Op("MOVL", asm.BX, f.Arg("b"))
	f.Op("MOVL", asm.CX, f.Arg("c"))
	f.Op("MOVL", asm.DX, f.Arg("d"))
	f.Op("RET")
	return []*asm.File{file}
}
