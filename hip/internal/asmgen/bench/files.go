// Package bench has what the assembly of the program examples/bench is made of.
package bench

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// groupBytes is what the loops read in one turn.
const groupBytes = 512

// Files returns the assembly of the program: what reads memory as fast as it goes.
func Files() []*asm.File {
	file := &asm.File{Package: "main", Name: "xor", Doc: "The exclusive or of all that is read.",
		Constants: []asm.Constant{{Name: "xorGroup", Value: groupBytes}}}
	xor(file, asm.AVX512, docXor)
	xor(file, asm.AVX2, "is xorAVX512.")
	neon := &asm.File{Package: file.Package, Name: file.Name, Doc: file.Doc, Constants: file.Constants, ARM64: true}
	xorNEON(neon)
	return []*asm.File{file, neon}
}

const docXor = "writes eight words whose exclusive or is that of the n bytes at data, n a multiple of xorGroup, " +
	"and prefetches each line ahead bytes before it is read, also past the end, where that does nothing."

// xor keeps four vectors, which lines of 64 bytes take in turns.
func xor(file *asm.File, level asm.Level, doc string) {
	f := file.Func(level, "xor"+level.Name+"(out *[8]uint64, data *byte, n, ahead int)", doc)
	out, data, n, ahead := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.DX)
	sums := f.Vectors(4)
	instruction, store := "VPXOR", "VMOVDQU"
	if level == asm.AVX512 {
		instruction, store = "VPXORQ", "VMOVDQU64"
	}
	perLine := 64 / level.Bytes
	f.Op("MOVQ", f.Arg("out"), out)
	f.Op("MOVQ", f.Arg("data"), data)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Op("MOVQ", f.Arg("ahead"), ahead)
	for _, s := range sums {
		f.Op(instruction, s, s, s)
	}
	group := f.Mark(f.Label("group"))
	for line := range groupBytes / 64 {
		f.Op("PREFETCHT0", data.At(64*line).Index(ahead, 1))
		for i := range perLine {
			s := sums[(perLine*line+i)%len(sums)]
			f.Op(instruction, data.At(64*line+i*level.Bytes), s, s)
		}
	}
	f.Op("ADDQ", groupBytes, data)
	f.Op("SUBQ", groupBytes, n)
	f.Op("JNZ", group)
	if level == asm.AVX512 {
		f.Op(instruction, sums[1], sums[0], sums[0])
		f.Op(instruction, sums[3], sums[2], sums[2])
		f.Op(instruction, sums[2], sums[0], sums[0])
	} else {
		f.Op(instruction, sums[2], sums[0], sums[0])
		f.Op(instruction, sums[3], sums[1], sums[1])
	}
	for i, s := range sums[:perLine] {
		f.Op(store, s, out.At(i*level.Bytes))
	}
	f.Return()
}

// xorNEON keeps four vectors, one for each part of a line.
func xorNEON(file *asm.File) {
	f := file.Func(asm.NEON, "xorNEON(out *[8]uint64, data *byte, n, ahead int)", docXor)
	r := f.Registers(4)
	out, data, n, ahead := r[0], r[1], r[2], r[3]
	sums, values := f.Vectors(4), f.Vectors(4)
	for i, name := range []string{"out", "data", "n", "ahead"} {
		f.Op("MOVD", f.Arg(name), r[i])
	}
	f.Op("ADD", data, ahead)
	f.Clear(sums...)
	group := f.Mark(f.Label("group"))
	for line := range groupBytes / 64 {
		f.Prefetch(ahead.At(64 * line))
		f.LoadMany(data.At(64*line), values...)
		for i, v := range values {
			f.Op("VEOR", v.As("B16"), sums[i].As("B16"), sums[i].As("B16"))
		}
	}
	f.Op("ADD", groupBytes, data)
	f.Op("ADD", groupBytes, ahead)
	f.Op("SUBS", groupBytes, n)
	f.Op("BNE", group)
	f.StoreMany(out.At(0), sums...)
	f.Return()
}
