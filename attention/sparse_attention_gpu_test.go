package attention

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// attendCase is [Attend] alone, over a cache whose contents the case decides: rows of
// one sequence from a position on.
type attendCase struct {
	geometry       Geometry
	format         CacheFormat
	position, rows int
	hole           func(position int) bool // before the rows; nil: none
	kernel         *sparseKernel           // nil: what Attend takes

	// What is selected; nil: the first TopkBlocks blocks of the sequence.
	selected func(row, kv int) []int
	// Changes of random vectors; nil: none. A hole, and what is after the rows, is NaN.
	query      func(row, head int, q []float32)
	key, value func(kv, position int, x []float32)
}

func (c *attendCase) present(position int) bool {
	return position < c.position+c.rows && (c.hole == nil || position >= c.position || !c.hole(position))
}

func (c *attendCase) selection(row, kv int) []int {
	if c.selected != nil {
		return c.selected(row, kv)
	}
	blocks := make([]int, min(c.geometry.TopkBlocks, (c.position+c.rows-1)/c.geometry.BlockSize+1))
	for i := range blocks {
		blocks[i] = i
	}
	return blocks
}

// run returns what every row and head gives.
func (c *attendCase) run(t *testing.T, d hip.Device) []float32 {
	t.Helper()
	g := &c.geometry
	blocks := (c.position + c.rows + g.BlockSize - 1) / g.BlockSize
	cache, err := NewCache(d, *g, 1, blocks, c.format)
	require.NoError(t, err)
	a, b := &arena{d: d}, NewBatch(cache)
	table, presence := make([]int32, blocks), []uint32(nil)
	for i := range table {
		table[i] = int32(blocks - 1 - i)
	}
	if c.hole != nil {
		presence = make([]uint32, wordsFor(c.position+c.rows))
		for p := range c.position + c.rows {
			if c.present(p) {
				presence[p/32] |= 1 << (p % 32)
			}
		}
	}
	require.NoError(t, b.Upload(Span{table: table, presence: presence, position: c.position, rows: c.rows}))
	c.fill(t, d, cache.layers[0].keys, table, 1, c.key)
	c.fill(t, d, cache.layers[0].values, table, 2, c.value)

	q := randomValues(3, 1, c.rows*g.Columns())
	selected := make([]int32, 0, c.rows*g.KVHeads*g.TopkBlocks)
	for row := range c.rows {
		for head := range g.Heads {
			if c.query != nil {
				c.query(row, head, q[row*g.Columns()+head*g.HeadDim:][:g.HeadDim])
			}
		}
		for kv := range g.KVHeads {
			for _, block := range c.selection(row, kv) {
				selected = append(selected, int32(block))
			}
			for len(selected) < (row*g.KVHeads+kv+1)*g.TopkBlocks {
				selected = append(selected, -1)
			}
		}
	}
	out := mustPut(t, a, randomValues(3, 2, c.rows*g.Heads*g.HeadDim))
	if c.kernel != nil {
		require.NoError(t, c.kernel.attend(b, cache.layers[0], mustPut(t, a, q), mustPut(t, a, selected), out))
	} else {
		require.NoError(t, Attend(b, 0, mustPut(t, a, q), mustPut(t, a, selected), out))
	}
	got := get[float32](t, d, out, c.rows*g.Heads*g.HeadDim)
	require.NoError(t, b.Close())
	require.NoError(t, a.close())
	require.NoError(t, cache.Close())
	return got
}

// fill writes keys or values, pages in the table's order.
func (c *attendCase) fill(t *testing.T, d hip.Device, p hip.Ptr, table []int32, stream uint64, edit func(kv, position int, x []float32)) {
	t.Helper()
	g := &c.geometry
	all := randomValues(4, stream, len(table)*g.KVHeads*g.BlockSize*g.HeadDim)
	for position := range len(table) * g.BlockSize {
		for kv := range g.KVHeads {
			at := (int(table[position/g.BlockSize])*g.KVHeads+kv)*g.BlockSize + position%g.BlockSize
			x := all[at*g.HeadDim:][:g.HeadDim]
			if !c.present(position) {
				x[0], x[g.HeadDim-1] = float32(math.NaN()), float32(math.NaN())
			} else if edit != nil {
				edit(kv, position, x)
			}
		}
	}
	if c.format == CacheF32 {
		require.NoError(t, hip.WriteOf(d, p, all))
		return
	}
	if c.format.keys() == CacheFP8 {
		codes := make([]byte, len(all))
		for i, v := range all {
			codes[i] = byte(hip.ToE4M3(v))
		}
		require.NoError(t, d.Write(p, codes))
		return
	}
	halves := make([]hip.BF16, len(all))
	for i, v := range all {
		halves[i] = hip.ToBF16(v)
	}
	require.NoError(t, hip.WriteOf(d, p, halves))
}

// attendRows are rows whose keys are split on the device, just too many for that, and, on matrix
// units, so many that a block does several.
func attendRows(g *Geometry, format CacheFormat, d hip.Device) []int {
	rows := 1
	for partsOf(g, format, rows, 1, d.Info()) > 0 {
		rows++
	}
	if inTiles(g, format, 1, d.Info()) {
		return []int{min(2, rows), rows, max(rows+1, ceilDiv(tileWaves*d.Info().Threads, g.KVHeads))}
	}
	return []int{min(2, rows), rows}
}

// attendGeometry is tiny in all but the shape of the heads.
func attendGeometry(kvHeads, group, dim, blockSize int) Geometry {
	g := tiny()
	g.Heads, g.KVHeads, g.HeadDim, g.BlockSize = kvHeads*group, kvHeads, dim, blockSize
	return g
}

// forEachAttend runs f on GPUs with every launch checked, for both formats, with few
// rows and with many, and for head sizes of which the last is none of the split keys'.
func forEachAttend(t *testing.T, f func(t *testing.T, d hip.Device, c attendCase)) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		for _, format := range []CacheFormat{CacheBF16, CacheF32} {
			for _, dim := range []int{16, 20} {
				g := attendGeometry(8, 2, dim, 4)
				for _, rows := range attendRows(&g, format, d) {
					t.Run(fmt.Sprintf("%v, HeadDim %d, %d rows", format, dim, rows), func(t *testing.T) {
						f(t, checked, attendCase{geometry: g, format: format, position: 9, rows: rows})
					})
				}
			}
		}
	})
}

// TestAttendShapesOnGPUs: query heads that fill bundles or not, blocks of more than a
// part's keys, holes, every format; beside the reference for the whole of Attend.
func TestAttendShapesOnGPUs(t *testing.T) {
	reference := hip.NewReference()
	defer reference.Close()
	test := func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		for i, shape := range []struct{ group, dim, blockSize, blocks int }{
			{16, 16, 4, 2}, {17, 8, 4, 2}, {33, 8, 3, 2}, {1, 128, 5, 2}, {2, 120, 64, 2}, {3, 24, 130, 2}, {3, 16, 4, 70}, // in parts
			{17, 20, 4, 2}, {2, 136, 70, 2}, // not in parts
		} {
			g := attendGeometry(4, shape.group, shape.dim, shape.blockSize)
			g.TopkBlocks = max(g.TopkBlocks, shape.blocks)
			for n := range attendRows(&g, CacheBF16, d) {
				format := []CacheFormat{CacheBF16, CacheFP8, CacheF32}[(i+n)%3]
				rows := attendRows(&g, format, d)
				c := attendCase{geometry: g, format: format, position: (shape.blocks-1)*g.BlockSize + 6, rows: rows[n%len(rows)]}
				if i%3 != 0 {
					c.hole = func(p int) bool { return p%3 == 1 || p == 0 }
				}
				require.NoError(t, hiptest.Within(c.run(t, checked), c.run(t, reference), tilesError), "%d rows, %v, %+v", c.rows, c.format, g)
			}
		}
	}
	hiptest.OnGPUs(t, test)
	hiptest.OnGPUs(t, test, architectures...)
}

// architectures have matrix units of their own, or none.
var architectures = []string{"gfx906", "gfx1030", "gfx1100", "gfx1200", "gfx950"}

// TestAttentionTwins: the twin of every kernel that does all of Attend is the reference, for
// rows that do not fill the kernel's blocks.
func TestAttentionTwins(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	c := attendCase{geometry: attendGeometry(2, 17, 8, 4), position: 9, rows: 7}
	want := c.run(t, d)
	for i := range sparseAttention {
		if c.kernel = &sparseAttention[i]; !c.kernel.split {
			require.NoError(t, hiptest.Within(c.run(t, d), want, 1e-12), c.kernel.Name)
		}
	}
}

// TestAttendWithoutScoresOnGPUs: where no score is above −∞ there is no softmax, hence
// NaN; where there is no key, zeros; and keys of score −∞ among others do not count.
func TestAttendWithoutScoresOnGPUs(t *testing.T) {
	forEachAttend(t, func(t *testing.T, d hip.Device, c attendCase) {
		c.hole = func(p int) bool { return p >= 4 && p < 8 }
		c.selected = func(row, kv int) []int {
			return [][]int{{}, {1}, {0}, {0, 1}, {2}, {0, 2}, {1, 2}, {2, 0}}[kv] // block 0 scores −∞, 1 is a hole
		}
		c.query = func(_, _ int, q []float32) { q[0] = 1 }
		c.key = func(_, position int, k []float32) {
			if position < 4 {
				k[0] = float32(math.Inf(-1))
			}
		}
		got := c.run(t, d)
		forEachValue(&c, func(i, row, head, kv, column int) {
			switch kv {
			case 0, 1:
				require.Zero(t, got[i], "row %d, head %d, column %d: no key", row, head, column)
			case 2, 3:
				require.True(t, got[i] != got[i], "row %d, head %d, column %d: keys without a score, but %v", row, head, column, got[i])
			default:
				require.False(t, got[i] != got[i], "row %d, head %d, column %d", row, head, column)
			}
		})
		// Without the others the same is left.
		alone := c
		alone.selected = func(int, int) []int { return []int{2} }
		want := alone.run(t, d)
		forEachValue(&c, func(i, row, head, kv, column int) {
			if kv >= 4 {
				require.InDelta(t, want[i], got[i], tilesError, "row %d, head %d, column %d", row, head, column)
			}
		})
	})
}

// forEachValue calls f for the index of every value of the result.
func forEachValue(c *attendCase, f func(i, row, head, kv, column int)) {
	g := &c.geometry
	for i := range c.rows * g.Heads * g.HeadDim {
		head := i / g.HeadDim % g.Heads
		f(i, i/g.HeadDim/g.Heads, head, head/(g.Heads/g.KVHeads), i%g.HeadDim)
	}
}

// TestNaNSpoilsItsOwnOnGPUs and its twin for CPUs: a NaN reaches what Attend's
// documentation says, and nothing else.
func TestNaNSpoilsItsOwnOnGPUs(t *testing.T) { forEachAttend(t, testNaNSpoilsItsOwn) }

func TestNaNSpoilsItsOwn(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		for _, format := range []CacheFormat{CacheBF16, CacheF32} {
			for _, dim := range []int{16, 20, 32} {
				testNaNSpoilsItsOwn(t, d, attendCase{geometry: attendGeometry(8, 2, dim, 4), format: format, position: 9, rows: 3})
			}
		}
	})
}

func testNaNSpoilsItsOwn(t *testing.T, d hip.Device, c attendCase) {
	nan := float32(math.NaN())
	c.hole = func(p int) bool { return p == 2 }
	c.selected = func(row, kv int) []int { return [][]int{{0, 2}, {1, 2}}[(row+kv)%2] }
	// The bad key is in KV head 1, the bad values are in KV head 2, one of them at a
	// position that row 0 does not reach.
	const badRow, badHead, badColumn, badKey, badValue, later = 1, 7, 5, 5, 1, 10
	c.query = func(row, head int, q []float32) {
		if row == badRow && head == badHead {
			q[3] = nan
		}
	}
	c.key = func(kv, position int, k []float32) {
		if kv == 1 && position == badKey {
			k[0] = nan
		}
	}
	c.value = func(kv, position int, v []float32) {
		if kv == 2 && (position == badValue || position == later) {
			v[badColumn+position] = nan
		}
	}
	got := c.run(t, d)
	forEachValue(&c, func(i, row, head, kv, column int) {
		even := (row+kv)%2 == 0 // blocks 0 and 2; otherwise 1 and 2
		spoilt := row == badRow && head == badHead ||
			kv == 1 && !even ||
			kv == 2 && even && column == badColumn+badValue ||
			kv == 2 && c.position+row >= later && column == badColumn+later
		require.Equal(t, spoilt, got[i] != got[i], "row %d, head %d, column %d is %v", row, head, column, got[i])
	})
}

// TestAttendInAnyOrder: the order in which threads run does not change a bit.
func TestAttendInAnyOrder(t *testing.T) {
	for _, shape := range []struct{ group, dim, blockSize int }{{17, 16, 4}, {2, 24, 70}, {1, 20, 4}} {
		for n := range 3 {
			var want []float32
			for _, order := range []string{"", "reverse", "random"} {
				d, err := hip.Open(0, hiptest.NewEmulator(t, "hip 32 "+order, 0).Options())
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, d.Close()) })
				g := attendGeometry(4, shape.group, shape.dim, shape.blockSize)
				rows := attendRows(&g, CacheBF16, d)
				c := attendCase{geometry: g, position: g.BlockSize + 6, rows: rows[n%len(rows)]}
				got := c.run(t, d)
				if want == nil {
					want = got
				}
				require.Equal(t, want, got, "%v, %d rows, %+v", order, c.rows, g)
			}
		}
	}
}
