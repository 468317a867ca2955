package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// fp4Format is a format of four-bit codes: the table of its scales' values, and the columns
// that share one.
type fp4Format struct {
	name, scales string
	columns      int
}

var fp4Formats = []fp4Format{{"MXFP4", "e8m0", 32}, {"NVFP4", "e4m3Floats", 16}}

// nibbles makes float32 of e2m1, with a look-up in a register. Every lane gets the bytes that
// hold its code, and moves the code to the lowest bits, which are the index:
//
//	AVX2       8 lanes share 4 bytes; the look-up takes 3 bits, and the sign is moved apart
//	AVX-512    8 lanes share 4 bytes, other 8 lanes 4 others
//	VBMI       16 lanes share 8 bytes, of which any bits can be moved
type nibbles struct {
	moves, values asm.Vec
	signs, sign   asm.Vec // AVX2: a mask, and a temporary
}

const upperLanes = asm.K1

func newNibbles(f *asm.Func, by asm.GP) nibbles {
	n := nibbles{moves: f.Vector(), values: f.Vector()}
	f.Op("VMOVUPS", asm.Table("e2m1Floats"), n.values)
	switch f.Level {
	case asm.AVX2:
		n.signs, n.sign = f.Vector(), f.Vector()
		f.Broadcast(0x80000000, by, n.signs)
		f.Op("VMOVDQU", asm.Table("nibbleShifts"), n.moves)
	case asm.AVX512:
		f.Op("VMOVDQU64", asm.Table("nibbleShifts"), n.moves)
		f.Op("MOVL", 0xff00, by)
		f.Op("KMOVW", by, upperLanes)
	default:
		f.Op("VMOVDQU64", asm.Table("nibbleMoves"), n.moves)
	}
	return n
}

// decode makes a vector of the codes at a place.
func (n nibbles) decode(f *asm.Func, at asm.Mem, v asm.Vec) {
	switch f.Level {
	case asm.AVX2:
		f.Op("VPBROADCASTD", at, v)
		f.Op("VPSRLVD", n.moves, v, v)
		f.Op("VPSLLD", 28, v, n.sign)
		f.Op("VPAND", n.signs, n.sign, n.sign)
		f.Op("VPERMPS", n.values, v, v)
		f.Op("VPOR", n.sign, v, v)
		return
	case asm.AVX512:
		f.Op("VPBROADCASTD", at, v)
		f.Op("VPBROADCASTD", at.Plus(4), upperLanes, v)
		f.Op("VPSRLVD", n.moves, v, v)
	default:
		f.Op("VPBROADCASTQ", at, v)
		f.Op("VPMULTISHIFTQB", v, n.moves, v)
	}
	f.Op("VPERMPS", n.values, v, v)
}

// fourBits decodes a format of four-bit codes. NaN is in scales alone, whose table has it.
func fourBits(level asm.Level, format fp4Format) decoder {
	return decoder{format: format.name, packed: true, scale: 32 / format.columns, temporaries: 4, begin: func(f *asm.Func, r lent) decoding {
		f.Op("LEAQ", asm.Table(format.scales), r.scales)
		n := newNibbles(f, r.code)
		factor := r.temporaries[3]
		return decoding{chunk: func(at, scale func(int) asm.Mem, use func(int, asm.Vec)) {
			for i := range chunk / level.Lanes() {
				column, v := i*level.Lanes(), r.temporaries[i%3]
				if column%format.columns == 0 {
					f.Op("MOVBLZX", scale(column/format.columns), r.code)
					f.Op("VBROADCASTSS", r.scales.At(0).Index(r.code, 4), factor)
				}
				n.decode(f, at(column/2), v)
				f.Op("VMULPS", factor, v, v)
				use(i, v)
			}
		}}
	}}
}

func fourBitDecoders(level asm.Level) (decoders []decoder) {
	for _, format := range fp4Formats {
		decoders = append(decoders, fourBits(level, format))
	}
	return decoders
}

// dotFourBits multiplies the columns of a scale before it applies the scale.
func dotFourBits(file *asm.File, level asm.Level, format fp4Format) {
	dot(file, level, format.name, fmt.Sprintf(docScaled, format.name, format.columns), func(f *dotFunc) dotBody {
		f.Op("LEAQ", asm.Table(format.scales), f.scales)
		n := newNibbles(f.Func, f.code)
		spare := f.temporaries[0]
		return dotBody{chunk: func() {
			f.prefetch(chunk / 2)
			each := format.columns / level.Lanes()
			for b := range chunk / format.columns {
				block := f.temporaries[1+b%2]
				f.Op("MOVBLZX", f.scale.At(b), f.code)
				for i := range each {
					column, v := b*format.columns+i*level.Lanes(), block
					if i > 0 {
						v = f.temporaries[3]
					}
					n.decode(f.Func, f.at(column/2), v)
					if i == 0 {
						f.Op("VMULPS", f.x.At(4*column), v, block)
					} else {
						f.Op("VFMADD231PS", f.x.At(4*column), v, block)
					}
				}
				f.addScaled(block, spare, f.sums[b%4])
			}
			f.Op("ADDQ", chunk/2, f.w)
			f.Op("ADDQ", chunk/format.columns, f.scale)
		}}
	})
}
