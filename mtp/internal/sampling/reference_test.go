package sampling

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

const (
	tinyVocab  = 256
	tinyDrafts = 5
)

// tinySampling is the target's and the head's distributions of m3-tiny at one temperature,
// and what follows from them, computed in float64.
type tinySampling struct {
	rows                                         int
	drafts                                       []int64   // [rows, 5]
	p, q                                         []float32 // [rows, 6, 256], [rows, 5, 256]
	greedyAccept, greedyResidual, greedyAccepted []float32
	sampledAccept, sampledResidual               []float32
	temperature                                  string
}

func readTiny(t *testing.T, temperature string) *tinySampling {
	t.Helper()
	path := hiptest.Shared(t, "m3-tiny", "sampling.safetensors")
	f, err := safetensors.Open(os.DirFS(filepath.Dir(path)), filepath.Base(path))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	x := &tinySampling{drafts: readTensor[int64](t, f, "drafts"), temperature: temperature}
	x.rows = len(x.drafts) / tinyDrafts
	for name, to := range map[string]*[]float32{
		"p": &x.p, "q": &x.q, "greedy.accept": &x.greedyAccept, "greedy.residual": &x.greedyResidual, "greedy.accepted": &x.greedyAccepted,
		"sampled.accept": &x.sampledAccept, "sampled.residual": &x.sampledResidual,
	} {
		*to = readTensor[float32](t, f, "t"+temperature+"."+name)
	}
	return x
}

func readTensor[T int64 | float32](t *testing.T, f *safetensors.File, name string) []T {
	t.Helper()
	tensor, ok := f.Tensor(name)
	require.True(t, ok, name)
	data := make([]byte, tensor.Size())
	_, err := tensor.ReadAt(data, 0)
	require.NoError(t, err)
	values := make([]T, len(data)/binary.Size(T(0)))
	_, err = binary.Decode(data, binary.LittleEndian, values)
	require.NoError(t, err)
	return values
}

// listOf returns a distribution as the list that a draft is drawn from.
func listOf(q []float32) (ids []int32, weights []float32) {
	top := topOf(q)
	for i, v := range q {
		if w := float32(float64(v) / float64(top)); w >= leastWeight {
			ids, weights = append(ids, int32(i)), append(weights, w)
		}
	}
	return ids, weights
}

// chainOf returns the drafts of a row as a chain; drawn, or certain.
func (x *tinySampling) chainOf(row int, drawn, block bool) chain {
	c := chain{block: block}
	for j := range tinyDrafts {
		d := int32(x.drafts[row*tinyDrafts+j])
		ids, weights := []int32{d}, []float32{1}
		if drawn {
			ids, weights = listOf(x.q[(row*tinyDrafts+j)*tinyVocab:][:tinyVocab])
		}
		c.tokens, c.ids, c.weights = append(c.tokens, d), append(c.ids, ids), append(c.weights, weights)
	}
	for j := range tinyDrafts + 1 {
		c.params = append(c.params, Params{Flags: FlagProbabilities, First: uint32(row), Index: uint32(j)})
	}
	return c
}

// verificationOf returns the chain as decide and draw read it.
func (x *tinySampling) verificationOf(row int, c chain) *verification {
	v := &verification{vocab: tinyVocab, parts: 1, params: c.params, first: []int32{0, int32(len(c.params))}, tokens: c.tokens}
	rows := make([][]float32, len(c.params))
	for j := range rows {
		p := x.p[(row*(tinyDrafts+1)+j)*tinyVocab:][:tinyVocab]
		rows[j] = make([]float32, tinyVocab)
		rowWeights(rows[j], p, &c.params[j], []float32{topOf(p)}, 0)
		v.least = append(v.least, leastWeight)
		v.sums = append(v.sums, measureOf(rows[j], false, lowestBits))
	}
	for j := range c.tokens {
		v.listAt = append(v.listAt, int32(len(v.listIDs)))
		v.listIDs, v.listWeights = append(v.listIDs, c.ids[j]...), append(v.listWeights, c.weights[j]...)
	}
	v.listAt = append(v.listAt, int32(len(v.listIDs)))
	v.weights = func(row int) []float32 { return rows[row] }
	return v
}

// TestTinyModel: chances of acceptance and what is drawn after a rejection are those that
// were computed in float64 for a trained model, to 1e-6. A residual is a difference divided
// by the chance of a rejection, so that the rounding of p and q to float32, 2^−24, counts
// as much more.
func TestTinyModel(t *testing.T) {
	for _, temperature := range []string{"0.7", "1.0"} {
		t.Run(temperature, func(t *testing.T) {
			x := readTiny(t, temperature)
			d := hip.NewHost(1)
			defer d.Close()
			for row := range x.rows {
				for _, drawn := range []bool{false, true} {
					c := x.chainOf(row, drawn, false)
					v := x.verificationOf(row, c)
					got := runVerify(t, d, x.p[row*(tinyDrafts+1)*tinyVocab:][:(tinyDrafts+1)*tinyVocab], tinyVocab, []chain{c})
					for j := range tinyDrafts {
						at := row*tinyDrafts + j
						sum := v.sum(j)
						scale := float64(sum) / float64(v.listed(j))
						taken := v.taken(j, j, scale)
						accept, residual := x.greedyAccept[at], x.greedyResidual
						if drawn {
							accept, residual = x.sampledAccept[at], x.sampledResidual
						} else {
							require.InDelta(t, accept, got.chances[j], 1e-6)
						}
						require.InDelta(t, accept, float64(taken)/float64(sum), 1e-6)
						p, q := x.p[(row*(tinyDrafts+1)+j)*tinyVocab:], x.q[at*tinyVocab:]
						if token := c.tokens[j]; drawn {
							require.InDelta(t, min(1, float64(p[token])/float64(q[token])), got.chances[j], 1e-6)
						}
						if float64(taken) > 0.9999*float64(sum) {
							continue
						}
						bound := math.Max(1e-6, 3e-7/(1-float64(accept)))
						for id := range tinyVocab {
							whole := keptOf(v.weights(j)[id], leastWeight)
							for k, listed := range c.ids[j] {
								if int(listed) == id {
									whole -= takenOf(whole, c.weights[j][k], scale)
								}
							}
							require.InDelta(t, residual[at*tinyVocab+id], float64(whole)/float64(sum-taken), bound, "row %d, draft %d, token %d", row, j, id)
						}
					}
				}
			}
		})
	}
}

// acceptedOf returns how many of n drafts are accepted on average, exactly: over all rows,
// and over all chains that can be drawn. The data has later steps after the greedy drafts
// alone, so that the steps of a chain are independent here.
func (x *tinySampling) acceptedOf(n int, drawn, block bool) float64 {
	mean := 0.0
	for row := range x.rows {
		v, c := x.shortened(row, n, drawn, block)
		mean += x.expect(v, c, 0, 1) / float64(x.rows)
	}
	return mean
}

// shortened returns the first n drafts of a row as a chain.
func (x *tinySampling) shortened(row, n int, drawn, block bool) (*verification, chain) {
	c := x.chainOf(row, drawn, block)
	c.tokens, c.ids, c.weights, c.params = c.tokens[:n], c.ids[:n], c.weights[:n], c.params[:n+1]
	return x.verificationOf(row, c), c
}

// drawnOf is acceptedOf over chains that are drawn, so many of each row.
func (x *tinySampling) drawnOf(n, draws int, block bool) float64 {
	mean := 0.0
	for row := range x.rows {
		v, c := x.shortened(row, n, true, block)
		for i := range draws {
			for j := range c.tokens {
				p := Params{First: uint32(i), Index: uint32(j), Stream: uint64(row)}
				c.tokens[j] = c.ids[j][draw(c.weights[j], p.random(purposeDraft))]
			}
			mean += v.expected(c) / float64(x.rows*draws)
		}
	}
	return mean
}

// expected returns how many drafts of a chain are accepted on average.
func (v *verification) expected(c chain) (accepted float64) {
	chances := make([]float64, len(c.tokens))
	if c.block {
		v.block(0, 0, len(chances), chances)
		above := 1.0 // no longer prefix is accepted
		for i := len(chances) - 1; i >= 0; i-- {
			accepted += above * chances[i] * float64(i+1)
			above *= 1 - chances[i]
		}
		return accepted
	}
	v.standard(0, 0, len(chances), chances)
	before := 1.0
	for _, chance := range chances {
		before *= chance
		accepted += before
	}
	return accepted
}

// expect returns the expected number of accepted drafts over all drafts from number j on.
func (x *tinySampling) expect(v *verification, c chain, j int, weight float64) float64 {
	if j == len(c.tokens) {
		return weight * v.expected(c)
	}
	sum, total := 0.0, float64(v.listed(j))
	for i, id := range c.ids[j] {
		if share := float64(wholeOf(c.weights[j][i])) / total; weight*share > 1e-7 {
			c.tokens[j] = id
			sum += x.expect(v, c, j+1, weight*share)
		}
	}
	return sum
}

// TestTinyAcceptance: drafts that are drawn are accepted no less than greedy ones, and block
// verification accepts at least as many as the standard.
func TestTinyAcceptance(t *testing.T) {
	for _, temperature := range []string{"0.7", "1.0"} {
		x := readTiny(t, temperature)
		for _, n := range []int{2, tinyDrafts} {
			of := func(block bool) (greedy, drawn float64) {
				if greedy = x.acceptedOf(n, false, block); n == 2 {
					return greedy, x.acceptedOf(n, true, block)
				}
				return greedy, x.drawnOf(n, 300, block) // all chains are too many
			}
			greedy, drawn := of(false)
			greedyBlock, drawnBlock := of(true)
			t.Logf("temperature %s, accepted of %d drafts: greedy %.3f, block %.3f; drawn %.3f, block %.3f", temperature, n, greedy, greedyBlock, drawn, drawnBlock)
			require.Greater(t, drawn, greedy)
			require.Greater(t, drawnBlock, greedyBlock)
			require.GreaterOrEqual(t, greedyBlock, greedy-1e-9)
			require.Greater(t, drawnBlock, drawn)
		}
	}
}
