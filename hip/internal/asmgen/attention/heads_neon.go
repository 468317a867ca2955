package attention

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// neonHeadsFile holds what attends for arm64, as headsFile does for amd64. A factor of four
// vectors is a lane of another one: one load gives four factors.
func neonHeadsFile() *asm.File {
	f := neonFile("heads", "Scores of keys and sums of values for 16 query heads.")
	f.Constants = []asm.Constant{{Name: "laneHeads", Value: laneHeads}}
	neonKeyScores(f)
	neonAddValues(f)
	return f
}

// loadFields loads fields of the struct that the argument a points to, in their order.
func loadFields(f *asm.Func, args asm.GP, names ...string) []asm.GP {
	registers := f.Registers(len(names))
	for i, name := range names {
		f.Op("MOVD", f.Field(args, name), registers[i])
	}
	return registers
}

// neonKeyScores takes four keys at a time, four vectors of sums each, and four values of
// each as long as there are.
func neonKeyScores(file *asm.File) {
	const atOnce = 4
	f := file.Func(asm.NEON, "keyScoresNEON(a *keyScoresArgs)", docKeyScores)
	args := loadArgs(f, "a")[0]
	r := loadFields(f, args, "Scores", "Keys", "Stride", "Groups", "Ahead", "AheadStep")
	scores, key, stride, fours, ahead, aheadStep := r[0], r[1], r[2], r[3], r[4], r[5]
	queries, values := f.Register(), f.Register()
	keys := f.Registers(atOnce)
	sums, query, factors := f.Vectors(16), f.Vectors(4), f.Vectors(atOnce)
	f.Op("LSL", 2, stride)
	f.Op("LSL", 2, fours) // of a group of 16 keys
	multiply := func(lane int) {
		for j := range keys {
			for k, q := range query {
				f.Word("FMLA.E", factors[j].Lane(lane), q, sums[4*j+k])
			}
		}
	}
	f.Loop("four", fours, func() {
		f.Op("MOVD", f.Field(args, "Queries"), queries)
		f.Op("MOVD", f.Field(args, "Dim"), values)
		f.Op("MOVD", key, keys[0])
		for i := 1; i < atOnce; i++ {
			f.Op("ADD", stride, keys[i-1], keys[i])
		}
		f.Op("ADD", stride, keys[atOnce-1], key)
		f.Clear(sums...)
		whole, rest, done := f.Label("values"), f.Label("rest"), f.Label("done")
		f.Op("SUBS", 4, values)
		f.Op("BLT", rest)
		f.Mark(whole)
		f.Prefetch(ahead.At(0))
		for j, k := range keys {
			f.Load(k.At(0), factors[j])
		}
		for lane := range 4 {
			f.LoadMany(queries.At(4*laneHeads*lane), query...)
			multiply(lane)
		}
		for _, k := range keys {
			f.Op("ADD", 16, k)
		}
		f.Op("ADD", 16*laneHeads, queries)
		f.Op("ADD", aheadStep, ahead) // as far as four values of four keys have of a group's
		f.Op("SUBS", 4, values)
		f.Op("BGE", whole)
		f.Mark(rest)
		f.Op("ADDS", 4, values)
		f.Op("BEQ", done)
		f.Loop("value", values, func() {
			for j, k := range keys {
				f.Op("FMOVS", k.At(0), factors[j].As("F"))
			}
			f.LoadMany(queries.At(0), query...)
			multiply(0)
			for _, k := range keys {
				f.Op("ADD", 4, k)
			}
			f.Op("ADD", 4*laneHeads, queries)
		})
		f.Mark(done)
		f.StoreMany(scores.At(0), sums...)
		f.Op("ADD", 16*len(sums), scores)
	})
	f.Return()
}

// neonAddValues takes, of two vectors of columns, the sums of eight heads at a time.
func neonAddValues(file *asm.File) {
	const heads = 8
	f := file.Func(asm.NEON, "addValuesNEON(a *addValuesArgs)", docAddValues)
	args := loadArgs(f, "a")[0]
	r := loadFields(f, args, "Sums", "Weights", "Dim", "Ahead", "AheadStep")
	sums, weights, rowBytes, ahead, aheadStep := r[0], r[1], r[2], r[3], r[4]
	value, weight, keys, column, sum, parts := f.Register(), f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	totals, values, factors := f.Vectors(2*heads), f.Vectors(2), f.Vectors(heads/4)
	f.Op("LSL", 2, rowBytes)
	f.Op("LSR", 2, aheadStep) // of 32·8 products a key, a fourth
	f.Op("MOVD", laneHeads/heads, parts)
	f.Loop("heads", parts, func() {
		f.Op("MOVD", 0, column)
		columns := f.Mark(f.Label("columns"))
		f.Op("MOVD", f.Field(args, "Values"), value)
		f.Op("MOVD", f.Field(args, "Keys"), keys)
		f.Op("MOVD", weights, weight)
		f.Op("ADD", column, value)
		f.Clear(totals...)
		f.Loop("key", keys, func() {
			f.Prefetch(ahead.At(0))
			f.LoadMany(value.At(0), values...)
			f.LoadMany(weight.At(0), factors...)
			for h := range heads {
				for i, v := range values {
					f.Word("FMLA.E", factors[h/4].Lane(h%4), v, totals[2*h+i])
				}
			}
			f.Op("ADD", aheadStep, ahead)
			f.Op("ADD", 4*laneHeads, weight)
			f.Op("ADD", rowBytes, value)
		})
		f.Op("ADD", column, sums, sum)
		for h := range heads {
			f.LoadMany(sum.At(0), values...)
			for i, v := range values {
				f.Word("FADD", totals[2*h+i], v, v)
			}
			f.StoreMany(sum.At(0), values...)
			f.Op("ADD", rowBytes, sum)
		}
		f.Op("ADD", 32, column)
		f.Op("CMP", rowBytes, column)
		f.Op("BLT", columns)
		f.Op("ADD", rowBytes.Shifted(3), sums) // eight heads
		f.Op("ADD", 4*heads, weights)
	})
	f.Return()
}
