package attention

import (
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip"
)

// What a part is.
const (
	partKeys  = 64  // keys, of one selected block
	partHeads = 16  // query heads of a KV head
	partDim   = 128 // HeadDim at most
)

// fewUnits is the least number of compute units that a GPU is assumed to have, so that a
// few rows are split on a smaller one, too.
const fewUnits = 64

// inParts reports whether attention is done a part of a row's keys at a time: on GPUs,
// for heads that parts hold.
func inParts(g *Geometry, info hip.Info) bool {
	return info.IsGPU() && g.HeadDim <= partDim && g.HeadDim%8 == 0
}

// inTiles reports whether attention in sequences of so many blocks is done on matrix units: as
// stored, keys and values are numbers that they multiply.
func inTiles(g *Geometry, format CacheFormat, blocks int, info hip.Info) bool {
	return info.MatrixUnits && inParts(g, info) && format.keys() != CacheF32 && g.attended(blocks)*g.BlockSize <= mostTileKeys
}

// mostTileKeys bounds the keys of a row on matrix units. Those of NVIDIA cut sums off, which
// leaves out up to 2^−22 of a sum for 16 keys.
const mostTileKeys = 4096

// tileWaves is how many waves a compute unit has at a time of kernels on matrix units.
const tileWaves = 8

// mostDenseParts bounds the parts of dense attention, whose memory grows with the longest
// sequence: 16 384 keys. After more of them one block walks all keys of a row.
const mostDenseParts = 256

// partsOf returns into how many parts the keys of a row are split, where the longest
// sequence has so many blocks; 0: they are not. Few rows leave most of a GPU idle when one
// block walks all keys of a row.
func partsOf(g *Geometry, format CacheFormat, rows, blocks int, info hip.Info) int {
	units := max(info.Threads, fewUnits)
	if !inParts(g, info) || rows*g.KVHeads >= units {
		return 0
	}
	if inTiles(g, format, blocks, info) && rows*g.KVHeads >= units/10 {
		return 0 // a block of matrix units for each is faster than parts
	}
	parts := g.attended(blocks) * g.partsOfBlock()
	if g.dense() && parts > mostDenseParts {
		return 0
	}
	return parts
}

func (g *Geometry) partsOfBlock() int { return ceilDiv(g.BlockSize, partKeys) }

// growParts makes room for the parts of a pass of rows, over sequences of so many blocks.
func (b *Batch) growParts(rows, blocks int) error {
	g, d := &b.cache.geometry, b.cache.device
	b.parts = partsOf(g, b.cache.format, rows, blocks, d.Info())
	if err := b.shared.partial.Grow(d, rows*g.Heads*b.parts*(g.HeadDim+2), 4); err != nil {
		return fmt.Errorf("attention: parts of %d rows: %w", rows, err)
	}
	return nil
}

// sparsePartsTwin does [Attend] for one part of a row's keys: part p is keys
// 64·(p mod n) … of selected block p/n, where n is the parts of a block. With s the
// scores of the part's keys, it writes
//
//	top    = max s, −∞ without a key
//	w      = exp(s − top), 1 where top is −∞
//	total  = Σ w, 0 without a key
//	values = Σ w·v
//
// as float32 values [Rows, Heads, parts, HeadDim], then (top, total) [Rows, Heads,
// parts, 2]. One block per row, KV head, bundle of query heads, and part. The twin sums
// in float64 and rounds once.
func sparsePartsTwin(b *hip.Blocks, a *sparseArgs) {
	rows := viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords})
	g := Geometry{BlockSize: int(a.BlockSize)}
	dim, kvHeads, bundles, size := int(a.HeadDim), int(a.KVHeads), int(a.Bundles), int(a.BlockSize)
	group, blockParts := int(a.Heads)/kvHeads, g.partsOfBlock()
	parts := int(a.TopkBlocks) * blockParts
	buffer, sum := hip.Scratch[float32](b, dim), hip.Scratch[float64](b, dim)
	weights, slots := hip.Scratch[float64](b, partKeys), hip.Scratch[int64](b, partKeys)
	scale := a.scoreScale()
	for i := b.First; i < b.End; i++ {
		part, bundle, kv, row := i%parts, i/parts%bundles, i/parts/bundles%kvHeads, i/parts/bundles/kvHeads
		c := rows.context(row)
		block := part / blockParts
		if a.Selected != 0 {
			block = int(hip.In[int32](b, a.Selected.Add(4*(int64(row*kvHeads+kv)*int64(a.TopkBlocks)+int64(block))), 1)[0])
		}
		n := 0
		if block >= 0 {
			from := part % blockParts * partKeys
			for slot := from; slot < min(from+partKeys, c.keys(block, size)); slot++ {
				if c.present(block*size + slot) {
					slots[n] = (int64(c.table[block])*int64(kvHeads)+int64(kv))*int64(size) + int64(slot)
					n++
				}
			}
		}
		for head := bundle * int(a.BundleHeads); head < min((bundle+1)*int(a.BundleHeads), group); head++ {
			h := kv*group + head
			q := hip.In[float32](b, a.Q.Add(4*(int64(row)*a.Stride+int64(h*dim))), dim)
			top, total := math.Inf(-1), 0.0
			for j, slot := range slots[:n] {
				weights[j] = dot64(q, readVectors(b, a.Keys, element(a.Format), dim, slot, 1).at(0, buffer)) * scale
				top = max(top, weights[j])
			}
			clear(sum)
			for j, slot := range slots[:n] {
				w := 1.0
				if !math.IsInf(top, -1) {
					w = math.Exp(weights[j] - top)
				}
				total += w
				for d, v := range readVectors(b, a.Values, element(a.Format), dim, slot, 1).at(0, buffer) {
					sum[d] += w * float64(v)
				}
			}
			at := int64(row*int(a.Heads)+h)*int64(parts) + int64(part)
			values := hip.Out[float32](b, a.Parts.Add(4*at*int64(dim)), dim)
			for d, s := range sum {
				values[d] = float32(s * float64(a.ValueScale))
			}
			w := hip.Out[float32](b, a.Parts.Add(4*(int64(a.Rows)*int64(a.Heads)*int64(parts*dim)+2*at)), 2)
			w[0], w[1] = float32(top), float32(total)
		}
	}
}

// sparseMerge makes the result of a row and head, a block each, of its parts: with
// top the largest of theirs,
//
//	out = Σ exp(topₚ − top)·valuesₚ / Σ exp(topₚ − top)·totalₚ
//
// zeros where no part has a key, NaN where no key has a score above −∞.
var sparseMerge = hip.NewKernel("sparse_attention_merge",
	sparseSource()+hip.Define("mergeThreads", mergeThreads)+sparseMergeHIP, sparseMergeTwin).Block(mergeThreads)

const mergeThreads = 128

func sparseMergeTwin(b *hip.Blocks, a *sparseArgs) {
	g := Geometry{BlockSize: int(a.BlockSize)}
	dim, parts := int(a.HeadDim), int(a.TopkBlocks)*g.partsOfBlock()
	sum := hip.Scratch[float64](b, dim)
	for i := int64(b.First); i < int64(b.End); i++ {
		values := hip.In[float32](b, a.Parts.Add(4*i*int64(parts*dim)), parts*dim)
		w := hip.In[float32](b, a.Parts.Add(4*(int64(a.Rows)*int64(a.Heads)*int64(parts*dim)+2*i*int64(parts))), 2*parts)
		out := hip.Out[float32](b, a.Out.Add(4*i*int64(dim)), dim)
		top, any := math.Inf(-1), false
		for p := range parts {
			top = max(top, float64(w[2*p]))
			any = any || w[2*p+1] != 0
		}
		clear(out)
		if !any {
			continue
		}
		total := 0.0
		clear(sum)
		for p := range parts {
			scale := math.Exp(float64(w[2*p]) - top) // NaN if both are −∞
			total += scale * float64(w[2*p+1])
			for d, v := range values[p*dim:][:dim] {
				sum[d] += scale * float64(v)
			}
		}
		for d, s := range sum {
			out[d] = float32(s / total)
		}
	}
}
