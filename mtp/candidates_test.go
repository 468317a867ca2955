package mtp_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestTopK: candidates are those of Logits' softmax, or of the tokens that Draft may
// pick from, and the first of them is what Draft picks.
func TestTopK(t *testing.T) {
	const n, k = 5, 4
	x := randomPassage(81, n)
	files := synthetic{modules: 3}.files(t)
	for _, vocabulary := range [][]int32{nil, {40, 1, 7, 3, 22, 30}} {
		head := load(t, files, mtp.Options{Chain: mtp.ChainFirst, DraftVocabulary: vocabulary})
		cache := newCache(t, head, 4)
		hidden := mtp.Hidden{Float32: forward(t, head, x.batch(cache.NewSequence(), 0, n), 0)}
		ids, probs, err := head.TopK(t.Context(), hidden, []int{4, 0, 4}, 0, k)
		require.NoError(t, err)
		require.Len(t, ids, 3*k)
		logits, err := head.Logits(t.Context(), hidden, []int{4, 0}, 0)
		require.NoError(t, err)
		for r := range 2 {
			row, known := logits[r*vocabSize:(r+1)*vocabSize], slices.Sorted(slices.Values(vocabulary))
			if vocabulary == nil {
				for id := range int32(vocabSize) {
					known = append(known, id)
				}
			}
			var some []float32
			for _, id := range known {
				some = append(some, row[id])
			}
			slices.SortStableFunc(known, func(a, b int32) int {
				switch {
				case row[a] > row[b]:
					return -1
				case row[a] < row[b]:
					return 1
				}
				return 0
			})
			require.Equal(t, known[:k], ids[r*k:(r+1)*k])
			for i, id := range known[:k] {
				at := slices.Index(some, row[id])
				require.NoError(t, hiptest.Within(probs[r*k+i:r*k+i+1], []float32{softmaxAt(some, at)}, 1e-5))
			}
		}
		require.Equal(t, ids[:k], ids[2*k:], "a row that was asked for twice")
		require.Equal(t, probs[:k], probs[2*k:])
		first := draft(t, head, x.batch(cache.NewSequence(), 0, n), 1)
		require.Equal(t, first.ids()[0][0], ids[0])
		require.Equal(t, first.probs()[0][0], probs[0])
	}
}

func TestTopKRefuses(t *testing.T) {
	head := load(t, synthetic{modules: 1}.files(t), mtp.Options{DraftVocabulary: []int32{1, 2, 3}})
	hidden := mtp.Hidden{Float32: make([]float32, hiddenSize)}
	for _, k := range []int{-1, 0, 4, 65} {
		_, _, err := head.TopK(t.Context(), hidden, nil, 0, k)
		var input *mtp.InputError
		require.ErrorAs(t, err, &input)
		require.Equal(t, []any{"k", k, "1 to 3"}, []any{input.Field, input.Got, input.Want})
	}
	_, _, err := head.TopK(t.Context(), hidden, []int{1}, 0, 1)
	require.ErrorIs(t, err, mtp.ErrInput)
	ids, probs, err := head.TopK(t.Context(), hidden, []int{}, 0, 1)
	require.NoError(t, err)
	require.Empty(t, ids)
	require.Empty(t, probs)
	require.NoError(t, head.Close())
	_, _, err = head.TopK(t.Context(), hidden, nil, 0, 1)
	require.ErrorIs(t, err, mtp.ErrClosed)
}
