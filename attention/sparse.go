package attention

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// Attend is softmax attention over the visible keys of the selected blocks:
//
//	out[h] = Σ softmax_j( q[h] · k[g][j] · HeadDim^−½ ) · v[g][j]
//
// for the query heads h of each KV head g, over the keys j ≤ position that the
// blocks selected for index head g hold. q comes from qkv after [Insert]. out is
// float32 [b.Rows(), Heads·HeadDim]; a head without a key gives zeros. A NaN in
// q, or in a k that is attended to, spoils its heads, a NaN in v its column of
// them. The reference computes in float64 and rounds once, others in float32.
func Attend(b *Batch, layer int, qkv QKV, selected, out hip.Ptr) error {
	p := problems{op: "attend"}
	l := p.layer(b, layer)
	p.qkv(b, qkv)
	p.memory(b, selected, "selected")
	p.memory(b, out, "out")
	if err := p.err(); err != nil {
		return err
	}
	g, n := &b.cache.geometry, b.size()
	group := g.Heads / g.KVHeads
	tile := headTile(group, b.rows*g.KVHeads, b.cache.device.Info().Threads)
	a := &sparseArgs{
		Q: qkv.Data, Keys: l.keys, Values: l.values, Selected: selected, Batch: b.buffer, Out: out, Stride: int64(qkv.Stride),
		Rows: n.rows, Sequences: n.sequences, TableEntries: n.tables, PresenceWords: n.presence,
		Heads: int32(g.Heads), KVHeads: int32(g.KVHeads), HeadDim: int32(g.HeadDim), BlockSize: int32(g.BlockSize),
		TopkBlocks: int32(g.TopkBlocks), HeadTile: int32(tile), Tiles: int32((group + tile - 1) / tile), Format: int32(b.cache.format),
	}
	// Each head multiplies over all keys: the work is tile times what is read.
	cost := 2 * min(g.TopkBlocks, b.blocks) * g.BlockSize * g.HeadDim * tile
	return sparseAttention.Launch(b.cache.device, hip.Grid{Blocks: b.rows * g.KVHeads * int(a.Tiles), Threads: 256, BlockCost: cost}, a)
}

// headTile is how many of a KV head's query heads one block does. All of them
// read keys and values once; fewer, down to 4, when that leaves threads idle.
func headTile(group, blocks, threads int) int {
	tile := group
	for tile > 4 && blocks*(group/tile) < threads {
		tile = (tile + 1) / 2
	}
	return tile
}

type sparseArgs struct {
	Q            hip.Ptr // float32 [Rows] rows of [Heads, HeadDim], Stride apart
	Keys, Values hip.Ptr // Format [pages, KVHeads, BlockSize, HeadDim]
	Selected     hip.Ptr // int32 [Rows, KVHeads, TopkBlocks]
	Batch        hip.Ptr // see Batch
	Out          hip.Ptr // float32 [Rows, Heads, HeadDim]
	Stride       int64

	Rows, Sequences, TableEntries, PresenceWords int32

	Heads, KVHeads, HeadDim, BlockSize  int32
	TopkBlocks, HeadTile, Tiles, Format int32
}

// sparseAttention runs one block per row, KV head, and tile of HeadTile of the
// KV head's query heads.
var sparseAttention = hip.NewKernel("sparse_attention", rowsHIP+sparseHIP, sparseTwin).Fast(0, sparseFast)

func sparseTwin(b *hip.Blocks, a *sparseArgs) {
	dim := int(a.HeadDim)
	scale := 1 / math.Sqrt(float64(dim))
	vector, sum := hip.Scratch[float32](b, dim), hip.Scratch[float64](b, dim)
	weights := hip.Scratch[float64](b, a.mostKeys())
	a.each(b, func(q, out []float32, eachKey keyWalk) {
		for ; len(q) > 0; q, out = q[dim:], out[dim:] {
			n, top, total := 0, math.Inf(-1), 0.0
			eachKey(a.Keys, func(keys vectors, slot int) {
				weights[n] = dot64(q[:dim], keys.at(slot, vector)) * scale
				top = max(top, weights[n])
				n++
			})
			for i, score := range weights[:n] {
				weights[i] = math.Exp(score - top)
				total += weights[i]
			}
			clear(sum)
			n = 0
			eachKey(a.Values, func(values vectors, slot int) {
				for i, v := range values.at(slot, vector) {
					sum[i] += weights[n] / total * float64(v)
				}
				n++
			})
			for i, s := range sum {
				out[i] = float32(s)
			}
		}
	})
}

// sparseFast does the heads of a tile together, so that a key is converted and
// read once for all of them. Scores are kept, [key][head], and not merged as
// they come: there are at most TopkBlocks·BlockSize of them a head.
func sparseFast(b *hip.Blocks, a *sparseArgs) {
	dim := int(a.HeadDim)
	scale := float32(1 / math.Sqrt(float64(dim)))
	scaled := hip.Scratch[float32](b, int(a.HeadTile)*dim)
	weights := hip.Scratch[float32](b, a.mostKeys()*int(a.HeadTile))
	buffer := hip.Scratch[float32](b, 4*dim) // four vectors at a time
	var pendingWeights, pendingValues [4][]float32
	a.each(b, func(q, out []float32, eachKey keyWalk) {
		heads := len(q) / dim
		scaled := scaled[:len(q)]
		for i, v := range q {
			scaled[i] = v * scale
		}
		n := 0
		eachKey(a.Keys, func(keys vectors, slot int) {
			dots(weights[n:n+heads], scaled, keys.at(slot, buffer[:dim]))
			n += heads
		})
		for h := range heads {
			softmaxColumn(weights[:n], h, heads)
		}
		clear(out)
		n = 0
		pending := 0
		eachKey(a.Values, func(values vectors, slot int) {
			pendingWeights[pending] = weights[n : n+heads]
			pendingValues[pending] = values.at(slot, buffer[pending*dim:][:dim])
			n += heads
			if pending++; pending == 4 {
				accumulate(out, pendingWeights[:], pendingValues[:])
				pending = 0
			}
		})
		accumulate(out, pendingWeights[:pending], pendingValues[:pending])
	})
}

// softmaxColumn makes weights of the scores x[first], x[first+stride], …: the
// exponentials and their sum in float64.
func softmaxColumn(x []float32, first, stride int) {
	top := float32(math.Inf(-1))
	for i := first; i < len(x); i += stride {
		top = max(top, x[i])
	}
	total := 0.0
	for i := first; i < len(x); i += stride {
		w := math.Exp(float64(x[i] - top))
		x[i] = float32(w)
		total += w
	}
	inverse := float32(1 / total)
	for i := first; i < len(x); i += stride {
		x[i] *= inverse
	}
}

// keyWalk calls f for every key that a row attends to, in ascending position,
// with the stored vectors of its block at p (keys or values) and its slot there.
type keyWalk func(p hip.Ptr, f func(stored vectors, slot int))

// each calls attend for every row, KV head and tile of the launch's blocks, with
// the queries of the tile's heads and where their results go.
func (a *sparseArgs) each(b *hip.Blocks, attend func(q, out []float32, eachKey keyWalk)) {
	rows := viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords})
	kvHeads, dim, size, tiles := int(a.KVHeads), int(a.HeadDim), int(a.BlockSize), int(a.Tiles)
	group := int(a.Heads) / kvHeads
	for i := b.First; i < b.End; i++ {
		row, g, tile := i/(kvHeads*tiles), i/tiles%kvHeads, i%tiles*int(a.HeadTile)
		head, n := g*group+tile, min(int(a.HeadTile), group-tile)*dim
		q := hip.In[float32](b, a.Q.Add((int64(row)*a.Stride+int64(head*dim))*4), n)
		out := hip.Out[float32](b, a.Out.Add((int64(row)*int64(a.Heads)+int64(head))*int64(dim)*4), n)
		selected := hip.In[int32](b, a.Selected.Add(int64(row*kvHeads+g)*int64(a.TopkBlocks)*4), int(a.TopkBlocks))
		c := rows.context(row)
		attend(q, out, func(p hip.Ptr, f func(stored vectors, slot int)) {
			for _, block := range selected {
				visible := 0
				if block >= 0 {
					visible = c.keys(int(block), size)
				}
				if visible == 0 {
					continue
				}
				page := int64(c.table[block])
				stored := readVectors(b, p, CacheFormat(a.Format), dim, (page*int64(kvHeads)+int64(g))*int64(size), visible)
				for slot := range visible {
					if c.present(int(block)*size + slot) {
						f(stored, slot)
					}
				}
			}
		})
	}
}

// mostKeys is how many keys a row may attend to.
func (a *sparseArgs) mostKeys() int { return int(min(a.TopkBlocks, a.TableEntries)) * int(a.BlockSize) }
