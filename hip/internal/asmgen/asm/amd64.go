package asm

import (
	"fmt"
	"math"
)

// Level is a set of vector instructions and how they are spelled.
type Level struct {
	Name      string // how functions of the level end
	Bytes     int    // of a vector
	Registers int    // that there are of vectors
	Xor       string // sets a vector to zero
	arm64     bool
}

var (
	NoVectors = Level{}
	AVX2      = Level{Name: "AVX2", Bytes: 32, Registers: 16, Xor: "VPXOR"}
	AVX512    = Level{Name: "AVX512", Bytes: 64, Registers: 32, Xor: "VPXORD"}
	VBMI      = Level{Name: "VBMI", Bytes: 64, Registers: 32, Xor: "VPXORD"}  // and permutations of bytes
	VNNI      = Level{Name: "VNNI", Bytes: 64, Registers: 32, Xor: "VPXORD"}  // and products of bytes, as every processor of the level VBMI has
	BF16      = Level{Name: "Pairs", Bytes: 64, Registers: 32, Xor: "VPXORD"} // and dot products of pairs of bfloat16
	AMX       = Level{Name: "Tiles", Bytes: 64, Registers: 32, Xor: "VPXORD"} // and tiles of bfloat16
)

// Lanes is the float32 values of a vector.
func (l Level) Lanes() int { return l.Bytes / 4 }

// GP is a general register.
type GP string

const (
	AX  GP = "AX"
	BX  GP = "BX"
	CX  GP = "CX"
	DX  GP = "DX"
	SI  GP = "SI"
	DI  GP = "DI"
	R8  GP = "R8"
	R9  GP = "R9"
	R10 GP = "R10"
	R11 GP = "R11"
	R12 GP = "R12"
	R13 GP = "R13"
	R14 GP = "R14"
	R15 GP = "R15"
)

// At is the memory that the register points to, offset bytes on.
func (r GP) At(offset int) Mem { return Mem{base: string(r), offset: offset} }

// Vec is a vector register, as wide as its function's level has them.
type Vec struct {
	number, bytes int
	shape         string // arm64: what it holds, see [Vec.As]
}

func (v Vec) String() string {
	if v.shape != "" {
		return v.arm64()
	}
	return fmt.Sprintf("%c%d", " XY Z"[v.bytes/16], v.number)
}

// X, Y and Z are the register's 16, 32 and 64 bytes.
func (v Vec) X() Vec { return Vec{number: v.number, bytes: 16} }
func (v Vec) Y() Vec { return Vec{number: v.number, bytes: 32} }
func (v Vec) Z() Vec { return Vec{number: v.number, bytes: 64} }

// Half is the register's lower half.
func (v Vec) Half() Vec { return Vec{number: v.number, bytes: v.bytes / 2} }

// Mask is a register of AVX-512's masks.
type Mask string

const (
	K1 Mask = "K1"
	K2 Mask = "K2"
	K3 Mask = "K3"
	K4 Mask = "K4"
)

// Mem is an operand in memory.
type Mem struct {
	symbol string
	offset int
	base   string
	index  GP
	scale  int
}

// Table is the memory of [File.Table].
func Table(name string) Mem { return Mem{symbol: "·" + name, base: "SB"} }

// Plus is the memory offset bytes on.
func (m Mem) Plus(offset int) Mem {
	m.offset += offset
	return m
}

// Index is the memory index·scale bytes on.
func (m Mem) Index(index GP, scale int) Mem {
	m.index, m.scale = index, scale
	return m
}

func (m Mem) String() string {
	s := m.symbol
	switch {
	case m.symbol != "" && m.offset != 0 || m.base == "FP":
		s += fmt.Sprintf("%+d", m.offset)
	case m.offset != 0:
		s = fmt.Sprint(m.offset)
	}
	s += "(" + m.base + ")"
	if m.scale > 0 {
		s += fmt.Sprintf("(%s*%d)", m.index, m.scale)
	}
	return s
}

// Take claims a general register, which the generator then calls by a name of its
// own. Taking one that is taken panics.
func (f *Func) Take(r GP) GP {
	f.claim(r)
	return r
}

// Vectors takes the n lowest vector registers that are free.
func (f *Func) Vectors(n int) []Vec {
	var taken []Vec
	for i := 0; i < f.Level.Registers && len(taken) < n; i++ {
		if v := f.Level.vector(i); !f.taken[v] {
			f.claim(v)
			taken = append(taken, v)
		}
	}
	if len(taken) < n {
		panic(f.signature.name + ": no vector register is left")
	}
	return taken
}

func (l Level) vector(i int) Vec {
	v := Vec{number: i, bytes: l.Bytes}
	if l.arm64 {
		v.shape = "S4"
	}
	return v
}

// Vector takes the lowest vector register that is free.
func (f *Func) Vector() Vec { return f.Vectors(1)[0] }

// Top takes the highest vector registers that are free, the highest first: for what
// stays the same throughout a function.
func (f *Func) Top(n int) []Vec {
	var taken []Vec
	for i := f.Level.Registers - 1; i >= 0 && len(taken) < n; i-- {
		if v := f.Level.vector(i); !f.taken[v] {
			f.claim(v)
			taken = append(taken, v)
		}
	}
	if len(taken) < n {
		panic(f.signature.name + ": no vector register is left")
	}
	return taken
}

func (f *Func) claim(register any) {
	if f.taken[register] {
		panic(fmt.Sprintf("%s: register %v is taken", f.signature.name, register))
	}
	f.taken[register] = true
}

// Clear sets vectors to zero.
func (f *Func) Clear(vectors ...Vec) {
	for _, v := range vectors {
		if f.Level.arm64 {
			v = v.As("B16")
		}
		f.Op(f.Level.Xor, v, v, v)
	}
}

// Broadcast sets all double words of a vector, by way of a general register.
func (f *Func) Broadcast(bits uint32, by GP, to Vec) {
	if f.Level.arm64 {
		f.Op("MOVD", bits, by)
		f.Op("VDUP", by, to)
		return
	}
	f.Op("MOVL", bits, by)
	f.Op("VMOVD", by, to.X())
	f.Op("VPBROADCASTD", to.X(), to)
}

// BroadcastFloat sets all lanes of a vector, by way of a general register.
func (f *Func) BroadcastFloat(value float32, by GP, to Vec) {
	if f.Level.arm64 {
		f.Broadcast(math.Float32bits(value), by, to)
		return
	}
	f.Op("MOVL", math.Float32bits(value), by)
	if f.Level.Bytes == 64 {
		f.Op("VPBROADCASTD", by, to)
		return
	}
	f.Op("VMOVD", by, to.X())
	f.Op("VBROADCASTSS", to.X(), to)
}

// Third sets third to base + 3·stride, see Rows.
func (f *Func) Third(base, stride, third GP) {
	f.Op("LEAQ", base.At(0).Index(stride, 2), third)
	f.Op("ADDQ", stride, third)
}

// Rows are the operands of four rows that lie a stride apart, the last one at third.
func Rows(base, stride, third GP) []Mem {
	return []Mem{base.At(0), base.At(0).Index(stride, 1), base.At(0).Index(stride, 2), third.At(0)}
}
