package weights

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// broken is a device of which one operation fails, counted over all goroutines.
type broken struct {
	hip.Device
	failIn atomic.Int64 // 1: the next
	failed atomic.Bool
}

func (b *broken) next() error {
	if b.failIn.Add(-1) == 0 {
		b.failed.Store(true)
		return errFault
	}
	return nil
}

func (b *broken) Alloc(n int64) (hip.Ptr, error) {
	if err := b.next(); err != nil {
		return 0, err
	}
	return b.Device.Alloc(n)
}

func (b *broken) Read(dst []byte, src hip.Ptr) error {
	return errors.Join(b.next(), b.Device.Read(dst, src))
}

func (b *broken) Write(dst hip.Ptr, src []byte) error {
	return errors.Join(b.next(), b.Device.Write(dst, src))
}

// wantRequantized is rows of the values encoded one by one.
func wantRequantized(f Format, cols int, parts ...stored) (values []float32) {
	for _, s := range parts {
		for row := range s.rows {
			values = append(values, encode(f, s.values[row*cols:(row+1)*cols]).values...)
		}
	}
	return values
}

// TestRequantize: from every format, strided and stacked, on every device, the
// rows are those that are encoded one by one, and all is given back.
func TestRequantize(t *testing.T) {
	for name, d := range rowsDevices() {
		t.Run(name, func(t *testing.T) {
			a, m, parts := stacked(t, d)
			before := inUse(d)
			for _, f := range []Format{MXFP8, INT8} {
				var calls []int64
				q, err := m.Requantize(t.Context(), d, f, func(done, total int64) {
					require.EqualValues(t, int64(m.Rows)*(int64(m.Cols)+f.scaleRowBytes(m.Cols)), total)
					calls = append(calls, done)
				})
				require.NoError(t, err)
				require.IsIncreasing(t, append([]int64{0}, calls...))
				require.Equal(t, q.Bytes(), calls[len(calls)-1])
				require.Equal(t, [2]int{m.Rows, m.Cols}, [2]int{q.Rows, q.Cols})
				require.Len(t, q.segments, 1)
				require.Equal(t, f, q.segments[0].format)
				require.Equal(t, wantRequantized(f, m.Cols, parts...), matrixValues(t, d, q), f)
				require.NoError(t, q.Free(d))
				require.Equal(t, before, inUse(d))
			}
			require.NoError(t, a.free())
			require.Equal(t, [2]int64{}, inUse(d))
			require.NoError(t, d.Close())
		})
	}
}

// TestRequantizeChunks: more rows than one goroutine has in hand, of which the
// last chunk is smaller, and rows longer than a chunk.
func TestRequantizeChunks(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 3))
	for _, cols := range []int{33, requantizeChunk/4 + 1} {
		chunk := max(1, requantizeChunk/(4*cols))
		rows := 3*chunk + chunk/2
		d := hip.NewHost(2)
		a := &arena{d: d}
		row := newStored(r, BF16, 1, cols)
		s := stored{format: BF16, rows: rows, cols: cols}
		for i := range rows { // one row, but for a column that says which
			s.data, s.values = append(s.data, row.data...), append(s.values, row.values...)
			mark := hip.ToBF16(float32(i%251) + 3)
			s.data[(i*cols+5)*2], s.data[(i*cols+5)*2+1] = byte(mark), byte(mark>>8)
			s.values[i*cols+5] = mark.Float32()
		}
		m := a.matrix(cols, 1, s)
		require.NoError(t, a.err)
		calls := 0
		q, err := m.Requantize(t.Context(), d, INT8, func(_, _ int64) { calls++ })
		require.NoError(t, err)
		require.Equal(t, ceilDiv(rows, chunk), calls)
		got := matrixValues(t, d, q)
		for i := range rows {
			want := encode(INT8, s.values[i*cols:(i+1)*cols]).values
			require.True(t, slices.Equal(want, got[i*cols:(i+1)*cols]), "row %d", i)
		}
		require.NoError(t, q.Free(d))
		require.NoError(t, a.free())
		require.NoError(t, d.Close())
	}
}

func TestRequantizeRefuses(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	a, m, _ := stacked(t, d)
	before := inUse(d)
	for _, f := range []Format{0, F32, F16, BF16, FP8F32, fp8BF16, endFormat, -1} {
		_, err := m.Requantize(t.Context(), d, f, nil)
		require.ErrorIs(t, err, hip.ErrInput, "%v", f)
		require.ErrorContains(t, err, f.String())
	}
	require.Equal(t, before, inUse(d))
	require.NoError(t, a.free())
}

// TestRequantizeFaults: whichever operation fails, the error is the device's and
// what was taken is given back.
func TestRequantizeFaults(t *testing.T) {
	d := &broken{Device: hip.NewHost(2)}
	defer d.Close()
	a, m, parts := stacked(t, d)
	before := inUse(d.Device)
	faults := 0
	for at := int64(1); ; at += 1 + at/8 { // the rows of a share are read one by one: all of their reads are alike
		d.failed.Store(false)
		d.failIn.Store(at)
		q, err := m.Requantize(t.Context(), d, INT8, nil)
		d.failIn.Store(0)
		if !d.failed.Load() {
			require.NoError(t, err)
			require.Equal(t, wantRequantized(INT8, m.Cols, parts...), matrixValues(t, d, q))
			require.NoError(t, q.Free(d))
			break
		}
		require.ErrorIs(t, err, errFault)
		require.Nil(t, q)
		require.Equal(t, before, inUse(d.Device), "operation %d", at)
		faults++
	}
	require.Greater(t, faults, 30)
	require.NoError(t, a.free())
}

// TestRequantizeCanceled: a context that ends before, or in the last call of
// progress, ends it.
func TestRequantizeCanceled(t *testing.T) {
	d := hip.NewHost(2)
	defer d.Close()
	a, m, _ := stacked(t, d)
	before := inUse(d)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := m.Requantize(ctx, d, MXFP8, func(done, total int64) {
		if done == total {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	_, err = m.Requantize(ctx, d, MXFP8, func(_, _ int64) { t.Error("nothing is done") })
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, inUse(d))
	require.NoError(t, a.free())
}

// TestSelect: rows of every format in any order, also twice, are those of the
// matrix, decoded and multiplied; runs share a segment.
func TestSelect(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 4))
	for name, d := range rowsDevices() {
		t.Run(name, func(t *testing.T) {
			a, m, parts := stacked(t, d)
			var all []float32
			for _, part := range parts {
				all = append(all, part.values...)
			}
			var some []int32
			for range 200 {
				some = append(some, r.Int32N(int32(m.Rows)))
			}
			every := make([]int32, m.Rows)
			for i := range every {
				every[i] = int32(i)
			}
			x := randomFloats(r, 2*m.Cols)
			px := a.floats(x)
			for _, rows := range [][]int32{{0}, {int32(m.Rows) - 1}, {7, 7, 6}, {298, 299, 300, 301, 500, 501}, some, every} {
				s, err := m.Select(d, rows)
				require.NoError(t, err)
				want := stored{rows: len(rows), cols: m.Cols}
				for _, row := range rows {
					want.values = append(want.values, all[int(row)*m.Cols:(int(row)+1)*m.Cols]...)
				}
				require.Equal(t, want.values, matrixValues(t, d, s))
				y := make([]float32, 2*len(rows))
				py := a.floats(y)
				require.NoError(t, a.err)
				require.NoError(t, s.Product(d, py, px, 2))
				require.NoError(t, hip.ReadOf(d, y, py))
				require.NoError(t, hiptest.Within(y, naiveProduct(x, want), productBound))
				require.NoError(t, s.Free(d))
			}
			s, err := m.Select(d, every)
			require.NoError(t, err)
			require.Equal(t, m.segments, s.segments)
			require.NoError(t, s.Free(d))
			s, err = m.Select(d, []int32{5, 6, 7, 9, 10})
			require.NoError(t, err)
			require.Len(t, s.segments, 2)
			require.NoError(t, s.Free(d))
			for _, rows := range [][]int32{{-1}, {3, int32(m.Rows)}, {}} {
				_, err := m.Select(d, rows)
				require.ErrorIs(t, err, hip.ErrInput, fmt.Sprint(rows))
			}
			require.NoError(t, a.free())
			require.Equal(t, [2]int64{}, inUse(d))
			require.NoError(t, d.Close())
		})
	}
}
