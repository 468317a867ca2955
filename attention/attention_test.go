package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func scenarios() []scenario {
	var all []scenario
	add := func(name string, g Geometry, spans ...scenarioSpan) {
		for i := range spans {
			spans[i].seed = uint64(i + 1)
		}
		for _, format := range cacheFormatsTested {
			if format == CacheFP8Index && g.dense() {
				continue // there are no index keys
			}
			all = append(all, scenario{name: name + " " + format.String(), geometry: g, format: format, learned: randomLearned(&g), spans: spans})
		}
	}
	for _, rows := range []int{1, 2, 3, 63, 64, 65} {
		add(fmt.Sprintf("tiny prefill of %d", rows), tiny(), scenarioSpan{rows: rows})
	}
	add("tiny decode", tiny(), scenarioSpan{position: 61, rows: 1})
	add("tiny ragged", tiny(), scenarioSpan{position: 0, rows: 3}, scenarioSpan{position: 29, rows: 1}, scenarioSpan{position: 14, rows: 5})
	add("tiny holes", tiny(),
		scenarioSpan{position: 40, rows: 3, hole: func(p int) bool { return p%3 == 1 || p >= 12 && p < 30 }},
		scenarioSpan{position: 35, rows: 2},
		scenarioSpan{position: 20, rows: 1, hole: func(p int) bool { return true }},
	)
	odd := tiny()
	odd.Heads, odd.HeadDim, odd.IndexDim, odd.BlockSize = 10, 24, 17, 3
	add("odd sizes", odd, scenarioSpan{position: 31, rows: 4})
	plain := tiny()
	plain.Rope.Frequencies, plain.InitBlocks, plain.LocalBlocks = nil, 0, 0
	add("no rotation, nothing forced", plain, scenarioSpan{position: 50, rows: 2})
	crowded := tiny()
	crowded.InitBlocks, crowded.LocalBlocks = 3, 4
	add("more forced than chosen", crowded, scenarioSpan{position: 60, rows: 2})
	stretched := tiny()
	stretched.Rope.AttentionFactor = 1.25
	add("attention factor", stretched, scenarioSpan{position: 30, rows: 2})
	for _, position := range []int{127, 128, 129} {
		add(fmt.Sprintf("released at %d", position), released(), scenarioSpan{position: position, rows: 1})
	}
	few := released()
	few.TopkBlocks = 2
	add("released, two blocks of four", few, scenarioSpan{position: 400, rows: 2})
	add("dense prefill", dense(tiny()), scenarioSpan{rows: 65})
	add("dense ragged", dense(tiny()), scenarioSpan{rows: 3}, scenarioSpan{position: 61, rows: 1}, scenarioSpan{position: 14, rows: 5})
	add("dense holes", dense(tiny()),
		scenarioSpan{position: 40, rows: 3, hole: func(p int) bool { return p%3 == 1 || p >= 12 && p < 30 }},
		scenarioSpan{position: 20, rows: 1, hole: func(p int) bool { return true }},
	)
	add("dense, odd sizes", dense(odd), scenarioSpan{position: 31, rows: 4})
	add("dense, released", dense(released()), scenarioSpan{position: 400, rows: 2}, scenarioSpan{position: 0, rows: 1})
	return all
}

// The bound is a few roundings to float32 of sums of some hundred terms.
const naiveBound = 1e-6

func TestReferenceAgainstFormulas(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("one goroutine over plain twins has no races to find")
	}
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			d := hip.NewReference()
			defer d.Close()
			got, err := s.run(d)
			require.NoError(t, err)
			want := s.naive()
			bound := naiveBound
			if s.format != CacheF32 {
				bound = 1e-3 // a float32 that sits on an edge of the format may go either way
			}
			require.NoError(t, hiptest.Within(got.qkv, want.qkv, naiveBound), "projection")
			require.NoError(t, hiptest.Within(got.scores, want.scores, bound), "scores")
			require.Equal(t, want.selected, got.selected, "selected")
			require.NoError(t, hiptest.Within(got.out, want.out, bound), "out")
			_, live := hiptest.InUse(d)
			require.Zero(t, live)
		})
	}
}

func TestHostAgainstReference(t *testing.T) {
	for name, d := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			hiptest.Compare(t, d, scenarioCases()...)
		})
	}
}

// scenarioCases are the stages of all scenarios, each a case.
func scenarioCases() []hiptest.Case {
	var cases []hiptest.Case
	for _, s := range scenarios() {
		bound := 1e-5
		if s.format != CacheF32 {
			bound = 1e-3 // as above
		}
		for _, stage := range []struct {
			name   string
			floats func(r *results) []float32
		}{
			{"projection", func(r *results) []float32 { return r.qkv }},
			{"scores", func(r *results) []float32 { return r.scores }},
			{"out", func(r *results) []float32 { return r.out }},
		} {
			if s.geometry.dense() && stage.name == "scores" {
				continue // there are none
			}
			cases = append(cases, hiptest.Case{Name: s.name + " " + stage.name, MaxError: bound, Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
				var r *results
				run := func() (err error) { r, err = s.run(d); return err }
				return run, func() ([]float32, []int32, error) { return stage.floats(r), r.selected, nil }
			}})
		}
	}
	return cases
}

func TestEveryLaunchAgainstReference(t *testing.T) {
	for name, host := range hiptest.Hosts(3) {
		d := hip.Check(host)
		for _, s := range scenarios() {
			t.Run(name+" "+s.name, func(t *testing.T) {
				_, err := s.run(d)
				require.NoError(t, err)
			})
		}
		require.NoError(t, d.Close())
	}
}

// What shares a pass does not change a bit of the results.
func TestRaggedBatchEqualsSingleSequences(t *testing.T) {
	for _, name := range []string{"tiny ragged F32", "tiny ragged BF16", "tiny ragged FP8", "tiny ragged FP8, index keys too", "tiny holes BF16", "dense ragged BF16", "dense holes F32"} {
		all := scenarios()
		s := all[slices.IndexFunc(all, func(s scenario) bool { return s.name == name })]
		for _, d := range []hip.Device{hip.NewReference(), hip.NewHost()} {
			t.Run(name+" "+d.Info().Kind, func(t *testing.T) {
				defer d.Close()
				together, err := s.run(d)
				require.NoError(t, err)
				var qkv, out []float32
				var selected []int32
				for i := range s.spans {
					single := s
					single.spans = s.spans[i : i+1]
					alone, err := single.run(d)
					require.NoError(t, err)
					qkv, out, selected = append(qkv, alone.qkv...), append(out, alone.out...), append(selected, alone.selected...)
				}
				require.Equal(t, qkv, together.qkv)
				require.Equal(t, selected, together.selected)
				require.Equal(t, out, together.out)
			})
		}
	}
}

// With room for every block the selection is all of them, and scores do not
// matter: attention is dense.
func TestEveryBlockIsDenseAttention(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := tiny()
		g.TopkBlocks = 16
		s := scenario{geometry: g, format: CacheF32, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 1, position: 60, rows: 4}}}
		got, err := s.run(d)
		require.NoError(t, err)
		s.geometry.TopkBlocks, s.geometry.InitBlocks = 1000, 1000 // the formulas, told to take all
		require.NoError(t, hiptest.Within(got.out, s.naive().out, 1e-5))
	})
}

// Sizes that are rounded up change nothing but the stride of the scores, where
// there is nothing after the last block.
func TestRoundedSizes(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := tiny()
		s := scenario{geometry: g, learned: randomLearned(&g), spans: []scenarioSpan{
			{seed: 1, position: 33, rows: 2}, {seed: 2, position: 5, rows: 1, hole: func(p int) bool { return p == 2 }},
		}}
		want, err := s.run(d)
		require.NoError(t, err)
		s.granule = 16
		got, err := s.run(d)
		require.NoError(t, err)
		require.Equal(t, []int{9, 16}, []int{want.blocks, got.blocks})
		require.Equal(t, want.selected, got.selected)
		require.Equal(t, want.out, got.out)
		for i := range want.scores {
			require.Equal(t, want.scores[i], got.scores[i/9*16+i%9])
		}
		for i, score := range got.scores {
			require.True(t, i%16 < 9 || math.IsInf(float64(score), -1))
		}
	})
}
