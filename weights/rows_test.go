package weights

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// rowsArgs asks for rows of a matrix, decoded or multiplied.
type rowsArgs struct {
	Out, X, Table  hip.Ptr // Out: Count rows of Cols values, or N rows of Stride
	Segments, Cols int32
	First, Count   int32
	N, Stride      int32 // rows of X; 0: the rows are decoded
}

var testRows = hip.NewKernel("test_rows", "", func(b *hip.Blocks, a *rowsArgs) {
	runRows(b, a, openRowsOf(b, a, true))
}).Fast(productBound, func(b *hip.Blocks, a *rowsArgs) {
	runRows(b, a, openRowsOf(b, a, false))
})

func openRowsOf(b *hip.Blocks, a *rowsArgs, exact bool) *Rows {
	return OpenRows(b, a.Table, int(a.Segments), int(a.Cols), exact)
}

func runRows(b *hip.Blocks, a *rowsArgs, rows *Rows) {
	n, cols := int(a.N), int(a.Cols)
	if n == 0 {
		out := hip.Out[float32](b, a.Out, int(a.Count)*cols)
		for i := range int(a.Count) {
			rows.Decode(out[i*cols:], int(a.First)+i)
		}
		return
	}
	y := hip.Out[float32](b, a.Out, n*int(a.Stride))
	rows.load(hip.In[float32](b, a.X, n*cols), n)
	rows.Multiply(y, int(a.Stride), int(a.First), int(a.Count))
}

// shareOf cuts stored weights as a plan does: rows from first and
// columns from firstCol on, in place.
func shareOf(a *arena, s stored, rows, cols interval) (Segment, stored) {
	f := s.format
	seg := a.segment(s, 3)
	seg.data = seg.data.Add(int64(rows[0])*seg.rowStride + f.rowBytes(cols[0]))
	seg.rows = int32(rows.Len())
	if f.quantized() {
		block := &formats[f]
		seg.scaleRow = int32(rows[0] % block.blockRows)
		seg.scale = seg.scale.Add(int64(rows[0]/block.blockRows)*seg.scaleStride + int64(cols[0]/block.blockCols)*f.scaleBytes())
	}
	part := stored{format: f, rows: rows.Len(), cols: cols.Len()}
	for r := rows[0]; r < rows[1]; r++ {
		part.values = append(part.values, s.values[r*s.cols+cols[0]:r*s.cols+cols[1]]...)
	}
	return seg, part
}

// stacked is a matrix of a share of every format, with the values it has.
func stacked(t *testing.T, d hip.Device) (*arena, *Matrix, []stored) {
	t.Helper()
	r := rand.New(rand.NewPCG(4, 1))
	a := &arena{d: d}
	var segments []Segment
	var parts []stored
	for i, f := range allFormats {
		whole := newStored(r, f, 400, 300)
		seg, part := shareOf(a, whole, interval{[]int{1, 0, 100, 130, 255, 256, 3, 77, 6}[i], 300 + i}, interval{128, 299})
		segments, parts = append(segments, seg), append(parts, part)
	}
	m := a.matrixOf(171, segments...)
	require.NoError(t, a.err)
	return a, m, parts
}

func rowsDevices() map[string]hip.Device {
	devices := hiptest.Hosts(2)
	devices["reference"], devices["checked host"] = hip.NewReference(), hip.Check(hip.NewHost())
	return devices
}

// TestRowsOfShares decodes shares that are cut inside blocks of scales, and lie
// strided in their tensors.
func TestRowsOfShares(t *testing.T) {
	for name, d := range rowsDevices() {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			a, m, parts := stacked(t, d)
			var want []float32
			for _, part := range parts {
				want = append(want, part.values...)
			}
			out := a.floats(make([]float32, len(want)))
			require.NoError(t, a.err)
			args := rowsArgs{Out: out, Table: m.table, Segments: int32(len(m.segments)), Cols: int32(m.Cols), Count: int32(m.Rows)}
			require.NoError(t, testRows.Launch(d, hip.Grid{Blocks: 1}, &args))
			got := make([]float32, len(want))
			require.NoError(t, hip.ReadOf(d, got, out))
			require.Equal(t, want, got)
		})
	}
}

// TestRowsMultiply multiplies ranges of rows across segments into a strided y
// and leaves what lies between its rows alone.
func TestRowsMultiply(t *testing.T) {
	for name, d := range rowsDevices() {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			a, m, parts := stacked(t, d)
			x := randomFloats(rand.New(rand.NewPCG(4, 2)), 3*m.Cols)
			all := naiveProduct(x, parts...)
			px := a.floats(x)
			for _, n := range []int{1, 2, 3} {
				for _, rows := range []interval{{0, 1}, {0, m.Rows}, {298, 301}, {m.Rows - 1, m.Rows}, {250, 900}} {
					stride := rows.Len() + 2
					blank := make([]float32, n*stride)
					for i := range blank {
						blank[i] = -7
					}
					out := a.floats(blank)
					require.NoError(t, a.err)
					args := rowsArgs{
						Out: out, X: px, Table: m.table, Segments: int32(len(m.segments)), Cols: int32(m.Cols),
						First: int32(rows[0]), Count: int32(rows.Len()), N: int32(n), Stride: int32(stride),
					}
					require.NoError(t, testRows.Launch(d, hip.Grid{Blocks: 1}, &args))
					got := make([]float32, len(blank))
					require.NoError(t, hip.ReadOf(d, got, out))
					for i := range n {
						require.InDeltaSlice(t, all[i*m.Rows+rows[0]:i*m.Rows+rows[1]], got[i*stride:i*stride+rows.Len()], productBound*float64(maxAbs(all)))
						require.Equal(t, []float32{-7, -7}, got[i*stride+rows.Len():(i+1)*stride])
					}
				}
			}
		})
	}
}

func TestRowsOutOfRange(t *testing.T) {
	for name, d := range rowsDevices() {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			a, m, _ := stacked(t, d)
			out := a.floats(make([]float32, 2*m.Cols))
			require.NoError(t, a.err)
			args := rowsArgs{Out: out, Table: m.table, Segments: int32(len(m.segments)), Cols: int32(m.Cols), Count: 1}
			for first, ok := range map[int]bool{-1: false, 0: true, m.Rows - 1: true, m.Rows: false, m.Rows + 50: false, -1 << 31: false, 1<<31 - 1: false} {
				args.First = int32(first)
				err := testRows.Launch(d, hip.Grid{Blocks: 1}, &args)
				if ok {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, hip.ErrAccess, "row %d", first)
				require.Regexp(t, `^(hip: kernel test_rows: row of \d+ bytes at 0x[0-9a-f]+ is not in the matrix(\n|$))+$`, err.Error())
			}
			args.First, args.Segments = 0, 0
			require.ErrorIs(t, testRows.Launch(d, hip.Grid{Blocks: 1}, &args), hip.ErrAccess, "no segments")
		})
	}
}
