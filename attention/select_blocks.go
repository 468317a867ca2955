package attention

import (
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Select chooses the blocks that each row attends to, for each index head. Candidates are
// the blocks that hold a key at or before the row's position. They are taken in this order
// until there are TopkBlocks of them:
//
//  1. the first InitBlocks,
//  2. the last LocalBlocks, from the last one backwards,
//  3. the best scores; of equal ones the lower block; NaN after every number.
//
// scores is the result of [Scores]. It may be the zero Ptr if b.Blocks() is at most
// TopkBlocks, since every candidate is taken then. selected is int32 [rows, KVHeads,
// TopkBlocks]: ascending, then −1. A dense [Geometry] has nothing to select, which is a
// [hip.InputError].
func Select(b *Batch, scores, selected hip.Ptr) error {
	p := problems{op: "select"}
	if err := p.enter(b); err != nil {
		return err
	}
	defer b.leave()
	g, n := &b.cache.geometry, b.size()
	p.sparse(b)
	if b.blocks > g.TopkBlocks {
		p.memory(b, scores, "scores")
	}
	p.memory(b, selected, "selected")
	if err := p.err(); err != nil {
		return err
	}
	a := &selectArgs{
		Scores: scores, Batch: b.words, Selected: selected,
		Rows: n.rows, Sequences: n.sequences, TableEntries: n.tables, PresenceWords: n.presence,
		IndexHeads: int32(g.KVHeads), BlockSize: int32(g.BlockSize), ScoreBlocks: int32(b.blocks),
		TopkBlocks: int32(g.TopkBlocks), InitBlocks: int32(g.InitBlocks), LocalBlocks: int32(g.LocalBlocks),
	}
	return p.launched(selectBlocks.Launch(b.device, hip.Grid{Blocks: b.rows * g.KVHeads, BlockCost: 8 * b.blocks}, a))
}

type selectArgs struct {
	Scores   hip.Ptr // float32 [Rows, IndexHeads, ScoreBlocks], or none
	Batch    hip.Ptr // see Batch
	Selected hip.Ptr // int32 [Rows, IndexHeads, TopkBlocks]

	Rows, Sequences, TableEntries, PresenceWords int32

	IndexHeads, BlockSize, ScoreBlocks  int32
	TopkBlocks, InitBlocks, LocalBlocks int32
}

// selectBlocks runs one block per row and index head.
var selectBlocks = hip.NewKernel("select_blocks",
	rowsSource()+hip.Define("selectThreads", selectThreads)+selectBlocksHIP, selectTwin).Fast(0, selectFast).Block(selectThreads)

const selectThreads = 256

func selectTwin(b *hip.Blocks, a *selectArgs) { a.each(b, bestBySorting) }

func selectFast(b *hip.Blocks, a *selectArgs) { a.each(b, bestByHeap) }

// each selects for the rows and index heads of the launch's blocks. best moves the n best
// candidates to the front, in any order.
func (a *selectArgs) each(b *hip.Blocks, best func(scores []float32, candidates []int32, n int)) {
	rows := viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords})
	topk := int(a.TopkBlocks)
	all := hip.Scratch[int32](b, int(a.ScoreBlocks))
	for i := b.First; i < b.End; i++ {
		c := rows.context(i / int(a.IndexHeads))
		selected := hip.Out[int32](b, a.Selected.Add(int64(i)*int64(topk)*4), topk)
		candidates := c.candidates(all[:0], int(a.BlockSize))
		taken := append(selected[:0], candidates[:min(int(a.InitBlocks), topk, len(candidates))]...)
		rest := candidates[len(taken):]
		local := len(rest) - min(int(a.LocalBlocks), topk-len(taken), len(rest))
		taken = append(taken, rest[local:]...)
		rest = rest[:local]
		if room := topk - len(taken); room < len(rest) {
			best(hip.In[float32](b, a.Scores.Add(int64(i)*int64(a.ScoreBlocks)*4), int(a.ScoreBlocks)), rest, room)
			rest = rest[:room]
		}
		taken = append(taken, rest...)
		slices.Sort(taken)
		for k := len(taken); k < topk; k++ {
			selected[k] = -1
		}
	}
}

// candidates appends the blocks that hold a visible key, ascending.
func (c *rowContext) candidates(blocks []int32, size int) []int32 {
	for block := range c.position/size + 1 {
		if c.visible(block, size) {
			blocks = append(blocks, int32(block))
		}
	}
	return blocks
}

// better reports whether block x is taken before block y: a total order.
func better(scores []float32, x, y int32) bool {
	a, b := scores[x], scores[y]
	switch {
	case a > b:
		return true
	case a < b:
		return false
	case a == b || a != a && b != b:
		return x < y
	}
	return b != b // exactly one is NaN
}

func bestBySorting(scores []float32, candidates []int32, _ int) {
	slices.SortFunc(candidates, func(x, y int32) int {
		if better(scores, x, y) {
			return -1
		}
		return 1
	})
}

// bestByHeap keeps the n best in a heap with the worst of them on top: few
// candidates get past it, so that it is about one comparison for each.
func bestByHeap(scores []float32, candidates []int32, n int) {
	if n == 0 {
		return
	}
	heap := candidates[:n]
	for i := n/2 - 1; i >= 0; i-- {
		sinkBetter(scores, heap, i)
	}
	for _, block := range candidates[n:] {
		if better(scores, block, heap[0]) {
			heap[0] = block
			sinkBetter(scores, heap, 0)
		}
	}
}

// sinkBetter moves entry i down until nothing below it is worse.
func sinkBetter(scores []float32, heap []int32, i int) {
	for {
		worst := 2*i + 1
		if worst >= len(heap) {
			return
		}
		if right := worst + 1; right < len(heap) && better(scores, heap[worst], heap[right]) {
			worst = right
		}
		if !better(scores, heap[i], heap[worst]) {
			return
		}
		heap[i], heap[worst] = heap[worst], heap[i]
		i = worst
	}
}
