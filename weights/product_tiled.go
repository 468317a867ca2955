package weights

import "github.com/drafthead/drafthead/hip"

// tiling is how a kernel for many rows of x divides its work.
type tiling struct {
	kernel *hip.KernelOf[productArgs]
	rows   int // of x that one block multiplies
	tile   int // rows of weights that it multiplies
}

// TileThreads is the threads of a block of a kernel with [TilesSource].
const TileThreads = 256

// TileRows returns the rows of weights that such a block multiplies with tiles of 16, 32
// or 64 rows of x: Tiling is its twin.
func TileRows(x int) int {
	if x == 64 {
		return 128
	}
	return 64
}

// TiledError bounds what results of such a kernel are off by, of the largest: an x, as it
// is multiplied, by 2^−18 of itself, and sums cancel.
const TiledError = 3e-5

// tilings are ordered by the rows of x that they are for.
var tilings = [...]tiling{
	newTiling("product_tiled_16", 16),
	newTiling("product_tiled_32", 32),
	newTiling("product_tiled_64", 64),
}

// productRows divides the rows of x, for weights that matrix units cannot multiply.
var productRows = tiling{newTiledKernel("product_rows", productRowsSource(), 4, productTile).Fast(0, tiledBlocks(4, productTile, (*Rows).Prepare, (*Rows).Multiply)), 4, productTile}

func newTiling(name string, rows int) tiling {
	tile := TileRows(rows)
	k := newTiledKernel(name, productTiledSource(), rows, tile)
	return tiling{k.Fast(TiledError, tiledBlocks(rows, tile, (*Rows).Prepare, (*Rows).Multiply)), rows, tile}
}

func newTiledKernel(name, source string, rows, tile int) *hip.KernelOf[productArgs] {
	return hip.NewKernel(name, source, tiledBlocks(rows, tile, (*Rows).Plain, (*Rows).Multiply64))
}

// tiledBlocks does blocks of tile rows of weights and rows rows of x. Those of x count
// fastest: the first block does them all.
func tiledBlocks(
	rows, tile int,
	prepare func(r *Rows, x []float32, n int) *Operand, multiply func(r *Rows, y []float32, yStride, first, count int, x *Operand),
) hip.Func[productArgs] {
	return func(b *hip.Blocks, a *productArgs) {
		perTile := ceilDiv(int(a.Rows), rows)
		multiplyColumns(b, a, ceilDiv(b.First, perTile)*tile, ceilDiv(b.End, perTile)*tile, prepare, multiply)
	}
}

// tilingFrom is the rows of x from which matrix units are worth their tiles: the other
// kernel reads weights once for up to as many less one.
const tilingFrom = 5

// blocks returns the blocks that multiply rows of weights with rows of x.
func (t *tiling) blocks(weights, x int) int { return ceilDiv(weights, t.tile) * ceilDiv(x, t.rows) }

// tilingFor returns the tiling for a product on d, or nil for none.
func (m *Matrix) tilingFor(d hip.Device, x hip.Ptr, rows int) *tiling {
	if rows < tilingFrom || !onGPU(d) {
		return nil
	}
	switch wide := &tilings[2]; {
	case !m.tiledMixed(d, x):
		return &productRows
	case rows <= tilings[0].rows:
		return &tilings[0]
	case rows <= tilings[1].rows || wide.blocks(m.Rows, rows) < d.Info().Threads: // every compute unit has a block
		return &tilings[1]
	default:
		return wide
	}
}

// Tiled tells whether kernels with [TilesSource] can multiply m with rows of x, m.Cols
// float32 each: d is a GPU, and the weights are bfloat16 or MXFP8, all the same, and lie,
// as x does, in accesses of 16 bytes.
func (m *Matrix) Tiled(d hip.Device, x hip.Ptr) bool {
	for _, s := range m.Segments {
		if s.Format != m.Segments[0].Format {
			return false
		}
	}
	return m.tiledMixed(d, x)
}

// tiledMixed is Tiled for kernels that multiply weights of both formats.
func (m *Matrix) tiledMixed(d hip.Device, x hip.Ptr) bool {
	if x%16 != 0 || m.Cols%16 != 0 || !onGPU(d) {
		return false
	}
	for _, s := range m.Segments {
		if s.Format != BF16 && s.Format != MXFP8 || s.Data%16 != 0 || s.RowStride%16 != 0 {
			return false
		}
	}
	return true
}

func onGPU(d hip.Device) bool {
	kind := d.Info().Kind
	return kind == "hip" || kind == "cuda"
}

func (m *Matrix) productTiled(d hip.Device, t *tiling, y, x hip.Ptr, rows int) error {
	threads := TileThreads
	if t == &productRows {
		threads = 128
	}
	grid := hip.Grid{Blocks: t.blocks(m.Rows, rows), Threads: threads, BlockCost: t.tile * m.RowBytes()}
	return t.kernel.Launch(d, grid, &productArgs{
		X: x, Y: y, Weights: m.table, Segments: int32(len(m.Segments)),
		Rows: int32(rows), Out: int32(m.Rows), In: int32(m.Cols),
	})
}
