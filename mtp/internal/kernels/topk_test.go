package kernels

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// greedyOf is the largest logit of each row, on a device.
func greedyOf(d hip.Device, logits []float32, vocab int) (ids []int32, probabilities []float32, err error) {
	return pick(d, logits, vocab, 1)
}

// pick is the k largest of each row of logits, on a device.
func pick(d hip.Device, logits []float32, vocab, k int) (ids []int32, probabilities []float32, err error) {
	var top TopK
	var in, out hip.Buffer
	defer func() { err = errors.Join(err, top.Free(d), in.Free(d), out.Free(d)) }()
	n := len(logits) / vocab * k
	if err := errors.Join(in.Grow(d, len(logits), 4), out.Grow(d, 2*n, 4), top.Grow(d, n/k, vocab, k)); err != nil {
		return nil, nil, err
	}
	if err := hip.WriteOf(d, in.Ptr(), logits); err != nil {
		return nil, nil, err
	}
	picked := Picked{IDs: out.Ptr(), Probabilities: out.Ptr().Add(4 * int64(n))}
	if err := top.Pick(d, picked, in.Ptr(), 0, n/k, vocab, k); err != nil {
		return nil, nil, err
	}
	ids, probabilities = make([]int32, n), make([]float32, n)
	return ids, probabilities, errors.Join(hip.ReadOf(d, ids, picked.IDs), hip.ReadOf(d, probabilities, picked.Probabilities))
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
	const parts = 3*topkPart + 1
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
		"ends of parts":                 {long(map[int]float32{topkPart - 1: 9, topkPart: 9, 2*topkPart - 1: 9}), topkPart - 1, 1 / (3 + (parts-3)*math.Exp(-9))},
		"last part":                     {long(map[int]float32{parts - 1: 20, 0: 19}), parts - 1, 1 / (1 + math.Exp(-1) + (parts-2)*math.Exp(-20))},
		"tie over parts":                {long(map[int]float32{2 * topkPart: 4, parts - 1: 4}), 2 * topkPart, 1 / (2 + (parts-2)*math.Exp(-4))},
		"infinities in parts":           {long(map[int]float32{topkPart + 5: inf, 2*topkPart + 1: inf}), topkPart + 5, 0.5},
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
	for _, vocab := range []int{1, 2, topkPart - 1, topkPart, topkPart + 1, 2*topkPart - 1, 2 * topkPart, 2*topkPart + 1, 3*topkPart + 1} {
		for _, rows := range []int{1, 2, 3} {
			logits := make([]float32, rows*vocab)
			for i := range logits {
				logits[i] = float32(random.NormFloat64() * 20)
			}
			var ids []int32
			var probabilities []float32
			hiptest.Compare(t, d, hiptest.Case{
				Name: fmt.Sprintf("rows=%d/vocab=%d", rows, vocab), MaxError: 1e-6,
				Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
					run := func() (err error) { ids, probabilities, err = greedyOf(d, logits, vocab); return err }
					return run, func() ([]float32, []int32, error) { return probabilities, ids, nil }
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

// TestTopKKernels: the k largest of rows with ties, NaN and infinities are those of a
// stable sort, and every kernel agrees with its twin.
func TestTopKKernels(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 8))
	for _, c := range []struct{ rows, vocab, k int }{{1, 1, 1}, {2, 5, 5}, {1, topkPart + 3, 7}, {3, 300, 2}, {2, 2*topkPart + 1, MaxTopK}, {1, topkPart, 64}} {
		logits := make([]float32, c.rows*c.vocab)
		for i := range logits {
			logits[i] = float32(random.IntN(40)) / 4
		}
		clean := slices.Clone(logits)
		for range c.vocab / 50 {
			logits[random.IntN(len(logits))] = []float32{nan, -inf, inf}[random.IntN(3)]
		}
		onDevices(t, func(t *testing.T, d hip.Device) {
			for _, values := range [][]float32{logits, clean} {
				ids, probs, err := pick(d, values, c.vocab, c.k)
				require.NoError(t, err)
				for r := range c.rows {
					row := values[r*c.vocab : (r+1)*c.vocab]
					want, wantProbs := sortedTop(row, c.k)
					require.Equal(t, want, ids[r*c.k:(r+1)*c.k], "%+v", c)
					require.NoError(t, hiptest.Within(probs[r*c.k:(r+1)*c.k], wantProbs, 1e-5), "%+v", c)
				}
			}
		})
	}
}

// sortedTop is the same by sorting.
func sortedTop(row []float32, k int) (ids []int32, probs []float32) {
	order := make([]int32, len(row))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(row[b], row[a]) }) // which has NaN below all
	weight := func(v float32) float64 {
		if v == row[order[0]] {
			return 1
		}
		return math.Exp(float64(v) - float64(row[order[0]]))
	}
	sum := 0.0
	for _, v := range row {
		sum += weight(v)
	}
	for _, id := range order[:k] {
		probs = append(probs, float32(weight(row[id])/sum))
	}
	return order[:k], probs
}
