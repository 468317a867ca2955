package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestRaggedOnEmulations: sequences at different points, of one to nine rows each, get
// the hidden states and drafts of the reference, in two rounds of Forward and of Draft.
// Where the rule allows it they come with block tables as well.
func TestRaggedOnEmulations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	for i, c := range []chainCase{chainCases[0], chainCases[4], chainCases[5], chainCases[7]} {
		format := []string{"BF16", "MXFP8"}[i%2]
		t.Run(c.name+"/"+format, func(t *testing.T) {
			files := synthetic{modules: c.modules, format: format}.files(t)
			run := func(t *testing.T, d hip.Device) raggedResults {
				options := c.options()
				options.Device = d
				head := load(t, files, options)
				defer func() { require.NoError(t, head.Close()) }()
				r := runRagged(t, head, false)
				if i < 2 { // the chains that need no Sequence
					require.Equal(t, r, runRagged(t, head, true), "with block tables")
				}
				return r
			}
			want := run(t, openDevice(t, hip.NewReference()))
			hiptest.OnEmulations(t, func(t *testing.T, _, _ int, d hip.Device) {
				got := run(t, d)
				for round := range want.hidden {
					require.NoError(t, hiptest.Within(got.hidden[round], want.hidden[round], 2e-3), "Forward, round %d", round)
					require.Equal(t, want.drafts[round].ids(), got.drafts[round].ids(), "Draft, round %d", round)
					for s, probs := range want.drafts[round].probs() {
						require.NoError(t, hiptest.Within(got.drafts[round].probs()[s], probs, 2e-3), "Draft, round %d", round)
					}
				}
			})
		})
	}
}

// raggedResults are those of two rounds of Forward, and of two of Draft.
type raggedResults struct {
	hidden [2][]float32
	drafts [2]drafted
}

// runRagged runs four sequences together, or as many block tables.
func runRagged(t *testing.T, head *mtp.Head, tables bool) (r raggedResults) {
	t.Helper()
	rounds := [][2]int{{1, 3}, {9, 10}, {5, 12}, {16, 17}} // rows after each round
	const pages = 7                                        // of a sequence with its drafts
	for _, drafts := range []bool{false, true} {
		cache := newCache(t, head, len(rounds)*pages)
		var batches [2][]*mtp.Batch
		for i, rows := range rounds {
			x, from := randomPassage(uint64(50+i), rows[1]), 0
			var seq *mtp.Sequence
			if !tables {
				seq = cache.NewSequence()
			}
			for round, end := range rows {
				b := x.batch(seq, from, end)
				if tables {
					for page := range int32(pages) { // dealt out in turn, from the last one down
						b.Sequences[0].BlockTable = append(b.Sequences[0].BlockTable, int32(cache.Pages()-1)-page*int32(len(rounds))-int32(i))
					}
				}
				batches[round], from = append(batches[round], b), end
			}
		}
		for round := range batches {
			b := join(batches[round]...)
			if tables {
				b.Cache = cache
			}
			if drafts {
				r.drafts[round] = draft(t, head, b, 3+round)
			} else {
				r.hidden[round] = forward(t, head, b, 0)
			}
		}
		require.NoError(t, cache.Close())
	}
	return r
}
