package mtp_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// layouts are the checkpoints that every forward must get right.
var layouts = []synthetic{
	{format: "F32"}, {format: "BF16", bundled: true, modules: 3}, {format: "MXFP8", modules: 3}, {format: "MXFP8", bundled: true},
}

func (s synthetic) String() string {
	return fmt.Sprintf("%s/bundled=%v/modules=%d", s.format, s.bundled, max(s.modules, 1))
}

// TestForwardEqualsOracle: hidden states and logits of every module against
// float64 matrices. The host's products keep float32, so one bound holds for both.
func TestForwardEqualsOracle(t *testing.T) {
	const n = 30
	for _, layout := range layouts {
		t.Run(layout.String(), func(t *testing.T) {
			files := layout.files(t)
			want, x := oracle(t, files), randomPassage(7, n)
			for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(4)} {
				head := load(t, files, mtp.Options{Device: openDevice(t, d), CacheFormat: attention.CacheF32})
				s := newCache(t, head, 8).NewSequence()
				for step := range 2 * max(layout.modules, 1) {
					tokens, hidden := x.prompt(n)
					positions := make([]int, n)
					for p := range positions {
						positions[p] = p
					}
					stages, err := want.Forward(step%max(layout.modules, 1), tokens[1:], positions, hidden)
					require.NoError(t, err)
					got := forward(t, head, x.batch(s, 0, n), step)
					require.NoError(t, hiptest.Within(got, float32s(stages["hidden"]), 1e-5), "%s, step %d", d.Info().Kind, step)
					logits, err := head.Logits(t.Context(), mtp.Hidden{Float32: got}, nil, step)
					require.NoError(t, err)
					require.NoError(t, hiptest.Within(logits, float32s(stages["logits"]), 1e-5), "%s, step %d", d.Info().Kind, step)
				}
			}
		})
	}
}

// TestForwardDenseEqualsSparse: where top-k covers all blocks, selection changes nothing.
func TestForwardDenseEqualsSparse(t *testing.T) {
	const n = 24
	x := randomPassage(3, n)
	run := func(topBlocks int, observe func(mtp.Stage)) []float32 {
		head := load(t, synthetic{topBlocks: topBlocks}.files(t), mtp.Options{})
		b := x.batch(newCache(t, head, 6).NewSequence(), 0, n)
		b.Observe = observe // makes the scores be computed where they change nothing
		return forward(t, head, b, 0)
	}
	dense := run(64, nil)
	require.Equal(t, dense, run(n/blockSize, nil))
	require.Equal(t, dense, run(n/blockSize, func(mtp.Stage) {}), "with scores")
	sparse := run(2, nil)
	require.Equal(t, dense[:2*blockSize*hiddenSize], sparse[:2*blockSize*hiddenSize])
	require.NotEqual(t, dense, sparse, "two of six blocks are not all")
}

// cuts are ways to run 21 positions in pieces.
var cuts = map[string][]int{
	"row by row": nil,
	"uneven":     {1, 4, 9, 10, 16, 21},
	"at blocks":  {4, 8, 20, 21},
	"two halves": {11, 21},
}

// ends returns where a cut's pieces end; a nil cut is one of single rows.
func ends(cut []int, n int) []int {
	if cut == nil {
		for i := range n {
			cut = append(cut, i+1)
		}
	}
	return cut
}

func TestForwardInPieces(t *testing.T) {
	const n = 21
	x := randomPassage(4, n)
	for _, layout := range layouts {
		head := load(t, layout.files(t), mtp.Options{})
		cache := newCache(t, head, 12)
		whole := cache.NewSequence()
		want := forward(t, head, x.batch(whole, 0, n), 0)
		for name, cut := range cuts {
			t.Run(layout.String()+"/"+name, func(t *testing.T) {
				s := cache.NewSequence()
				defer s.Close()
				var got []float32
				for _, end := range ends(cut, n) {
					got = append(got, forward(t, head, x.batch(s, s.Len(), end), 0)...)
					require.Equal(t, end, s.Len())
				}
				require.Equal(t, want, got)
			})
		}
	}
}

// TestForwardRagged: a batch of several sequences gives each the bits that it
// gets alone, whatever the others are.
func TestForwardRagged(t *testing.T) {
	starts, lengths := []int{7, 0, 3, 12}, []int{1, 5, 9, 2}
	for _, layout := range layouts {
		t.Run(layout.String(), func(t *testing.T) {
			head := load(t, layout.files(t), mtp.Options{})
			cache := newCache(t, head, 32)
			var alone []float32
			var parts []*mtp.Batch
			for i, start := range starts {
				x, end := randomPassage(uint64(20+i), 20), start+lengths[i]
				for _, together := range []bool{false, true} {
					s := cache.NewSequence()
					if start > 0 {
						forward(t, head, x.batch(s, 0, start), 0)
					}
					if together {
						parts = append(parts, x.batch(s, start, end))
					} else {
						alone = append(alone, forward(t, head, x.batch(s, start, end), 0)...)
					}
				}
			}
			require.Equal(t, alone, forward(t, head, join(parts...), 0))
			for i := range parts {
				require.Equal(t, starts[i]+lengths[i], parts[i].Sequences[0].Sequence.Len())
			}
		})
	}
}

// TestForwardBlockTable: an engine's own table instead of a sequence.
func TestForwardBlockTable(t *testing.T) {
	const n = 18
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{})
	x := randomPassage(5, n)
	want := forward(t, head, x.batch(newCache(t, head, 5).NewSequence(), 0, n), 1)

	cache := newCache(t, head, 9)
	table := []int32{7, 0, 3, 8, 1} // pages that the engine hands out itself
	engine := func(from, to int) *mtp.Batch {
		b := x.batch(nil, from, to)
		b.Sequences[0].BlockTable, b.Cache = table, cache
		return b
	}
	got := forward(t, head, engine(0, 11), 1)
	got = append(got, forward(t, head, engine(11, n), 1)...)
	require.Equal(t, want, got)
	require.Equal(t, cache.Pages(), cache.FreePages(), "the engine's pages are not the cache's to count")
}

// TestForwardSteps: step s runs module s mod n in the module's own cache layer.
func TestForwardSteps(t *testing.T) {
	const n = 9
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{})
	cache, x := newCache(t, head, 6), randomPassage(6, n)
	s := cache.NewSequence()
	var by [3][]float32
	for module := range by {
		by[module] = forward(t, head, x.batch(s, 0, n), module)
	}
	require.NotEqual(t, by[0], by[1])
	require.NotEqual(t, by[1], by[2])
	require.Equal(t, by[1], forward(t, head, x.batch(s, 0, n), 1), "the other modules left its layer alone")
	require.Equal(t, by[2][(n-1)*hiddenSize:], forward(t, head, x.batch(s, n-1, n), 5))
}
