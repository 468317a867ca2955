package mtp_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// TestTruncate: rows that were dropped leave no trace, whatever they held and
// wherever the cut falls.
func TestTruncate(t *testing.T) {
	const n = 19
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache := newCache(t, head, 12)
	x, other := randomPassage(1, n), randomPassage(2, n)
	want := forward(t, head, x.batch(cache.NewSequence(), 0, n), 0)
	free := cache.FreePages()
	for _, at := range []int{0, 1, 3, 4, 5, 8, 17, 18} {
		s := cache.NewSequence()
		forward(t, head, other.batch(s, 0, n), 0)
		forward(t, head, x.batch(s, 0, at+1), 0) // one row too many
		require.NoError(t, s.Truncate(at))
		require.Equal(t, at, s.Len())
		require.Equal(t, free-(at+blockSize-1)/blockSize, cache.FreePages(), "pages after %d go back", at)
		require.Equal(t, want[at*hiddenSize:], forward(t, head, x.batch(s, at, n), 0), "truncated at %d", at)
		require.NoError(t, s.Close())
	}
	require.Equal(t, free, cache.FreePages())
}

// TestTruncateDraft: a draft on rows that were cut back is that of a sequence
// which never had the others.
func TestTruncateDraft(t *testing.T) {
	const n, at = 17, 9
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache := newCache(t, head, 20)
			x, other := randomPassage(3, n), randomPassage(4, n)
			fresh, used := cache.NewSequence(), cache.NewSequence()
			draft(t, head, other.batch(used, 0, n), 4)
			require.NoError(t, used.Truncate(0))
			draft(t, head, x.batch(used, 0, at), 4)
			draft(t, head, other.batch(used, at, n), 4)
			require.NoError(t, used.Truncate(at))
			draft(t, head, x.batch(fresh, 0, at), 4)
			require.Equal(t, draft(t, head, x.batch(fresh, at, n), 4), draft(t, head, x.batch(used, used.Resume(), n), 4))
		})
	}
}

// TestFork: two sides of a fork share pages until one writes, and then each is
// as if it had been alone.
func TestFork(t *testing.T) {
	const split, n = 10, 17 // the split is inside of a page
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache := newCache(t, head, 24)
	x, y := randomPassage(5, n), randomPassage(6, n)
	copy(y.hidden, x.states(0, split))
	copy(y.tokens, x.tokens[:split+1])
	wantX := forward(t, head, x.batch(cache.NewSequence(), 0, n), 0)[split*hiddenSize:]
	wantY := forward(t, head, y.batch(cache.NewSequence(), 0, n), 0)[split*hiddenSize:]
	free := cache.FreePages()

	left := cache.NewSequence()
	forward(t, head, x.batch(left, 0, split), 0)
	right, err := left.Fork()
	require.NoError(t, err)
	require.Equal(t, split, right.Len())
	require.Equal(t, left.BlockTable(), right.BlockTable(), "shared")
	require.Equal(t, free-3, cache.FreePages())

	require.Equal(t, wantY, forward(t, head, y.batch(right, split, n), 0))
	require.Equal(t, left.BlockTable()[:2], right.BlockTable()[:2], "full pages stay shared")
	require.NotEqual(t, left.BlockTable()[2], right.BlockTable()[2], "the written one is copied")
	require.Equal(t, wantX, forward(t, head, x.batch(left, split, n), 0))
	require.NoError(t, left.Close())
	require.Equal(t, wantY[(n-split-1)*hiddenSize:], forward(t, head, y.batch(right, n-1, n), 0), "the other side is still there")
	require.NoError(t, right.Close())
	require.Equal(t, free, cache.FreePages())
}

// TestForkDraft: both sides of a fork draft what a sequence alone would.
func TestForkDraft(t *testing.T) {
	const split, n = 10, 15
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache := newCache(t, head, 32)
			x, y := randomPassage(7, n), randomPassage(8, n)
			copy(y.hidden, x.states(0, split))
			copy(y.tokens, x.tokens[:split+1])
			var want []drafted
			for _, p := range []passage{x, y} {
				s := cache.NewSequence()
				draft(t, head, p.batch(s, 0, split), 3)
				want = append(want, draft(t, head, p.batch(s, split, n), 4))
			}
			left := cache.NewSequence()
			draft(t, head, x.batch(left, 0, split), 3)
			right, err := left.Fork()
			require.NoError(t, err)
			both := draft(t, head, join(y.batch(right, split, n), x.batch(left, split, n)), 4)
			require.Equal(t, want, []drafted{both.one(1), both.one(0)})
		})
	}
}

// TestPagesAreClean: what a sequence left in its pages, NaN too, is not seen by
// the next one that gets them.
func TestPagesAreClean(t *testing.T) {
	const n = 18
	for _, format := range []attention.CacheFormat{attention.CacheBF16, attention.CacheF32} {
		head := load(t, synthetic{}.files(t), mtp.Options{CacheFormat: format})
		x := randomPassage(9, n)
		want := draft(t, head, x.batch(newCache(t, head, 6).NewSequence(), 0, n), 4)

		cache := newCache(t, head, 6)
		dirty, bad := cache.NewSequence(), randomPassage(10, 24)
		for i := range bad.hidden {
			bad.hidden[i] = float32(math.NaN())
		}
		forward(t, head, bad.batch(dirty, 0, 24), 0)
		require.Zero(t, cache.FreePages())
		require.NoError(t, dirty.Close())
		require.Equal(t, want, draft(t, head, x.batch(cache.NewSequence(), 0, n), 4), "%v", format)
	}
}

// TestNaNStaysInItsSequence: a sequence with hidden states that are not numbers changes no
// bit of the others in its batch, nor of later rows elsewhere.
func TestNaNStaysInItsSequence(t *testing.T) {
	const n = 14
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache := newCache(t, head, 48)
			x, y, bad := randomPassage(11, n), randomPassage(12, n), randomPassage(13, n)
			want := []drafted{
				draft(t, head, x.batch(cache.NewSequence(), 0, n), 4), draft(t, head, y.batch(cache.NewSequence(), 0, n), 4),
			}
			bad.hidden[(n-2)*hiddenSize+5] = float32(math.NaN())
			bad.hidden[(n-1)*hiddenSize] = float32(math.Inf(1))
			for _, least := range []float64{0, 1e-9} {
				b := withDrafts(join(x.batch(cache.NewSequence(), 0, n), bad.batch(cache.NewSequence(), 0, n), y.batch(cache.NewSequence(), 0, n)), 4)
				got, err := head.Draft(t.Context(), atLeast(b, least))
				require.NoError(t, err)
				require.Equal(t, mtp.Draft{Err: mtp.ErrNaN}, got[1], "a row without numbers")
				for i, d := range []mtp.Draft{got[0], got[2]} {
					require.Equal(t, want[i], drafted{d})
				}
				for _, rows := range b.Sequences {
					require.Equal(t, n, rows.Sequence.Len(), "rows are committed all the same")
					require.NoError(t, rows.Sequence.Close())
				}
			}
		})
	}
}

// TestForwardWithin: rows before the end of a sequence are overwritten at their positions
// alone. Those after them stay as they were, and so does Len.
func TestForwardWithin(t *testing.T) {
	const n, at, rows = 10, 5, 2
	d := openDevice(t, hip.NewReference())
	head := load(t, synthetic{modules: 2}.files(t), mtp.Options{Device: d, Chain: mtp.ChainFirst, CacheFormat: attention.CacheF32})
	cache, x, other := newCache(t, head, 3), randomPassage(14, n), randomPassage(15, n)
	s := cache.NewSequence()
	indexKeys := func(module int) (byPosition [n][]float32) {
		data, pageBytes, err := cache.Buffers(module)
		require.NoError(t, err)
		values := make([]float32, int(pageBytes[2])/4*cache.Pages())
		require.NoError(t, hip.ReadOf(d, values, data[2]))
		width := len(values) / cache.Pages() / blockSize
		for p := range byPosition {
			slot := int(s.BlockTable()[p/blockSize])*blockSize + p%blockSize
			byPosition[p] = values[slot*width : (slot+1)*width]
		}
		return byPosition
	}
	forward(t, head, x.batch(s, 0, n), 0)
	forward(t, head, x.batch(s, 0, n), 1)
	before := [2][n][]float32{indexKeys(0), indexKeys(1)}
	forward(t, head, other.batch(s, at, at+rows), 0)
	require.Equal(t, n, s.Len())
	require.Equal(t, before[1], indexKeys(1), "another module's")
	for p, keys := range indexKeys(0) {
		require.Equal(t, p >= at && p < at+rows, !slices.Equal(before[0][p], keys), "position %d", p)
	}
}
