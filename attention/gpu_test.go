package attention

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestEveryLaunchOnGPUs runs the scenarios with every launch checked.
func TestEveryLaunchOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		for _, s := range scenarios() {
			t.Run(s.name, func(t *testing.T) {
				_, err := s.run(checked)
				require.NoError(t, err)
			})
		}
	})
}

// TestSelectOnGPUs: the choice among many blocks is that of the reference, with ties,
// NaN, infinities, zeros of both signs, and blocks without a key.
func TestSelectOnGPUs(t *testing.T) {
	special := []float32{0, float32(math.Copysign(0, -1)), 1, 1, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
	reference := hip.NewReference()
	defer reference.Close()
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		r := rand.New(rand.NewPCG(9, 9))
		for i, blocks := range []int{1, 4, 5, 255, 256, 257, 700} {
			for _, holes := range []bool{false, true} {
				for _, specials := range []int{0, 2, 50} { // of 50 scores
					g := tiny()
					g.TopkBlocks, g.InitBlocks, g.LocalBlocks = []int{1, 4, 16}[(i+specials)%3], i%3, specials%2+i%2
					scores := randomValues(uint64(i), uint64(specials), blocks)
					for j := range scores {
						if r.IntN(50) < specials {
							scores[j] = special[r.IntN(len(special))]
						}
					}
					var presence []uint32
					if holes {
						presence = make([]uint32, wordsFor(blocks*g.BlockSize))
						for w := range presence {
							presence[w] = r.Uint32() & r.Uint32() & r.Uint32()
						}
						presence[len(presence)-1] |= 1 << ((blocks*g.BlockSize - 1) % 32) // the row's own
					}
					want := selectOn(t, reference, g, scores, presence)
					require.Equal(t, want, selectOn(t, checked, g, scores, presence), "%d blocks, holes %t, %d specials", blocks, holes, specials)
				}
			}
		}
	})
}

// TestAttendToNoNumbersOnGPUs: NaN and infinities in a key or a value reach the same
// results as on the reference, where keys are split and where rows are many.
func TestAttendToNoNumbersOnGPUs(t *testing.T) {
	test := func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		g := tiny()
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			for _, how := range []struct {
				values bool
				format CacheFormat
			}{{false, CacheBF16}, {true, CacheBF16}, {false, CacheFP8}, {true, CacheFP8}} {
				for _, rows := range attendRows(&g, how.format, d) {
					values := how.values
					s := scenario{geometry: g, format: how.format, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 1, position: 9, rows: rows}}}
					s.edit = func(_, position int, columns []float32) {
						at := g.Heads * g.HeadDim
						if values {
							at += g.KVHeads * g.HeadDim
						}
						if position == 6 {
							columns[at+3] = float32(bad)
						}
					}
					_, err := s.run(checked)
					require.NoError(t, err, "%d rows, %v, in values %t, %v", rows, bad, values, how.format)
				}
			}
		}
	}
	hiptest.OnGPUs(t, test)
	hiptest.OnGPUs(t, test, "gfx1100", "gfx1200")
}
