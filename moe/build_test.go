package moe

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// part is a run of rows of a stored matrix.
type part struct {
	format      weights.Format
	rows        int
	data, scale []byte
}

// stored is a matrix as a checkpoint holds it, with the values it decodes to.
type stored struct {
	cols   int
	parts  []part
	values [][]float32
}

func (s *stored) add(f weights.Format, rows int, data, scale []byte) {
	s.parts = append(s.parts, part{f, rows, data, scale})
	scaleCols := scalesOf(f, s.cols)
	for r := range rows {
		row := make([]float32, s.cols)
		n := len(data) / rows
		f.Decode(row, data[r*n:(r+1)*n], scale[r*scaleCols:(r+1)*scaleCols])
		s.values = append(s.values, row)
	}
}

// exact stores values as F32.
func exact(rows ...[]float32) *stored {
	s := &stored{cols: len(rows[0])}
	var data []byte
	for _, row := range rows {
		for _, v := range row {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	s.add(weights.F32, len(rows), data, nil)
	return s
}

// random stores rows × cols values below 1 in parts of up to most rows, in the
// formats in turn.
func random(rng *rand.Rand, rows, cols, most int, formats ...weights.Format) *stored {
	s := &stored{cols: cols}
	for i := rng.IntN(len(formats)); len(s.values) < rows; i++ {
		f := formats[i%len(formats)]
		n := min(1+rng.IntN(most), rows-len(s.values))
		scales := n * scalesOf(f, cols)
		data, scale := randomRows(rng, f, n*cols, max(scales, n*tiles(cols, 32)))
		s.add(f, n, data, scale[:scales])
	}
	return s
}

// scalesOf returns how many scales a row of cols values has in a format of these tests.
func scalesOf(f weights.Format, cols int) int {
	switch f {
	case weights.MXFP8, weights.MXFP4:
		return tiles(cols, 32)
	case weights.NVFP4:
		return tiles(cols, 16)
	}
	return 0
}

func randomRows(rng *rand.Rand, f weights.Format, values, scales int) (data, scale []byte) {
	for i := range values {
		v := float32(rng.NormFloat64() / 8)
		switch f {
		case weights.F32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		case weights.BF16:
			data = binary.LittleEndian.AppendUint16(data, uint16(hip.ToBF16(v)))
		case weights.MXFP8:
			data = append(data, byte(rng.IntN(0x7f)|rng.IntN(2)<<7)) // no NaN
		case weights.MXFP4, weights.NVFP4:
			if i%2 == 0 { // two codes a byte
				data = append(data, byte(rng.Uint32()))
			}
		}
	}
	for range scales {
		switch f {
		case weights.MXFP4:
			scale = append(scale, byte(127-5+rng.IntN(3)))
		case weights.NVFP4:
			scale = append(scale, byte(0x08+rng.IntN(0x10))) // 2^−6 to 2^−4, and some
		default:
			scale = append(scale, byte(127-10+rng.IntN(3)))
		}
	}
	return data, scale
}

func (s *stored) upload(t testing.TB, d hip.Device) *weights.Matrix {
	t.Helper()
	var segments []weights.Segment
	for _, p := range s.parts {
		data, scale := upload(t, d, p.data), hip.Ptr(0)
		if len(p.scale) > 0 {
			scale = upload(t, d, p.scale)
		}
		segments = append(segments, weights.DenseSegment(p.format, p.rows, s.cols, data, scale))
	}
	m, err := weights.NewMatrix(d, s.cols, segments)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Free(d)) })
	return m
}

// upload copies values to d until the test ends.
func upload[T any](t testing.TB, d hip.Device, values []T) hip.Ptr {
	t.Helper()
	p, err := hip.Upload(d, values)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Free(p)) })
	return p
}

// alloc returns memory for n values of 4 bytes until the test ends.
func alloc(t testing.TB, d hip.Device, n int) hip.Ptr {
	t.Helper()
	p, err := d.Alloc(4 * int64(n))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Free(p)) })
	return p
}

func read[T any](t testing.TB, d hip.Device, p hip.Ptr, n int) []T {
	t.Helper()
	values := make([]T, n)
	require.NoError(t, hip.ReadOf(d, values, p))
	return values
}

// mixture is a mixture of experts in Go memory.
type mixture struct {
	config                      Config
	gate, w13, w2, gateUp, down *stored
	bias                        []float32
}

func (m *mixture) upload(t testing.TB, d hip.Device) *Experts {
	return &Experts{
		gate: m.gate.upload(t, d), w13: m.w13.upload(t, d), w2: m.w2.upload(t, d),
		gateUp: m.gateUp.upload(t, d), down: m.down.upload(t, d),
		bias: upload(t, d, m.bias), config: m.config,
	}
}

// randomMixture has weights in parts whose borders are not those of experts.
func randomMixture(rng *rand.Rand, c Config, formats ...weights.Format) *mixture {
	m := &mixture{
		config: c,
		gate:   random(rng, c.Experts, c.Hidden, 5, weights.F32, weights.BF16),
		w13:    random(rng, c.Experts*2*c.Intermediate, c.Hidden, 40, formats...),
		w2:     random(rng, c.Experts*c.Hidden, c.Intermediate, 40, formats...),
		gateUp: random(rng, 2*c.SharedIntermediate, c.Hidden, 40, formats...),
		down:   random(rng, c.Hidden, c.SharedIntermediate, 40, formats...),
	}
	for range c.Experts {
		m.bias = append(m.bias, float32(rng.NormFloat64()/4))
	}
	return m
}

func randomValues(rng *rand.Rand, n int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	return values
}

// outcome is all that a Forward computes.
type outcome struct {
	hidden, scores, weights, routed, shared, moeOut []float32
	ids                                             []int32
}

func (m *mixture) forward(t testing.TB, d hip.Device, x, residual []float32) outcome {
	t.Helper()
	return forward(t, d, m.upload(t, d), x, residual)
}

// forward runs e over len(x)/Hidden rows with a workspace of its own.
func forward(t testing.TB, d hip.Device, e *Experts, x, residual []float32) outcome {
	t.Helper()
	c, rows := e.config, len(x)/e.config.Hidden
	ws := Workspace{observe: true}
	hidden := alloc(t, d, len(x))
	require.NoError(t, e.Forward(d, &ws, hidden, upload(t, d, residual), upload(t, d, x), rows))
	o := outcome{
		hidden: read[float32](t, d, hidden, len(x)),
		scores: read[float32](t, d, ws.Stage("router_scores"), rows*c.Experts), weights: read[float32](t, d, ws.Stage("expert_weights"), rows*c.TopK),
		routed: read[float32](t, d, ws.Stage("moe_routed_out"), len(x)), shared: read[float32](t, d, ws.Stage("shared_out"), len(x)),
		moeOut: read[float32](t, d, ws.Stage("moe_out"), len(x)), ids: read[int32](t, d, ws.Stage("expert_ids"), rows*c.TopK),
	}
	require.NoError(t, ws.Free(d))
	return o
}

// devices are what every operation is tested on.
var devices = map[string]func() hip.Device{
	"reference":     hip.NewReference,
	"host":          func() hip.Device { return hip.NewHost() },
	"host in parts": newHostInParts,
	"checked host":  func() hip.Device { return hip.Check(newHostInParts()) },
}

// hostInParts spreads every launch over its threads, however small it is, so
// that Go sides are called for a few blocks at a time.
type hostInParts struct {
	hip.Device
}

func (d hostInParts) InUse() (bytes int64, live int) { return hiptest.InUse(d.Device) }

func newHostInParts() hip.Device {
	return hostInParts{hip.NewHost(8)}
}

func (d hostInParts) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	grid.BlockCost = 1 << 30
	return d.Device.Launch(k, grid, args)
}

// onEach runs test on every device and expects that nothing is left allocated.
func onEach(t *testing.T, test func(t *testing.T, d hip.Device)) {
	for name, open := range devices {
		t.Run(name, func(t *testing.T) {
			d := open()
			t.Cleanup(func() { // the last one: after the memory of the test is freed
				_, live := hiptest.InUse(d)
				require.Zero(t, live, "allocations left")
				require.NoError(t, d.Close())
			})
			test(t, d)
		})
	}
}
