package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// neonDecoder is the decoder of a format for arm64. Beside those for amd64 it leaves scales
// to the function that it is part of: NEON multiplies by a lane of a vector without
// another instruction.
type neonDecoder struct {
	format   string
	stored   int  // bytes of a value
	packed   bool // two values a byte
	scale    int  // bytes of a scale; 0: none
	columns  int  // that share one
	short8   bool // values are 2^8 too small
	findsNaN bool // which it does not decode

	// begin takes vectors for constants, sets them, and returns what uses them.
	begin func(f *asm.Func, r neonLent) neonDecoding
}

// bytes is the size of some columns.
func (d *neonDecoder) bytes(columns int) int {
	if d.packed {
		return columns / 2
	}
	return d.stored * columns
}

// scaleBytes is the size of the scales of some columns.
func (d *neonDecoder) scaleBytes(columns int) int {
	if d.scale == 0 {
		return 0
	}
	return columns / d.columns * d.scale
}

// neonLent is the registers of a function that are a neonDecoder's.
type neonLent struct {
	scales asm.GP // a table of the values of scales
	code   asm.GP // a scale's code
}

// lookUp sets the lowest lane of a vector to the value of a scale of one byte.
func (r neonLent) lookUp(f *asm.Func, at asm.Mem, to asm.Vec) {
	f.Op("MOVBU", at, r.code)
	f.Op("FMOVS", r.scales.Scaled(r.code, 2), to.As("F"))
}

// neonDecoding is the parts of a function that decode.
type neonDecoding struct {
	// floats sets vectors to the columns from a place on, four in each, two or four
	// vectors.
	floats func(at asm.Mem, to []asm.Vec)
	// factor sets the lowest lane of a vector to a scale; nil where there is none.
	factor func(at asm.Mem, to asm.Vec)
	// forget begins with no NaN noted, as begin does; nil if none need be found.
	forget func()
	// note looks at 64 columns for NaN, with two vectors to spare.
	note func(at asm.Mem, spare []asm.Vec)
	// numbers jumps to a label if no NaN was noted.
	numbers func(label string)
}

// neonDecoders are those of the formats that have functions.
func neonDecoders() []neonDecoder {
	decoders := []neonDecoder{neonF32(), neonF16(), neonBF16(), neonMXFP8(), neonINT8()}
	for _, format := range fp4Formats {
		decoders = append(decoders, neonFourBits(format))
	}
	return decoders
}

func neonF32() neonDecoder {
	return neonDecoder{format: "F32", stored: 4, begin: func(f *asm.Func, _ neonLent) neonDecoding {
		return neonDecoding{floats: func(at asm.Mem, to []asm.Vec) { f.LoadMany(at, to...) }}
	}}
}

func neonF16() neonDecoder {
	return neonDecoder{format: "F16", stored: 2, begin: func(f *asm.Func, _ neonLent) neonDecoding {
		return neonDecoding{floats: func(at asm.Mem, to []asm.Vec) {
			f.LoadMany(at, odd(to)...)
			widenHalves(f, to)
		}}
	}}
}

// odd are every second vector of some. A vector of 8 or 16 bits is loaded to where its
// upper half goes, which is made last.
func odd(v []asm.Vec) []asm.Vec {
	var odd []asm.Vec
	for i := 1; i < len(v); i += 2 {
		odd = append(odd, v[i])
	}
	return odd
}

// widenHalves makes float32 of the half precision in every second vector.
func widenHalves(f *asm.Func, v []asm.Vec) {
	for i := 0; i < len(v); i += 2 {
		f.Word("FCVTL", v[i+1], v[i])
		f.Word("FCVTL2", v[i+1], v[i+1])
	}
}

// neonBF16 puts zeros below each value, which is the upper half of a float32. ZIP1 and ZIP2
// do so on more of a core's units than shifts that widen.
func neonBF16() neonDecoder {
	return neonDecoder{format: "BF16", stored: 2, begin: func(f *asm.Func, _ neonLent) neonDecoding {
		zero := f.Vector()
		f.Clear(zero)
		return neonDecoding{floats: func(at asm.Mem, to []asm.Vec) {
			f.LoadMany(at, odd(to)...)
			for i := 0; i < len(to); i += 2 {
				f.Op("VZIP1", to[i+1].As("H8"), zero.As("H8"), to[i].As("H8"))
				f.Op("VZIP2", to[i+1].As("H8"), zero.As("H8"), to[i+1].As("H8"))
			}
		}}
	}}
}

// neonMXFP8 widens e4m3 by way of half precision, as [halves] do. One instruction widens
// a code with its sign and moves it, so shifts are shorter than look-ups: these
// need a table of eight registers for each byte of a bfloat16.
func neonMXFP8() neonDecoder {
	return neonDecoder{format: "MXFP8", stored: 1, scale: 1, columns: 32, short8: true, findsNaN: true, begin: func(f *asm.Func, r neonLent) neonDecoding {
		f.LoadTable("e8m0", r.scales)
		h := newNEONHalves(f)
		return neonDecoding{
			floats: func(at asm.Mem, to []asm.Vec) {
				loadBytes(f, at, to)
				h.widen(f, to)
			},
			factor:  func(at asm.Mem, to asm.Vec) { r.lookUp(f, at, to) },
			forget:  func() { f.Clear(h.largest) },
			note:    func(at asm.Mem, spare []asm.Vec) { h.noteChunk(f, at, spare) },
			numbers: func(label string) { h.numbers(f, r.code, label) },
		}
	}}
}

// loadBytes loads a byte for each lane of two or four vectors into the last one.
func loadBytes(f *asm.Func, at asm.Mem, to []asm.Vec) {
	last := to[len(to)-1]
	if len(to) == 2 {
		f.Op("FMOVD", at, last.As("F"))
		return
	}
	f.Load(at, last)
}

// neonHalves is [halves] for arm64.
type neonHalves struct{ largest asm.Vec }

func newNEONHalves(f *asm.Func) neonHalves {
	h := neonHalves{f.Vector()}
	f.Clear(h.largest)
	return h
}

// widen makes float32 of the codes in the last of two or four vectors.
func (h neonHalves) widen(f *asm.Func, to []asm.Vec) {
	const secondBit = 0x4000
	last := to[len(to)-1]
	// The halves of two vectors each, in the one whose turn is last.
	if len(to) == 4 {
		f.Word("SSHLL", 7, last, to[1])
		f.Word("SSHLL2", 7, last, to[3])
	} else {
		f.Word("SSHLL", 7, last, to[1])
	}
	for _, v := range odd(to) {
		f.Word("BIC.I", secondBit, v)
	}
	widenHalves(f, to)
}

// note looks at 16 codes: doubled, without their sign, and the largest of those that NaN has.
func (h neonHalves) note(f *asm.Func, codes, spare asm.Vec) {
	f.Op("VADD", codes.As("B16"), codes.As("B16"), spare.As("B16"))
	f.Op("VUMAX", spare.As("B16"), h.largest.As("B16"), h.largest.As("B16"))
}

// noteChunk looks at 64 codes, with two vectors to spare.
func (h neonHalves) noteChunk(f *asm.Func, at asm.Mem, spare []asm.Vec) {
	for i := 0; i < chunk; i += 32 {
		f.LoadMany(at.Plus(i), spare...)
		for _, s := range spare {
			h.note(f, s, s)
		}
	}
}

func (h neonHalves) numbers(f *asm.Func, by asm.GP, label string) {
	const doubledNaN = 0xfe
	f.Word("UMAXV", h.largest, h.largest)
	f.Op("VMOV", h.largest.As("B").Lane(0), by)
	f.Op("CMP", doubledNaN, by)
	f.Op("BNE", label)
}

// neonINT8 decodes 8-bit integers with a bfloat16 scale of 32 columns.
func neonINT8() neonDecoder {
	return neonDecoder{format: "INT8", stored: 1, scale: 2, columns: 32, begin: func(f *asm.Func, r neonLent) neonDecoding {
		return neonDecoding{
			floats: func(at asm.Mem, to []asm.Vec) {
				loadBytes(f, at, to)
				widenIntegers(f, to)
			},
			factor: func(at asm.Mem, to asm.Vec) {
				f.Op("MOVHU", at, r.code)
				f.Op("LSL", 16, r.code)
				f.Op("FMOVS", r.code, to.As("F"))
			},
		}
	}}
}

// widenIntegers makes float32 of the bytes in the last of two or four vectors.
func widenIntegers(f *asm.Func, to []asm.Vec) {
	last := to[len(to)-1]
	if len(to) == 4 {
		f.Word("SSHLL", 0, last, to[1])
		f.Word("SSHLL2", 0, last, to[3])
	} else {
		f.Word("SSHLL", 0, last, to[1])
	}
	for i := 0; i < len(to); i += 2 {
		f.Word("SXTL.S", to[i+1], to[i])
		f.Word("SXTL2.S", to[i+1], to[i+1])
	}
	for _, v := range to {
		f.Word("SCVTF", v, v)
	}
}
