package attention

import (
	"errors"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
)

// Attend computes softmax attention over the visible keys of the selected blocks:
//
//	out[h] = Σ softmax_j( q[h] · k[g][j] · HeadDim^−½ ) · v[g][j]
//
// for the query heads h of each KV head g, over the keys j ≤ position that the blocks
// selected for index head g hold. Where the [Geometry] is dense, selected is the zero Ptr
// and all blocks count. q comes from qkv after [Insert]. out is float32 [rows,
// Heads·HeadDim]; a head without a key gives zeros. A NaN in q, or in a k that is attended
// to, makes the output of its heads NaN; a NaN in v affects only its own column of them.
// The reference computes in float64 and rounds once, other devices compute in float32. A GPU
// that has matrix units multiplies a row's up to 4 096 keys and values of bfloat16 or e4m3 by
// them, and leaves out up to 2^−16 of each q and of each weight of the softmax.
func Attend(b *Batch, layer int, qkv, selected, out hip.Ptr) error {
	p := problems{op: "attend"}
	if err := p.enter(b); err != nil {
		return err
	}
	defer b.leave()
	l := p.layer(b, layer)
	p.memory(b, qkv, "qkv")
	needed := p.memory
	if b.cache.geometry.dense() {
		needed = p.unneeded
	}
	needed(b, selected, "selected")
	p.memory(b, out, "out")
	if err := p.err(); err != nil {
		return err
	}
	g, info := &b.cache.geometry, b.device.Info()
	k := hip.Choose(sparseAttention, func(s *sparseKernel) bool { return s.serves(b, g, info) })
	return p.launched(k.attend(b, l, qkv, selected, out))
}

// attend is [Attend] by one kernel.
func (k *sparseKernel) attend(b *Batch, l cacheLayer, qkv, selected, out hip.Ptr) error {
	g, n := &b.cache.geometry, b.size()
	info, group := b.device.Info(), g.Heads/g.KVHeads
	bundle := min(group, partHeads)
	if !k.inParts {
		bundle = bundleHeads(group, b.rows*g.KVHeads, info.Threads)
	}
	a := &sparseArgs{
		Q: qkv, Keys: l.keys, Values: l.values, Selected: selected, Batch: b.words, Out: out, Parts: b.shared.partial.Ptr(), Stride: int64(g.Columns()),
		Rows: n.rows, Sequences: n.sequences, TableEntries: n.tables, PresenceWords: n.presence,
		Heads: int32(g.Heads), KVHeads: int32(g.KVHeads), HeadDim: int32(g.HeadDim), BlockSize: int32(g.BlockSize),
		TopkBlocks: int32(g.attended(b.blocks)), BundleHeads: int32(bundle), Bundles: int32(ceilDiv(group, bundle)), Format: int32(b.cache.format.keys()),
		KeyScale: l.keyScale, ValueScale: l.valueScale,
	}
	blocks := ceilDiv(b.rows, max(k.tiles, 1)) * g.KVHeads * int(a.Bundles)
	if k.split {
		return errors.Join(
			k.Launch(b.device, hip.Grid{Blocks: blocks * b.parts}, a),
			sparseMerge.Launch(b.device, hip.Grid{Blocks: b.rows * g.Heads}, a),
		)
	}
	// Each head multiplies over all keys: the work is bundle times what is read.
	cost := 2 * min(int(a.TopkBlocks), b.blocks) * g.BlockSize * g.HeadDim * bundle
	return k.Launch(b.device, hip.Grid{Blocks: blocks, Threads: k.blockThreads(blocks, info), BlockCost: cost}, a)
}

// bundleHeads is how many of a KV head's query heads one block does. All of them
// read keys and values once; fewer, down to 4, when that leaves threads idle.
func bundleHeads(group, blocks, threads int) int {
	bundle := group
	for bundle > 4 && blocks*(group/bundle) < threads {
		bundle = (bundle + 1) / 2
	}
	return bundle
}

type sparseArgs struct {
	Q            hip.Ptr // float32 [Rows] rows of [Heads, HeadDim], Stride apart
	Keys, Values hip.Ptr // Format [pages, KVHeads, BlockSize, HeadDim]
	Selected     hip.Ptr // int32 [Rows, KVHeads, TopkBlocks]; 0: blocks 0 … TopkBlocks−1
	Batch        hip.Ptr // see Batch
	Out          hip.Ptr // float32 [Rows, Heads, HeadDim]
	Parts        hip.Ptr // see sparsePartsTwin; none where keys are not split
	Stride       int64

	Rows, Sequences, TableEntries, PresenceWords int32

	Heads, KVHeads, HeadDim, BlockSize       int32
	TopkBlocks, BundleHeads, Bundles, Format int32
	KeyScale, ValueScale                     float32
}

// sparseAttention has the kernels of [Attend]. All but one run a block per row, or per several
// rows, KV head, and bundle of BundleHeads of the KV head's query heads. On a GPU a block walks a
// row's keys and rescales its sums when the largest score grows. Few rows leave most of a GPU
// idle that way, so then each part of each row gets a block: see [sparsePartsTwin].
var sparseAttention = []sparseKernel{
	sparseOf("sparse_attention", "sparseAttention", attendThreads, sparseTwin, sparseBlock{}),
	sparseOf("sparse_attention_rows", "sparseRows", partThreads, sparseTwin, sparseBlock{inParts: true}),
	sparseOf("sparse_attention_parts", "sparseParts", partThreads, sparsePartsTwin, sparseBlock{inParts: true, split: true}),
	sparseOf("sparse_tiles", "sparseTiles<1, tileBF16>", tileThreads, sparseTwin, sparseBlock{inParts: true, tiles: 1, of: CacheBF16}),
	sparseOf("sparse_tiles_4", "sparseTiles<4, tileBF16>", tileThreads, sparseTwinOf4, sparseBlock{inParts: true, tiles: 4, of: CacheBF16}),
	sparseOf("sparse_tiles_fp8", "sparseTiles<1, tileE4M3>", tileThreads, sparseTwin, sparseBlock{inParts: true, tiles: 1, of: CacheFP8}),
	sparseOf("sparse_tiles_fp8_4", "sparseTiles<4, tileE4M3>", tileThreads, sparseTwinOf4, sparseBlock{inParts: true, tiles: 4, of: CacheFP8}),
}

const attendThreads, partThreads, tileThreads = 256, 512, 256

// tilesError bounds the error of attention on matrix units, which leaves out up to 2^−16 of each
// query and of each weight.
const tilesError = 5e-5

// sparseKernel is a kernel of [sparseAttention].
type sparseKernel struct {
	*hip.KernelOf[sparseArgs]
	sparseBlock
}

func sparseOf(name, template string, threads int, twin func(*hip.Blocks, *sparseArgs), block sparseBlock) sparseKernel {
	source := sparseSource() + hip.Define("partHeads", partHeads) + hip.Define("partDim", partDim)
	switch {
	case block.tiles > 0:
		source += hip.Define("tileThreads", tileThreads) + sparseTilesH + sparseTilesHIP
	case block.inParts:
		source += hip.Define("partThreads", partThreads) + sparsePartsHIP
	default:
		source += hip.Define("attendThreads", attendThreads) + sparseAttentionHIP
	}
	k := hip.NewKernel(name, source, twin).Instance(template, threads, 0, block.String())
	switch {
	case block.tiles > 0:
		k.Fast(tilesError, twin)
	case !block.split:
		k.Fast(0, sparseFast)
	}
	return sparseKernel{k, block}
}

// sparseBlock says when a kernel of sparse attention serves.
type sparseBlock struct {
	inParts bool    // on GPUs, for heads that parts hold
	split   bool    // rows · KVHeads below the compute units, or below fewUnits
	tiles   int     // rows of a block, on matrix units; 0: on others
	of      element // keys and values of tiles
}

func (s sparseBlock) String() string {
	switch {
	case s.tiles > 1:
		return fmt.Sprintf("matrix units, %v, many rows", s.of)
	case s.tiles > 0:
		return fmt.Sprintf("matrix units, %v", s.of)
	case s.split:
		return fmt.Sprintf("GPU, blocks under its units or %d", fewUnits)
	case s.inParts:
		return fmt.Sprintf("GPU, head_dim %% 8 = 0, up to %d", partDim)
	}
	return "any heads"
}

// serves reports whether a kernel serves the rows of a batch.
func (s *sparseBlock) serves(b *Batch, g *Geometry, info hip.Info) bool {
	switch {
	case s.tiles > 0:
		return b.parts == 0 && b.cache.format.keys() == s.of && inTiles(g, s.of, b.blocks, info) && (s.tiles == 1 || b.rows*g.KVHeads >= tileWaves*info.Threads)
	case s.split:
		return b.parts > 0
	case s.inParts:
		return inParts(g, info)
	}
	return true
}

// blockThreads returns the threads of a block on a GPU; 0: those of the kernel. On matrix units
// the waves of a block share the keys of a row, and add up at the end. Smaller blocks have less
// to add up, and a multiprocessor of NVIDIA, whose waves are small, holds two of them.
func (s *sparseBlock) blockThreads(blocks int, info hip.Info) int {
	if s.tiles > 0 && info.Kind == "cuda" && blocks >= info.Threads {
		return tileThreads / 2
	}
	return 0
}

func sparseTwin(b *hip.Blocks, a *sparseArgs) { a.attend(b, 1) }

// sparseTwinOf4 is the twin of kernels whose blocks do four rows.
func sparseTwinOf4(b *hip.Blocks, a *sparseArgs) { a.attend(b, 4) }

// attend is the definition of [Attend], in blocks of so many rows.
func (a *sparseArgs) attend(b *hip.Blocks, rows int) {
	dim := int(a.HeadDim)
	scale := a.scoreScale()
	vector, sum := hip.Scratch[float32](b, dim), hip.Scratch[float64](b, dim)
	weights := hip.Scratch[float64](b, a.mostKeys())
	a.each(b, rows, func(q, out []float32, selected selectedKeys) {
		for ; len(q) > 0; q, out = q[dim:], out[dim:] {
			n, top, total := 0, math.Inf(-1), 0.0
			selected.each(a.Keys, func(keys vectors, slot int) {
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
			selected.each(a.Values, func(values vectors, slot int) {
				for i, v := range values.at(slot, vector) {
					sum[i] += weights[n] / total * float64(v)
				}
				n++
			})
			for i, s := range sum {
				out[i] = float32(s * float64(a.ValueScale))
			}
		}
	})
}

// sparseFast does the heads of a bundle together, so that a key is converted and
// read once for all of them. Scores are kept, [key][head], and not merged as
// they come: there are at most TopkBlocks·BlockSize of them a head.
func sparseFast(b *hip.Blocks, a *sparseArgs) {
	if hasVectors(b.SIMD()) {
		a.each(b, 1, newHeadLanes(b, a).attend)
		return
	}
	dim := int(a.HeadDim)
	scale := float32(a.scoreScale())
	scaled := hip.Scratch[float32](b, int(a.BundleHeads)*dim)
	weights := hip.Scratch[float32](b, a.mostKeys()*int(a.BundleHeads))
	buffer := hip.Scratch[float32](b, 4*dim) // four vectors at a time
	var pendingWeights, pendingValues [4][]float32
	a.each(b, 1, func(q, out []float32, selected selectedKeys) {
		heads := len(q) / dim
		scaled := scaled[:len(q)]
		for i, v := range q {
			scaled[i] = v * scale
		}
		n := 0
		selected.each(a.Keys, func(keys vectors, slot int) {
			dots(weights[n:n+heads], scaled, keys.at(slot, buffer[:dim]))
			n += heads
		})
		vec.Softmax(hip.SIMDNone, weights[:n], heads)
		clear(out)
		n = 0
		pending := 0
		selected.each(a.Values, func(values vectors, slot int) {
			pendingWeights[pending] = weights[n : n+heads]
			pendingValues[pending] = values.at(slot, buffer[pending*dim:][:dim])
			n += heads
			if pending++; pending == 4 {
				accumulate(out, pendingWeights[:], pendingValues[:])
				pending = 0
			}
		})
		accumulate(out, pendingWeights[:pending], pendingValues[:pending])
		a.scaleValues(out)
	})
}

// scoreScale is what a stored key's product with a query is multiplied by.
func (a *sparseArgs) scoreScale() float64 { return float64(a.KeyScale) / math.Sqrt(float64(a.HeadDim)) }

// scaleValues makes sums of values of sums of stored values.
func (a *sparseArgs) scaleValues(sums []float32) {
	if a.ValueScale == 1 {
		return
	}
	for i := range sums {
		sums[i] *= a.ValueScale
	}
}

// selectedKeys are the keys that a row attends to, in ascending position.
type selectedKeys struct {
	b    *hip.Blocks
	a    *sparseArgs
	runs []keyRun
}

// keyRun is n stored vectors from the one at first on, of keys or values alike.
type keyRun struct {
	first int64
	n     int
}

// read views the vectors of run i at p, which is keys or values.
func (s *selectedKeys) read(p hip.Ptr, i int) vectors {
	return readVectors(s.b, p, element(s.a.Format), int(s.a.HeadDim), s.runs[i].first, s.runs[i].n)
}

// each calls f for every vector at p, with the run that it is in and its place there.
func (s *selectedKeys) each(p hip.Ptr, f func(stored vectors, i int)) {
	for r := range s.runs {
		stored := s.read(p, r)
		for i := range stored.len() {
			f(stored, i)
		}
	}
}

// each calls attend for every row, KV head and bundle of the launch's blocks, with the
// queries of the bundle's heads and where their results go. On the CPU all rows of a
// bundle, which often attend to the same keys, come before the next bundle. A block does
// blockRows rows: block = (KV head·Bundles + bundle)·⌈Rows/blockRows⌉ + row/blockRows.
func (a *sparseArgs) each(b *hip.Blocks, blockRows int, attend func(q, out []float32, selected selectedKeys)) {
	rows := viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords})
	kvHeads, dim, bundles := int(a.KVHeads), int(a.HeadDim), int(a.Bundles)
	group, groups := int(a.Heads)/kvHeads, ceilDiv(int(a.Rows), blockRows)
	selected := selectedKeys{b: b, a: a, runs: hip.Scratch[keyRun](b, int(a.TopkBlocks))}
	for i := b.First; i < b.End; i++ {
		first, g, bundle := i%groups*blockRows, i/groups/bundles, i/groups%bundles*int(a.BundleHeads)
		head, n := g*group+bundle, min(int(a.BundleHeads), group-bundle)*dim
		for row := first; row < min(first+blockRows, int(a.Rows)); row++ {
			q := hip.In[float32](b, a.Q.Add((int64(row)*a.Stride+int64(head*dim))*4), n)
			out := hip.Out[float32](b, a.Out.Add((int64(row)*int64(a.Heads)+int64(head))*int64(dim)*4), n)
			c := rows.context(row)
			selected.find(&c, row, g)
			attend(q, out, selected)
		}
	}
}

// find sets the runs of keys that are selected for KV head g of a row.
func (s *selectedKeys) find(c *rowContext, row, g int) {
	topk := int(s.a.TopkBlocks)
	s.runs = s.runs[:0]
	if s.a.Selected == 0 {
		for block := range min(topk, c.position/int(s.a.BlockSize)+1) {
			s.add(c, block, g)
		}
		return
	}
	kvHeads := int64(s.a.KVHeads)
	for _, block := range hip.In[int32](s.b, s.a.Selected.Add((int64(row)*kvHeads+int64(g))*int64(topk)*4), topk) {
		if block >= 0 {
			s.add(c, int(block), g)
		}
	}
}

// add appends the runs of a block's visible keys.
func (s *selectedKeys) add(c *rowContext, block, g int) {
	size := int(s.a.BlockSize)
	visible := c.keys(block, size)
	for at := 0; at < visible; {
		from, to := c.run(block*size, at, visible)
		if from < to {
			first := (int64(c.table[block])*int64(s.a.KVHeads)+int64(g))*int64(size) + int64(from)
			s.runs = append(s.runs, keyRun{first, to - from})
		}
		at = to
	}
}

// mostKeys is how many keys a row may attend to.
func (a *sparseArgs) mostKeys() int { return int(min(a.TopkBlocks, a.TableEntries)) * int(a.BlockSize) }
