package weights

import (
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Product multiplies rows rows of x, each m.Cols float32, with every row of m:
//
//	y[i][j] = Σ_c m[j][c] · x[i][c]
//
// y is rows × m.Rows float32. x and y must not overlap. rows = 0 does nothing. No row of y
// depends on another row of x, and the number of rows changes only rounding (see
// [Rows.Multiply]), as long as float32 products of the stored values neither overflow nor
// underflow. A GPU multiplies more than 4 rows with bfloat16, MXFP8, MXFP4 and NVFP4 weights,
// if they are aligned, on matrix units: it splits each x into two bfloat16, which leave out
// |x| · 2^−18 (see [TileOf]). Other weights it multiplies in float32, and those of four bits
// where it has warpgroups, which [Matrix.ProductSplit] uses. A number of rows below 0 or
// above 2^31−1 is a [hip.InputError].
func (m *Matrix) Product(d hip.Device, y, x hip.Ptr, rows int) error {
	return m.ProductSplit(d, y, x, rows, nil)
}

// ProductSplit is [Matrix.Product] with room for rows of x that are split. A GPU that has
// warpgroups then multiplies more than 16 rows by them, 1.3 to 2.4 times as fast on an H100,
// more than 4 rows with MXFP4 and NVFP4 weights too, and 2 to 16 rows as [Matrix.Few] says.
// Results stay within the bound that [TileOf] gives. With MXFP8 weights the 2 to 16 rows are
// first moved by a power of two each, so that their largest is 2^14 or more: products with
// those must not overflow.
func (m *Matrix) ProductSplit(d hip.Device, y, x hip.Ptr, rows int, room *SplitRows) error {
	if rows < 0 || rows > math.MaxInt32 {
		return &hip.InputError{Op: "weights: product", Field: "rows", Got: rows, Want: "0 to 2^31-1"}
	}
	if rows == 0 {
		return nil
	}
	work := productWork{m: m, d: d, x: x, rows: rows, split: room != nil && m.Splits(d, rows)}
	work.few = room != nil && rows <= mostFew
	k := hip.Choose(product, work.served)
	tile := work.tile(k)
	var parts hip.Ptr
	var err error
	switch {
	case k.on == fewOnMatrix:
		parts, err = room.SplitFew(d, m, x, rows)
	case k.on >= warpgroups:
		parts, err = room.Split(d, x, rows, m.Cols, nil)
	}
	if err != nil {
		return err
	}
	return k.Launch(d, k.grid(m, rows, tile), &productArgs{
		X: x, Parts: parts, Y: y, Weights: m.table, Segments: int32(len(m.segments)),
		Rows: int32(rows), Out: int32(m.Rows), In: int32(m.Cols), Tile: int64(tile),
	})
}

type productArgs struct {
	X        hip.Ptr // [Rows, In] float32
	Parts    hip.Ptr // of X, if it is split: see [SplitRows.Split]; or 0
	Y        hip.Ptr // [Rows, Out] float32
	Weights  hip.Ptr // [Segments] Segment
	Segments int32
	Rows     int32
	Out, In  int32
	Tile     int64 // rows of weights of a block
}

// product has the kernels of y = x · wᵀ, from how many rows of x on each serves, and on
// what; "go run ./examples/bench -kernels" prints the table. Kernels on matrix units round
// x, see [TileOf]; the others sum in float32.
var product = []productKernel{
	productOf("product_one", "productFew<1>", 4, productBlock{from: 1}),
	productOf("product_stream", "productStream<streamLoads>", streamResident, productBlock{from: 1, on: streamable}),
	productOf("product_stream_narrow", "productStream<1>", streamResident, productBlock{from: 1, on: streamableNarrow}),
	productOf("product", "productFew<4>", 0, productBlock{from: 2}),
	productOf("product_rows", "productRows<4>", 0, productBlock{from: manyRows, on: gpus, x: 4}),
	productOnWarpgroups(productBlock{from: manyRows, x: 32}),
	productOnWarpgroups(productBlock{from: manyRows, x: 32, wide: true}),
	productOf("product_tiled_16", "productTiles<16>", 2, productBlock{from: manyRows, on: tileable, x: 16}),
	productOf("product_tiled_32", "productTiles<32>", 2, productBlock{from: 17, on: tileable, x: 32}),
	productOf("product_tiled_64", "productTiles<64>", 2, productBlock{from: 33, on: tileableFull, x: 64}),
	productOnWarpgroups(productBlock{from: 33, x: 64}),
	productOnWarpgroups(productBlock{from: 33, x: 64, wide: true}),
	productOnWarpgroups(productBlock{from: 65, x: 128, wide: true}),
	productOfFew("product_few_4", 3, productBlock{from: fewFrom, x: 4}),
	productOfFew("product_few_8", 3, productBlock{from: 5, x: 8}),
	productOfFew("product_few_16", 2, productBlock{from: 9, x: 16}),
}

// manyRows is the number of rows of x from which a GPU divides them among blocks: one block
// reads weights once for fewer rows.
const manyRows = 5

// productKernel is a kernel of [product].
type productKernel struct {
	*hip.KernelOf[productArgs]
	productBlock
}

// productBlock is what one block of a kernel multiplies, and when the kernel serves.
type productBlock struct {
	from int   // rows of x
	on   units // that have to be there
	x    int   // rows of x of a block; 0: all of them
	tile int   // rows of weights of a block
	wide bool  // see [WarpgroupsOf], and
}

// units say what a kernel needs. Nothing here looks at the architecture: where a GPU has no
// matrix units, the prelude multiplies tiles in another way.
type units int

const (
	anything         units = iota
	streamable             // a GPU, one row of x, and weights and x that lie as streams read them: see Streams
	streamableNarrow       // the same, and fewer rows of weights than keep a GPU busy
	gpus                   // a GPU
	tileable               // a GPU, and weights and x that tiles read as they lie: see tiledMixed
	tileableFull           // the same, with a block for every compute unit
	fewOnMatrix            // rows of x that are split, no more than a block has, and weights that few reads: see Few
	warpgroups             // a GPU with warpgroups, rows of x that are split, and weights that they read: see Splits
	warpgroupsFull         // the same, with a block for every compute unit
)

func productOf(name, template string, resident int, block productBlock) productKernel {
	tile, threads, maxError := TileOf(block.x)
	block.tile = tile
	k := hip.NewKernel(name, KernelSource()+productHIP, block.twin).
		Instance(template, threads, resident, block.String()).
		Fast(maxError, block.host)
	if block.on == streamable || block.on == streamableNarrow {
		k.StartsEarly()
	}
	return productKernel{k, block}
}

// productOfFew declares a kernel for up to block.x rows of x, of which a multiprocessor of an
// NVIDIA GPU holds resident blocks.
func productOfFew(name string, resident int, block productBlock) productKernel {
	block.on = fewOnMatrix
	return productKernel{
		hip.NewKernel(name, WarpgroupSource()+productHIP, block.twin).
			Instance(fmt.Sprintf("productFewRows<%d>", block.x/4), fewThreads, resident, block.String()).
			Shared(fewShared).
			Fast(tiledError, block.host).
			StartsEarly(),
		block,
	}
}

// productOnWarpgroups declares a kernel of [WarpgroupsOf].
func productOnWarpgroups(block productBlock) productKernel {
	of, rows, threads, shared := WarpgroupsOf(block.x, block.wide)
	name := fmt.Sprintf("product_group_%d", block.x)
	block.tile, block.on = rows, warpgroups
	if block.wide {
		name, block.on = name+"_wide", warpgroupsFull
	}
	return productKernel{
		hip.NewKernel(name, WarpgroupSource()+productHIP, block.twin).
			Instance("productWarpgroups<"+of+">", threads, 1, block.String()).
			Shared(shared).
			Fast(tiledError, block.host),
		block,
	}
}

// String says when the kernel serves.
func (p productBlock) String() string {
	if p.from == 1 {
		return "1 row" + [...]string{anything: "", streamable: ", GPU", streamableNarrow: ", GPU, few rows of weights"}[p.on]
	}
	if p.on == fewOnMatrix {
		return fmt.Sprintf("%d to %d rows, warpgroups", p.from, p.x)
	}
	on := [...]string{gpus: ", GPU", tileable: ", matrix units", tileableFull: ", all matrix units", warpgroups: ", warpgroups", warpgroupsFull: ", all warpgroups"}[p.on]
	return fmt.Sprintf("%d rows on%s", p.from, on)
}

// parts is how many blocks share a tile of weights.
func (p *productBlock) parts(rows int) int {
	if p.x == 0 {
		return 1
	}
	return ceilDiv(rows, p.x)
}

func (p *productBlock) grid(m *Matrix, rows, tile int) hip.Grid {
	return hip.Grid{Blocks: ceilDiv(m.Rows, tile) * p.parts(rows), BlockCost: tile * m.rowBytes()}
}

// productWork is a launch for which a kernel is chosen.
type productWork struct {
	m    *Matrix
	d    hip.Device
	x    hip.Ptr
	rows int

	split bool // x can be, for warpgroups
	few   bool // likewise, for kernels of few rows
}

// served reports whether a kernel serves the launch.
func (w *productWork) served(p *productKernel) bool {
	switch {
	case w.rows < p.from:
		return false
	case p.on == streamable || p.on == streamableNarrow:
		return w.rows == 1 && w.d.Info().IsGPU() && w.tile(p) > 0
	case p.on == gpus:
		return w.d.Info().IsGPU()
	case p.on == fewOnMatrix:
		return w.few && w.rows <= p.x && w.tile(p) > 0
	case p.on >= tileable && p.on < warpgroups && p.x > FewTileRows && w.split:
		return false // warpgroups are faster
	case p.on >= warpgroups && !w.split:
		return false
	case (p.on == tileableFull || p.on == warpgroupsFull) && p.grid(w.m, w.rows, p.tile).Blocks < w.d.Info().Threads:
		return false
	case p.on >= tileable:
		return p.on >= warpgroups || w.m.tiledMixed(w.d, w.x)
	}
	return true
}

// tile returns how many rows of weights one block of a kernel does, or 0 if it cannot.
func (w *productWork) tile(p *productKernel) int {
	switch p.on {
	case streamable:
		for _, tile := range [...]int{StreamTile(w.d, w.m.Rows, 1), streamTile, streamLoads} {
			if w.m.Streams(w.d, w.x, tile) {
				return tile
			}
		}
		return 0
	case streamableNarrow:
		if w.m.Rows > streamLoads*w.d.Info().Threads || !w.m.Streams(w.d, w.x, 1) {
			return 0
		}
		return 1
	case fewOnMatrix:
		for tile := FewTile(w.d, w.m.Rows); tile >= fewTile; tile /= 2 {
			if w.m.Few(w.d, w.x, w.rows, tile) {
				return tile
			}
		}
		return 0
	case anything, gpus:
		tile := p.tile
		if w.rows > 1 && w.d.Info().IsGPU() { // a block for each unit, where there are few rows of weights
			for tile > 1 && ceilDiv(w.m.Rows, tile)*p.parts(w.rows) < w.d.Info().Threads {
				tile /= 2
			}
		}
		return tile
	}
	if p.from > 1 && !w.d.Info().IsGPU() {
		return StreamTile(w.d, w.m.Rows, 1)
	}
	return p.tile
}

// Tiled reports whether kernels on matrix units (see [KernelSource]) can multiply m with
// rows of x, m.Cols float32 each: d is a GPU, and the weights are bfloat16, MXFP8 or, unless
// d has warpgroups, MXFP4 or NVFP4, all the same, and lie, as x does, in accesses of 16
// bytes.
func (m *Matrix) Tiled(d hip.Device, x hip.Ptr) bool {
	return m.SameFormat() && m.tiledMixed(d, x)
}

// tiledMixed is Tiled for kernels that multiply weights of several formats.
func (m *Matrix) tiledMixed(d hip.Device, x hip.Ptr) bool {
	formats := inPieces
	if d.Info().Warpgroups {
		formats = formats[:2]
	}
	return x%16 == 0 && d.Info().IsGPU() && m.inAccesses(formats...)
}

// Splits reports whether kernels on warpgroups (see [WarpgroupSource]) can multiply m with rows
// rows of x that are split: d has warpgroups, there are at least 5 rows, and the weights
// are bfloat16, MXFP8, MXFP4 or NVFP4 and lie in accesses of 16 bytes.
func (m *Matrix) Splits(d hip.Device, rows int) bool {
	return splits(d, rows) && m.inAccesses(inPieces...)
}

// inPieces are the formats whose values matrix units multiply, as bfloat16. With few rows of
// x, warpgroups are faster for all but the first two.
var inPieces = []Format{BF16, MXFP8, MXFP4, NVFP4}

// inAccesses reports whether all weights have one of these formats, and lie in accesses of 16
// bytes, of 16 columns.
func (m *Matrix) inAccesses(formats ...Format) bool {
	if m.Cols%16 != 0 {
		return false
	}
	for _, s := range m.segments {
		if !slices.Contains(formats, s.format) || (uint64(s.data)|uint64(s.rowStride))%16 != 0 {
			return false
		}
	}
	return true
}
