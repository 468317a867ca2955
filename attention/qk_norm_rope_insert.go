package attention

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
	"github.com/drafthead/drafthead/norm"
)

// Params are the norm weights of a layer, in device memory. The caller keeps owning it.
type Params struct {
	QNorm, KNorm           hip.Ptr // float32 [HeadDim]
	IndexQNorm, IndexKNorm hip.Ptr // float32 [IndexDim]; none where IndexDim is 0
}

// Insert turns the projected rows into queries and keys and writes the cache. qkv is the
// fused projection of the batch's rows, float32 [rows, Geometry.Columns()]. In each row,
// each head of q, k and index_q, and index_k, become
//
//	rope(rms(x; its norm's weight, Eps), position)
//
// in place (see [norm.RMSNorm] and [Rope]), rounded to float32 after the norm and after the
// rotation. Insert then stores k, v and index_k at the row's slot, as [CacheFormat] says; v
// stays as projected. For F8_E4M3 the quotient by the scale is rounded to float32 first.
func Insert(b *Batch, layer int, qkv hip.Ptr, params Params) error {
	p := problems{op: "insert"}
	if err := p.enter(b); err != nil {
		return err
	}
	defer b.leave()
	l := p.layer(b, layer)
	p.memory(b, qkv, "qkv")
	p.memory(b, params.QNorm, "params.QNorm")
	p.memory(b, params.KNorm, "params.KNorm")
	needed := p.memory
	if b.cache.geometry.dense() {
		needed = p.unneeded
	}
	needed(b, params.IndexQNorm, "params.IndexQNorm")
	needed(b, params.IndexKNorm, "params.IndexKNorm")
	if err := p.err(); err != nil {
		return err
	}
	g, n := &b.cache.geometry, b.size()
	a := &insertArgs{
		QKV: qkv, QNorm: params.QNorm, KNorm: params.KNorm, IndexQNorm: params.IndexQNorm, IndexKNorm: params.IndexKNorm,
		InverseFrequencies: b.cache.frequencies, Keys: l.keys, Values: l.values, IndexKeys: l.indexKeys, Batch: b.words,
		Eps: g.Eps, AttentionFactor: g.Rope.AttentionFactor, Stride: int64(g.Columns()),
		Rows: n.rows, Sequences: n.sequences, TableEntries: n.tables, PresenceWords: n.presence,
		Heads: int32(g.Heads), KVHeads: int32(g.KVHeads), HeadDim: int32(g.HeadDim), IndexDim: int32(g.IndexDim),
		RotaryDim: int32(2 * len(g.Rope.Frequencies)), BlockSize: int32(g.BlockSize),
		Format: int32(b.cache.format.keys()), IndexFormat: int32(b.cache.format.indexKeys()), KeyScale: l.keyScale, ValueScale: l.valueScale,
	}
	grid := hip.Grid{Blocks: b.rows * a.heads(), BlockCost: 16 * max(g.HeadDim, g.IndexDim)}
	return p.launched(insert.Launch(b.device, grid, a))
}

type insertArgs struct {
	QKV                    hip.Ptr // float32 [Rows, Stride]
	QNorm, KNorm           hip.Ptr // float32 [HeadDim]
	IndexQNorm, IndexKNorm hip.Ptr // float32 [IndexDim]
	InverseFrequencies     hip.Ptr // float64 [RotaryDim/2]
	Keys, Values           hip.Ptr // Format [pages, KVHeads, BlockSize, HeadDim]
	IndexKeys              hip.Ptr // IndexFormat [pages, BlockSize, IndexDim]
	Batch                  hip.Ptr // see Batch

	Eps, AttentionFactor float64
	Stride               int64

	Rows, Sequences, TableEntries, PresenceWords int32

	Heads, KVHeads, HeadDim, IndexDim         int32 // an index head for each KV head
	RotaryDim, BlockSize, Format, IndexFormat int32
	KeyScale, ValueScale                      float32
}

// heads is the number of vectors in a row: those of q, k, v, and where there are any those
// of index_q and index_k.
func (a *insertArgs) heads() int {
	n := a.Heads + 2*a.KVHeads
	if a.IndexDim > 0 {
		n += a.KVHeads + 1
	}
	return int(n)
}

// insert runs one block per vector of a row; block = row·heads + vector.
var insert = hip.NewKernel("qk_norm_rope_insert",
	norm.RMSSource()+rowsSource()+hip.Define("insertThreads", insertThreads)+insertHIP, insertTwin).Fast(0, insertFast).Block(insertThreads)

const insertThreads = 64

func insertTwin(b *hip.Blocks, a *insertArgs) { insertVectors(b, a, vec.RMS64, rotate64) }

func insertFast(b *hip.Blocks, a *insertArgs) {
	simd := b.SIMD()
	insertVectors(b, a,
		func(dst, x, w []float32, eps float64) { vec.RMS(simd, dst, x, w, eps) },
		func(x []float32, r rotation) { rotateWith(simd, x, r) },
	)
}

func insertVectors(
	b *hip.Blocks, a *insertArgs,
	rms func(dst, x, w []float32, eps float64), rotate func(x []float32, r rotation),
) {
	rows := viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords})
	frequencies := hip.In[float64](b, a.InverseFrequencies, int(a.RotaryDim/2))
	turn := rotation{hip.Scratch[float32](b, len(frequencies)), hip.Scratch[float32](b, len(frequencies))}
	turned := -1
	for block := b.First; block < b.End; block++ {
		row, i := block/a.heads(), block%a.heads()
		v := a.vector(i)
		at := a.QKV.Add((int64(row)*a.Stride + int64(v.column)) * 4)
		slot := int64(rows.slots[row])
		if v.norm == 0 {
			storeVector(b, v.cache, v.element, a.slotOf(slot, v), hip.In[float32](b, at, v.dim), v.scale)
			continue
		}
		if turned != row {
			turn.set(rows.positions[row], frequencies, a.AttentionFactor)
			turned = row
		}
		x := hip.Out[float32](b, at, v.dim)
		rms(x, x, hip.In[float32](b, v.norm, v.dim), a.Eps)
		rotate(x, turn)
		if v.cache != 0 {
			storeVector(b, v.cache, v.element, a.slotOf(slot, v), x, v.scale)
		}
	}
}

// rowVector is one vector of a row of the fused projection.
type rowVector struct {
	column, dim int
	norm        hip.Ptr // 0: neither norm nor rotation
	cache       hip.Ptr // 0: not stored
	head, heads int     // in the cache
	element     element
	scale       float32
}

// vector returns vector i of a row.
func (a *insertArgs) vector(i int) rowVector {
	dim, heads, kvHeads := int(a.HeadDim), int(a.Heads), int(a.KVHeads)
	v := rowVector{column: i * dim, dim: dim, heads: kvHeads, element: element(a.Format)}
	if i < heads {
		v.norm = a.QNorm
		return v
	}
	if i -= heads; i < kvHeads {
		v.norm, v.cache, v.head, v.scale = a.KNorm, a.Keys, i, a.KeyScale
		return v
	}
	if i -= kvHeads; i < kvHeads {
		v.cache, v.head, v.scale = a.Values, i, a.ValueScale
		return v
	}
	i -= kvHeads
	v = rowVector{column: (heads+2*kvHeads)*dim + i*int(a.IndexDim), dim: int(a.IndexDim), heads: 1, norm: a.IndexQNorm}
	if i == kvHeads {
		v.norm, v.cache, v.element, v.scale = a.IndexKNorm, a.IndexKeys, element(a.IndexFormat), 1
	}
	return v
}

// slotOf returns the place of a vector in its cache buffer, in vectors.
func (a *insertArgs) slotOf(slot int64, v rowVector) int64 {
	size := int64(a.BlockSize)
	page, within := slot/size, slot%size
	return (page*int64(v.heads)+int64(v.head))*size + within
}
