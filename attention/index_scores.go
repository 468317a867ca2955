package attention

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// Scores rates the blocks of keys for each row and index head:
//
//	score[row][g][block] = max over keys j of the block, j ≤ position, of index_q[g] · index_k[j]
//
// The score is −Inf if the block holds no such key, and NaN if a product is NaN. scores is
// float32 [rows, KVHeads, b.Blocks()]. Index queries come from qkv after [Insert]. The
// reference sums products in float64, other devices in float32. A dense [Geometry] has
// nothing to score, which is a [hip.InputError].
func Scores(b *Batch, layer int, qkv, scores hip.Ptr) error {
	p := problems{op: "scores"}
	if err := p.enter(b); err != nil {
		return err
	}
	defer b.leave()
	l := p.layer(b, layer)
	p.sparse(b)
	p.memory(b, qkv, "qkv")
	p.memory(b, scores, "scores")
	if err := p.err(); err != nil {
		return err
	}
	g, n := &b.cache.geometry, b.size()
	keys := keysPerChunk
	if b.device.Info().IsGPU() {
		keys = keysPerGPUChunk
	}
	chunk := max(1, keys/g.BlockSize)
	chunks := ceilDiv(b.blocks, chunk)
	a := &scoresArgs{
		IndexQ: qkv.Add(4 * int64(g.indexQColumn())), IndexKeys: l.indexKeys, Batch: b.words, Scores: scores, Stride: int64(g.Columns()),
		Rows: n.rows, Sequences: n.sequences, TableEntries: n.tables, PresenceWords: n.presence,
		IndexHeads: int32(g.KVHeads), IndexDim: int32(g.IndexDim), BlockSize: int32(g.BlockSize), Format: int32(b.cache.format.indexKeys()),
		ScoreBlocks: int32(b.blocks), ChunkBlocks: int32(chunk),
	}
	cost := chunk * g.BlockSize * g.IndexDim * int(elementBytes(b.cache.format.indexKeys()))
	return p.launched(indexScores.Launch(b.device, hip.Grid{Blocks: b.rows * chunks, BlockCost: cost}, a))
}

// Roughly how many keys one block of the launch reads: few enough that one row over a long
// context keeps a device busy. A GPU needs more blocks than a CPU.
const (
	keysPerChunk    = 1024
	keysPerGPUChunk = 256
)

type scoresArgs struct {
	IndexQ    hip.Ptr // float32 [Rows] rows of [IndexHeads, IndexDim], Stride apart
	IndexKeys hip.Ptr // Format [pages, BlockSize, IndexDim]
	Batch     hip.Ptr // see Batch
	Scores    hip.Ptr // float32 [Rows, IndexHeads, ScoreBlocks]
	Stride    int64

	Rows, Sequences, TableEntries, PresenceWords int32

	IndexHeads, IndexDim, BlockSize, Format int32
	ScoreBlocks, ChunkBlocks                int32
}

// chunks is how many blocks of the launch a row has.
func (a *scoresArgs) chunks() int { return ceilDiv(int(a.ScoreBlocks), int(a.ChunkBlocks)) }

// indexScores runs one block per row and chunk of ChunkBlocks blocks of keys.
var indexScores = hip.NewKernel("index_scores",
	rowsSource()+hip.Define("scoreThreads", scoreThreads)+indexScoresHIP, scoresTwin).Fast(0, scoresFast).Block(scoreThreads)

const scoreThreads = 256

func scoresTwin(b *hip.Blocks, a *scoresArgs) {
	dim := int(a.IndexDim)
	key := hip.Scratch[float32](b, dim)
	a.each(b, func(c *rowContext, queries []float32, block int, keys vectors, best []float32) {
		for g := range best {
			top := math.Inf(-1)
			for s := range c.keys(block, int(a.BlockSize)) {
				if c.present(block*int(a.BlockSize) + s) {
					top = max(top, dot64(queries[g*dim:(g+1)*dim], keys.at(s, key)))
				}
			}
			best[g] = float32(top)
		}
	})
}

func scoresFast(b *hip.Blocks, a *scoresArgs) {
	if hasVectors(b.SIMD()) {
		scoresVector(b, a)
		return
	}
	key := hip.Scratch[float32](b, int(a.IndexDim))
	products := hip.Scratch[float32](b, int(a.IndexHeads))
	a.each(b, func(c *rowContext, queries []float32, block int, keys vectors, best []float32) {
		for g := range best {
			best[g] = float32(math.Inf(-1))
		}
		for s := range c.keys(block, int(a.BlockSize)) {
			if !c.present(block*int(a.BlockSize) + s) {
				continue
			}
			dots(products, queries, keys.at(s, key))
			for g, product := range products {
				if product > best[g] || product != product {
					best[g] = product // a NaN stays: nothing is larger
				}
			}
		}
	})
}

// each calls score for every row and block of keys of the launch's blocks, with
// the row's index queries and the block's index keys, and stores the scores
// that it sets, one for each index head.
func (a *scoresArgs) each(b *hip.Blocks, score func(c *rowContext, queries []float32, block int, keys vectors, best []float32)) {
	rows := viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords})
	heads, dim, size := int(a.IndexHeads), int(a.IndexDim), int(a.BlockSize)
	best := hip.Scratch[float32](b, heads)
	out := make([][]float32, heads)
	blocks, chunk := int(a.ScoreBlocks), int(a.ChunkBlocks)
	chunks := a.chunks()
	for i := b.First; i < b.End; i++ {
		row, first := i/chunks, i%chunks*chunk
		n := min(chunk, blocks-first)
		for g := range out {
			out[g] = hip.Out[float32](b, a.Scores.Add(((int64(row)*int64(heads)+int64(g))*int64(blocks)+int64(first))*4), n)
		}
		c := rows.context(row)
		queries := hip.In[float32](b, a.IndexQ.Add(int64(row)*a.Stride*4), heads*dim)
		for k := range n {
			var keys vectors
			if visible := c.keys(first+k, size); visible > 0 {
				keys = readVectors(b, a.IndexKeys, element(a.Format), dim, int64(c.table[first+k])*int64(size), visible)
			}
			score(&c, queries, first+k, keys, best)
			for g := range out {
				out[g][k] = best[g]
			}
		}
	}
}
