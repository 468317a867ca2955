package weights

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// SplitRows is rows of x as a GPU's warpgroups multiply them: every x as two bfloat16 that
// leave out |x| · 2^−18. The zero value is ready for use. Its memory belongs to one device,
// grows as needed, and Free returns it. Only one goroutine may use it at a time.
type SplitRows struct {
	memory hip.Buffer
}

// Picked says which rows are split: row order[i] / PerX for each i below the count, which the
// device knows.
type Picked struct {
	Order, Count hip.Ptr // int32
	PerX         int32
}

// Reserve makes room for rows × cols values, so that splitting no more does not allocate. It
// does nothing where no product would split them. Running out of memory is
// [hip.ErrOutOfMemory].
func (s *SplitRows) Reserve(d hip.Device, rows, cols int) error {
	if !d.Info().Warpgroups || rows < fewFrom {
		return nil
	}
	if !splits(d, rows) {
		return s.memory.Grow(d, 1, splitFewBytes(rows, cols))
	}
	return s.memory.Grow(d, int(splitRoom(rows)), 4*ceilDiv(cols, splitColumns)*splitColumns)
}

// Split queues on d the splitting of rows rows of x, cols float32 each, or of up to rows
// picked rows, unless picked is nil. It returns the parts for the arguments of a kernel, which
// are valid until the next Split, Reserve or Free; or 0, where kernels do without.
func (s *SplitRows) Split(d hip.Device, x hip.Ptr, rows, cols int, picked *Picked) (parts hip.Ptr, err error) {
	if !splits(d, rows) {
		return 0, nil
	}
	if err := s.Reserve(d, rows, cols); err != nil {
		return 0, err
	}
	parts = s.memory.Ptr()
	a := splitRowsArgs{X: x, Parts: parts, Room: splitRoom(rows), Rows: int32(rows), Cols: int32(cols)}
	if picked != nil {
		a.Order, a.Count, a.PerX = picked.Order, picked.Count, int64(picked.PerX)
	}
	pieces := int64(rows) * int64(ceilDiv(cols, splitColumns)) * splitPieces
	return parts, splitRows.Launch(d, hip.Grid{Blocks: int((pieces + splitThreads - 1) / splitThreads)}, &a)
}

// Free returns the memory to d, after the work queued on it.
func (s *SplitRows) Free(d hip.Device) error { return s.memory.Free(d) }

// splits reports whether products with that many rows of x may run on warpgroups.
func splits(d hip.Device, rows int) bool { return rows >= manyRows && d.Info().Warpgroups }

// splitRoom is the rows that parts have room for: tiles of x begin at multiples of 8, and the
// last is fetched whole.
func splitRoom(rows int) int64 { return int64(ceilDiv(rows, 8)*8 + mostTileRows) }

const (
	splitColumns = 64 // that are split together, the last of a row with zeros
	splitPieces  = 8  // of those columns
	splitThreads = 256
	mostTileRows = 128 // of x, of a block on warpgroups
)

type splitRowsArgs struct {
	X     hip.Ptr // [rows, Cols] float32
	Order hip.Ptr // of the rows that are split, or 0: see Picked
	Count hip.Ptr
	Parts hip.Ptr // [ceil(Cols/64), high and low, Room, 64] bfloat16, written up to Rows
	Room  int64
	PerX  int64
	Rows  int32
	Cols  int32
}

var splitRows = hip.NewKernel("split_rows", splitDefines()+splitRowsHIP, splitRowsTwin).Block(splitThreads)

func splitDefines() string {
	return hip.Define("splitColumns", splitColumns) + hip.Define("splitThreads", splitThreads)
}

// splitRowsTwin makes 8 columns of either part for each piece, as the kernel does.
func splitRowsTwin(b *hip.Blocks, a *splitRowsArgs) {
	cols, rows, groups := int(a.Cols), int(a.Rows), ceilDiv(int(a.Cols), splitColumns)
	var order []int32
	if a.Order != 0 {
		rows = min(rows, int(hip.In[int32](b, a.Count, 1)[0]))
		order = hip.In[int32](b, a.Order, rows)
	}
	first, end := b.First*splitThreads, min(b.End*splitThreads, rows*groups*splitPieces)
	for piece := first; piece < end; piece++ {
		in, group, row := piece%splitPieces, piece/splitPieces%groups, piece/splitPieces/groups
		from := row
		if order != nil {
			from = int(order[row]) / int(a.PerX)
		}
		x := hip.In[float32](b, a.X.Add(4*int64(from)*int64(cols)), cols)
		at := a.Parts.Add(2 * ((int64(group)*2*a.Room+int64(row))*splitColumns + int64((in^row%8)*8)))
		high, low := hip.Out[hip.BF16](b, at, 8), hip.Out[hip.BF16](b, at.Add(2*splitColumns*a.Room), 8)
		for i := range 8 {
			high[i], low[i] = 0, 0
			if c := group*splitColumns + i/2*16 + in/2*4 + in%2 + i%2*2; c < cols {
				high[i], low[i] = splitFloat(x[c])
			}
		}
	}
}

// splitFloat rounds to nearest even, twice. The second part of what is not finite, or rounded
// to infinity, is 0.
func splitFloat(x float32) (high, low hip.BF16) {
	high = hip.ToBF16(x)
	rest := x - high.Float32()
	if math.Float32bits(rest)&infinityBits == infinityBits {
		return high, 0
	}
	return high, hip.ToBF16(rest)
}
