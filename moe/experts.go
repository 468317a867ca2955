package moe

import (
	"fmt"

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
// as [weights.Rows.Multiply] and [swiGLU] define the parts: a product is rounded to float32
// before it is activated. The kernels of both serve from the same bounds. One row gives an
// expert at most one pair. With fewer pairs than the bounds below most of a tile is wasted;
// the weights of an expert with more pairs than a tile holds are read again.
var (
	expertsGateUp = []expertsKernel{
		expertsOf("experts_gate_up_one", "expertsFew<true, 1>", 4, expertBlock{rows: 1, halves: 2}),
		expertsOf("experts_gate_up_stream", "expertsStream<true>", weights.StreamResident(2), expertBlock{rows: 1, stream: true, halves: 2}),
		expertsOf("experts_gate_up", "expertsFew<true, multiplyRows>", 0, expertBlock{rows: 2, halves: 2}),
		expertsOnWarpgroups("experts_gate_up", 2, 32, tiledPairsEach),
		expertsOf("experts_gate_up_tiled_16", "expertsTiles<true, 16>", 3, expertBlock{rows: 2, pairs: tiledPairs, each: tiledPairsEach, x: 16, halves: 2}),
		expertsOf("experts_gate_up_tiled_64", "expertsTiles<true, 64>", 2, expertBlock{rows: 2, pairs: tiledPairs, each: 6, x: 64, halves: 2}),
		expertsOnWarpgroups("experts_gate_up", 2, 64, 24),
		expertsOnWarpgroups("experts_gate_up", 2, 96, 48),
		expertsOnWarpgroups("experts_gate_up", 2, 128, 80),
		expertsOfFew("experts_gate_up", 2),
		expertsOf("experts_gate_up_mxfp8_16", "expertsTiles<true, 16, true>", 3, expertBlock{rows: 2, pairs: tiledPairs, each: tiledPairsEach, x: 16, halves: 2, rounded: true}),
		expertsOf("experts_gate_up_mxfp8_64", "expertsTiles<true, 64, true>", 2, expertBlock{rows: 2, pairs: tiledPairs, each: 6, x: 64, halves: 2, rounded: true}),
	}
	expertsDown = []expertsKernel{
		expertsOf("experts_down_one", "expertsFew<false, 1>", 4, expertBlock{rows: 1, halves: 1}),
		expertsOf("experts_down_stream", "expertsStream<false>", weights.StreamResident(1), expertBlock{rows: 1, stream: true, halves: 1}),
		expertsOf("experts_down", "expertsFew<false, multiplyRows>", 0, expertBlock{rows: 2, halves: 1}),
		expertsOnWarpgroups("experts_down", 1, 32, tiledPairsEach),
		expertsOf("experts_down_tiled_16", "expertsTiles<false, 16>", 3, expertBlock{rows: 2, pairs: tiledPairs, each: tiledPairsEach, x: 16, halves: 1}),
		expertsOf("experts_down_tiled_64", "expertsTiles<false, 64>", 2, expertBlock{rows: 2, pairs: tiledPairs, each: 6, x: 64, halves: 1}),
		expertsOnWarpgroups("experts_down", 1, 64, 24),
		expertsOnWarpgroups("experts_down", 1, 96, 48),
		expertsOnWarpgroups("experts_down", 1, 128, 80),
		expertsOfFew("experts_down", 1),
		expertsOf("experts_down_mxfp8_16", "expertsTiles<false, 16, true>", 3, expertBlock{rows: 2, pairs: tiledPairs, each: tiledPairsEach, x: 16, halves: 1, rounded: true}),
		expertsOf("experts_down_mxfp8_64", "expertsTiles<false, 64, true>", 2, expertBlock{rows: 2, pairs: tiledPairs, each: 6, x: 64, halves: 1, rounded: true}),
	}
)

// Experts with fewer pairs, or with fewer each on average, do not run on matrix units.
const (
	tiledPairs     = 33
	tiledPairsEach = 1.5

	// fewTilePairs is up to how many pairs each experts are faster wave by wave than by
	// warpgroups.
	fewTilePairs = 10

	// mostFewPairs is up to how many pairs each experts are fastest by the kernel for few.
	mostFewPairs = 4
)

// manyPairs reports whether pairs of so many experts may run on matrix units.
func manyPairs(pairs, experts int) bool {
	return pairs >= tiledPairs && float64(pairs) > tiledPairsEach*float64(experts)
}

// expertsKernel is a kernel of [expertsGateUp] or [expertsDown].
type expertsKernel struct {
	*hip.KernelOf[expertsArgs]
	expertBlock
}

// expertBlock says what one block of a kernel does, and from how much work on the kernel
// serves.
type expertBlock struct {
	rows  int     // of the batch: as many pairs an expert may have
	pairs int     // of all experts held
	each  float64 // more than so many pairs to an expert, on average
	x     int     // pairs that are multiplied at a time on matrix units; 0: not on them

	rounded bool // x is rounded to MXFP8, and is multiplied so

	warpgroups bool // see [weights.WarpgroupsOf]
	few        bool // up to mostFewPairs pairs an expert, on average: see [weights.Matrix.FewPairs]

	stream bool // one row of the batch, on a GPU, with weights that [weights.Matrix.Streams]

	halves int // rows of weights for an output column: gate and up, or one
	tile   int // output columns of a block
}

func expertsOf(name, template string, resident int, block expertBlock) expertsKernel {
	tile, threads, maxError := weights.TileOf(block.x)
	block.tile = tile
	if block.x > 0 {
		block.tile /= block.halves // a tile holds both
	}
	k := hip.NewKernel(name, gateUpSource()+expertsHIP, block.side(definition)).
		Instance(template, threads, resident, block.String()).
		Fast(maxError, block.side(host))
	if block.stream {
		k.StartsEarly()
	}
	return expertsKernel{k, block}
}

// expertsOfFew declares a kernel for few pairs an expert.
func expertsOfFew(name string, halves int) expertsKernel {
	threads, shared, maxError := weights.FewOf()
	block := expertBlock{rows: 2, x: 8, few: true, halves: halves}
	return expertsKernel{
		hip.NewKernel(name+"_few", gateUpGroupSource()+expertsHIP, block.side(definition)).
			Instance(fmt.Sprintf("expertsFewRows<%t>", halves == 2), threads, 2, block.String()).
			Shared(shared).
			Fast(maxError, block.side(host)).
			StartsEarly(),
		block,
	}
}

// expertsOnWarpgroups declares a kernel of [weights.WarpgroupsOf] for x pairs at a time, from
// more than so many to each expert on: name, "_group_" and x.
func expertsOnWarpgroups(name string, halves, x int, each float64) expertsKernel {
	of, rows, threads, shared := weights.WarpgroupsOf(x, true)
	_, _, maxError := weights.TileOf(x)
	block := expertBlock{rows: 2, pairs: tiledPairs, each: each, x: x, warpgroups: true, halves: halves, tile: rows / halves}
	return expertsKernel{
		hip.NewKernel(fmt.Sprintf("%s_group_%d", name, x), gateUpGroupSource()+expertsHIP, block.side(definition)).
			Instance(fmt.Sprintf("expertsWarpgroups<%t, %s>", halves == 2, of), threads, 1, block.String()).
			Shared(shared).
			Fast(maxError, block.side(host)),
		block,
	}
}

// side returns the Go side of the block.
func (e *expertBlock) side(with arithmetic) func(*hip.Blocks, *expertsArgs) {
	if e.halves == 2 {
		return e.gateUp(with)
	}
	return e.down(with)
}

// String says when the kernel serves.
func (e expertBlock) String() string {
	switch {
	case e.stream:
		return "1 row, GPU"
	case e.rows == 1:
		return "1 row"
	case e.few:
		return fmt.Sprintf("up to %d pairs each, warpgroups", mostFewPairs)
	case e.x == 0:
		return fmt.Sprintf("%d rows on", e.rows)
	}
	return fmt.Sprintf("%d pairs, over %v each, %s", e.pairs, e.each, unitsText(e.rounded, e.warpgroups))
}

// expertsArgs has the grid (slot of the list of active experts) × (tile of
// output columns), tiles counting fastest:
//
//	block        0   1   2   3   4   5   6   7   8
//	slot         0   0   0   1   1   1   2   2   2      active[slot]; done if slot ≥ activeCount
//	columns      ├─ tile ─┼─ tile ─┼─ tile ─┤
type expertsArgs struct {
	X           hip.Ptr // [Pairs/PairsPerX, In] float32
	Codes       hip.Ptr // of X, if it is rounded: see [weights.QuantizedRows.Rows]; its parts, if it is split, see form; or 0
	Scales      hip.Ptr
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
	Experts     int32 // held: those of the weights, of Offsets and of Active
	In, Out     int32
	Tile        int64 // output columns of a block
}

// launchExperts launches the kernel for the pairs of rows rows, of which here are those of
// the experts held, on average.
func launchExperts(d hip.Device, kernels []expertsKernel, w *weights.Matrix, rows, here int, x form, a *expertsArgs) error {
	k := hip.Choose(kernels, func(e *expertsKernel) bool {
		if e.stream {
			return rows == 1 && w.Streams(d, a.X, int(a.Out)) && w.SameFormat()
		}
		if e.few {
			return x == inRows
		}
		return rows >= e.rows && (!e.rounded || a.Codes != 0 && x == asIs) && (e.x == 0 ||
			here >= e.pairs && float64(here) > e.each*float64(a.Experts) && e.multiplies(d, w, x, a))
	})
	return k.launch(d, w, a)
}

// multiplies reports whether a kernel on matrix units multiplies rows as they are in a.
func (e *expertsKernel) multiplies(d hip.Device, w *weights.Matrix, x form, a *expertsArgs) bool {
	if e.warpgroups {
		return x == inTiles
	}
	return w.Tiled(d, a.X) && (e.rounded || e.x <= weights.FewTileRows || !w.Splits(d, int(a.Pairs)))
}

// launch launches a block for each slot and tile of columns.
func (e *expertsKernel) launch(d hip.Device, w *weights.Matrix, a *expertsArgs) error {
	a.Weights, a.Segments = w.Table()
	slots, tile := min(int(a.Experts), int(a.Pairs)), e.tile
	if e.stream || e.rows > 1 && !d.Info().IsGPU() {
		tile = weights.StreamTile(d, slots*int(a.Out)*e.halves, e.halves) / e.halves
	}
	if e.few {
		tile = weights.FewTile(d, slots*int(a.Out)*e.halves) / e.halves
	}
	a.Tile = int64(tile)
	return e.Launch(d, hip.Grid{Blocks: slots * tiles(int(a.Out), tile), BlockCost: tile * e.halves * rowBytes(w)}, a)
}
