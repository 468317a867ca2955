package moe

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// BenchmarkForward is a mixture of the released shape, 4 of 16 experts in
// MXFP8. The experts with the same id modulo 4 share their memory, and the bias
// picks those that do not, so that 226 MB of weights are held and read.
func BenchmarkForward(b *testing.B) {
	const experts, distinct = 16, 4
	c := Config{
		Hidden: 6144, Intermediate: 3072, SharedIntermediate: 3072, Experts: experts, TopK: 4,
		Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1,
	}
	rng := rand.New(rand.NewPCG(14, 14))
	m := &mixture{
		config: c,
		gate:   random(rng, experts, c.Hidden, experts, weights.F32),
		gateUp: randomDense(rng, 2*c.SharedIntermediate, c.Hidden), down: randomDense(rng, c.Hidden, c.SharedIntermediate),
		w13: &stored{cols: c.Hidden}, w2: &stored{cols: c.Intermediate},
	}
	for e := range experts {
		if e < distinct {
			m.bias = append(m.bias, 2)
			m.w13.parts = append(m.w13.parts, randomDense(rng, 2*c.Intermediate, c.Hidden).parts[0])
			m.w2.parts = append(m.w2.parts, randomDense(rng, c.Hidden, c.Intermediate).parts[0])
			continue
		}
		m.bias = append(m.bias, 0)
		m.w13.parts = append(m.w13.parts, m.w13.parts[e%distinct])
		m.w2.parts = append(m.w2.parts, m.w2.parts[e%distinct])
	}
	d := hip.NewHost()
	defer d.Close()
	for _, rows := range []int{1, 4} {
		x, residual := randomValues(rng, rows*c.Hidden), randomValues(rng, rows*c.Hidden)
		b.Run(fmt.Sprintf("%d rows", rows), func(b *testing.B) {
			hiptest.Compare(b, d, m.benchCase(b, x, residual, distinct))
		})
	}
}

// randomDense is one part of MXFP8, without the decoded values.
func randomDense(rng *rand.Rand, rows, cols int) *stored {
	data, scale := make([]byte, rows*cols), make([]byte, rows*tiles(cols, 32))
	for i := range data {
		data[i] = byte(rng.IntN(0x70) | rng.IntN(2)<<7)
	}
	for i := range scale {
		scale[i] = 127 - 11
	}
	return &stored{cols: cols, parts: []part{{weights.MXFP8, rows, data, scale}}}
}

// benchCase adopts the weights, so that devices share them; read is how many
// experts a run reads. What it takes on a device lives as long as the device.
func (m *mixture) benchCase(b *testing.B, x, residual []float32, read int) hiptest.Case {
	rows := len(x) / m.config.Hidden
	expert := 3 * int64(m.config.Hidden) * int64(m.config.Intermediate) * 33 / 32
	shared := 3 * int64(m.config.Hidden) * int64(m.config.SharedIntermediate) * 33 / 32
	b.SetBytes(int64(read)*expert + shared)
	return hiptest.Case{
		Name: "forward", MaxError: 1e-5,
		Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
			take := func(values []float32) hip.Ptr {
				p, err := hip.Upload(d, values)
				require.NoError(t, err)
				return p
			}
			e := &Experts{
				gate: m.gate.adopt(b, d), w13: m.w13.adopt(b, d), w2: m.w2.adopt(b, d),
				gateUp: m.gateUp.adopt(b, d), down: m.down.adopt(b, d), bias: take(m.bias), config: m.config,
			}
			ws := new(Workspace)
			t.Cleanup(func() { require.NoError(t, ws.Free(d)) })
			px, pr, hidden := take(x), take(residual), take(make([]float32, len(x)))
			run := func() error { return e.Forward(d, ws, hidden, pr, px, rows) }
			return run, func() ([]float32, []int32, error) {
				values, ids := make([]float32, len(x)), make([]int32, rows*m.config.TopK)
				if err := hip.ReadOf(d, values, hidden); err != nil {
					return nil, nil, err
				}
				return values, ids, hip.ReadOf(d, ids, ws.Stage("expert_ids"))
			}
		},
	}
}

// adopt makes a matrix of memory that stays where it is.
func (s *stored) adopt(b *testing.B, d hip.Device) *weights.Matrix {
	b.Helper()
	adopt := func(mem []byte) hip.Ptr {
		if len(mem) == 0 {
			return 0
		}
		p, err := hip.Adopt(d, mem, false)
		require.NoError(b, err)
		return p
	}
	var segments []weights.Segment
	for _, p := range s.parts {
		segments = append(segments, weights.DenseSegment(p.format, p.rows, s.cols, adopt(p.data), adopt(p.scale)))
	}
	m, err := weights.NewMatrix(d, s.cols, segments)
	require.NoError(b, err)
	return m
}
