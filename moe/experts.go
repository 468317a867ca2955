package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// expertsGateUp computes, for every pair of a row x and a picked expert e,
//
//	y[pair][j] = act(w13_e[j] · x, w13_e[Out+j] · x)        j = 0 … Out−1
//
// and expertsDown, for every pair and its own x[pair],
//
//	y[pair][j] = w2_e[j] · x[pair]
//
// as [weights.Rows.Multiply64] and [swiGLU] define the parts: a product is
// rounded to float32 before it is activated. expertsGateUpOne and expertsDownOne are
// the same where no expert has more than one pair.
var (
	expertsGateUp    = hip.NewKernel("experts_gate_up", expertsGateUpSource(), expertsGateUpTwin).Fast(0, expertsGateUpHost)
	expertsDown      = hip.NewKernel("experts_down", expertsDownSource(), expertsDownTwin).Fast(0, expertsDownHost)
	expertsGateUpOne = hip.NewKernel("experts_gate_up_one", expertsGateUpSource(), expertsGateUpTwin).Fast(0, expertsGateUpHost)
	expertsDownOne   = hip.NewKernel("experts_down_one", expertsDownSource(), expertsDownTwin).Fast(0, expertsDownHost)
)

// expertsArgs has the grid (slot of the list of active experts) × (tile of
// output columns), tiles counting fastest:
//
//	block        0   1   2   3   4   5   6   7   8
//	slot         0   0   0   1   1   1   2   2   2      active[slot]; done if slot ≥ activeCount
//	columns      ├─ tile ─┼─ tile ─┼─ tile ─┤
type expertsArgs struct {
	X           hip.Ptr // [Pairs/PairsPerX, In] float32
	Y           hip.Ptr // [Pairs, Out] float32, written
	Weights     hip.Ptr // [Segments] weights.Segment
	Offsets     hip.Ptr // as groupByExpert wrote them
	Order       hip.Ptr
	Active      hip.Ptr
	ActiveCount hip.Ptr
	Alpha       float64 // activation of expertsGateUp
	Limit       float64
	Beta        float64
	Segments    int32
	Pairs       int32
	PairsPerX   int32 // pair p multiplies x[p / PairsPerX]
	Experts     int32
	In, Out     int32
}

const (
	// expertTile is the output columns of one block.
	expertTile = 16

	// gatherRows is how many rows of x are multiplied with a row of weights
	// while it is decoded, at most; they stay in a core's cache meanwhile.
	gatherRows = 64

	// runColumns is the output columns that are computed before they are stored:
	// many, as a product prefetches and blocks within its rows of weights.
	runColumns = 512
)

// tiles returns how many tiles of the given size cover n columns.
func tiles(n, size int) int { return n/size + min(n%size, 1) }

// launchExperts launches k, for which one output column takes weightRows rows of w.
func launchExperts(d hip.Device, k *hip.KernelOf[expertsArgs], w *weights.Matrix, weightRows int, a *expertsArgs) error {
	return launchExpertTiles(d, k, hip.Grid{Threads: 128}, expertTile, w, weightRows, a)
}

// launchExpertTiles sets the blocks of grid: one for each slot and tile of columns.
func launchExpertTiles(d hip.Device, k *hip.KernelOf[expertsArgs], grid hip.Grid, tile int, w *weights.Matrix, weightRows int, a *expertsArgs) error {
	a.Weights, a.Segments = w.Table(), int32(len(w.Segments))
	grid.Blocks = min(int(a.Experts), int(a.Pairs)) * tiles(int(a.Out), tile)
	grid.BlockCost = tile * weightRows * w.RowBytes()
	return k.Launch(d, grid, a)
}

func expertsGateUpTwin(b *hip.Blocks, a *expertsArgs) { gateUpExperts(b, a, expertTile, definition) }
func expertsGateUpHost(b *hip.Blocks, a *expertsArgs) { gateUpExperts(b, a, expertTile, host) }
func expertsDownTwin(b *hip.Blocks, a *expertsArgs)   { downExperts(b, a, expertTile, definition) }
func expertsDownHost(b *hip.Blocks, a *expertsArgs)   { downExperts(b, a, expertTile, host) }

// gateUpExperts and downExperts do blocks of tile output columns.
func gateUpExperts(b *hip.Blocks, a *expertsArgs, tile int, with arithmetic) {
	g := newGateUp(b, with, swiGLU{a.Alpha, a.Limit, a.Beta}, gatherRows, runColumns)
	w := weights.OpenRows(b, a.Weights, int(a.Segments), int(a.In))
	out := int(a.Out)
	eachExpertRun(b, a, tile, w, with, func(expert, first, count int, x *weights.Operand) []float32 {
		gate := expert*2*out + first
		return g.multiply(w, gate, gate+out, count, x)
	})
}

func downExperts(b *hip.Blocks, a *expertsArgs, tile int, with arithmetic) {
	y := hip.Scratch[float32](b, gatherRows*runColumns)
	w := weights.OpenRows(b, a.Weights, int(a.Segments), int(a.In))
	out := int(a.Out)
	eachExpertRun(b, a, tile, w, with, func(expert, first, count int, x *weights.Operand) []float32 {
		with.multiply(w, y, count, expert*out+first, count, x)
		return y
	})
}

// eachExpertRun calls compute for runs of at most runColumns output columns of the
// blocks and every gathered set of up to gatherRows rows x whose pairs picked the
// block's expert. It returns rows × count values, for the columns from first,
// which are stored with their pairs.
func eachExpertRun(
	b *hip.Blocks, a *expertsArgs, tile int, w *weights.Rows, with arithmetic,
	compute func(expert, first, count int, x *weights.Operand) []float32,
) {
	pairs, experts, in, out := int(a.Pairs), int(a.Experts), int(a.In), int(a.Out)
	x := hip.In[float32](b, a.X, pairs/int(a.PairsPerX)*in)
	y := hip.Out[float32](b, a.Y, pairs*out)
	offsets := hip.In[int32](b, a.Offsets, experts+1)
	order := hip.In[int32](b, a.Order, pairs)
	active := hip.In[int32](b, a.Active, min(experts, pairs))
	active = active[:hip.In[int32](b, a.ActiveCount, 1)[0]]
	gathered := hip.Scratch[float32](b, min(pairs, gatherRows)*in)

	perExpert := tiles(out, tile)
	for block := b.First; block < b.End; {
		slot := block / perExpert
		if slot >= len(active) {
			return
		}
		expert := int(active[slot])
		firstTile, endTile := block-slot*perExpert, min(b.End-slot*perExpert, perExpert)
		end := min(endTile*tile, out)
		picked := order[offsets[expert]:offsets[expert+1]]
		for len(picked) > 0 {
			n := min(len(picked), gatherRows)
			for i, pair := range picked[:n] {
				row := int(pair / a.PairsPerX)
				copy(gathered[i*in:(i+1)*in], x[row*in:(row+1)*in])
			}
			operand := with.prepare(w, gathered[:n*in], n)
			for first := firstTile * tile; first < end; first += runColumns {
				count := min(runColumns, end-first)
				values := compute(expert, first, count, operand)
				for i, pair := range picked[:n] {
					copy(y[int(pair)*out+first:], values[i*count:(i+1)*count])
				}
			}
			picked = picked[n:]
		}
		block = slot*perExpert + endTile
	}
}
