package moe

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// gateUpSwiGLU computes the first half of an expert that takes every row:
//
//	y[row][j] = act(w[j] · x[row], w[Out+j] · x[row])       j = 0 … Out−1
//
// each product rounded to float32 before it is activated. The second half is
// [weights.Matrix.Product].
var gateUpSwiGLU = []gateUpKernel{
	gateUpSwiGLUOf("gate_up_swiglu_one", "gateUpSwiGLUFew<1>", 4, gateUpBlock{from: 1}),
	gateUpSwiGLUOf("gate_up_swiglu_stream", "gateUpSwiGLUStream", weights.StreamResident(2), gateUpBlock{from: 1, stream: true}),
	gateUpSwiGLUOf("gate_up_swiglu", "gateUpSwiGLUFew<4>", 0, gateUpBlock{from: 2}),
	gateUpSwiGLUOnWarpgroups(gateUpBlock{from: 5, x: 32}),
	gateUpSwiGLUOf("gate_up_swiglu_tiled_16", "gateUpSwiGLUTiles<16>", 2, gateUpBlock{from: 5, x: 16}),
	gateUpSwiGLUOf("gate_up_swiglu_tiled_32", "gateUpSwiGLUTiles<32>", 2, gateUpBlock{from: 17, x: 32}),
	gateUpSwiGLUOnWarpgroups(gateUpBlock{from: 33, x: 64}),
	gateUpSwiGLUOnWarpgroups(gateUpBlock{from: 65, x: 128}),
	gateUpSwiGLUOfFew("gate_up_swiglu_few_4", 3, gateUpBlock{from: 2, x: 4}),
	gateUpSwiGLUOfFew("gate_up_swiglu_few_8", 3, gateUpBlock{from: 5, x: 8}),
	gateUpSwiGLUOfFew("gate_up_swiglu_few_16", 2, gateUpBlock{from: 9, x: 16}),
	gateUpSwiGLUOf("gate_up_swiglu_mxfp8_16", "gateUpSwiGLUTiles<16, true>", 2, gateUpBlock{from: 5, x: 16, rounded: true}),
	gateUpSwiGLUOf("gate_up_swiglu_mxfp8_32", "gateUpSwiGLUTiles<32, true>", 2, gateUpBlock{from: 17, x: 32, rounded: true}),
}

// gateUpKernel is a kernel of [gateUpSwiGLU].
type gateUpKernel struct {
	*hip.KernelOf[gateUpSwiGLUArgs]
	gateUpBlock
}

// gateUpBlock says what one block of a kernel does, and from how many rows on it serves.
type gateUpBlock struct {
	from   int  // rows of x
	x      int  // rows of x of a block, on matrix units; 0: all of them, not on those
	stream bool // one row, on a GPU, with weights that [weights.Matrix.Streams]
	tile   int  // output columns of a block

	warpgroups bool // see [weights.WarpgroupsOf]
	few        bool // up to x rows, see [weights.Matrix.Few]

	rounded bool // x is rounded to MXFP8, and is multiplied so
}

func gateUpSwiGLUOf(name, template string, resident int, block gateUpBlock) gateUpKernel {
	tile, threads, maxError := weights.TileOf(block.x)
	block.tile = tile
	if block.x > 0 {
		block.tile /= 2 // a tile holds gate and up
	}
	k := hip.NewKernel(name, gateUpSource()+gateUpSwiGLUHIP, block.columns(definition)).
		Instance(template, threads, resident, block.String()).
		Fast(maxError, block.columns(host))
	if block.stream {
		k.StartsEarly()
	}
	return gateUpKernel{k, block}
}

// gateUpSwiGLUOfFew declares a kernel for up to block.x rows, of which a multiprocessor of an
// NVIDIA GPU holds resident blocks.
func gateUpSwiGLUOfFew(name string, resident int, block gateUpBlock) gateUpKernel {
	threads, shared, maxError := weights.FewOf()
	block.few = true
	return gateUpKernel{
		hip.NewKernel(name, gateUpGroupSource()+gateUpSwiGLUHIP, block.columns(definition)).
			Instance(fmt.Sprintf("gateUpSwiGLUFewRows<%d>", block.x/4), threads, resident, block.String()).
			Shared(shared).
			Fast(maxError, block.columns(host)).
			StartsEarly(),
		block,
	}
}

// gateUpSwiGLUOnWarpgroups declares a kernel of [weights.WarpgroupsOf].
func gateUpSwiGLUOnWarpgroups(block gateUpBlock) gateUpKernel {
	of, rows, threads, shared := weights.WarpgroupsOf(block.x, block.x >= 128)
	_, _, maxError := weights.TileOf(block.x)
	block.tile, block.warpgroups = rows/2, true
	return gateUpKernel{
		hip.NewKernel(fmt.Sprintf("gate_up_swiglu_group_%d", block.x), gateUpGroupSource()+gateUpSwiGLUHIP, block.columns(definition)).
			Instance("gateUpSwiGLUWarpgroups<"+of+">", threads, 1, block.String()).
			Shared(shared).
			Fast(maxError, block.columns(host)),
		block,
	}
}

// String says when the kernel serves.
func (g gateUpBlock) String() string {
	switch {
	case g.stream:
		return "1 row, GPU"
	case g.from == 1:
		return "1 row"
	case g.few:
		return fmt.Sprintf("%d to %d rows, warpgroups", g.from, g.x)
	case g.x == 0:
		return fmt.Sprintf("%d rows on", g.from)
	}
	return fmt.Sprintf("%d rows on, %s", g.from, unitsText(g.rounded, g.warpgroups))
}

// parts is how many blocks share a tile of columns.
func (g *gateUpBlock) parts(rows int32) int {
	if g.x == 0 {
		return 1
	}
	return tiles(int(rows), g.x)
}

type gateUpSwiGLUArgs struct {
	X        hip.Ptr // [Rows, In] float32
	Codes    hip.Ptr // of X, if it is rounded: see [weights.QuantizedRows.Rows]; or 0
	Scales   hip.Ptr
	Parts    hip.Ptr // of X, if it is split: see [weights.SplitRows.Split]; or 0
	Y        hip.Ptr // [Rows, Out] float32, written
	Weights  hip.Ptr // [Segments] weights.Segment
	Alpha    float64
	Limit    float64
	Beta     float64
	Segments int32
	Rows     int32
	In, Out  int32
	Tile     int64 // output columns of a block
}

// launchGateUpSwiGLU launches the kernel for x in a form that is the one of the parts, if there
// are any.
func launchGateUpSwiGLU(d hip.Device, w *weights.Matrix, x form, a *gateUpSwiGLUArgs) error {
	a.Weights, a.Segments = w.Table()
	k := hip.Choose(gateUpSwiGLU, func(g *gateUpKernel) bool {
		if g.stream {
			return a.Rows == 1 && w.Streams(d, a.X, int(a.Out)) && w.SameFormat()
		}
		if g.few {
			return x == inRows && int(a.Rows) >= g.from && int(a.Rows) <= g.x
		}
		return int(a.Rows) >= g.from && (!g.rounded || a.Codes != 0) && (g.x == 0 || g.multiplies(d, w, x, a))
	})
	tile := k.tile
	if k.stream || a.Rows > 1 && !d.Info().IsGPU() {
		tile = weights.StreamTile(d, 2*int(a.Out), 2) / 2
	}
	if k.few {
		tile = weights.FewTile(d, 2*int(a.Out)) / 2
	}
	a.Tile = int64(tile)
	return k.Launch(d, hip.Grid{
		Blocks:    tiles(int(a.Out), tile) * k.parts(a.Rows),
		BlockCost: tile * 2 * rowBytes(w),
	}, a)
}

// multiplies reports whether a kernel on matrix units multiplies rows as they are in a.
func (g *gateUpBlock) multiplies(d hip.Device, w *weights.Matrix, x form, a *gateUpSwiGLUArgs) bool {
	if g.warpgroups {
		return x == inTiles
	}
	return w.Tiled(d, a.X) && (g.rounded || g.x <= weights.FewTileRows || !w.Splits(d, int(a.Rows)))
}

// columns does all blocks that share a tile at once: they have neighboring numbers, and the
// first does the work of all.
func (g *gateUpBlock) columns(with arithmetic) func(*hip.Blocks, *gateUpSwiGLUArgs) {
	return func(b *hip.Blocks, a *gateUpSwiGLUArgs) {
		parts, tile := g.parts(a.Rows), int(a.Tile)
		gateUpColumns(b, a, tiles(b.First, parts)*tile, tiles(b.End, parts)*tile, with)
	}
}

// gateUpColumns computes the columns from start to end, or to the last one if that is
// before.
func gateUpColumns(b *hip.Blocks, a *gateUpSwiGLUArgs, start, end int, with arithmetic) {
	rows, in, out := int(a.Rows), int(a.In), int(a.Out)
	x, y := hip.In[float32](b, a.X, rows*in), hip.Out[float32](b, a.Y, rows*out)
	end = min(end, out)
	if start >= end {
		return
	}
	w := with.open(b, a.Weights, a.Segments, a.In)
	w.Share(x, rows)
	g := newGateUp(b, w, with, swiGLU{a.Alpha, a.Limit, a.Beta})
	for first := start; first < end; {
		count := min(columnsAtOnce(rows), end-first)
		values := g.multiply(first, out+first, count, rows)
		for i := range rows {
			copy(y[i*out+first:], values[i*count:(i+1)*count])
		}
		first += count
	}
}
