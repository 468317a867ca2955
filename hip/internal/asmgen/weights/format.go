package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// decoder is how a chunk of a stored row becomes float32 vectors on a level. To add a
// format, write one for each level: dots and decode are made of it.
type decoder struct {
	format      string
	stored      int  // bytes of a value
	packed      bool // two values a byte
	scale       int  // bytes of the scales of 32 columns; 0: none
	temporaries int  // vectors that the caller lends it
	short8      bool // values are 2^8 too small
	findsNaN    bool // which it does not decode

	order string // says which column c is, where columns are not in their order
	// begin takes vectors for constants, sets them, and returns what uses them.
	begin func(f *asm.Func, r lent) decoding
}

// bytes is the size of a chunk.
func (d *decoder) bytes() int {
	if d.packed {
		return chunk / 2
	}
	return d.stored * chunk
}

// lent is the registers of a function that are a decoder's.
type lent struct {
	temporaries []asm.Vec
	scales      asm.GP // a table of the values of scales
	code        asm.GP // a scale's code
}

// decoding is the parts of a function that decode.
type decoding struct {
	// chunk calls use with vector after vector of the chunk, in the order of the
	// columns, times their scale. at and scale are bytes of the row and its scales.
	chunk func(at, scale func(offset int) asm.Mem, use func(i int, v asm.Vec))
	// pair decodes the vectors 2i and 2i+1 alone; nil: the decoder cannot.
	pair func(at func(offset int) asm.Mem, i int, to []asm.Vec)
	// numbers jumps to a label if no NaN was found.
	numbers func(label string)
}

// decoders returns those of a level, which may hold none that is better than the
// level's below.
func decoders(level asm.Level) []decoder {
	if level == asm.VBMI {
		return append([]decoder{e4m3ByLookup()}, fourBitDecoders(level)...)
	}
	return append([]decoder{plainF32(level), plainF16(level), plainBF16(level), e4m3ByHalves(level), int8Scaled(level)}, fourBitDecoders(level)...)
}

func plainF32(level asm.Level) decoder {
	return plain("F32", level, 4, func(f *asm.Func, at asm.Mem, v asm.Vec) { f.Op("VMOVUPS", at, v) })
}

func plainF16(level asm.Level) decoder {
	return plain("F16", level, 2, func(f *asm.Func, at asm.Mem, v asm.Vec) { f.Op("VCVTPH2PS", at, v) })
}

// plainBF16 moves bfloat16 to the upper half of float32. Wide vectors hold the even columns
// of 32, then the odd ones, which costs a shift and a mask: widened in their order they
// cost two permutations more. Then x has to be in the order of evenOdd.
func plainBF16(level asm.Level) decoder {
	if level.Bytes == 64 {
		return decoder{format: "BF16", stored: 2, temporaries: 4, order: ", in the order of evenOddAVX512,", begin: func(f *asm.Func, r lent) decoding {
			uppers := f.Top(1)[0]
			f.Broadcast(0xffff0000, r.code, uppers)
			pair := func(at func(int) asm.Mem, i int, to []asm.Vec) {
				f.Op("VMOVDQU64", at(64*i), to[1])
				f.Op("VPSLLD", 16, to[1], to[0])
				f.Op("VPANDD", to[1], uppers, to[1])
			}
			return decoding{pair: pair, chunk: func(at, _ func(int) asm.Mem, use func(int, asm.Vec)) {
				for i := range chunk / level.Lanes() / 2 {
					pair(at, i, r.temporaries)
					use(2*i, r.temporaries[0])
					use(2*i+1, r.temporaries[1])
				}
			}}
		}}
	}
	return plain("BF16", level, 2, func(f *asm.Func, at asm.Mem, v asm.Vec) {
		f.Op("VPMOVZXWD", at, v)
		f.Op("VPSLLD", 16, v, v)
	})
}

// plain is a format without scales, of which load makes float32.
func plain(format string, level asm.Level, stored int, load func(f *asm.Func, at asm.Mem, v asm.Vec)) decoder {
	return decoder{format: format, stored: stored, temporaries: 4, begin: func(f *asm.Func, r lent) decoding {
		return decoding{chunk: func(at, _ func(int) asm.Mem, use func(int, asm.Vec)) {
			for i := range chunk / level.Lanes() {
				v := r.temporaries[i%2]
				load(f, at(i*level.Lanes()*stored), v)
				use(i, v)
			}
		}}
	}}
}

// int8Scaled decodes 8-bit integers with a bfloat16 scale of 32 columns.
func int8Scaled(level asm.Level) decoder {
	return decoder{format: "INT8", stored: 1, scale: 2, temporaries: 4, begin: func(f *asm.Func, r lent) decoding {
		factor := r.temporaries[2]
		return decoding{chunk: func(at, scale func(int) asm.Mem, use func(int, asm.Vec)) {
			for i := range chunk / level.Lanes() {
				offset, v := i*level.Lanes(), r.temporaries[i%2]
				if offset%32 == 0 {
					bf16Scale(f, scale(2*offset/32), r.code, factor)
				}
				widenInt8(f, at(offset), v)
				f.Op("VMULPS", factor, v, v)
				use(i, v)
			}
		}}
	}}
}

func widenInt8(f *asm.Func, at asm.Mem, v asm.Vec) {
	f.Op("VPMOVSXBD", at, v)
	f.Op("VCVTDQ2PS", v, v)
}

// bf16Scale sets all lanes of a vector to a bfloat16, which is the upper half of a
// float32.
func bf16Scale(f *asm.Func, at asm.Mem, by asm.GP, to asm.Vec) {
	f.Op("MOVWLZX", at, by)
	f.Op("SHLL", 16, by)
	f.Op("VMOVD", by, to.X())
	f.Op("VBROADCASTSS", to.X(), to)
}
