package attention

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestBatchLayout(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		c, err := NewCache(d, tiny(), 1, 20, CacheBF16)
		require.NoError(t, err)
		b := NewBatch(c)
		require.NoError(t, b.Upload(
			Span{BlockTable: []int32{5, 9, 7, 3}, Position: 7, Rows: 2}, // the last entry is not needed
			Span{BlockTable: []int32{2}, Presence: []uint32{0b1011, 99}, Position: 3, Rows: 1},
		))
		require.Equal(t, 3, b.Rows())
		require.Equal(t, 3, b.Blocks())
		require.Equal(t, []int32{
			7, 8, 3, // positions
			0, 0, 1, // sequences
			9*4 + 3, 7 * 4, 2*4 + 3, // slots
			0, 3, // table offsets
			-1, 0, // presence offsets
			5, 9, 7, 2, // block tables
			0b1011, // presence words
		}, get[int32](t, d, b.words, len(b.staging)))

		require.NoError(t, b.Upload())
		require.Zero(t, b.Rows())
		require.NoError(t, b.Close())
		require.NoError(t, b.Close(), "again")
		require.NoError(t, c.Close())
	})
}

// Several batches lie in one upload, after words of the caller's own.
func TestBatchesEncodedTogether(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		c, err := NewCache(d, tiny(), 1, 20, CacheBF16)
		require.NoError(t, err)
		first := NewBatch(c)
		second := first.Another()
		words, err := first.Encode([]int32{-7}, 1, Span{BlockTable: []int32{5, 9}, Position: 7, Rows: 1})
		require.NoError(t, err)
		at := len(words)
		words, err = second.Encode(words, 4, Span{BlockTable: []int32{2, 3}, Presence: []uint32{0b10111}, Position: 4, Rows: 1})
		require.NoError(t, err)
		require.Equal(t, []int32{
			-7,
			7, 0, 9*4 + 3, 0, -1, 5, 9,
			4, 0, 3 * 4, 0, 0, 2, 3, 0, 0, 0b10111, 0, 0, 0,
		}, words)
		require.Equal(t, []int{1, 2, 1, 4}, []int{first.Rows(), first.Blocks(), second.Rows(), second.Blocks()})

		p, err := hip.Upload(d, words)
		require.NoError(t, err)
		first.Place(p.Add(4))
		second.Place(p.Add(4 * int64(at)))
		require.Equal(t, []int32{7}, get[int32](t, d, first.Positions(), 1))
		require.Equal(t, []int32{4}, get[int32](t, d, second.On(d).Positions(), 1))

		same, err := second.Encode(words, 4, Span{Rows: 1})
		require.ErrorIs(t, err, ErrArgument)
		require.Equal(t, words, same)
		require.Zero(t, second.Rows())
		require.NoError(t, errors.Join(first.Close(), second.Close(), d.Free(p), c.Close()))
	})
}

// Uploads of a size seen before allocate nothing, on the device or in Go.
func TestBatchIsReused(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 1000, CacheBF16)
	b := NewBatch(c)
	table := make([]int32, 1000)
	for i := range table {
		table[i] = int32(i)
	}
	spans := []Span{{BlockTable: table, Position: 3000, Rows: 900}}
	require.NoError(t, b.Upload(spans...))
	buffer, capacity := b.words, b.capacity
	for rows := 1; rows <= 900; rows += 31 {
		spans[0].Rows = rows
		require.Zero(t, testing.AllocsPerRun(3, func() { _ = b.Upload(spans...) }), "rows %d", rows)
	}
	require.Equal(t, buffer, b.words)
	spans[0].Position, spans[0].Rows = 2000, 2000
	require.NoError(t, b.Upload(spans...))
	require.GreaterOrEqual(t, b.capacity, 2*capacity, "growth is by doubling")
	require.NoError(t, b.Close())
	require.NoError(t, c.Close())
	_, live := d.(hip.Accountant).InUse()
	require.Zero(t, live)
}

func TestRefusedSpans(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny()
	g.Rope.MaxPosition = 50
	c := newCache(t, d, g, 1, 20, CacheBF16)
	b := NewBatch(c)
	table := make([]int32, 20)
	for i := range table {
		table[i] = int32(i)
	}
	tests := []struct {
		name     string
		span     Span
		sentinel error
		contains string
	}{
		{"negative position", Span{BlockTable: table, Position: -1, Rows: 1}, ErrPosition, "position -1"},
		{"position past the rotation", Span{BlockTable: table, Position: 50, Rows: 1}, ErrPosition, "position 50, want 0 to 49"},
		{"last row past the rotation", Span{BlockTable: table, Position: 48, Rows: 3}, ErrPosition, "position 50, want 0 to 49"},
		{"rows that overflow", Span{BlockTable: table, Position: 1, Rows: int(^uint(0) >> 1)}, ErrPosition, "want 0 to 49"},
		{"no rows", Span{BlockTable: table}, ErrArgument, "rows is 0"},
		{"short table", Span{BlockTable: table[:2], Position: 8, Rows: 1}, ErrArgument, "block table is of 2 blocks, want at least 3"},
		{"no table", Span{Rows: 1}, ErrArgument, "block table is of 0 blocks"},
		{"negative page", Span{BlockTable: []int32{3, -1}, Position: 4, Rows: 1}, ErrArgument, "block table[1] is -1"},
		{"page past the cache", Span{BlockTable: []int32{20, 1}, Position: 4, Rows: 1}, ErrArgument, "block table[0] is 20, want a page, 0 to 19"},
		{"page given twice", Span{BlockTable: []int32{3, 3}, Rows: 5}, ErrArgument, "no other rows"},
		{"short presence", Span{BlockTable: table, Presence: []uint32{1}, Position: 32, Rows: 1}, ErrArgument, "presence is of 1 words, want at least 2"},
		{"row that is not present", Span{BlockTable: table, Presence: []uint32{0b01111}, Position: 3, Rows: 2}, ErrArgument, "presence is without position 4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.NoError(t, b.Upload(Span{BlockTable: table, Rows: 1}))
			err := b.Upload(Span{BlockTable: []int32{19}, Rows: 1}, test.span)
			require.ErrorIs(t, err, test.sentinel)
			require.ErrorContains(t, err, "span 1")
			require.ErrorContains(t, err, test.contains)
			require.Zero(t, b.Rows(), "the batch is empty")
		})
	}
	err := b.Upload(Span{BlockTable: []int32{1}, Rows: 1}, Span{BlockTable: []int32{-5, 1}, Position: 4, Rows: 1}, Span{Position: 99, Rows: 1})
	require.ErrorContains(t, err, "span 1: block table[0] is -5")
	require.ErrorContains(t, err, "span 1: block table[1] is 1, want a page that no other rows", "two spans write to one page")
	require.ErrorContains(t, err, "span 2: position out of range", "all problems together")
	require.NoError(t, b.Upload(Span{BlockTable: []int32{1, 2}, Position: 4, Rows: 1}, Span{BlockTable: []int32{1, 3}, Position: 4, Rows: 1}), "reading a shared page is fine")
	require.NoError(t, b.Close())
}

func TestBatchWithoutMemory(t *testing.T) {
	d := hiptest.NewFaulty(hip.NewReference())
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 4, CacheBF16)
	b := NewBatch(c)
	span := Span{BlockTable: []int32{0, 1}, Rows: 5}
	d.FailAt(1, "alloc", "copy")
	require.ErrorIs(t, b.Upload(span), hip.ErrOutOfMemory)
	require.Zero(t, b.Rows())
	require.NoError(t, b.Upload(span), "the next one works")
	require.NoError(t, b.Close())
}
