package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// dotFunc is a function of dotFile, while it is written.
type dotFunc struct {
	*asm.Func
	temporaries, sums []asm.Vec // four each

	w, scale, x  asm.GP // of the chunk
	scales, code asm.GP // a table of the values of scales, and a scale's code
}

// at is the memory offset bytes into the chunk's weights.
func (f *dotFunc) at(offset int) asm.Mem { return f.w.At(offset) }

// dotBody is what is particular to the dot product of a format.
type dotBody struct {
	setup  func() // before the first row
	row    func() // before each row
	chunk  func() // multiplies a chunk and moves w and scale on
	finish func() // with the row's sum in the first temporary
}

// dotFile holds the products of rows of stored weights with one vector:
//
//	y[j] = Σ w[j][c] · x[c]
func dotFile() *asm.File {
	f := file("dot", "Products of stored rows, one after the other, with one row of x.",
		asm.Constant{Name: "chunkColumns", Value: chunk})
	for _, level := range []asm.Level{asm.AVX2, asm.AVX512} {
		dotPlain(f, level, plainF32(level))
		dotPlain(f, level, plainF16(level))
		dotPlain(f, level, plainBF16(level))
		dotE4M3ByHalves(f, level)
		dotINT8(f, level)
	}
	prefetch(f)
	dotE4M3ByLookup(f)
	for _, level := range levels {
		for _, format := range fp4Formats {
			dotFourBits(f, level, format)
		}
	}
	return f
}

// dot writes a function.
func dot(file *asm.File, level asm.Level, format, doc string, begin func(f *dotFunc) dotBody) {
	f := &dotFunc{Func: file.Func(level, fmt.Sprintf("dot%s%s(a *dotArgs)", format, level.Name), doc)}
	args := f.Take(asm.DI)
	rowW, rowScale := f.Take(asm.AX), f.Take(asm.BX)
	y, rows, chunks := f.Take(asm.DX), f.Take(asm.R8), f.Take(asm.R10)
	f.w, f.scale, f.x = f.Take(asm.R11), f.Take(asm.R12), f.Take(asm.SI)
	f.scales, f.code = f.Take(asm.R9), f.Take(asm.CX)
	f.temporaries, f.sums = f.Vectors(4), f.Vectors(4)

	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "w"), rowW)
	f.Op("MOVQ", f.Field(args, "scale"), rowScale)
	f.Op("MOVQ", f.Field(args, "y"), y)
	f.Op("MOVQ", f.Field(args, "rows"), rows)
	body := begin(f)
	call(body.setup)
	f.Loop("row", rows, func() {
		f.Clear(f.sums...)
		call(body.row)
		f.Op("MOVQ", rowW, f.w)
		f.Op("MOVQ", rowScale, f.scale)
		f.Op("MOVQ", f.Field(args, "x"), f.x)
		f.Op("MOVQ", f.Field(args, "chunks"), chunks)
		f.Loop("chunk", chunks, func() {
			body.chunk()
			f.Op("ADDQ", 4*chunk, f.x)
		})
		s := f.sums
		f.Op("VADDPS", s[1], s[0], s[0])
		f.Op("VADDPS", s[3], s[2], s[2])
		f.Op("VADDPS", s[2], s[0], s[0])
		sumLanes(f.Func, s[0], f.temporaries[0], f.temporaries[1])
		call(body.finish)
		f.Op("VMOVSS", f.temporaries[0].X(), y.At(0))
		f.Op("ADDQ", 4, y)
		f.Op("ADDQ", f.Field(args, "rowStride"), rowW)
		f.Op("ADDQ", f.Field(args, "scaleStride"), rowScale)
	})
	f.Return()
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// sumLanes adds up the lanes of a vector into the first lane of sum, halving it each
// time. temporary is overwritten too.
func sumLanes(f *asm.Func, of, sum, temporary asm.Vec) {
	if f.Level.Bytes == 64 {
		f.Op("VEXTRACTF64X4", 1, of.Z(), temporary.Y())
		f.Op("VADDPS", temporary.Y(), of.Y(), sum.Y())
		of = sum
	}
	f.Op("VEXTRACTF128", 1, of.Y(), temporary.X())
	f.Op("VADDPS", temporary.X(), of.X(), sum.X())
	f.Op("VPSHUFD", uint32(0x4e), sum.X(), temporary.X())
	f.Op("VADDPS", temporary.X(), sum.X(), sum.X())
	f.Op("VPSHUFD", uint32(0xb1), sum.X(), temporary.X())
	f.Op("VADDPS", temporary.X(), sum.X(), sum.X())
}

// prefetch asks for bytes that the row reaches later.
func (f *dotFunc) prefetch(bytes int) {
	for offset := 0; offset < bytes; offset += 64 {
		f.Op("PREFETCHT0", f.at(prefetchRow+offset))
		f.Op("PREFETCHT1", f.at(prefetchRowFar+offset))
	}
}

func dotPlain(file *asm.File, level asm.Level, d decoder) {
	doc := fmt.Sprintf("computes y[j] = Σ w[j][c]·x[c] for rows stored as %s: products and sums in float32, "+
		"column c%s in lane c mod %d of sum c/%d mod 4.", d.format, d.order, level.Lanes(), level.Lanes())
	dot(file, level, d.format, doc, func(f *dotFunc) dotBody {
		decoding := d.begin(f.Func, lent{f.temporaries, f.scales, f.code})
		return dotBody{chunk: func() {
			for offset := 0; offset < chunk*d.stored; offset += 64 { // few rows: others are read side by side
				f.Op("PREFETCHT0", f.at(prefetchRowAlone+offset))
			}
			decoding.chunk(f.at, nil, func(i int, v asm.Vec) {
				f.Op("VFMADD231PS", f.x.At(i*level.Bytes), v, f.sums[i%4])
			})
			f.Op("ADDQ", chunk*d.stored, f.w)
		}}
	})
}

const docScaled = "computes y[j] = Σ w[j][c]·x[c] for rows stored as %s: products and their sums over %d columns " +
	"in float32, by lanes, times the scale, added up in float32."

// dotE4M3ByHalves is for processors without byte permutations: e4m3 is widened by way
// of half precision, and only the codes of NaN need care.
func dotE4M3ByHalves(file *asm.File, level asm.Level) {
	dot(file, level, "MXFP8", fmt.Sprintf(docScaled, "MXFP8", 32), func(f *dotFunc) dotBody {
		h := halves{largest: f.Vector(), exponent: f.Vector(), sign: f.Vector()}
		block, spare, pair := f.temporaries[0], f.temporaries[1], f.temporaries[2:4]
		return dotBody{
			setup: func() {
				f.Op("LEAQ", asm.Table("e8m0"), f.scales)
				h.setConstants(f.Func, f.code)
			},
			row: func() { f.Clear(h.largest) },
			chunk: func() {
				f.prefetch(chunk)
				h.note(f.Func, f.at, block)
				for b := range chunk / 32 {
					f.Op("MOVBLZX", f.scale.At(b), f.code)
					for i := range 32 / level.Lanes() {
						offset := 32*b + i*level.Lanes()
						if i%2 == 0 {
							h.widen(f.Func, f.at(offset), pair[0], pair[1])
						}
						multiply(f, offset, i == 0, pair[i%2], block)
					}
					f.addScaled(block, spare, f.sums[b])
				}
				f.Op("ADDQ", chunk, f.w)
				f.Op("ADDQ", chunk/32, f.scale)
			},
			finish: func() {
				sum, numbers := f.temporaries[0].X(), f.Label("numbers")
				f.Op("VMULSS", asm.Table("two8"), sum, sum)
				h.numbers(f.Func, spare, numbers)
				f.Op("VMOVSS", asm.Table("quietNaN"), sum)
				f.Mark(numbers)
			},
		}
	})
}

// multiply adds weights, times x at a column of the chunk, to a sum, or starts it.
func multiply(f *dotFunc, column int, first bool, weights, sum asm.Vec) {
	if first {
		f.Op("VMULPS", f.x.At(4*column), weights, sum)
		return
	}
	f.Op("VFMADD231PS", f.x.At(4*column), weights, sum)
}

// addScaled adds a vector, times the scale whose code is in code, to a sum.
func (f *dotFunc) addScaled(v, spare, sum asm.Vec) {
	scale := f.scales.At(0).Index(f.code, 4)
	if f.Level.Bytes == 64 {
		f.Op("VFMADD231PS.BCST", scale, v, sum)
		return
	}
	f.Op("VBROADCASTSS", scale, spare)
	f.Op("VFMADD231PS", spare, v, sum)
}

func dotINT8(file *asm.File, level asm.Level) {
	dot(file, level, "INT8", fmt.Sprintf(docScaled, "INT8", 32), func(f *dotFunc) dotBody {
		block, factor, pair := f.temporaries[0], f.temporaries[1], f.temporaries[2:4]
		return dotBody{chunk: func() {
			f.prefetch(chunk)
			for b := range chunk / 32 {
				for i := range 32 / level.Lanes() {
					offset := 32*b + i*level.Lanes()
					widenInt8(f.Func, f.at(offset), pair[i%2])
					multiply(f, offset, i == 0, pair[i%2], block)
				}
				bf16Scale(f.Func, f.scale.At(2*b), f.code, factor)
				f.Op("VFMADD231PS", factor, block, f.sums[2*b])
			}
			f.Op("ADDQ", chunk, f.w)
			f.Op("ADDQ", 2*chunk/32, f.scale)
		}}
	})
}

// dotE4M3ByLookup looks the upper and lower bytes of bfloat16 up.
func dotE4M3ByLookup(file *asm.File) {
	dot(file, asm.VBMI, "MXFP8", "is dotMXFP8AVX512 for processors with byte permutations.", func(f *dotFunc) dotBody {
		f.Op("LEAQ", asm.Table("e8m0"), f.scales)
		l := newLookup(f.Func, "floatOrder", "e4m3High", f.code)
		t, floats := f.temporaries, f.Vectors(4)
		return dotBody{chunk: func() {
			f.prefetch(chunk)
			l.words(f.Func, f.at(0), t[0], t[1], t[2], t[3])
			l.floats(f.Func, t[2:4], floats)
			for b := range chunk / 32 {
				f.Op("MOVBLZX", f.scale.At(b), f.code)
				block := floats[2*b]
				f.Op("VMULPS", f.x.At(128*b), block, block)
				f.Op("VFMADD231PS", f.x.At(128*b+64), floats[2*b+1], block)
				f.addScaled(block, t[0], f.sums[b])
			}
			f.Op("ADDQ", chunk, f.w)
			f.Op("ADDQ", chunk/32, f.scale)
		}}
	})
}

// prefetch asks for lines of memory, into the second cache: the first may hold rows of x.
func prefetch(file *asm.File) {
	f := file.Func(asm.AVX2, "prefetchAVX2(data *byte, lines int)", "prefetches lines of 64 bytes from data on.")
	data, lines := f.Take(asm.SI), f.Take(asm.CX)
	f.Op("MOVQ", f.Arg("data"), data)
	f.Op("MOVQ", f.Arg("lines"), lines)
	end := f.Label("end")
	f.Op("TESTQ", lines, lines)
	f.Op("JZ", end)
	f.Loop("line", lines, func() {
		f.Op("PREFETCHT1", data.At(0))
		f.Op("ADDQ", 64, data)
	})
	f.Mark(end)
	f.Return()
}
