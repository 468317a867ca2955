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
			Span{table: []int32{5, 9, 7, 3}, position: 7, rows: 2}, // the last entry is not needed
			Span{table: []int32{2}, presence: []uint32{0b1011, 99}, position: 3, rows: 1},
		))
		require.Equal(t, 3, b.rows)
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
		require.Zero(t, b.rows)
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
		second := NewBatch(first.cache, first)
		words, err := first.Encode([]int32{-7}, 1, Span{table: []int32{5, 9}, position: 7, rows: 1})
		require.NoError(t, err)
		at := len(words)
		words, err = second.Encode(words, 4, Span{table: []int32{2, 3}, presence: []uint32{0b10111}, position: 4, rows: 1})
		require.NoError(t, err)
		require.Equal(t, []int32{
			-7,
			7, 0, 9*4 + 3, 0, -1, 5, 9,
			4, 0, 3 * 4, 0, 0, 2, 3, 0, 0, 0b10111, 0, 0, 0,
		}, words)
		require.Equal(t, []int{1, 2, 1, 4}, []int{first.rows, first.Blocks(), second.rows, second.Blocks()})

		p, err := hip.Upload(d, words)
		require.NoError(t, err)
		first.Place(p.Add(4))
		second.Place(p.Add(4 * int64(at)))
		require.Equal(t, []int32{7}, get[int32](t, d, first.words, 1))
		require.Equal(t, []int32{4}, get[int32](t, d, second.On(d).words, 1))

		same, err := second.Encode(words, 4, Span{rows: 1})
		require.ErrorIs(t, err, hip.ErrInput)
		require.Equal(t, words, same)
		require.Zero(t, second.rows)
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
	spans := []Span{{table: table, position: 3000, rows: 900}}
	require.NoError(t, b.Upload(spans...))
	buffer, capacity := b.words, b.room
	for rows := 1; rows <= 900; rows += 31 {
		spans[0].rows = rows
		require.Zero(t, testing.AllocsPerRun(3, func() { _ = b.Upload(spans...) }), "rows %d", rows)
	}
	require.Equal(t, buffer, b.words)
	spans[0].position, spans[0].rows = 2000, 2000
	require.NoError(t, b.Upload(spans...))
	require.GreaterOrEqual(t, b.room, 2*capacity, "growth is by doubling")
	require.NoError(t, b.Close())
	require.NoError(t, c.Close())
	_, live := hiptest.InUse(d)
	require.Zero(t, live)
}

func TestRefusedSpans(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny()
	g.Rope.Positions = 50
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
		{"negative position", Span{table: table, position: -1, rows: 1}, ErrPosition, "position is -1, want 0 to 49"},
		{"position past the rotation", Span{table: table, position: 50, rows: 1}, ErrPosition, "position is 50, want 0 to 49"},
		{"last row past the rotation", Span{table: table, position: 48, rows: 3}, ErrPosition, "rows is 3, want at most 2, the positions that there are from 48 on"},
		{"rows that overflow", Span{table: table, position: 1, rows: int(^uint(0) >> 1)}, ErrPosition, "want at most 49, the positions"},
		{"no rows", Span{table: table}, hip.ErrInput, "rows is 0"},
		{"short table", Span{table: table[:2], position: 8, rows: 1}, hip.ErrInput, "len(Sequences[1].table) is 2, want at least 3"},
		{"no table", Span{rows: 1}, hip.ErrInput, "len(Sequences[1].table) is 0"},
		{"negative page", Span{table: []int32{3, -1}, position: 4, rows: 1}, hip.ErrInput, "table[1] is -1"},
		{"page past the cache", Span{table: []int32{20, 1}, position: 4, rows: 1}, hip.ErrInput, "table[0] is 20, want a page, 0 to 19"},
		{"page given twice", Span{table: []int32{3, 3}, rows: 5}, hip.ErrInput, "no other rows"},
		{"short presence", Span{table: table, presence: []uint32{1}, position: 32, rows: 1}, hip.ErrInput, "presence is of 1 words, want at least 2"},
		{"row that is not present", Span{table: table, presence: []uint32{0b01111}, position: 3, rows: 2}, hip.ErrInput, "presence is without position 4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.NoError(t, b.Upload(Span{table: table, rows: 1}))
			err := b.Upload(Span{table: []int32{19}, rows: 1}, test.span)
			require.ErrorIs(t, err, test.sentinel)
			require.ErrorContains(t, err, "Sequences[1].")
			require.ErrorContains(t, err, test.contains)
			require.Zero(t, b.rows, "the batch is empty")
		})
	}
	err := b.Upload(Span{table: []int32{1}, rows: 1}, Span{table: []int32{-5, 1}, position: 4, rows: 1}, Span{position: 99, rows: 1})
	require.ErrorContains(t, err, "Sequences[1].table[0] is -5")
	require.ErrorContains(t, err, "Sequences[1].table[1] is 1, want a page that no other rows", "two spans write to one page")
	require.ErrorContains(t, err, "Sequences[2].position is 99, want 0 to 49: position out of range", "all problems together")
	require.NoError(t, b.Upload(Span{table: []int32{1, 2}, position: 4, rows: 1}, Span{table: []int32{1, 3}, position: 4, rows: 1}), "reading a shared page is fine")
	require.NoError(t, b.Close())
}

func TestBatchWithoutMemory(t *testing.T) {
	d := hiptest.NewFaulty(hip.NewReference(), errFault)
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 4, CacheBF16)
	b := NewBatch(c)
	span := Span{table: []int32{0, 1}, rows: 5}
	d.FailAt(1, "alloc", "copy")
	require.ErrorIs(t, b.Upload(span), hip.ErrOutOfMemory)
	require.Zero(t, b.rows)
	require.NoError(t, b.Upload(span), "the next one works")
	require.NoError(t, b.Close())
}
