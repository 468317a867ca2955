package asm

import "fmt"

// NEON is what every arm64 processor has.
var NEON = Level{Name: "NEON", Bytes: 16, Registers: 32, Xor: "VEOR", arm64: true}

// The general registers of arm64 beside those that amd64 has of the same names. R18 is the
// system's, R27 the assembler's own, R28 the goroutine's, R29 and R30 the frame's.
const (
	R0  GP = "R0"
	R1  GP = "R1"
	R2  GP = "R2"
	R3  GP = "R3"
	R4  GP = "R4"
	R5  GP = "R5"
	R6  GP = "R6"
	R7  GP = "R7"
	R16 GP = "R16"
	R17 GP = "R17"
	R19 GP = "R19"
	R20 GP = "R20"
	R21 GP = "R21"
	R22 GP = "R22"
	R23 GP = "R23"
	R24 GP = "R24"
	R25 GP = "R25"
	R26 GP = "R26"
)

var arm64Registers = []GP{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, R13, R14, R15,
	R16, R17, R19, R20, R21, R22, R23, R24, R25, R26}

// Registers takes the n lowest general registers of arm64 that are free.
func (f *Func) Registers(n int) []GP {
	var taken []GP
	for _, r := range arm64Registers {
		if len(taken) < n && !f.taken[r] {
			taken = append(taken, f.Take(r))
		}
	}
	if len(taken) < n {
		panic(f.signature.name + ": no general register is left")
	}
	return taken
}

// Register takes the lowest general register of arm64 that is free.
func (f *Func) Register() GP { return f.Registers(1)[0] }

// As is a vector of arm64 that holds a number of bytes, half words, words or double words,
// such as "B16" or "H4", or, as "F", the scalar in its lowest bits. A vector is "S4" unless
// it says otherwise.
func (v Vec) As(shape string) Vec {
	v.shape = shape
	return v
}

func (v Vec) arm64() string {
	if v.shape == "F" {
		return fmt.Sprintf("F%d", v.number)
	}
	return fmt.Sprintf("V%d.%s", v.number, v.shape)
}

// Lane is one lane of a vector of arm64.
func (v Vec) Lane(i int) Element { return Element{v, i} }

// Element is a lane of a vector.
type Element struct {
	vector Vec
	lane   int
}

func (e Element) String() string {
	return fmt.Sprintf("V%d.%c[%d]", e.vector.number, e.vector.shape[0], e.lane)
}

// Load loads a vector of arm64.
func (f *Func) Load(from Mem, to Vec) { f.Op("FMOVQ", from, to.As("F")) }

// Store stores it.
func (f *Func) Store(v Vec, to Mem) { f.Op("FMOVQ", v.As("F"), to) }

// LoadMany loads vectors that lie one after the other, two at a time.
func (f *Func) LoadMany(from Mem, to ...Vec) {
	for i := 0; i < len(to); i += 2 {
		if i+1 == len(to) {
			f.Load(from.Plus(16*i), to[i])
			return
		}
		f.Op("FLDPQ", from.Plus(16*i), pair(to[i], to[i+1]))
	}
}

// StoreMany stores them.
func (f *Func) StoreMany(to Mem, vectors ...Vec) {
	for i := 0; i < len(vectors); i += 2 {
		if i+1 == len(vectors) {
			f.Store(vectors[i], to.Plus(16*i))
			return
		}
		f.Op("FSTPQ", pair(vectors[i], vectors[i+1]), to.Plus(16*i))
	}
}

func pair(a, b Vec) string { return fmt.Sprintf("(%v, %v)", a.As("F"), b.As("F")) }

// LoadTable sets a register to the address of [File.Table].
func (f *Func) LoadTable(name string, to GP) { f.Op("MOVD", "$"+Table(name).String(), to) }

// Scaled is the memory by·2^shift bytes after the register, as arm64 spells it.
func (r GP) Scaled(by GP, shift int) string { return fmt.Sprintf("(%s)(%s<<%d)", r, by, shift) }

// Shifted is r·2^shift, as an operand of arithmetic.
func (r GP) Shifted(shift int) string { return fmt.Sprintf("%s<<%d", r, shift) }

// Prefetch asks for the line of memory at a place.
func (f *Func) Prefetch(at Mem) { f.Op("PRFM", at, "PLDL1KEEP") }
