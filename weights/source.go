package weights

import (
	_ "embed"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

var (
	//go:embed rows.h
	rowsH string
	//go:embed codecs.h
	codecsH string
	//go:embed multiply.h
	multiplyH string
	//go:embed stream.h
	streamH string
	//go:embed tiles.h
	tilesH string
	//go:embed split_rows.hip
	splitRowsHIP string
	//go:embed split_few.hip
	splitFewHIP string
	//go:embed warpgroup.h
	warpgroupH string
	//go:embed few.h
	fewH string
	//go:embed tiles_mxfp8.h
	tilesMXFP8H string
	//go:embed product.hip
	productHIP string
	//go:embed quantize_mxfp8.hip
	quantizeMXFP8HIP string
	//go:embed product_mxfp8.hip
	productMXFP8HIP string
)

// KernelSource returns HIP source for kernels that read the rows of a [Matrix]: the HIP
// side of [Rows]. Put it before the source of the kernel. It has
//
//	decodeRow                    Rows.Decode, by the threads of a block
//	multiplyFew                  products with a few rows of x: TileOf(1)
//	multiplyStream               products with one row of x: Matrix.Streams
//	tileSums, tileSum            products with 16, 32 or 64 of them on matrix units
//	tileSumsQuantized            the same, of rows that are rounded to MXFP8
//
// which the files of this package that end in .h describe.
func KernelSource() string {
	return rowsSource() + codecsH +
		hip.Define("multiplyTile", multiplyTile) + hip.Define("multiplyRows", multiplyRows) +
		hip.Define("multiplyThreads", multiplyThreads) + multiplyH + hip.Define("streamLoads", streamLoads) + streamH +
		hip.Define("tileThreads", tileThreads) + hip.Define("wideTiles", wideTiles) +
		hip.Define("narrowTile", narrowTile) + hip.Define("wideTile", wideTile) + tilesH + tilesMXFP8H
}

// WarpgroupSource is KernelSource and, for kernels that [WarpgroupsOf] is about,
//
//	warpgroupSums                products with many rows of x, on an NVIDIA GPU
//	fewSums                      products with up to 16 of them: Matrix.Few
//
// and the macro WARPGROUPS. Compilers allocate registers otherwise where it is there, used or
// not, so other kernels do without.
func WarpgroupSource() string {
	return KernelSource() + splitDefines() + hip.Define("warpgroupShared", warpgroupShared) + hip.Define("mostSteps", mostSteps) + hip.Define("mostTileRows", mostTileRows) + warpgroupH +
		hip.Define("fewThreads", fewThreads) + hip.Define("fewShared", fewShared) + fewH
}

// rowsSource is what decodeRow alone needs.
func rowsSource() string {
	return hip.Define("F32", int(F32)) + hip.Define("F16", int(F16)) + hip.Define("BF16", int(BF16)) +
		hip.Define("MXFP8", int(MXFP8)) + hip.Define("FP8F32", int(FP8F32)) + hip.Define("FP8BF16", int(fp8BF16)) +
		hip.Define("INT8", int(INT8)) + hip.Define("MXFP4", int(MXFP4)) + hip.Define("NVFP4", int(NVFP4)) + rowsH
}

// How a block of a kernel with [KernelSource] divides its work.
const (
	multiplyThreads = 128 // of a block with few rows of x
	multiplyTile    = 16  // rows of weights that it multiplies
	multiplyRows    = 8   // of x at a time, at most

	tileThreads = 256 // of a block on matrix units
	wideTiles   = 64  // rows of x from which on its tile of weights is the wide one
	narrowTile  = 64
	wideTile    = 128

	// FewTileRows is up to how many rows of x kernels on matrix units multiply bfloat16 and
	// MXFP8 weights faster wave by wave than by warpgroups: memory binds them.
	FewTileRows = 16

	warpgroupShared = 144 << 10 // bytes of weights and x of a block on warpgroups: as many
	mostSteps       = 8         // steps as fit, up to so many, are on their way
)

// TileOf returns how many rows of weights one block of a kernel with [KernelSource]
// multiplies with x rows of x, and its threads: with a few rows, or with 16, 32 or 64 on
// matrix units. maxError bounds the error of results on matrix units, relative to the
// largest result; it is 0, the default bound, for the others. Each x is rounded by up to
// 2^−18 of itself, and sums may cancel.
func TileOf(x int) (rows, threads int, maxError float64) {
	switch {
	case x < 16:
		return multiplyTile, multiplyThreads, 0
	case x < wideTiles:
		return narrowTile, tileThreads, tiledError
	}
	return wideTile, tileThreads, tiledError
}

const tiledError = 3e-5

// WarpgroupsOf returns how a block of a kernel on warpgroups divides its work, of x rows of x:
// the name of that in HIP, how many rows of weights it multiplies, its threads, and the bytes
// of memory that they share. A wide block has more rows of weights, and reads x less often;
// the groups of another share the columns. Results have the maxError that TileOf gives.
func WarpgroupsOf(x int, wide bool) (name string, rows, threads, shared int) {
	groups := 4
	switch {
	case x >= 96 || x >= 32 && !wide:
		groups = 2
	case x >= 64:
		groups = 3
	}
	split := groups
	if wide {
		split = 1
	}
	return fmt.Sprintf("Warpgroups<%d, %d, %d>", x, groups, split), 64 * groups / split, 128 * groups, warpgroupShared + 8*mostSteps
}
