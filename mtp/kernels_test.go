package mtp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/norm"
	"github.com/drafthead/drafthead/weights"
)

// greedyOf is the largest logit of each row, on a device.
func greedyOf(d hip.Device, logits []float32, vocab int) (ids []int32, probabilities []float32, err error) {
	w := &workspace{device: d}
	defer func() {
		if e := w.free(); err == nil {
			err = e
		}
	}()
	if w.logits.ptr, err = hip.Upload(d, logits); err != nil {
		return nil, nil, err
	}
	w.logits.bytes = int64(4 * len(logits))
	head := &Head{device: d}
	return head.greedy(w, len(logits)/vocab, vocab)
}

var (
	inf = float32(math.Inf(1))
	nan = float32(math.NaN())
)

// greedyCase is one row of logits.
type greedyCase struct {
	logits      []float32
	id          int32
	probability float64
}

func greedyCases() map[string]greedyCase {
	// long is a row over several parts, zero but for the given values.
	const parts = 3*argmaxPart + 1
	long := func(values map[int]float32) []float32 {
		row := make([]float32, parts)
		for i, v := range values {
			row[i] = v
		}
		return row
	}
	fill := func(v float32) []float32 {
		row := make([]float32, parts)
		for i := range row {
			row[i] = v
		}
		return row
	}
	e := math.E
	return map[string]greedyCase{
		"one logit":                     {[]float32{-3}, 0, 1},
		"the last":                      {[]float32{0, 0, 1}, 2, e / (e + 2)},
		"the first":                     {[]float32{1, 0, 0}, 0, e / (e + 2)},
		"tie":                           {[]float32{0, 7, 7, 7}, 1, 1 / (3 + math.Exp(-7))},
		"all equal":                     {[]float32{5, 5, 5, 5, 5}, 0, 0.2},
		"zeros of both signs":           {[]float32{float32(math.Copysign(0, -1)), 0}, 0, 0.5},
		"all negative":                  {[]float32{-1e30, -2e30}, 0, 1},
		"terms that vanish":             {[]float32{200, -200, 100}, 0, 1},
		"first is NaN":                  {[]float32{nan, -5, 2}, 2, math.NaN()},
		"last is NaN":                   {[]float32{3, -5, nan}, 0, math.NaN()},
		"nothing but NaN":               {[]float32{nan, nan, nan}, 0, math.NaN()},
		"infinity":                      {[]float32{1, inf, 2}, 1, 1},
		"two infinities":                {[]float32{1, inf, 2, inf}, 1, 0.5},
		"infinity and NaN":              {[]float32{1, inf, nan}, 1, math.NaN()},
		"NaN before infinity":           {[]float32{nan, inf, inf}, 1, math.NaN()},
		"minus infinities":              {[]float32{-inf, -inf, 1, -inf}, 2, 1},
		"nothing but minus infinity":    {[]float32{-inf, -inf}, 0, 0.5},
		"minus infinity and NaN":        {[]float32{nan, -inf}, 1, math.NaN()},
		"ends of parts":                 {long(map[int]float32{argmaxPart - 1: 9, argmaxPart: 9, 2*argmaxPart - 1: 9}), argmaxPart - 1, 1 / (3 + (parts-3)*math.Exp(-9))},
		"last part":                     {long(map[int]float32{parts - 1: 20, 0: 19}), parts - 1, 1 / (1 + math.Exp(-1) + (parts-2)*math.Exp(-20))},
		"tie over parts":                {long(map[int]float32{2 * argmaxPart: 4, parts - 1: 4}), 2 * argmaxPart, 1 / (2 + (parts-2)*math.Exp(-4))},
		"infinities in parts":           {long(map[int]float32{argmaxPart + 5: inf, 2*argmaxPart + 1: inf}), argmaxPart + 5, 0.5},
		"NaN in another part":           {long(map[int]float32{5: 1, parts - 1: nan}), 5, math.NaN()},
		"infinity and a part with NaN":  {long(map[int]float32{5: nan, parts - 1: inf}), parts - 1, math.NaN()},
		"parts of nothing but NaN":      {fill(nan), 0, math.NaN()},
		"parts of minus infinity":       {fill(-inf), 0, 1.0 / parts},
		"minus infinity and one number": {append(fill(-inf), -3), parts, 1},
		"parts of NaN, then one number": {append(fill(nan), -3), parts, math.NaN()},
		"parts that are equal":          {fill(1.5), 0, 1.0 / parts},
	}
}

func TestGreedy(t *testing.T) {
	for name, c := range greedyCases() {
		t.Run(name, func(t *testing.T) {
			for _, d := range checkedDevices() {
				c.require(t, d)
				require.NoError(t, d.Close())
			}
		})
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		for name, c := range greedyCases() {
			t.Run(name, func(t *testing.T) { c.require(t, checked) })
		}
	})
}

func (c *greedyCase) require(t *testing.T, d hip.Device) {
	t.Helper()
	ids, probabilities, err := greedyOf(d, c.logits, len(c.logits))
	require.NoError(t, err)
	require.Equal(t, []int32{c.id}, ids, d.Info().Name)
	require.NoError(t, hiptest.Within(probabilities, []float32{float32(c.probability)}, 1e-6), d.Info().Name)
}

// TestGreedySizes: rows and vocabularies around the parts that blocks look at.
func TestGreedySizes(t *testing.T) {
	for name, d := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			testGreedySizes(t, d)
		})
	}
}

func testGreedySizes(t *testing.T, d hip.Device) {
	random := rand.New(rand.NewPCG(1, 4))
	for _, vocab := range []int{1, 2, argmaxPart - 1, argmaxPart, argmaxPart + 1, 2*argmaxPart - 1, 2 * argmaxPart, 2*argmaxPart + 1, 3*argmaxPart + 1} {
		for _, rows := range []int{1, 2, 3} {
			logits := make([]float32, rows*vocab)
			for i := range logits {
				logits[i] = float32(random.NormFloat64() * 20)
			}
			var ids []int32
			var probabilities []float32
			hiptest.Compare(t, d, hiptest.Case{
				Name: fmt.Sprintf("rows=%d/vocab=%d", rows, vocab), MaxError: 1e-6,
				Setup: func(d hip.Device) (*hiptest.Prepared, error) {
					return &hiptest.Prepared{
						Run:    func() (err error) { ids, probabilities, err = greedyOf(d, logits, vocab); return err },
						Ints:   func() ([]int32, error) { return ids, nil },
						Floats: func() ([]float32, error) { return probabilities, nil },
					}, nil
				},
			})
			for row, id := range ids {
				for _, v := range logits[row*vocab : (row+1)*vocab] {
					require.LessOrEqual(t, v, logits[row*vocab+int(id)])
				}
			}
		}
	}
}

// TestEmbedNorm: e is the token's row, or what was given, and zero at position 0
// whatever the token; each half is normalized with its own weights.
func TestEmbedNorm(t *testing.T) {
	for _, hidden := range []int{33, 64, 8200} {
		for _, format := range []weights.Format{weights.F32, weights.BF16} {
			t.Run(fmt.Sprintf("%d %v", hidden, format), func(t *testing.T) { testEmbedNorm(t, hidden, format) })
		}
	}
}

func testEmbedNorm(t *testing.T, hidden int, format weights.Format) {
	const vocab, eps = 7, 1e-6
	random := rand.New(rand.NewPCG(1, 5))
	floats := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(random.NormFloat64())
		}
		return out
	}
	tokens, positions := []int32{6, 0, 3, 6, 2}, []int32{0, 1, 9, 0, 127}
	rows := len(tokens)
	table, states, given, enorm, hnorm := floats(vocab*hidden), floats(rows*hidden), floats(rows*hidden), floats(hidden), floats(hidden)
	if format == weights.BF16 {
		for i, v := range table {
			table[i] = hip.ToBF16(v).Float32()
		}
	}
	table[6*hidden] = nan // masked where its token is at position 0

	for name, useGiven := range map[string]bool{"table": false, "given": true} {
		t.Run(name, func(t *testing.T) {
			var wantMasked, want []float32
			for row := range rows {
				e := make([]float32, hidden)
				switch {
				case positions[row] == 0:
				case useGiven:
					copy(e, given[row*hidden:])
				default:
					copy(e, table[int(tokens[row])*hidden:])
				}
				wantMasked = append(wantMasked, e...)
				for _, half := range [][2][]float32{{e, enorm}, {states[row*hidden : (row+1)*hidden], hnorm}} {
					normed := make([]float32, hidden)
					norm.RMS64(normed, half[0], half[1], eps)
					want = append(want, normed...)
				}
			}
			onDevices(t, func(t *testing.T, d hip.Device) {
				masked, got := runEmbedNorm(t, d, useGiven, format, table, states, given, enorm, hnorm, tokens, positions)
				require.Equal(t, wantMasked, masked)
				require.NoError(t, hiptest.Within(got, want, 1e-6))
				require.Equal(t, make([]float32, hidden), got[:hidden], "the masked half stays zero")
			})
		})
	}
}

// checkedDevices is the reference, and a host of every level, checked launch by launch.
func checkedDevices() []hip.Device {
	devices := []hip.Device{hip.NewReference()}
	for _, d := range hiptest.Hosts(2) {
		devices = append(devices, hip.Check(d))
	}
	return devices
}

// onDevices runs test on the reference, and on hosts and emulated GPUs checked launch
// by launch.
func onDevices(t *testing.T, test func(t *testing.T, d hip.Device)) {
	for _, d := range checkedDevices() {
		test(t, d)
		require.NoError(t, d.Close())
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { test(t, hip.Check(d)) })
}

// TestGatherAndWiden: rows of a table of any format, and bfloat16 made float32.
func TestGatherAndWiden(t *testing.T) {
	const hidden, vocab = 70, 5
	random := rand.New(rand.NewPCG(1, 7))
	tokens, narrow := []int32{4, 0, 4, 2}, make([]hip.BF16, 1025)
	for i := range narrow {
		narrow[i] = hip.ToBF16(float32(random.NormFloat64()))
	}
	onDevices(t, func(t *testing.T, d hip.Device) {
		stored := make([]byte, vocab*hidden)
		for i := range stored {
			stored[i] = byte(i * 7)
		}
		data, err := hip.Upload(d, stored)
		require.NoError(t, err)
		scale, err := hip.Upload(d, []byte{127, 126, 120, 0, 254, 127, 1, 2, 3, 4, 127, 128, 129, 130, 131})
		require.NoError(t, err)
		m, err := weights.NewMatrix(d, hidden, []weights.Segment{weights.DenseSegment(weights.MXFP8, vocab, hidden, data, scale)})
		require.NoError(t, err)
		ids, err := hip.Upload(d, tokens)
		require.NoError(t, err)
		out, err := hip.AllocOf[float32](d, len(tokens)*hidden)
		require.NoError(t, err)
		require.NoError(t, launchGather(d, &gatherArgs{
			Out: out, Table: m.Table(), Tokens: ids, Rows: int32(len(tokens)), Hidden: hidden, Segments: 1, Vocab: vocab,
		}))
		got := make([]float32, len(tokens)*hidden)
		require.NoError(t, hip.ReadOf(d, got, out))
		require.NoError(t, hiptest.Within(got[:hidden], got[2*hidden:3*hidden], 0), "one token, one row")

		x, err := hip.Upload(d, narrow)
		require.NoError(t, err)
		y, err := hip.AllocOf[float32](d, len(narrow))
		require.NoError(t, err)
		require.NoError(t, widen.Launch(d, hip.Grid{Blocks: 2, Threads: 256}, &widenArgs{X: x, Y: y, N: int64(len(narrow))}))
		wide := make([]float32, len(narrow))
		require.NoError(t, hip.ReadOf(d, wide, y))
		for i, v := range narrow {
			require.Equal(t, v.Float32(), wide[i])
		}
	})
}

// runEmbedNorm launches embed_norm over a table that is stored as format.
func runEmbedNorm(t *testing.T, d hip.Device, useGiven bool, format weights.Format, table, states, given, enorm, hnorm []float32, tokens, positions []int32) (masked, out []float32) {
	t.Helper()
	floats := func(values []float32) hip.Ptr {
		p, err := hip.Upload(d, values)
		require.NoError(t, err)
		return p
	}
	hidden, rows := len(enorm), len(tokens)
	stored := floats(table)
	if format == weights.BF16 {
		narrow := make([]hip.BF16, len(table))
		for i, v := range table {
			narrow[i] = hip.ToBF16(v)
		}
		var err error
		stored, err = hip.Upload(d, narrow)
		require.NoError(t, err)
	}
	m, err := weights.NewMatrix(d, hidden, []weights.Segment{weights.DenseSegment(format, len(table)/hidden, hidden, stored, 0)})
	require.NoError(t, err)
	ids, err := hip.Upload(d, tokens)
	require.NoError(t, err)
	at, err := hip.Upload(d, positions)
	require.NoError(t, err)
	a := &embedNormArgs{
		Out: floats(make([]float32, 2*rows*hidden)), Masked: floats(make([]float32, rows*hidden)), States: floats(states), Table: m.Table(),
		Tokens: ids, Positions: at, EmbedNorm: floats(enorm), HiddenNorm: floats(hnorm), Eps: 1e-6,
		Rows: int32(rows), Hidden: int32(hidden), Segments: 1, Vocab: int32(m.Rows),
	}
	if useGiven {
		a.Embeds = floats(given)
	}
	require.NoError(t, launchEmbedNorm(d, a))
	masked, out = make([]float32, rows*hidden), make([]float32, 2*rows*hidden)
	require.NoError(t, hip.ReadOf(d, masked, a.Masked))
	require.NoError(t, hip.ReadOf(d, out, a.Out))
	return masked, out
}
