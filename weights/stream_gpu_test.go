package weights

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestStreamsOnGPUs: one row of x with every format, over columns around one and two steps
// of a block, and over fewer rows of weights than a group, than a tile, and many.
func TestStreamsOnGPUs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	var cases []hiptest.Case
	for _, f := range allFormats {
		for _, cols := range []int{128, 2048, 4224} {
			for _, rows := range []int{1, 3, 70} {
				s, x := newStored(r, f, rows, cols), randomFloats(r, cols)
				c := productCase(fmt.Sprintf("%v/%d cols/%d rows of weights", f, cols, rows), 0, x, s)
				c.MaxError = 1e-5 // a float32 sum of thousands of terms
				cases = append(cases, c)
			}
		}
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) })
}

// TestStreamsNaN: a NaN in a weight, in a scale or in x stays where it belongs.
func TestStreamsNaN(t *testing.T) {
	const out, cols = 41, 2080
	r := rand.New(rand.NewPCG(1, 9))
	s, x := newStored(r, MXFP8, out, cols), randomFloats(r, cols)
	s.data[2*cols+7], s.scale[5*(cols/32)+64] = 0xff, 255
	infinite := append([]float32(nil), x...)
	infinite[2079] = float32(math.NaN())
	cases := []hiptest.Case{productCase("weight and scale", 0, x, s), productCase("x", 0, infinite, s)}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) })
}

// TestStreamsServe: streams take what lies in accesses of 16 bytes, on a GPU, with scales
// aligned and tiles in one segment each; the rest goes to a kernel for any alignment.
func TestStreamsServe(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 10))
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		a := &arena{d: d}
		t.Cleanup(func() { require.NoError(t, a.free()) })
		many := streamLoads*d.Info().Threads + 64
		kernel := func(m *Matrix, x hip.Ptr, rows int) string {
			work := productWork{m: m, d: d, x: x, rows: rows}
			return hip.Choose(product, work.served).Name
		}
		x := a.floats(make([]float32, 256))
		whole := a.matrix(128, 0, newStored(r, MXFP8, many, 128))
		few := a.matrix(128, 0, newStored(r, MXFP8, 2, 128))
		off := a.matrix(128, 1, newStored(r, MXFP8, many, 128))
		narrow := a.matrix(33, 0, newStored(r, BF16, many, 33))
		mixed := a.matrix(128, 0, newStored(r, MXFP8, 64, 128), newStored(r, BF16, many, 128))
		torn := a.matrix(128, 0, newStored(r, MXFP8, 3, 128), newStored(r, BF16, many, 128))
		require.NoError(t, a.err)
		require.Equal(t, "product_stream", kernel(whole, x, 1))
		require.Equal(t, "product_stream_narrow", kernel(few, x, 1))
		require.Equal(t, "product_stream", kernel(mixed, x, 1))
		require.Equal(t, "product", kernel(whole, x, 2))
		for name, m := range map[string]*Matrix{"off": off, "narrow": narrow, "torn": torn} {
			require.Equal(t, "product_one", kernel(m, x, 1), name)
		}
		require.Equal(t, "product_one", kernel(whole, x.Add(4), 1))
	})
	a := &arena{d: hip.NewHost()}
	m := a.matrix(128, 0, newStored(r, MXFP8, 100, 128))
	require.NoError(t, a.err)
	require.False(t, m.Streams(a.d, 0, 1), "a CPU has kernels of its own")
	require.NoError(t, a.free())
}

// fixed is a device with so many multiprocessors, or threads.
type fixed struct {
	hip.Device
	kind    string
	threads int
}

func (f fixed) Info() hip.Info { return hip.Info{Kind: f.kind, Threads: f.threads} }

// TestStreamTile: all blocks run at once, in whole groups, unless there is much more work
// than that.
func TestStreamTile(t *testing.T) {
	d := fixed{kind: "hip", threads: 132}
	for _, test := range []struct{ rows, halves, want int }{
		{1, 1, 4}, {6144, 1, 8}, {9856, 1, 16}, {24576, 1, 32}, {32768, 1, 44}, {24576, 2, 40}, {101376, 1, 128}, {101377, 1, 16}, {200064, 1, 16},
	} {
		got := StreamTile(d, test.rows, test.halves)
		require.Equal(t, test.want, got, "%d rows", test.rows)
		if got != streamTile || test.rows <= mostStreamTile*132*streamResident {
			require.LessOrEqual(t, ceilDiv(test.rows, got), d.threads*StreamResident(test.halves))
		}
	}
	for _, test := range []struct{ threads, rows, halves, want int }{
		{2, 128, 1, 16}, {2, 256, 1, 32}, {2, 255, 1, 16}, {16, 6144, 1, 32}, {16, 4095, 2, 32}, {16, 4096, 2, 64},
	} {
		require.Equal(t, test.want, StreamTile(fixed{kind: "cpu", threads: test.threads}, test.rows, test.halves), "%d rows on the CPU", test.rows)
	}
}
