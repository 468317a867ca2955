package attention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// forEachVectorLevel runs f for each level of the machine but plain Go.
func forEachVectorLevel(t *testing.T, f func(t *testing.T, simd hip.SIMD)) {
	levels := hip.SIMDLevels()[1:]
	if len(levels) == 0 {
		t.Skip("the machine has no vector instructions that are used")
	}
	for _, simd := range levels {
		t.Run(simd.String(), func(t *testing.T) { f(t, simd) })
	}
}

// guardedValues are random, with nothing after them.
func guardedValues(t *testing.T, stream uint64, n int) []float32 {
	values := hiptest.Guarded[float32](t, n)
	copy(values, randomValues(3, stream, n))
	return values
}

func guardedBF16(t *testing.T, stream uint64, n int) []hip.BF16 {
	values := hiptest.Guarded[hip.BF16](t, n)
	for i, v := range randomValues(3, stream, n) {
		values[i] = hip.ToBF16(v)
	}
	return values
}

func TestKeyScores(t *testing.T) {
	forEachVectorLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, dim := range []int{1, 2, 16, 17, 31, 32, 33, 64, 127, 128, 129} {
			for _, pad := range []int{0, 5} {
				for groups := 1; groups <= 3; groups++ {
					stride := dim + pad
					queries, keys := guardedValues(t, 1, dim*laneHeads), guardedValues(t, 2, 16*groups*stride-pad)
					got, want := guardedValues(t, 3, 16*groups*laneHeads), make([]float32, 16*groups*laneHeads)
					for i := range want {
						sum := 0.0
						for d := range dim {
							sum += float64(queries[d*laneHeads+i%laneHeads]) * float64(keys[i/laneHeads*stride+d])
						}
						want[i] = float32(sum)
					}
					keyScores(simd, &keyScoresArgs{Scores: &got[0], Queries: &queries[0], Keys: &keys[0], Dim: dim, Stride: stride, Groups: groups, AheadStep: 32})
					require.NoError(t, hiptest.Within(got, want, 1e-6), "dim %d, stride %d, %d groups", dim, stride, groups)
				}
			}
		}
	})
}

func TestAddValues(t *testing.T) {
	forEachVectorLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, dim := range []int{32, 64, 96, 128, 256} {
			for _, keys := range []int{1, 2, 3, 15, 16, 17, 31, 32, 33, 129} {
				weights, values := guardedValues(t, 1, keys*laneHeads), guardedValues(t, 2, keys*dim)
				got := guardedValues(t, 3, laneHeads*dim)
				want := make([]float32, len(got))
				for i, sum := range got {
					wide := float64(sum)
					for j := range keys {
						wide += float64(weights[j*laneHeads+i/dim]) * float64(values[j*dim+i%dim])
					}
					want[i] = float32(wide)
				}
				addValues(simd, &addValuesArgs{Sums: &got[0], Weights: &weights[0], Values: &values[0], Dim: dim, Keys: keys, AheadStep: 32})
				require.NoError(t, hiptest.Within(got, want, 1e-6), "dim %d, %d keys", dim, keys)
			}
		}
	})
}

func TestBestScores(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	forEachVectorLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, format := range []CacheFormat{CacheBF16, CacheF32} {
			for _, dim := range []int{16, 32, 48, 64, 128, 256} {
				if format == CacheBF16 && dim%32 != 0 {
					continue
				}
				for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 127, 128, 129} {
					for name, special := range map[string]float32{"numbers": 0, "NaN": nan, "infinity": inf, "minus infinity": -inf} {
						queries := guardedValues(t, 1, 4*dim)
						var keys vectors
						if format == CacheBF16 {
							keys = vectors{dim: dim, bf16: guardedBF16(t, uint64(n), n*dim)}
						} else {
							keys = vectors{dim: dim, f32: guardedValues(t, uint64(n), n*dim)}
						}
						if name != "numbers" {
							at := (n*2/3)*dim + n%dim
							if format == CacheBF16 {
								keys.bf16[at] = hip.ToBF16(special)
							} else {
								keys.f32[at] = special
							}
						}
						args := bestScoresArgs{Queries: &layOut(t, queries, dim, format)[0], Dim: dim, Keys: n}
						if format == CacheBF16 {
							args.BF16 = &keys.bf16[0]
						} else {
							args.F32 = &keys.f32[0]
						}
						want := make([]float32, 4)
						for h := range want {
							best := math.Inf(-1)
							for j := range n {
								best = max(best, dot64(queries[h*dim:][:dim], keys.at(j, make([]float32, dim))))
							}
							want[h] = float32(best)
						}
						bestScores(simd, &args)
						require.NoError(t, hiptest.Within(args.Best[:], want, 1e-5), "%v, dim %d, %d keys, %s", format, dim, n, name)
					}
				}
			}
		}
	})
}

// The tiles' queries are split and laid out by the kernel's own code; keys end
// where memory does.
func TestBestScoresTiles(t *testing.T) {
	if !slices.Contains(hip.SIMDLevels(), hip.SIMDAMX) {
		t.Skip("the machine has no bfloat16 tiles")
	}
	for _, dim := range []int{32, 64, 128, 256} {
		for _, n := range []int{64, 128, 192} {
			for name, special := range map[string]float32{"numbers": 0, "NaN": float32(math.NaN())} {
				q, keys := randomValues(1, 1, laneHeads*dim), vectors{dim: dim, bf16: guardedBF16(t, uint64(n), n*dim)}
				if name == "NaN" {
					q[5*dim+3] = special
				}
				queries, scratch := hiptest.Guarded[hip.BF16](t, 48*dim), hiptest.Guarded[float32](t, 64*16)
				want := make([]float32, laneHeads)
				for h := range want {
					splitQuery(queries, h, q[h*dim:(h+1)*dim])
					best := math.Inf(-1)
					for j := range n {
						best = max(best, dot64(q[h*dim:][:dim], keys.at(j, make([]float32, dim))))
					}
					want[h] = float32(best)
				}
				args := tileScoresArgs{Queries: &queries[0], BF16: &keys.bf16[0], Scratch: &scratch[0], Dim: dim, Keys: n, Next: keys.address()}
				bestScoresTiles(&args)
				require.NoError(t, hiptest.Within(args.Best[:], want, 1e-6), "dim %d, %d keys, %s", dim, n, name)
			}
		}
	}
}

func TestSplitQueryIsExact(t *testing.T) {
	q := randomValues(1, 2, 1<<15)
	for i := range q {
		q[i] *= float32(math.Pow(2, float64(i%100-50)))
	}
	dst := make([]hip.BF16, 48*len(q))
	splitQuery(dst, 7, q)
	for d, v := range q {
		at := d/32*3*512 + d%32/2*32 + 7*2 + d%2
		require.Equal(t, v, dst[at].Float32()+dst[at+512].Float32()+dst[at+1024].Float32())
	}
}

// Infinite keys and queries, among whole blocks: on every level against the reference.
func TestScoresOfInfinities(t *testing.T) {
	g := released()
	g.IndexDim, g.HeadDim, g.Heads, g.Rope.Frequencies, g.BlockSize, g.TopkBlocks = 32, 1, 2, nil, 64, 2
	for name, d := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			checked := hip.Check(d)
			t.Cleanup(func() { require.NoError(t, checked.Close()) })
			c := newCache(t, checked, g, 1, 5, CacheBF16)
			keys := make([]hip.BF16, 5*64*32)
			for i, v := range randomValues(1, 1, len(keys)) {
				keys[i] = hip.ToBF16(v)
			}
			keys[70*32+4], keys[130*32+9], keys[200*32] = hip.ToBF16(float32(math.Inf(1))), hip.ToBF16(float32(math.Inf(-1))), hip.ToBF16(float32(math.NaN()))
			require.NoError(t, hip.WriteOf(checked, c.layers[0].indexKeys, keys))
			const rows = 6
			q := randomValues(1, 3, rows*g.Columns())
			for i := range q {
				q[i] = float32(int(q[i]*4)) + 1 // two of three parts are zero
			}
			q[3*g.Columns()+g.indexQColumn()+2] = float32(math.Inf(1))
			a, b := &arena{d: checked}, NewBatch(c)
			require.NoError(t, b.Upload(Span{table: []int32{0, 1, 2, 3, 4}, position: 4*64 + 1, rows: rows}))
			qkv, scores := mustPut(t, a, q), mustPut(t, a, make([]float32, rows*g.KVHeads*5))
			require.NoError(t, Scores(b, 0, qkv, scores))
			require.NoError(t, b.Close())
			require.NoError(t, a.close())
		})
	}
}

// What a row gets does not depend on the rows beside it, nor on the launch's parts.
func TestScoresOfARowAlone(t *testing.T) {
	g := tiny()
	g.BlockSize, g.Heads, g.HeadDim, g.Rope.Frequencies = 64, 2, 1, nil
	const position, rows = 300, 90
	s := scenario{geometry: g, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 1, position: position, rows: rows}}}
	for name, d := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			all, err := s.run(d)
			require.NoError(t, err)
			for _, row := range []int{0, 1, 20, 21, 64, rows - 1} {
				alone := s
				alone.spans = []scenarioSpan{{seed: 1, position: position + row, rows: 1}}
				got, err := alone.run(d)
				require.NoError(t, err)
				for h := range g.KVHeads {
					require.Equal(t, got.scores[h*got.blocks:(h+1)*got.blocks], all.scores[(row*g.KVHeads+h)*all.blocks:][:got.blocks], "row %d", row)
				}
				require.Equal(t, got.out, all.out[row*len(got.out):][:len(got.out)], "row %d", row)
			}
		})
	}
}

// layOut gives four queries the order that bestScores wants, as its comments have it.
func layOut(t *testing.T, queries []float32, dim int, format CacheFormat) []float32 {
	out := hiptest.Guarded[float32](t, 4*dim)[:0]
	width, parities := 16, 1
	if format == CacheBF16 {
		width, parities = 32, 2
	}
	for first := 0; first < dim; first += width {
		for parity := range parities {
			for h := range 4 {
				for d := first + parity; d < first+width; d += parities {
					out = append(out, queries[h*dim+d])
				}
			}
		}
	}
	return out
}

func TestWidenAndNarrow(t *testing.T) {
	forEachVectorLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, n := range []int{32, 64, 96, 1 << 16} {
			stored, wide := hiptest.Guarded[hip.BF16](t, n), hiptest.Guarded[float32](t, n)
			for i := range stored {
				stored[i] = hip.BF16(i * (1 << 16 / n))
			}
			widenVector(simd, &wide[0], &stored[0], n)
			for i, v := range wide {
				require.Equal(t, math.Float32bits(stored[i].Float32()), math.Float32bits(v), "%#x", stored[i])
			}
		}
		for _, n := range []int{16, 32, 48, 1 << 16} {
			wide, stored := hiptest.Guarded[float32](t, n), hiptest.Guarded[hip.BF16](t, n)
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for i := range wide {
				bits := random.Uint32()
				if i%2 == 0 { // ties and their neighbors
					bits = bits&^0xffff | 0x8000 + uint32(i/2%3) - 1
				}
				wide[i] = math.Float32frombits(bits)
			}
			copy(wide, []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, float32(math.NaN()), math.Float32frombits(0x7f800001), math.Float32frombits(0xffc12345)})
			narrowVector(&stored[0], &wide[0], n)
			for i, v := range wide {
				require.Equal(t, hip.ToBF16(v), stored[i], "%#x", math.Float32bits(v))
			}
		}
	})
}

func TestWidenFP8(t *testing.T) {
	forEachVectorLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, n := range []int{32, 64, 96, 256, 4096} {
			stored, wide := hiptest.Guarded[hip.E4M3](t, n), hiptest.Guarded[hip.BF16](t, n)
			for i := range stored {
				stored[i] = hip.E4M3(i * 5)
			}
			widenFP8(simd, &wide[0], &stored[0], n)
			for i, v := range wide {
				want := stored[i].Float32()
				if want != want {
					require.True(t, v.Float32() != v.Float32(), "%#x", stored[i])
					continue
				}
				require.Equal(t, hip.ToBF16(want), v, "%#x", stored[i])
			}
		}
	})
}

func TestRotateWith(t *testing.T) {
	for _, simd := range hip.SIMDLevels() {
		for _, half := range []int{0, 1, 7, 8, 9, 15, 16, 17, 32, 64} {
			for _, pass := range []int{0, 3} {
				x, want := guardedValues(t, 1, 2*half+pass), randomValues(3, 1, 2*half+pass)
				r := rotation{guardedValues(t, 2, half), guardedValues(t, 3, half)}
				rotateWith(simd, x, r)
				rotate64(want, r)
				require.NoError(t, hiptest.Within(x, want, 1e-6), "%v, %d pairs", simd, half)
				require.Equal(t, want[2*half:], x[2*half:], "the rest passes")
			}
		}
	}
}

// TestVectorShapes: heads, widths and lengths around what vectors hold, and
// holes, on every level against the reference, launch by launch.
func TestVectorShapes(t *testing.T) {
	shape := func(heads, kvHeads, headDim, indexDim, blockSize int) Geometry {
		g := tiny()
		g.Heads, g.KVHeads, g.HeadDim, g.IndexDim, g.BlockSize = heads, kvHeads, headDim, indexDim, blockSize
		g.Rope.Frequencies = frequencies(10000, min(headDim, indexDim)/2*2)
		g.TopkBlocks, g.InitBlocks, g.LocalBlocks = 3, 0, 1
		return g
	}
	var shapes []Geometry
	for heads := 1; heads <= 17; heads++ {
		shapes = append(shapes, shape(heads, 1, 32, 32, 16))
	}
	shapes = append(shapes, shape(33, 1, 16, 32, 8), shape(34, 17, 8, 16, 4), shape(20, 5, 32, 32, 4), shape(8, 8, 16, 64, 4))
	for _, dim := range []int{1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 256} {
		shapes = append(shapes, shape(2, 1, dim, dim, 8))
	}
	for _, size := range []int{1, 3, 31, 32, 33, 127, 129} {
		shapes = append(shapes, shape(4, 2, 32, 32, size))
	}
	for name, d := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			checked := hip.Check(d)
			defer checked.Close()
			for _, g := range shapes {
				for _, format := range cacheFormatsTested {
					last := 4*g.BlockSize + 1
					s := scenario{geometry: g, format: format, learned: randomLearned(&g), spans: []scenarioSpan{
						{seed: 1, position: last, rows: 3},
						{seed: 2, position: last + 2, rows: 2, hole: func(p int) bool { return p%5 == 2 || p > 7 && p < 40 }},
					}}
					_, err := s.run(checked)
					require.NoError(t, err, "%+v %v", g, format)
				}
			}
		})
	}
}

// The scores of many rows over the same keys do not depend on how rows and
// chunks of keys are grouped.
func TestScoresOfManyRows(t *testing.T) {
	g := tiny()
	g.BlockSize, g.Heads, g.HeadDim, g.Rope.Frequencies, g.TopkBlocks = 512, 2, 1, nil, 2
	const rows = keysPerChunk + 2*rowsTogether + 7 // two chunks, and rows of more than one group
	s := scenario{geometry: g, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 1, position: 5, rows: 2}, {seed: 2, position: 0, rows: rows}}}
	for name, d := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			checked := hip.Check(d)
			defer checked.Close()
			_, err := s.run(checked)
			require.NoError(t, err)
		})
	}
}

func BenchmarkBestScores(b *testing.B) {
	const dim, n = 128, 128
	keys, queries := make([]hip.BF16, n*dim), make([]float32, 4*dim)
	for _, simd := range hip.SIMDLevels()[1:] {
		b.Run(fmt.Sprint(simd), func(b *testing.B) {
			b.SetBytes(2 * n * dim)
			args := bestScoresArgs{Queries: &queries[0], BF16: &keys[0], Dim: dim, Keys: n}
			for b.Loop() {
				bestScores(simd, &args)
			}
		})
	}
}
