package moe

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// requireClose compares every stage, each against its own largest magnitude.
func requireClose(t *testing.T, got, want outcome, bound float64) {
	t.Helper()
	require.Equal(t, want.ids, got.ids, "expert ids")
	for _, stage := range []struct {
		name      string
		got, want []float32
	}{
		{"router scores", got.scores, want.scores}, {"expert weights", got.weights, want.weights},
		{"routed", got.routed, want.routed}, {"shared", got.shared, want.shared},
		{"moe out", got.moeOut, want.moeOut}, {"hidden", got.hidden, want.hidden},
	} {
		require.NoError(t, hiptest.Within(stage.got, stage.want, bound), stage.name)
	}
}

// TestForwardMatchesNaive compares with a row-by-row computation, around the
// cutoffs of rows (gathered 64 at a time) and with columns beside every tile.
func TestForwardMatchesNaive(t *testing.T) {
	f32 := []weights.Format{weights.F32}
	mixed := []weights.Format{weights.MXFP8, weights.BF16, weights.F32}
	for _, c := range []struct {
		config  Config
		rows    []int
		formats []weights.Format
	}{
		{Config{Hidden: 1, Intermediate: 1, SharedIntermediate: 1, Experts: 1, TopK: 1}, []int{1, 2}, f32},
		{Config{Hidden: 33, Intermediate: 17, SharedIntermediate: 15, Experts: 1, TopK: 1}, []int{1, 3, 63, 64, 65}, mixed},
		{Config{Hidden: 31, Intermediate: 16, SharedIntermediate: 32, Experts: 2, TopK: 1}, []int{1, 2, 3, 7, 130}, []weights.Format{weights.BF16}},
		{Config{Hidden: 70, Intermediate: 33, SharedIntermediate: 48, Experts: 5, TopK: 2}, []int{1, 2, 3, 7, 63, 64, 65}, mixed},
		{Config{Hidden: 64, Intermediate: 32, SharedIntermediate: 32, Experts: 16, TopK: 4}, []int{1, 2, 3, 7, 65}, []weights.Format{weights.MXFP8}},
		{Config{Hidden: 65, Intermediate: 31, SharedIntermediate: 7, Experts: 16, TopK: 16}, []int{1, 7, 64}, mixed},
		{Config{Hidden: 1100, Intermediate: 5, SharedIntermediate: 3, Experts: 3, TopK: 3}, []int{1, 3}, mixed},
	} {
		c.config.Scale, c.config.Alpha, c.config.Limit, c.config.Beta = 2, 1.702, 0.75, 1
		t.Run(fmt.Sprintf("%d of %d experts %dx%d", c.config.TopK, c.config.Experts, c.config.Hidden, c.config.Intermediate), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, uint64(c.config.Hidden)))
			m := randomMixture(rng, c.config, c.formats...)
			for _, rows := range c.rows {
				x, residual := randomValues(rng, rows*c.config.Hidden), randomValues(rng, rows*c.config.Hidden)
				want := m.forwardNaive(x, residual)
				t.Run(fmt.Sprint(rows), func(t *testing.T) {
					onEach(t, func(t *testing.T, d hip.Device) {
						requireClose(t, m.forward(t, d, x, residual), want, 1e-5)
					})
				})
			}
		})
	}
}

// TestForwardEveryK goes through all numbers of experts and picks.
func TestForwardEveryK(t *testing.T) {
	onEach(t, func(t *testing.T, d hip.Device) {
		for experts := 1; experts <= 16; experts++ {
			t.Run(fmt.Sprint(experts), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(13, uint64(experts)))
				m := randomMixture(rng, Config{
					Hidden: 9, Intermediate: 6, SharedIntermediate: 5, Experts: experts, TopK: 1,
					Scale: 1.5, Alpha: 1.3, Limit: 7, Beta: 0.5,
				}, weights.F32, weights.MXFP8)
				e := m.upload(t, d)
				for k := 1; k <= experts; k++ {
					m.config.TopK, e.config.TopK = k, k
					x, residual := randomValues(rng, 3*9), randomValues(rng, 3*9)
					requireClose(t, forward(t, d, e, x, residual), m.forwardNaive(x, residual), 1e-5)
				}
			})
		}
	})
}

// TestForwardClosedForm has one expert whose gate is wide open, so that with
// alpha 0 it is half of (x + beta)·limit, and a shared expert that is closed.
func TestForwardClosedForm(t *testing.T) {
	identity, zero := [][]float32{{1, 0}, {0, 1}}, [][]float32{{0, 0}, {0, 0}}
	open := [][]float32{{1000, 1000}, {1000, 1000}}
	m := &mixture{
		config: Config{Hidden: 2, Intermediate: 2, SharedIntermediate: 2, Experts: 1, TopK: 1, Scale: 3, Alpha: 0, Limit: 4, Beta: 1},
		gate:   exact([]float32{0, 0}), w13: exact(append(open, identity...)...), w2: exact(identity...),
		gateUp: exact(append(zero, identity...)...), down: exact(identity...), bias: []float32{0},
	}
	onEach(t, func(t *testing.T, d hip.Device) {
		o := m.forward(t, d, []float32{1, 2, 3, 9}, []float32{10, 20, 30, 40})
		// scale · limit/2 · (min(x, limit) + beta)
		require.Equal(t, []float32{12, 18, 24, 30}, o.routed)
		require.Equal(t, []float32{0, 0, 0, 0}, o.shared)
		require.Equal(t, []float32{22, 38, 54, 70}, o.hidden)
		require.Equal(t, []float32{0.5, 0.5}, o.scores)
		require.Equal(t, []float32{3, 3}, o.weights)
		require.Equal(t, []int32{0, 0}, o.ids)
	})
}

// TestSharedExpertIsNotWeighted: with routed experts of zero, the scale changes nothing.
func TestSharedExpertIsNotWeighted(t *testing.T) {
	m := &mixture{
		config: Config{Hidden: 1, Intermediate: 1, SharedIntermediate: 1, Experts: 1, TopK: 1, Scale: 100, Alpha: 0, Limit: 8, Beta: 1},
		gate:   exact([]float32{1}), w13: exact([]float32{0}, []float32{0}), w2: exact([]float32{0}),
		gateUp: exact([]float32{2}, []float32{3}), down: exact([]float32{5}), bias: []float32{0},
	}
	onEach(t, func(t *testing.T, d hip.Device) {
		o := m.forward(t, d, []float32{1}, []float32{7})
		require.Equal(t, []float32{2 * 0.5 * (3 + 1) * 5}, o.shared)
		require.Equal(t, []float32{20}, o.moeOut)
		require.Equal(t, []float32{27}, o.hidden)
	})
}

// TestRowsAreIndependent: on the reference device a row of a ragged batch has
// the bits of the row alone, whatever the rows beside it pick.
func TestRowsAreIndependent(t *testing.T) {
	const rows = 67
	c := Config{Hidden: 70, Intermediate: 33, SharedIntermediate: 20, Experts: 7, TopK: 3, Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1}
	rng := rand.New(rand.NewPCG(8, 8))
	m := randomMixture(rng, c, weights.MXFP8, weights.BF16)
	x, residual := randomValues(rng, rows*c.Hidden), randomValues(rng, rows*c.Hidden)
	d := hip.NewReference()
	e := m.upload(t, d)
	batch := forward(t, d, e, x, residual)
	for row := range rows {
		at, end := row*c.Hidden, (row+1)*c.Hidden
		alone := forward(t, d, e, x[at:end], residual[at:end])
		require.Equal(t, alone.hidden, batch.hidden[at:end], "row %d", row)
		require.Equal(t, alone.moeOut, batch.moeOut[at:end], "row %d", row)
		require.Equal(t, alone.ids, batch.ids[row*c.TopK:(row+1)*c.TopK], "row %d", row)
	}
}

// TestNaNStaysInItsRow: a row of NaN is NaN, and the others are as without it.
func TestNaNStaysInItsRow(t *testing.T) {
	const rows, bad = 5, 2
	c := Config{Hidden: 40, Intermediate: 20, SharedIntermediate: 18, Experts: 4, TopK: 2, Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1}
	rng := rand.New(rand.NewPCG(9, 9))
	m := randomMixture(rng, c, weights.MXFP8, weights.F32)
	x, residual := randomValues(rng, rows*c.Hidden), randomValues(rng, rows*c.Hidden)
	onEach(t, func(t *testing.T, d hip.Device) {
		clean := m.forward(t, d, x, residual)
		broken := append([]float32(nil), x...)
		broken[bad*c.Hidden+7] = float32(math.NaN())
		o := m.forward(t, d, broken, residual)
		require.Equal(t, []int32{0, 1}, o.ids[bad*c.TopK:(bad+1)*c.TopK])
		for row := range rows {
			got, want := o.hidden[row*c.Hidden:(row+1)*c.Hidden], clean.hidden[row*c.Hidden:(row+1)*c.Hidden]
			if row != bad {
				// The rows of an expert may be multiplied in another way when their number changes.
				require.NoError(t, hiptest.Within(got, want, 1e-6), "row %d", row)
				continue
			}
			for i, v := range got {
				require.True(t, math.IsNaN(float64(v)), "value %d of the row is %v", i, v)
			}
		}
	})
}

// TestForwardInPlace: hidden may be residual, and may be x.
func TestForwardInPlace(t *testing.T) {
	c := Config{Hidden: 12, Intermediate: 8, SharedIntermediate: 8, Experts: 4, TopK: 2, Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1}
	rng := rand.New(rand.NewPCG(10, 10))
	m := randomMixture(rng, c, weights.F32)
	x, residual := randomValues(rng, 3*c.Hidden), randomValues(rng, 3*c.Hidden)
	onEach(t, func(t *testing.T, d hip.Device) {
		want := m.forward(t, d, x, residual).hidden
		e := m.upload(t, d)
		var ws Workspace
		px, pr := upload(t, d, x), upload(t, d, residual)
		require.NoError(t, e.Forward(d, &ws, pr, pr, px, 3))
		require.Equal(t, want, read[float32](t, d, pr, len(x)))
		pr = upload(t, d, residual)
		require.NoError(t, e.Forward(d, &ws, px, pr, px, 3))
		require.Equal(t, want, read[float32](t, d, px, len(x)))
		require.NoError(t, ws.Free(d))
	})
}
