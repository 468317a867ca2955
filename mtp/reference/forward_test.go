package reference

import (
	"math"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/mtp"
)

func TestRMS(t *testing.T) {
	// Two heads of width 2: mean squares 12.5 and 0.5.
	got := rms(newMatrix(1, 4, []float64{3, 4, 1, 0}), []float64{0, 1}, 0)
	requireEqual(t, newMatrix(1, 4, []float64{3 / math.Sqrt(12.5), 8 / math.Sqrt(12.5), math.Sqrt2, 0}), got)
	// eps sits inside the root.
	got = rms(newMatrix(1, 2, []float64{1, 1}), []float64{0, 0}, 3)
	requireEqual(t, newMatrix(1, 2, []float64{0.5, 0.5}), got)
}

func TestLinear(t *testing.T) {
	weight := newMatrix(3, 2, []float64{1, 2, 3, 4, 5, 6})
	requireEqual(t, newMatrix(2, 3, []float64{1, 3, 5, 20, 40, 60}), linear(weight, newMatrix(2, 2, []float64{1, 0, 0, 10})))
}

func TestAct(t *testing.T) {
	c := &mtp.Config{MoE: moe.Config{Alpha: 1.702, Limit: 7, Beta: 1}}
	require.Zero(t, act(0, 3, c))
	require.InDelta(t, 2*4/(1+math.Exp(-3.404)), act(2, 3, c), 1e-15)
	require.Equal(t, act(7, 7, c), act(100, 100, c), "both clamped above")
	require.Equal(t, act(2, -7, c), act(2, -100, c), "up clamped below")
	require.NotEqual(t, act(-7, 2, c), act(-8, 2, c), "gate not clamped below")
}

func TestSoftmax(t *testing.T) {
	got := softmax(newMatrix(2, 2, []float64{1000, 1000 + math.Log(3), -5, -5}))
	requireEqual(t, newMatrix(2, 2, []float64{0.25, 0.75, 0.5, 0.5}), got)
}

func TestChoose(t *testing.T) {
	scores := []float64{5, 1, 4, 4, 3, math.Inf(-1), 2}
	all := []int{0, 1, 2, 3, 4, 6} // block 5 holds no key
	inf := math.Inf(1)
	tests := []struct {
		name              string
		topk, init, local int
		want              []int
		margin            float64
	}{
		{"best", 2, 0, 0, []int{0, 2}, 0}, // blocks 2 and 3 tie: the lower wins
		{"local", 2, 0, 1, []int{0, 6}, 1},
		{"init", 3, 2, 0, []int{0, 1, 2}, 0},
		{"init and local", 4, 1, 2, []int{0, 2, 4, 6}, 0},
		{"forced alone", 2, 1, 1, []int{0, 6}, inf},
		{"init before local", 2, 2, 2, []int{0, 1}, inf},
		{"local cut to what fits", 3, 1, 4, []int{0, 4, 6}, inf},
		{"init cut to what fits", 2, 3, 1, []int{0, 1}, inf},
		{"forced overlap", 6, 5, 5, all, inf},
		{"fewer candidates than topk", 10, 0, 1, all, inf},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, margin := choose(all, scores, &attention.Geometry{TopkBlocks: test.topk, InitBlocks: test.init, LocalBlocks: test.local})
			require.Equal(t, test.want, got)
			require.Equal(t, test.margin, margin)
		})
	}
}

func TestVisibleKeys(t *testing.T) {
	positions := []int{0, 1, 3, 4, 5, 8, 9}
	require.Equal(t, []int{0, 1, 3, 4}, visibleKeys(positions, 9, []int{0, 2}, 2))
	require.Equal(t, []int{3}, visibleKeys(positions, 4, []int{2, 4}, 2))
	require.Equal(t, []int{5}, visibleKeys(positions, 8, []int{3, 4}, 2), "block 3 has no key")
	require.Empty(t, visibleKeys(positions, 9, nil, 2))
}

func TestPick(t *testing.T) {
	scores := []float64{0.5, 0.25, 0.75, 0.25}
	picked, margin := pick(scores, []float64{0, 0, 0, 0}, 3)
	require.Equal(t, []int{2, 0, 1}, picked, "experts 1 and 3 tie: the lower wins")
	require.Zero(t, margin)
	picked, margin = pick(scores, []float64{0, 0, -1, 1}, 2)
	require.Equal(t, []int{3, 0}, picked, "the bias selects")
	require.Equal(t, 0.25, margin)
	_, margin = pick(scores, []float64{0, 0, 0, 0}, 4)
	require.True(t, math.IsInf(margin, 1))
}

func TestArgmax(t *testing.T) {
	for _, test := range []struct {
		logits []float64
		id     int
	}{
		{[]float64{3}, 0}, {[]float64{1, 4, 2}, 1}, {[]float64{4, 4}, 0}, {[]float64{5, 1, 2}, 0}, {[]float64{1, 2, 7}, 2},
	} {
		require.Equal(t, test.id, argmax(test.logits), "%v", test.logits)
	}
}

// With a single key the attention is that key's value, for every head of the group.
func TestForwardSingleRow(t *testing.T) {
	head := syntheticHead(t, "")
	tokens, _, hidden := syntheticRows(1)
	s, err := head.Forward(0, tokens, []int{5}, hidden)
	require.NoError(t, err)
	v := row(s["v"], 0)
	for h := range 4 {
		requireEqual(t, newMatrix(1, 4, v[h/2*4:h/2*4+4]), newMatrix(1, 4, row(s["attn_ctx"], 0)[h*4:h*4+4]))
	}
	require.Equal(t, []float64{2, -1, 2, -1}, row(s["selected_blocks"], 0))
	require.Equal(t, []int{1, 2 * 3}, s["block_scores"].Shape())
	requireEqual(t, newMatrix(1, 1, []float64{head.Config.MoE.Scale}), s["expert_weights"].Sum())
}

func TestForwardMasksPositionZero(t *testing.T) {
	head := syntheticHead(t, "")
	_, positions, hidden := syntheticRows(2)
	a, err := head.Forward(0, []int{1, 2}, positions, hidden)
	require.NoError(t, err)
	b, err := head.Forward(0, []int{3, 2}, positions, hidden)
	require.NoError(t, err)
	require.Equal(t, a, b, "the token at position 0 does not matter")
	require.Equal(t, make([]float64, 8), row(a["embeds_masked"], 0))
	c, err := head.Forward(0, []int{1, 3}, positions, hidden)
	require.NoError(t, err)
	require.NotEqual(t, a["hidden"], c["hidden"])
}

// Rows depend on no later row, and asking for fewer rows changes none of them.
func TestForwardCausal(t *testing.T) {
	head := syntheticHead(t, "")
	tokens, positions, hidden := syntheticRows(11)
	for i := range positions {
		positions[i] += i / 3 * 2 // holes
	}
	for module := range 2 {
		whole, err := head.Forward(module, tokens, positions, hidden)
		require.NoError(t, err)
		for _, n := range []int{1, 2, 7} {
			prefix, err := head.Forward(module, tokens[:n], positions[:n], hidden.Slice(0, 0, n, 8), n-1)
			require.NoError(t, err)
			requireEqual(t, gather(whole["logits"], []int{n - 1}), prefix["logits"])
			require.Equal(t, row(whole["selected_blocks"], n-1), row(prefix["selected_blocks"], 0))
		}
	}
}

func TestForwardFloat32(t *testing.T) {
	head := syntheticHead(t, "")
	tokens, positions, hidden := syntheticRows(3)
	single := mat.NewDense[float32](mat.WithShape(3, 8), mat.WithBacking(hidden.Data().F32()))
	rounded := newMatrix(3, 8, single.Data().F64())
	want, err := head.Forward(0, tokens, positions, rounded)
	require.NoError(t, err)
	got, err := head.Forward(0, tokens, positions, single)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// At position 0 nothing turns, and YaRN's factor on cos scales the rotary half of a head alone.
func TestForwardYaRN(t *testing.T) {
	tokens, positions, hidden := syntheticRows(40)
	plain, err := syntheticHead(t, "").Forward(0, tokens, positions, hidden)
	require.NoError(t, err)
	head := syntheticHead(t, `, "rope_scaling": {"rope_type": "yarn", "factor": 4, "attention_factor": 1.5}`)
	yarn, err := head.Forward(0, tokens, positions, hidden)
	require.NoError(t, err)
	for j, x := range row(plain["k"], 0) {
		factor := 1.0
		if j%4 < 2 {
			factor = 1.5
		}
		require.InDelta(t, factor*x, row(yarn["k"], 0)[j], 1e-15)
	}
	_, err = head.Forward(0, tokens[:1], []int{255}, hidden.Slice(0, 0, 1, 8))
	require.NoError(t, err, "the last covered position")
	_, err = head.Forward(0, tokens[:1], []int{256}, hidden.Slice(0, 0, 1, 8))
	require.ErrorIs(t, err, hip.ErrInput)
}
