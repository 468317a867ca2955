package attention

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// laneHeads is the query heads that are done together, one in each lane.
const laneHeads = 16

// headsFile holds what attends, 16 query heads at a time.
func headsFile() *asm.File {
	f := file("heads", "Scores of keys and sums of values for 16 query heads.")
	f.Constants = []asm.Constant{{Name: "laneHeads", Value: laneHeads}}
	keyScores512(f)
	keyScores256(f)
	for _, level := range levels {
		addValues(f, level)
	}
	return f
}

const docKeyScores = `sets, for each key j of Groups·16 and lane h of 16,

	Scores[j][h] = Σ Keys[j][d]·Queries[d][h]        d ascending

in float32 with fused multiply-adds, one strand. Meanwhile it asks for the memory at Ahead, AheadStep bytes for each d and group.`

// keyScores512 takes 16 keys at a time, a vector of sums each.
func keyScores512(file *asm.File) {
	f := file.Func(asm.AVX512, "keyScoresAVX512(a *keyScoresArgs)", docKeyScores)
	args, scores, keys := f.Take(asm.SI), f.Take(asm.DI), f.Take(asm.R8)
	stride, stride3 := f.Take(asm.BX), f.Take(asm.DX)
	ahead, aheadStep, values := f.Take(asm.R11), f.Take(asm.R12), f.Take(asm.CX)
	queries := args // once the others are loaded
	fours := []asm.GP{f.Take(asm.AX), f.Take(asm.R9), f.Take(asm.R10), f.Take(asm.R13)}
	sums, query := f.Vectors(16), f.Top(1)[0]
	groups := f.Slots(8, "groups")[0]
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "Scores"), scores)
	f.Op("MOVQ", f.Field(args, "Keys"), keys)
	f.Op("MOVQ", f.Field(args, "Stride"), stride)
	f.Op("MOVQ", f.Field(args, "Groups"), fours[0])
	f.Op("MOVQ", f.Field(args, "Ahead"), ahead)
	f.Op("MOVQ", f.Field(args, "AheadStep"), aheadStep)
	f.Op("MOVQ", fours[0], groups)
	f.Op("SHLQ", 2, stride)
	f.Op("LEAQ", stride.At(0).Index(stride, 2), stride3)
	f.Loop("group", groups, func() {
		f.Op("MOVQ", f.Arg("a"), args)
		f.Op("MOVQ", f.Field(args, "Dim"), values)
		f.Op("MOVQ", f.Field(args, "Queries"), queries)
		f.Op("MOVQ", keys, fours[0])
		for i, four := range fours {
			next := keys
			if i < 3 {
				next = fours[i+1]
			}
			f.Op("LEAQ", four.At(0).Index(stride, 4), next)
		}
		clear(f, sums)
		f.Loop("value", values, func() {
			f.Op("VMOVUPS", queries.At(0), query)
			for i, four := range fours {
				if i == 2 {
					f.Op("PREFETCHT0", ahead.At(0))
				}
				s := sums[4*i:]
				f.Op("VFMADD231PS.BCST", four.At(0), query, s[0])
				f.Op("VFMADD231PS.BCST", four.At(0).Index(stride, 1), query, s[1])
				f.Op("VFMADD231PS.BCST", four.At(0).Index(stride, 2), query, s[2])
				f.Op("VFMADD231PS.BCST", four.At(0).Index(stride3, 1), query, s[3])
				f.Op("ADDQ", 4, four)
			}
			f.Op("ADDQ", aheadStep, ahead)
			f.Op("ADDQ", 4*laneHeads, queries)
		})
		store(f, sums, scores)
	})
	f.Return()
}

// keyScores256 takes four keys at a time, two vectors of sums each.
func keyScores256(file *asm.File) {
	f := file.Func(asm.AVX2, "keyScoresAVX2(a *keyScoresArgs)", doc(asm.AVX2, "keyScores", "", ""))
	args, scores, keys, fours := f.Take(asm.SI), f.Take(asm.DI), f.Take(asm.R8), f.Take(asm.R9)
	stride, stride3 := f.Take(asm.BX), f.Take(asm.DX)
	ahead, aheadStep := f.Take(asm.R11), f.Take(asm.R12)
	key, values, queries := f.Take(asm.AX), f.Take(asm.CX), args
	sums, query, weights := f.Vectors(8), f.Vectors(2), f.Vectors(4)
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "Scores"), scores)
	f.Op("MOVQ", f.Field(args, "Keys"), keys)
	f.Op("MOVQ", f.Field(args, "Stride"), stride)
	f.Op("MOVQ", f.Field(args, "Groups"), fours)
	f.Op("MOVQ", f.Field(args, "Ahead"), ahead)
	f.Op("MOVQ", f.Field(args, "AheadStep"), aheadStep)
	f.Op("SHLQ", 2, fours) // of a group of 16 keys
	f.Op("SHRQ", 2, aheadStep)
	f.Op("SHLQ", 2, stride)
	f.Op("LEAQ", stride.At(0).Index(stride, 2), stride3)
	f.Loop("four", fours, func() {
		f.Op("MOVQ", f.Arg("a"), args)
		f.Op("MOVQ", f.Field(args, "Dim"), values)
		f.Op("MOVQ", f.Field(args, "Queries"), queries)
		f.Op("MOVQ", keys, key)
		f.Op("LEAQ", keys.At(0).Index(stride, 4), keys)
		clear(f, sums)
		f.Loop("value", values, func() {
			for i, q := range query {
				f.Op("VMOVUPS", queries.At(32*i), q)
			}
			f.Op("VBROADCASTSS", key.At(0), weights[0])
			f.Op("VBROADCASTSS", key.At(0).Index(stride, 1), weights[1])
			f.Op("VBROADCASTSS", key.At(0).Index(stride, 2), weights[2])
			f.Op("VBROADCASTSS", key.At(0).Index(stride3, 1), weights[3])
			for i, w := range weights {
				for k, q := range query {
					f.Op("VFMADD231PS", q, w, sums[2*i+k])
				}
			}
			f.Op("PREFETCHT0", ahead.At(0))
			f.Op("ADDQ", aheadStep, ahead)
			f.Op("ADDQ", 4, key)
			f.Op("ADDQ", 4*laneHeads, queries)
		})
		store(f, sums, scores)
	})
	f.Return()
}

// store writes sums one after the other, and moves on.
func store(f *asm.Func, sums []asm.Vec, to asm.GP) {
	for i, v := range sums {
		f.Op("VMOVUPS", v, to.At(i*f.Level.Bytes))
	}
	f.Op("ADDQ", len(sums)*f.Level.Bytes, to)
}

const docAddValues = `adds to Sums[h][d], for each lane h of 16 and d < Dim, which is a multiple of 32,

	Σ Weights[j][h]·Values[j][d]                      j ascending, j < Keys

summed from 0 in float32 with fused multiply-adds, one strand. Meanwhile it asks for the memory at Ahead, AheadStep bytes for each key and 32·8 products.`

// addValues takes, of two vectors of columns, the sums of eight heads at a time, or
// four.
func addValues(file *asm.File, level asm.Level) {
	f := file.Func(level, "addValues"+level.Name+"(a *addValuesArgs)", doc(level, "addValues", docAddValues, ""))
	args, sums, weights := f.Take(asm.AX), f.Take(asm.R10), f.Take(asm.R9)
	rowBytes, column := f.Take(asm.BX), f.Take(asm.R8)
	value, weight, keys := f.Take(asm.SI), f.Take(asm.DX), f.Take(asm.CX)
	ahead, aheadStep, parts, sum := f.Take(asm.R11), f.Take(asm.R12), f.Take(asm.R13), f.Take(asm.DI)
	heads := 8
	if level == asm.AVX2 {
		heads = 4
	}
	totals, values, factor := f.Vectors(2*heads), f.Vectors(2), f.Vector()
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "Dim"), rowBytes)
	f.Op("MOVQ", f.Field(args, "Sums"), sums)
	f.Op("MOVQ", f.Field(args, "Weights"), weights)
	f.Op("MOVQ", f.Field(args, "Ahead"), ahead)
	f.Op("MOVQ", f.Field(args, "AheadStep"), aheadStep)
	if level == asm.AVX2 {
		f.Op("SHRQ", 2, aheadStep)
	}
	f.Op("SHLQ", 2, rowBytes)
	f.Op("MOVQ", laneHeads/heads, parts)
	f.Loop("heads", parts, func() {
		f.Each("columns", column, rowBytes, 2*level.Bytes, func() {
			f.Op("MOVQ", f.Field(args, "Values"), value)
			f.Op("MOVQ", f.Field(args, "Keys"), keys)
			f.Op("MOVQ", weights, weight)
			f.Op("ADDQ", column, value)
			clear(f, totals)
			f.Loop("key", keys, func() {
				for i, v := range values {
					f.Op("VMOVUPS", value.At(i*level.Bytes), v)
				}
				for h := range heads {
					f.Op("VBROADCASTSS", weight.At(4*h), factor)
					for i, v := range values {
						f.Op("VFMADD231PS", v, factor, totals[2*h+i])
					}
				}
				f.Op("PREFETCHT0", ahead.At(0))
				f.Op("ADDQ", aheadStep, ahead)
				f.Op("ADDQ", 4*laneHeads, weight)
				f.Op("ADDQ", rowBytes, value)
			})
			f.Op("LEAQ", sums.At(0).Index(column, 1), sum)
			for h := range heads {
				pair := totals[2*h:][:2]
				for i, v := range pair {
					f.Op("VADDPS", sum.At(i*level.Bytes), v, v)
				}
				for i, v := range pair {
					f.Op("VMOVUPS", v, sum.At(i*level.Bytes))
				}
				f.Op("ADDQ", rowBytes, sum)
			}
		})
		f.Op("LEAQ", sums.At(0).Index(rowBytes, heads), sums)
		f.Op("ADDQ", 4*heads, weights)
	})
	f.Return()
}
