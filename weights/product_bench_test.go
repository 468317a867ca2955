package weights

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

const (
	// benchOut × benchIn is gate or up of one routed expert of the released model.
	benchOut, benchIn = 3072, 6144
	// coldBytes is the weights that a benchmark walks before it comes back to the
	// first: more than a last-level cache holds.
	coldBytes = 1 << 30
)

// BenchmarkProduct reads weights from memory, as a draft step does: every run
// takes the next of several copies.
func BenchmarkProduct(b *testing.B) {
	for _, bench := range []struct {
		name   string
		format Format
		rows   int
	}{
		{"MXFP8/1", MXFP8, 1}, {"MXFP8/2", MXFP8, 2}, {"MXFP8/4", MXFP8, 4}, {"MXFP8/8", MXFP8, 8}, {"MXFP8/16", MXFP8, 16},
		{"MXFP8/64", MXFP8, 64}, {"MXFP8/512", MXFP8, 512},
		{"BF16/1", BF16, 1}, {"BF16/4", BF16, 4}, {"BF16/16", BF16, 16}, {"BF16/512", BF16, 512},
		{"MXFP4/1", MXFP4, 1}, {"MXFP4/4", MXFP4, 4}, {"MXFP4/8", MXFP4, 8}, {"MXFP4/16", MXFP4, 16},
		{"NVFP4/1", NVFP4, 1}, {"NVFP4/4", NVFP4, 4}, {"NVFP4/8", NVFP4, 8}, {"NVFP4/16", NVFP4, 16},
		{"F32/1", F32, 1}, {"F16/1", F16, 1}, {"FP8/1", FP8F32, 1},
	} {
		for _, a := range productActivations(bench.format) {
			b.Run(fmt.Sprintf("%s/%v", bench.name, a), func(b *testing.B) {
				d, err := hip.OpenHost(hip.HostOptions{Activations: a})
				require.NoError(b, err)
				defer d.Close()
				c := coldCase(b, bench.format, bench.rows)
				c.MaxError = max(c.MaxError, roundingBound(a))
				hiptest.Compare(b, d, c)
				b.ReportMetric(2*float64(bench.rows)*benchOut*benchIn*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

// productActivations are the roundings that make a difference for a format.
func productActivations(f Format) []hip.Activations {
	if f == BF16 || f == MXFP8 {
		return []hip.Activations{hip.ActivationsExact, hip.ActivationsBF16x2, hip.ActivationsBF16}
	}
	return []hip.Activations{hip.ActivationsExact}
}

// coldCase multiplies rows rows with a different copy of the weights each run.
func coldCase(b *testing.B, f Format, rows int) hiptest.Case {
	r := rand.New(rand.NewPCG(6, 1))
	row := newStored(r, f, formats[f].blockRows+1, benchIn) // repeated, as random values take long
	s := stored{format: f, rows: benchOut, cols: benchIn, of: row.of}
	scaleRows, scaleCols := f.scaleShape(benchOut, benchIn)
	fill := func(src []byte, n int) []byte {
		dst := make([]byte, 0, n+len(src))
		for len(dst) < n {
			dst = append(dst, src...)
		}
		return dst[:n]
	}
	s.data = fill(row.data, int(f.rowBytes(benchIn))*benchOut)
	if f.quantized() {
		s.scale = fill(row.scale, scaleRows*scaleCols*int(f.scaleBytes()))
	}
	x := randomFloats(r, rows*benchIn)
	b.SetBytes(int64(len(s.data) + len(s.scale)))
	return hiptest.Case{
		Name: f.String(), MaxError: 1e-5, // all results are those of one row, whose sum may cancel
		Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
			a := &arena{d: d}
			t.Cleanup(func() { require.NoError(t, a.free()) })
			var copies []*Matrix
			for range coldBytes/len(s.data) + 1 {
				copies = append(copies, a.matrix(benchIn, 0, s))
			}
			y := make([]float32, rows*benchOut)
			px, py, next := a.floats(x), a.floats(y), 0
			require.NoError(t, a.err)
			run := func() error {
				next++
				return copies[next%len(copies)].Product(d, py, px, rows)
			}
			return run, func() ([]float32, []int32, error) { return y, nil, hip.ReadOf(d, y, py) }
		},
	}
}
