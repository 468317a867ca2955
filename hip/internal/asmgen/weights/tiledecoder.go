package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// tileDecoder is how stored weights become bfloat16, exactly. To add a format to the
// products in tiles, write one.
type tileDecoder struct {
	format  string
	stored  int // bytes of a value
	scale   int // bytes of a scale of 32 columns; 0: none
	special string
	begin   func(f *asm.Func, r tileLent) tileDecoding
}

// tileLent is the registers of a function that are a tileDecoder's, beside vectors.
type tileLent struct {
	w, scale           asm.GP // of a row
	exponents, outside asm.GP
	code               asm.GP
}

// tileDecoding is the parts of a function that decode.
type tileDecoding struct {
	chunk   func(i int, to [2]asm.Mem) // chunk i of a row, 32 columns to each
	numbers func(label string)
}

func tileDecoders() []tileDecoder { return []tileDecoder{tileBF16(), tileMXFP8()} }

func tileBF16() tileDecoder {
	return tileDecoder{
		format: "BF16", stored: 2, special: "a value is infinite or NaN",
		begin: func(f *asm.Func, r tileLent) tileDecoding {
			values, magnitudes := f.Vectors(2), f.Vectors(2)
			seen, exponent := f.Vector(), f.Vector()
			f.Clear(seen)
			f.Broadcast(0x7f807f80, r.code, exponent)
			return tileDecoding{
				chunk: func(at int, to [2]asm.Mem) {
					for i, v := range values {
						f.Op("VMOVDQU64", r.w.At(128*at+64*i), v)
						f.Op("VPANDD", exponent, v, magnitudes[i])
						f.Op("VPMAXUW", magnitudes[i], seen, seen)
						f.Op("VMOVDQU64", v, to[i])
					}
				},
				numbers: func(label string) {
					f.Op("VPCMPEQW", exponent, seen, asm.K1)
					f.Op("KORTESTD", asm.K1, asm.K1)
					f.Op("JZ", label)
				},
			}
		},
	}
}

// tileMXFP8 adds a scale to the exponents of the values that are not zero.
func tileMXFP8() tileDecoder {
	const leastScale, mostScale = 10, 246
	return tileDecoder{
		format: "MXFP8", stored: 1, scale: 1,
		special: "a value is NaN or a scale is outside 2^−117 … 2^119, where a product with it may not be a normal bfloat16",
		begin: func(f *asm.Func, r tileLent) tileDecoding {
			temporaries, words, factors := f.Vectors(2), f.Vectors(2), f.Vectors(2)
			seen, magnitude := f.Vector(), f.Vector()
			nonzero := []asm.Mask{asm.K1, asm.K2}
			f.Op("LEAQ", asm.Table("e8m0Exponent"), r.exponents)
			f.Op("XORQ", r.outside, r.outside)
			l := newLookup(f, "wordOrder", "e4m3HighMarked", r.code)
			f.Clear(seen)
			f.Broadcast(0x7fff7fff, r.code, magnitude)
			return tileDecoding{
				chunk: func(at int, to [2]asm.Mem) {
					l.words(f, r.w.At(64*at), temporaries[0], temporaries[1], words[0], words[1], seen)
					for block, w := range words {
						f.Op("MOVBLZX", r.scale.At(2*at+block), r.code)
						f.Op("VPTESTMW", magnitude, w, nonzero[block])
						f.Op("VPBROADCASTD", r.exponents.At(0).Index(r.code, 4), factors[block])
						f.Op("VPADDW", factors[block], w, nonzero[block], w)
						f.Op("SUBL", leastScale, r.code)
						f.Op("CMPL", r.code, mostScale-leastScale)
						f.Op("SETHI", r.code)
						f.Op("ORL", r.code, r.outside)
						f.Op("VMOVDQU64", w, to[block])
					}
				},
				numbers: func(label string) {
					f.Op("VPMOVB2M", seen, asm.K1)
					f.Op("KMOVQ", asm.K1, r.code)
					f.Op("ANDQ", 1, r.outside)
					f.Op("ORQ", r.outside, r.code)
					f.Op("JZ", label)
				},
			}
		},
	}
}
