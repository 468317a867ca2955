package weights

import "github.com/drafthead/drafthead/hip"

// Kernels for one row of x stream the weights: reading them is all the work. See stream.h.
const (
	streamLoads = 4 // rows of weights that a block multiplies together

	// streamResident is how many blocks of such a kernel a multiprocessor of an NVIDIA GPU
	// holds. Gate and up together need more registers.
	streamResident, streamResidentGateUp = 6, 5

	// mostStreamTile is the most rows of weights of a block. More work than that is dealt
	// out in blocks of streamTile rows, which end at different times.
	mostStreamTile = 128
	streamTile     = 16
)

// Streams reports whether kernels that stream weights (see [KernelSource]) can multiply m
// with x, one row: d is a GPU, x and the rows of weights lie in accesses of 16 bytes, scales
// are aligned to their size, and a run of unit rows of weights, from a multiple of unit on,
// lies in one segment.
func (m *Matrix) Streams(d hip.Device, x hip.Ptr, unit int) bool {
	if x%16 != 0 || !d.Info().IsGPU() {
		return false
	}
	for _, s := range m.segments {
		if (uint64(s.data)|uint64(s.rowStride)|uint64(s.format.rowBytes(m.Cols)))%16 != 0 || int(s.first)%unit != 0 {
			return false
		}
		if s.format.quantized() && (uint64(s.scale)|uint64(s.scaleStride))%uint64(s.format.scaleBytes()) != 0 {
			return false
		}
	}
	return true
}

// SameFormat reports whether all rows of m are stored in one format.
func (m *Matrix) SameFormat() bool {
	for _, s := range m.segments {
		if s.format != m.segments[0].format {
			return false
		}
	}
	return true
}

// StreamResident returns how many blocks of a kernel that streams weights a multiprocessor of
// an NVIDIA GPU holds. halves is 2 where it streams gate and up weights together.
func StreamResident(halves int) int {
	if halves == 2 {
		return streamResidentGateUp
	}
	return streamResident
}

// leastBlocks is how many blocks a thread has at least.
const leastBlocks = 4

// StreamTile returns how many of the rows of weights of a launch one block streams: so many
// that all blocks run at the same time and end together. halves is as in [StreamResident]. On
// the CPU it is what a block multiplies with several rows of x: as many as fill tiles, where
// that leaves all threads their share.
func StreamTile(d hip.Device, rows, halves int) int {
	if !d.Info().IsGPU() {
		if rows < leastBlocks*d.Info().Threads*tileRows*halves {
			return multiplyTile * halves
		}
		return tileRows * halves
	}
	tile := ceilDiv(ceilDiv(rows, d.Info().Threads*StreamResident(halves)), streamLoads) * streamLoads
	if tile > mostStreamTile {
		return streamTile
	}
	return tile
}
