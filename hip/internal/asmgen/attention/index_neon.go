package attention

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// neonIndexFile holds what rates keys for four index heads for arm64, as indexFile does
// for amd64.
func neonIndexFile() *asm.File {
	f := neonFile("index", "The best scores of keys for four index heads.")
	neonBestScores(f, true)
	neonBestScores(f, false)
	return f
}

const neonDocBF16 = `sets, for four heads h,

	Best[h] = max over j < Keys of Σ BF16[j][d]·query h[d],   NaN if one is

Products are summed in float32 with fused multiply-adds: d in strand (d mod 8 / 2, whatever its parity), neighboring strands first. Dim is a multiple of 32. Queries holds, for each 32 values, the even ones of each head and then the odd ones of each head. Meanwhile it asks for the memory 4096 bytes on, and after the last key for that at Next.`

const neonDocF32 = "is bestScoresBF16NEON over F32, d in strand d mod 4. Dim is a multiple of 16. " +
	"Queries holds, for each 16 values, those of each head."

// neonBestScores writes the function for four keys at a time, whose sums for four heads
// are a vector each, and in the end a lane.
func neonBestScores(file *asm.File, bf16 bool) {
	const atOnce, heads = 4, 4
	name, doc, stored, shift, queryBytes := "bestScoresF32NEON(a *bestScoresArgs)", neonDocF32, "F32", 2, 256
	if bf16 {
		name, doc, stored, shift, queryBytes = "bestScoresBF16NEON(a *bestScoresArgs)", neonDocBF16, "BF16", 1, 512
	}
	f := file.Func(asm.NEON, name, doc)
	args := loadArgs(f, "a")[0]
	r := loadFields(f, args, stored, "Dim", "Keys")
	first, keyBytes, left := r[0], r[1], r[2]
	last, ahead, end, queries, at := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	keys := f.Registers(atOnce)
	sums := f.Vectors(atOnce * heads)
	query, key := f.Vectors(heads), f.Vectors(atOnce)
	even, best, ordered := f.Vector(), f.Vector(), f.Vector()
	f.BroadcastFloat(minusInfinity, at, best)
	f.Word("FCMEQ", best, best, ordered) // no score yet is NaN
	var upper asm.Vec
	if bf16 {
		upper = f.Vector()
		f.Op("MOVD", upperHalves, at)
		f.Op("VDUP", at, upper)
	}
	f.Op("LSL", shift, keyBytes)
	f.Op("MUL", keyBytes, left, end)
	f.Op("ADD", first, end)
	f.Op("SUB", keyBytes, end, last)
	f.Op("ADD", prefetchBytes, first, ahead)
	group, same := f.Mark(f.Label("keys")), f.Label("same")
	f.Op("MOVD", first, keys[0])
	for i := 1; i < atOnce; i++ { // after the last key it again, which changes no maximum
		f.Op("ADD", keyBytes, keys[i-1], keys[i])
		f.Op("CMP", last, keys[i])
		f.Op("CSEL", "HI", last, keys[i], keys[i])
	}
	f.Op("MOVD", f.Field(args, "Queries"), queries)
	f.Op("MOVD", keyBytes, at)
	f.Clear(sums...)
	// multiply multiplies the values of each key with those of four heads.
	multiply := func(offset int, values func(key asm.Vec) asm.Vec) {
		for h, q := range query {
			f.Load(queries.At(offset+64*h), q)
		}
		for j, k := range key {
			v := values(k)
			for h, q := range query {
				f.Op("VFMLA", q, v, sums[heads*j+h])
			}
		}
	}
	values := f.Mark(f.Label("values"))
	for offset := 0; offset < 64*atOnce; offset += 64 {
		f.Prefetch(ahead.At(offset))
	}
	for i := range 4 {
		for j, k := range keys {
			f.Load(k.At(16*i), key[j])
		}
		if !bf16 {
			multiply(16*i, func(k asm.Vec) asm.Vec { return k })
			continue
		}
		multiply(16*i, func(k asm.Vec) asm.Vec {
			f.Op("VSHL", 16, k, even)
			return even
		})
		multiply(256+16*i, func(k asm.Vec) asm.Vec {
			f.Op("VAND", bytes(upper), bytes(k), bytes(k))
			return k
		})
	}
	for _, k := range keys {
		f.Op("ADD", 64, k)
	}
	f.Op("ADD", 64*atOnce, ahead)
	f.Op("ADD", queryBytes, queries)
	f.Op("SUBS", 64, at)
	f.Op("BNE", values)
	for j := range atOnce { // a vector of a key's scores, of which the maximum is kept
		s := sums[heads*j:][:heads]
		f.Word("FADDP", s[1], s[0], s[0])
		f.Word("FADDP", s[3], s[2], s[2])
		f.Word("FADDP", s[2], s[0], s[0])
		f.Word("FCMEQ", s[0], s[0], s[1])
		f.Op("VAND", bytes(s[1]), bytes(ordered), bytes(ordered))
		f.Word("FCMGT", best, s[0], s[1])
		f.Op("VBIT", bytes(s[1]), bytes(s[0]), bytes(best))
	}
	// After the last key the memory at Next is asked for.
	f.Op("CMP", end, ahead)
	f.Op("BLT", same)
	f.Op("MOVD", f.Field(args, "Next"), ahead)
	f.Op("MOVD", 1<<63-1, end)
	f.Mark(same)
	f.Op("ADD", keyBytes.Shifted(2), first) // four keys
	f.Op("SUBS", atOnce, left)
	f.Op("BGT", group)
	ones := sums[0] // stand for NaN
	f.Op("VCMEQ", ones, ones, ones)
	f.Op("VBIF", bytes(ordered), bytes(ones), bytes(best))
	f.Store(best, f.Field(args, "Best"))
	f.Return()
}
