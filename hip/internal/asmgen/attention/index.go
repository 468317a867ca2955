package attention

import (
	"math"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// prefetchBytes is how far ahead of the keys in use memory is asked for.
const prefetchBytes = 4096

// indexFile holds what rates keys for four index heads.
func indexFile() *asm.File {
	f := file("index", "The best scores of keys for four index heads.")
	bestScores512(f, true)
	bestScores512(f, false)
	bestScores256(f, true)
	bestScores256(f, false)
	return f
}

const docBestBF16 = `sets, for four heads h,

	Best[h] = max over j < Keys of Σ BF16[j][d]·query h[d],   NaN if one is

Products are summed in float32 with fused multiply-adds: d in strand (d mod 32 / 2, whatever its parity), the 16 strands pairwise. Dim is a multiple of 32. Queries holds, for each 32 values, the even ones of each head and then the odd ones of each head. Meanwhile it asks for the memory 4096 bytes on, and after the last key for that at Next.`

const docBestF32 = "is bestScoresBF16AVX512 over F32, d in strand d mod 16. Dim is a multiple of 16. " +
	"Queries holds, for each 16 values, those of each head."

// indexRegisters are what all bestScores have in common.
type indexRegisters struct {
	args, by    asm.GP   // both for a moment
	keys        []asm.GP // the first of the keys in use, and the others
	keyBytes    asm.GP   // from key to key
	left        asm.GP   // keys
	last        asm.GP   // key
	ahead, end  asm.GP   // what is asked for, and where it goes on elsewhere
	queries, at asm.GP   // bytes of a key that are done
}

// beginIndex loads what they have in common, for so many keys at a time.
func beginIndex(f *asm.Func, bf16 bool) indexRegisters {
	r := indexRegisters{
		args: f.Take(asm.DX), keys: []asm.GP{f.Take(asm.R8), f.Take(asm.R9), f.Take(asm.R10), f.Take(asm.R11)},
		keyBytes: f.Take(asm.BX), left: f.Take(asm.CX), last: f.Take(asm.AX),
		ahead: f.Take(asm.R12), end: f.Take(asm.R13), queries: f.Take(asm.SI), at: f.Take(asm.DI),
	}
	r.by = r.args
	stored, shift := "F32", 2
	if bf16 {
		stored, shift = "BF16", 1
	}
	f.Op("MOVQ", f.Arg("a"), r.args)
	f.Op("MOVQ", f.Field(r.args, stored), r.keys[0])
	f.Op("MOVQ", f.Field(r.args, "Dim"), r.keyBytes)
	f.Op("MOVQ", f.Field(r.args, "Keys"), r.left)
	f.Op("SHLQ", shift, r.keyBytes)
	f.Op("MOVQ", r.left, r.end)
	f.Op("IMULQ", r.keyBytes, r.end)
	f.Op("ADDQ", r.keys[0], r.end)
	f.Op("MOVQ", r.end, r.last)
	f.Op("SUBQ", r.keyBytes, r.last)
	f.Op("LEAQ", r.keys[0].At(prefetchBytes), r.ahead)
	return r
}

// nextKeys finds the keys after the first. After the last key it takes the last one again,
// which changes no maximum.
func (r *indexRegisters) nextKeys(f *asm.Func, n int) {
	for i := 1; i < n; i++ {
		f.Op("LEAQ", r.keys[i-1].At(0).Index(r.keyBytes, 1), r.keys[i])
		f.Op("CMPQ", r.keys[i], r.last)
		f.Op("CMOVQHI", r.last, r.keys[i])
	}
}

// overKeys repeats, for n keys at a time, values for each 64 bytes of them, and then
// join.
func (r *indexRegisters) overKeys(f *asm.Func, n, queryBytes, aheadBytes int, sums []asm.Vec, values, join func()) {
	group, same := f.Mark(f.Label("keys")), f.Label("same")
	r.nextKeys(f, n)
	f.Op("MOVQ", f.Arg("a"), r.args)
	f.Op("MOVQ", f.Field(r.args, "Queries"), r.queries)
	f.Op("XORQ", r.at, r.at)
	clear(f, sums)
	value := f.Mark(f.Label("values"))
	values()
	f.Op("ADDQ", aheadBytes, r.ahead)
	f.Op("ADDQ", queryBytes, r.queries)
	f.Op("ADDQ", 64, r.at)
	f.Op("CMPQ", r.at, r.keyBytes)
	f.Op("JLT", value)
	join()
	// After the last key the memory at Next is asked for.
	f.Op("CMPQ", r.ahead, r.end)
	f.Op("JLT", same)
	f.Op("MOVQ", f.Arg("a"), r.args)
	f.Op("MOVQ", f.Field(r.args, "Next"), r.ahead)
	f.Op("MOVQ", -1, r.end)
	f.Op("SHRQ", 1, r.end)
	f.Mark(same)
	f.Op("LEAQ", r.keys[0].At(0).Index(r.keyBytes, n), r.keys[0])
	f.Op("SUBQ", n, r.left)
	f.Op("JGT", group)
}

func (r *indexRegisters) prefetch(f *asm.Func, bytes int) {
	for offset := 0; offset < bytes; offset += 64 {
		f.Op("PREFETCHT0", r.ahead.At(offset))
	}
}

var minusInfinity = float32(math.Inf(-1))

// upperHalves is a mask of the odd ones of bfloat16 pairs, which are float32 as they
// stand; the even ones are shifted there.
const upperHalves = uint32(0xffff0000)

// bestScores512 writes the function for four keys at a time.
func bestScores512(file *asm.File, bf16 bool) {
	name, doc, queryVectors := "bestScoresF32AVX512(a *bestScoresArgs)", docBestF32, 4
	if bf16 {
		name, doc, queryVectors = "bestScoresBF16AVX512(a *bestScoresArgs)", docBestBF16, 8
	}
	f := file.Func(asm.AVX512, name, doc)
	r := beginIndex(f, bf16)
	sums := f.Vectors(16) // of four keys, and of each the four heads
	t := f.Vectors(4)
	queries := f.Vectors(queryVectors)
	key, even, best := f.Vector(), f.Vector(), f.Vector()
	nan, unordinary := asm.K1, asm.K2
	f.BroadcastFloat(minusInfinity, r.by, best)
	f.Op("KXORW", nan, nan, nan)
	var upper asm.Vec
	if bf16 {
		upper = f.Vector()
		f.Op("MOVL", upperHalves, r.by)
		f.Op("VPBROADCASTD", r.by, upper)
	}
	r.overKeys(f, 4, 64*queryVectors, 256, sums, func() {
		for i, q := range queries {
			f.Op("VMOVUPS", r.queries.At(64*i), q)
		}
		r.prefetch(f, 256)
		for i, k := range r.keys {
			s := sums[4*i:][:4]
			f.Op("VMOVUPS", k.At(0).Index(r.at, 1), key)
			values := []asm.Vec{key}
			if bf16 {
				f.Op("VPSLLD", 16, key, even)
				f.Op("VPANDD", upper, key, key)
				values = []asm.Vec{even, key}
			}
			for v, value := range values {
				for h, sum := range s {
					f.Op("VFMADD231PS", queries[4*v+h], value, sum)
				}
			}
		}
	}, func() {
		// A vector of scores, of which the maximum is kept, and whether one is NaN.
		for i := 0; i < 16; i += 4 {
			transposeAdd(f, sums[i:][:4], t)
		}
		addQuarters(f, sums[0], sums[4], t)
		addQuarters(f, sums[8], sums[12], t)
		addQuarters(f, sums[0], sums[8], t)
		f.Op("VCMPPS", unordered, sums[0], sums[0], unordinary)
		f.Op("KORW", unordinary, nan, nan)
		f.Op("VMAXPS", best, sums[0], best)
	})
	// The best score of each head over the four keys; all ones stand for NaN.
	ones, half, onesHalf, onesQuarter := sums[0], sums[1], sums[2], sums[3]
	quarter := onesHalf
	f.Op("VPMOVM2D", nan, ones)
	f.Op("VEXTRACTF64X4", 1, best, half.Y())
	f.Op("VEXTRACTF64X4", 1, ones, onesHalf.Y())
	f.Op("VMAXPS", half.Y(), best.Y(), half.Y())
	f.Op("VORPS", onesHalf.Y(), ones.Y(), ones.Y())
	f.Op("VEXTRACTF128", 1, half.Y(), quarter.X())
	f.Op("VEXTRACTF128", 1, ones.Y(), onesQuarter.X())
	f.Op("VMAXPS", quarter.X(), half.X(), half.X())
	f.Op("VORPS", onesQuarter.X(), ones.X(), ones.X())
	f.Op("VORPS", half.X(), ones.X(), ones.X())
	f.Op("MOVQ", f.Arg("a"), r.args)
	f.Op("VMOVUPS", ones.X(), f.Field(r.args, "Best"))
	f.Return()
}

// transposeAdd makes of the first of four vectors, in each 128 bits, a partial sum of
// each of the four.
func transposeAdd(f *asm.Func, a, t []asm.Vec) {
	f.Op("VUNPCKLPS", a[1], a[0], t[0])
	f.Op("VUNPCKHPS", a[1], a[0], t[1])
	f.Op("VUNPCKLPS", a[3], a[2], t[2])
	f.Op("VUNPCKHPS", a[3], a[2], t[3])
	f.Op("VADDPS", t[1], t[0], a[0])
	f.Op("VADDPS", t[3], t[2], a[2])
	f.Op("VUNPCKLPD", a[2], a[0], t[0])
	f.Op("VUNPCKHPD", a[2], a[0], t[1])
	f.Op("VADDPS", t[1], t[0], a[0])
}

// addQuarters sums quarters of a and b in pairs: those of a, then those of b.
func addQuarters(f *asm.Func, a, b asm.Vec, t []asm.Vec) {
	f.Op("VSHUFF32X4", uint32(0x88), b, a, t[0])
	f.Op("VSHUFF32X4", uint32(0xdd), b, a, t[1])
	f.Op("VADDPS", t[1], t[0], a)
}

// bestScores256 writes the function for two keys at a time.
func bestScores256(file *asm.File, bf16 bool) {
	name, doc, queryBytes := "bestScoresF32AVX2(a *bestScoresArgs)", "is bestScoresF32AVX512, d in strand d mod 8.", 256
	if bf16 {
		name, doc, queryBytes = "bestScoresBF16AVX2(a *bestScoresArgs)", "is bestScoresBF16AVX512 with 8 strands.", 512
	}
	f := file.Func(asm.AVX2, name, doc)
	r := beginIndex(f, bf16)
	sums := f.Vectors(8) // of two keys, and of each the four heads
	keys := f.Vectors(4) // odd and even values of the first, then of the other
	query, best, nan := f.Vector(), f.Vector(), f.Vector()
	f.BroadcastFloat(minusInfinity, r.by, best)
	f.Op("VXORPS", nan, nan, nan)
	var upper asm.Vec
	if bf16 {
		upper = f.Vector()
		f.Broadcast(upperHalves, r.by, upper)
	}
	// heads multiplies eight values of both keys with those of four heads.
	heads := func(offset int, first, second asm.Vec) {
		for h := range 4 {
			f.Op("VMOVUPS", r.queries.At(offset+64*h), query)
			f.Op("VFMADD231PS", first, query, sums[h])
			f.Op("VFMADD231PS", second, query, sums[4+h])
		}
	}
	r.overKeys(f, 2, queryBytes, 128, sums, func() {
		r.prefetch(f, 128)
		for offset := 0; offset < 64; offset += 32 {
			f.Op("VMOVUPS", r.keys[0].At(offset).Index(r.at, 1), keys[0])
			f.Op("VMOVUPS", r.keys[1].At(offset).Index(r.at, 1), keys[2])
			if bf16 {
				f.Op("VPSLLD", 16, keys[0], keys[1])
				f.Op("VPSLLD", 16, keys[2], keys[3])
				f.Op("VPAND", upper, keys[0], keys[0])
				f.Op("VPAND", upper, keys[2], keys[2])
				heads(offset, keys[1], keys[3])
				heads(256+offset, keys[0], keys[2])
			} else {
				heads(offset, keys[0], keys[2])
			}
		}
	}, func() {
		// A vector of scores, of which the maximum is kept, and whether one is NaN.
		for i := 0; i < 8; i += 2 {
			f.Op("VHADDPS", sums[i+1], sums[i], sums[i])
		}
		f.Op("VHADDPS", sums[2], sums[0], sums[0])
		f.Op("VHADDPS", sums[6], sums[4], sums[4])
		f.Op("VPERM2F128", uint32(0x20), sums[4], sums[0], sums[1])
		f.Op("VPERM2F128", uint32(0x31), sums[4], sums[0], sums[2])
		f.Op("VADDPS", sums[2], sums[1], sums[1])
		f.Op("VCMPPS", unordered, sums[1], sums[1], sums[2])
		f.Op("VORPS", sums[2], nan, nan)
		f.Op("VMAXPS", best, sums[1], best)
	})
	joined, half, nanHalf := sums[0], sums[1], sums[2]
	f.Op("VEXTRACTF128", 1, best, half.X())
	f.Op("VEXTRACTF128", 1, nan, nanHalf.X())
	f.Op("VMAXPS", half.X(), best.X(), joined.X())
	f.Op("VORPS", nanHalf.X(), nan.X(), half.X())
	f.Op("VORPS", half.X(), joined.X(), joined.X())
	f.Op("MOVQ", f.Arg("a"), r.args)
	f.Op("VMOVUPS", joined.X(), f.Field(r.args, "Best"))
	f.Return()
}
