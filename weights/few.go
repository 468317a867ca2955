package weights

import "github.com/drafthead/drafthead/hip"

// How a block of a kernel for few rows of x divides its work: see few.h.
const (
	fewFrom    = 2  // rows of x from which on it serves
	mostFew    = 16 // rows of x up to which it serves
	fewTile    = 16 // rows of weights of a wave, and of a block at least
	fewThreads = 256
	fewShared  = 3 * fewThreads / 32 * fewTile * (128 + 32)
)

// FewOf returns the threads of a block of a kernel for few rows of x, the bytes of memory that
// they share, and what bounds the error of its results, as [TileOf] says.
func FewOf() (threads, shared int, maxError float64) { return fewThreads, fewShared, tiledError }

// Few reports whether kernels for few rows of x (see [WarpgroupSource]) can multiply m with rows
// rows that [SplitRows.SplitFew] splits: d has warpgroups, there are 2 rows or more, and the
// weights are bfloat16 or MXFP8, all the same, and lie in accesses of 16 bytes and whole units
// of 128, with scales in accesses of 4; a run of unit rows of weights, from a multiple of unit
// on, lies in one segment. Such a kernel multiplies up to 16 rows at a time.
func (m *Matrix) Few(d hip.Device, x hip.Ptr, rows, unit int) bool {
	if rows < fewFrom || x%16 != 0 || !d.Info().Warpgroups || !m.SameFormat() || !m.inAccesses(BF16, MXFP8) {
		return false
	}
	for _, s := range m.segments {
		if int(s.first)%unit != 0 || s.format.rowBytes(m.Cols)%128 != 0 || s.format == MXFP8 && (uint64(s.scale)|uint64(s.scaleStride))%4 != 0 {
			return false
		}
	}
	return true
}

// FewTile returns how many rows of weights, of rows that a launch multiplies, each block of a
// kernel for few rows of x takes: 16, 32, 64 or 128. With more of them fewer waves share the
// columns, and x is read less often; with fewer there are blocks for all of the GPU.
func FewTile(d hip.Device, rows int) int {
	units := d.Info().Threads
	for _, enough := range [...]int{8, 2} { // blocks for each unit
		for tile := fewThreads / 32 * fewTile; tile >= fewTile; tile /= 2 {
			if ceilDiv(rows, tile) >= enough*units {
				return tile
			}
		}
	}
	return fewTile
}

// fewF16 reports whether x is split into float16 for m, not bfloat16.
func (m *Matrix) fewF16() bool { return m.segments[0].format == MXFP8 }
