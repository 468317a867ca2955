package attention

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// full is the geometry of the released model.
func full() Geometry {
	g := released()
	g.Heads, g.KVHeads = 64, 4
	return g
}

// bench is rows of one sequence at the end of a context, over a cache that is
// written: memory that nobody wrote is one page of zeros.
type bench struct {
	device                hip.Device
	geometry              Geometry
	cache                 *Cache
	batch                 *Batch
	arena                 arena
	qkv                   hip.Ptr
	params                Params
	scores, selected, out hip.Ptr
}

// openBench has all of the context in the index, and keys and values where wanted.
func openBench(b *testing.B, g Geometry, format CacheFormat, context, rows int) *bench {
	b.Helper()
	d := hip.NewHost()
	c, err := NewCache(d, g, 1, context/g.BlockSize, format)
	require.NoError(b, err)
	x := &bench{device: d, geometry: g, cache: c, batch: NewBatch(c), arena: arena{d: d}}
	keys, index, err := c.pageBytes(c.Pages())
	require.NoError(b, err)
	for i, p := range c.layers[0].buffers() {
		n, stored := [...]int64{keys, keys, index}[i], format.keys()
		if i == 2 {
			stored = format.indexKeys()
		}
		page := make([]byte, 0, n)
		for _, v := range randomValues(1, uint64(i), int(n/elementBytes(stored))) {
			if stored == CacheFP8 {
				page = append(page, byte(hip.ToE4M3(v)))
			} else {
				page = binary.LittleEndian.AppendUint16(page, uint16(hip.ToBF16(v)))
			}
		}
		for i := range c.Pages() {
			require.NoError(b, d.Write(p.Add(int64(i)*n), page))
		}
	}
	table := make([]int32, c.Pages())
	for i := range table {
		table[i] = int32(i)
	}
	require.NoError(b, x.batch.Upload(Span{table: table, position: context - rows, rows: rows}))
	learned := constantLearned(&g, 0, 0) // Insert over its own result gives the same again
	x.params, err = learned.upload(&x.arena, &g)
	require.NoError(b, err)
	upload := func(p hip.Ptr, err error) hip.Ptr { require.NoError(b, err); return p }
	x.qkv = upload(put(&x.arena, randomValues(1, 1, rows*g.Columns())))
	x.scores = upload(put(&x.arena, randomValues(1, 2, rows*g.KVHeads*c.Pages())))
	x.out = upload(put(&x.arena, make([]float32, rows*g.Heads*g.HeadDim)))
	x.selected = upload(put(&x.arena, make([]int32, rows*g.KVHeads*g.TopkBlocks)))
	require.NoError(b, Select(x.batch, x.scores, x.selected))
	b.ReportAllocs()
	return x
}

func (x *bench) close(b *testing.B) {
	b.Helper()
	b.StopTimer()
	require.NoError(b, x.device.Close())
}

// BenchmarkScores reads the index keys of a context; the bytes are those of one row.
func BenchmarkScores(b *testing.B) {
	g := full()
	g.Heads, g.HeadDim, g.Rope.Frequencies = g.KVHeads, 1, nil // a small cache but for its index
	for _, shape := range []struct{ context, rows int }{{65536, 1}, {524288, 1}, {65536, 4}, {65536, 64}} {
		for _, format := range []CacheFormat{CacheBF16, CacheFP8Index} {
			b.Run(fmt.Sprintf("context=%d/rows=%d/%v", shape.context, shape.rows, format.indexKeys()), func(b *testing.B) {
				x := openBench(b, g, format, shape.context, shape.rows)
				defer x.close(b)
				b.SetBytes(int64(shape.context) * int64(g.IndexDim) * elementBytes(format.indexKeys()))
				for b.Loop() {
					if err := Scores(x.batch, 0, x.qkv, x.scores); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkAttend attends to full selections, of keys and values that change
// from run to run so that they come from memory, and to the 512 rows of a prefill.
func BenchmarkAttend(b *testing.B) {
	g := full()
	for _, shape := range []struct{ context, rows int }{{1024, 1}, {65536, 1}, {65536, 4}, {65536, 16}, {512, 512}, {65536, 512}} {
		for _, format := range []CacheFormat{CacheBF16, CacheFP8} {
			b.Run(fmt.Sprintf("context=%d/rows=%d/%v", shape.context, shape.rows, format), func(b *testing.B) {
				x := openBench(b, g, format, shape.context, shape.rows)
				defer x.close(b)
				selections := x.selections(b)
				b.SetBytes(int64(shape.rows*min(x.batch.Blocks(), g.TopkBlocks)*g.BlockSize*g.KVHeads*g.HeadDim) * 2 * elementBytes(format.keys()))
				i := 0
				for b.Loop() {
					i++
					if err := Attend(x.batch, 0, x.qkv, selections[i%len(selections)], x.out); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// selections returns different choices of blocks in turn.
func (x *bench) selections(b *testing.B) []hip.Ptr {
	topk, blocks := x.geometry.TopkBlocks, x.batch.Blocks()
	if blocks <= topk {
		return []hip.Ptr{x.selected}
	}
	var all []hip.Ptr
	for first := 0; first+topk < blocks; first += topk {
		chosen := make([]int32, x.batch.rows*x.geometry.KVHeads*topk)
		for i := range chosen {
			chosen[i] = int32(first + i%topk)
		}
		p, err := put(&x.arena, chosen)
		require.NoError(b, err)
		all = append(all, p)
	}
	return all
}

func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{1, 4, 16, 512} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			x := openBench(b, full(), CacheBF16, 1024, rows)
			defer x.close(b)
			for b.Loop() {
				if err := Insert(x.batch, 0, x.qkv, x.params); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSelect(b *testing.B) {
	g := full()
	g.Heads, g.HeadDim, g.IndexDim, g.Rope.Frequencies = g.KVHeads, 1, 1, nil
	for _, shape := range []struct{ context, rows int }{{65536, 1}, {524288, 1}, {524288, 16}, {65536, 512}} {
		b.Run(fmt.Sprintf("context=%d/rows=%d", shape.context, shape.rows), func(b *testing.B) {
			x := openBench(b, g, CacheBF16, shape.context, shape.rows)
			defer x.close(b)
			for b.Loop() {
				if err := Select(x.batch, x.scores, x.selected); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
