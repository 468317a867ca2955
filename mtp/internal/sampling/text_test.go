package sampling

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	textVocab = flag.Int("text-vocab", 24, "tokens of the texts that are drawn")
	textDraws = flag.Int("text-draws", 100_000, "texts that are drawn")
)

// markov is a language whose next token depends on the one before: the weights of each row
// and their sums.
type markov struct {
	weights [][]float32
	sums    []uint64
}

// newMarkov makes up a language from random logits, which are added to those of base.
func newMarkov(random *rand.Rand, vocab int, base [][]float32, spread float64) (m markov, logits [][]float32) {
	for row := range vocab {
		own, weights := make([]float32, vocab), make([]float32, vocab)
		for i := range own {
			own[i] = float32(random.NormFloat64() * spread)
			if base != nil {
				own[i] += base[row][i]
			}
		}
		rowWeights(weights, own, &Params{Temperature: 1}, []float32{topOf(own)}, 0)
		m.weights, m.sums = append(m.weights, weights), append(m.sums, measureOf(weights, false, lowestBits))
		logits = append(logits, own)
	}
	return m, logits
}

// writer writes texts of a target's language by a head's drafts.
type writer struct {
	target, head  markov
	greedy, block bool
	ids           []int32 // of all tokens
	v             verification
	chances       []float64
}

// next appends to a text that ends with token last: two drafts, a verification, and its
// next token. seed and position make the random numbers.
func (w *writer) next(text []int32, seed uint64) []int32 {
	const drafts = 2
	v := &w.v
	last := int32(0)
	if len(text) > 0 {
		last = text[len(text)-1]
	}
	rows := [drafts + 1]int32{last}
	v.params, v.sums, v.tokens = v.params[:0], v.sums[:0], v.tokens[:0]
	v.listAt, v.listIDs, v.listWeights = v.listAt[:0], v.listIDs[:0], v.listWeights[:0]
	for j := range drafts + 1 {
		v.params = append(v.params, Params{Seed: seed, First: uint32(len(text)), Index: uint32(j)})
		v.sums = append(v.sums, w.target.sums[rows[j]])
		v.listAt = append(v.listAt, int32(len(v.listIDs)))
		if j == drafts {
			break
		}
		q := w.head.weights[rows[j]]
		if w.greedy {
			for i, weight := range q {
				if weight == 1 {
					rows[j+1] = int32(i)
				}
			}
			v.listIDs, v.listWeights = append(v.listIDs, rows[j+1]), append(v.listWeights, 1)
		} else {
			rows[j+1] = int32(draw(q, v.params[j].random(purposeDraft)))
			v.listIDs, v.listWeights = append(v.listIDs, w.ids...), append(v.listWeights, q...)
		}
		v.tokens = append(v.tokens, rows[j+1])
	}
	v.weights = func(row int) []float32 { return w.target.weights[rows[row]] }
	judge := v.standard
	if w.block {
		judge = v.block
	}
	accepted, scale := judge(0, 0, drafts, w.chances)
	return append(append(text, v.tokens[:accepted]...), v.draw(0, accepted, scale))
}

// TestText: of many texts of a Markov language that are drafted by another and verified,
// the first two tokens, and the two after them, have the language's own distribution:
// chi-square over all pairs. (-text-vocab 256 -text-draws 1000000 draws more.)
func TestText(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 2))
	vocab := *textVocab
	target, logits := newMarkov(random, vocab, nil, 1.5)
	head, _ := newMarkov(random, vocab, logits, 1)
	w := &writer{target: target, head: head, chances: make([]float64, 2)}
	for i := range vocab {
		w.ids = append(w.ids, int32(i))
	}
	w.v = verification{vocab: vocab, parts: 1, least: []float32{leastWeight, leastWeight, leastWeight}, first: []int32{0, 3}}
	probability := func(row, token int) float64 {
		return float64(wholeOf(target.weights[row][token])) / float64(target.sums[row])
	}
	first, second := make([]float64, vocab*vocab), make([]float64, vocab*vocab)
	before := make([]float64, vocab) // of the second token
	for x := range vocab {
		for y := range vocab {
			first[x*vocab+y] = probability(0, x) * probability(x, y)
			before[y] += first[x*vocab+y]
		}
	}
	for z, share := range before {
		for x := range vocab {
			for y := range vocab {
				second[x*vocab+y] += share * probability(z, x) * probability(x, y)
			}
		}
	}
	for _, w.greedy = range []bool{true, false} {
		for _, w.block = range []bool{false, true} {
			t.Run(fmt.Sprintf("greedy=%v/block=%v", w.greedy, w.block), func(t *testing.T) {
				counts, later := make([]int, vocab*vocab), make([]int, vocab*vocab)
				var text []int32
				rounds := 0
				for n := range *textDraws {
					for text = text[:0]; len(text) < 4; rounds++ {
						text = w.next(text, uint64(n))
					}
					counts[int(text[0])*vocab+int(text[1])]++
					later[int(text[2])*vocab+int(text[3])]++
				}
				for name, p := range map[string]float64{"first": chiSquare(counts, first), "second": chiSquare(later, second)} {
					t.Logf("%s pair: p = %.4f; %d rounds", name, p, rounds)
					require.Greater(t, p, 0.001)
					require.Less(t, p, 0.999)
				}
			})
		}
	}
}

// chiSquare returns the probability of a chi-square as large as that of the counts. Cells
// of which fewer than 5 are expected make one. The distribution is that of Wilson and
// Hilferty: its cube root is normal.
func chiSquare(counts []int, probabilities []float64) float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	square, cells, rest, restCount := 0.0, 0, 0.0, 0.0
	add := func(n, expected float64) {
		square += (n - expected) * (n - expected) / expected
		cells++
	}
	for i, p := range probabilities {
		if expected := p * float64(total); expected >= 5 {
			add(float64(counts[i]), expected)
		} else {
			rest, restCount = rest+expected, restCount+float64(counts[i])
		}
	}
	if rest > 0 {
		add(restCount, rest)
	}
	k := float64(cells - 1)
	z := (math.Cbrt(square/k) - (1 - 2/(9*k))) / math.Sqrt(2/(9*k))
	return math.Erfc(z/math.Sqrt2) / 2
}
