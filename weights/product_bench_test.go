package weights_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// benchRows and benchCols are those of one routed expert's gate projection.
const benchRows, benchCols = 3072, 6144

// coldBytes is how much weight memory a benchmark walks before it comes back to
// the same bytes: more than a last-level cache holds.
const coldBytes = 96 << 20

// BenchmarkProduct reads weights from memory, as a draft step does: each run
// multiplies with the next of several copies.
func BenchmarkProduct(b *testing.B) {
	for _, f := range []weights.Format{weights.MXFP8, weights.BF16, weights.FP8F32, weights.F16, weights.F32} {
		for _, rows := range []int{1, 2, 3, 4, 8} {
			b.Run(fmt.Sprintf("%v/%d", f, rows), func(b *testing.B) {
				d := hip.NewHost()
				defer d.Close()
				hiptest.Bench(b, d, coldCase(f, rows))
			})
		}
	}
}

func coldCase(f weights.Format, rows int) hiptest.Case {
	size := f.RowBytes(benchCols) * benchRows
	scaleRows, scaleCols := f.ScaleShape(benchRows, benchCols)
	width := map[weights.Format]int{weights.MXFP8: 1, weights.FP8F32: 4}[f]
	return hiptest.Case{
		Name: f.String(), MaxError: 1e-5, Bytes: size + int64(scaleRows*scaleCols*width),
		Setup: func(d hip.Device) (*hiptest.Prepared, error) {
			r := rand.New(rand.NewPCG(1, 2))
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(r.Uint32()) & 0xbf
			}
			scale := make([]byte, scaleRows*scaleCols*width)
			for i := range scale {
				scale[i] = 60
			}
			var ms []*weights.Matrix
			for range max(1, coldBytes/int(size)) {
				p, _ := hip.Upload(d, data)
				s, _ := hip.Upload(d, scale)
				m, err := weights.NewMatrix(d, benchCols, []weights.Segment{weights.DenseSegment(f, benchRows, benchCols, p, s)})
				if err != nil {
					return nil, err
				}
				ms = append(ms, m)
			}
			x := make([]float32, rows*benchCols)
			for i := range x {
				x[i] = r.Float32() - 0.5
			}
			px, _ := hip.Upload(d, x)
			py, _ := hip.AllocOf[float32](d, rows*benchRows)
			next := 0
			return &hiptest.Prepared{
				Run: func() error { next++; return ms[next%len(ms)].Product(d, py, px, rows) },
				Floats: func() ([]float32, error) {
					y := make([]float32, rows*benchRows)
					return y, hip.ReadOf(d, y, py)
				},
			}, nil
		},
	}
}
