package mtp_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/mtp"
)

// draftEnd is one past the last position that Draft's documentation says it writes.
func draftEnd(c chainCase, position, rows, k int) int {
	if c.aligned() {
		return position + rows
	}
	return position + rows + max(0, k-1)
}

// TestDraftNeedsPages: as many as the documentation says, and not one less.
func TestDraftNeedsPages(t *testing.T) {
	const rows = 7
	x := randomPassage(40, rows)
	for _, c := range []chainCase{chainCases[0], chainCases[5], chainCases[7]} {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			for k := range 5 {
				pages := (draftEnd(c, 0, rows, k) + blockSize - 1) / blockSize
				draft(t, head, x.batch(newCache(t, head, pages).NewSequence(), 0, rows), k)
				_, _, err := draftOf(t.Context(), head, x.batch(newCache(t, head, pages-1).NewSequence(), 0, rows), k)
				var full *attention.CacheFullError
				require.ErrorAs(t, err, &full, "k %d", k)
				require.Equal(t, pages, full.Need, "k %d", k)
			}
		})
	}
}

// TestDraftNeedsPositions: a chain may come to the last position and no further. One
// sequence there refuses the batch, in the same words whether it has a table or not, and
// a lower k is what helps.
func TestDraftNeedsPositions(t *testing.T) {
	const at = maxTokens - 3
	x := randomPassage(41, maxTokens+1)
	for _, c := range []chainCase{chainCases[0], chainCases[5], chainCases[7]} {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache := newCache(t, head, 2*maxTokens/blockSize)
			long, short := cache.NewSequence(), cache.NewSequence()
			draft(t, head, x.batch(long, 0, at), 0)
			batch := func(rows int) *mtp.Batch { return join(x.batch(short, 0, 2), x.batch(long, at, at+rows)) }
			for rows := 1; rows <= 4; rows++ {
				for k := range 5 {
					if draftEnd(c, at, rows, k) <= maxTokens {
						continue
					}
					_, _, err := draftOf(t.Context(), head, batch(rows), k)
					var position *attention.PositionError
					require.ErrorAs(t, err, &position, "%d rows, k %d", rows, k)
					require.Equal(t, attention.PositionError{Position: draftEnd(c, at, rows, k) - 1, Limit: maxTokens}, *position)
					require.ErrorContains(t, err, "sequence 1: rows at positions 93 to ")
					require.Equal(t, []int{0, at}, []int{short.Len(), long.Len()})
				}
			}
			require.LessOrEqual(t, draftEnd(c, at, 1, 3), maxTokens)
			draft(t, head, batch(1), 3)
			require.Equal(t, at+1, long.Len())
		})
	}
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache := newCache(t, head, maxTokens/blockSize)
	b := x.batch(nil, at, at+1)
	b.Cache = cache
	for page := range int32(maxTokens / blockSize) {
		b.Sequences[0].BlockTable = append(b.Sequences[0].BlockTable, page)
	}
	_, _, err := draftOf(t.Context(), head, b, 4)
	require.EqualError(t, err, "sequence 0: rows at positions 93 to 93, and with k 4 drafts to 96: position out of range: position 96, want 0 to 95")
	draft(t, head, b, 3)
	b.Sequences[0].Position = math.MaxInt
	_, err = head.Forward(t.Context(), b, 0)
	require.ErrorIs(t, err, attention.ErrPosition)
}
