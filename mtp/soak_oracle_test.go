package mtp_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/reference"
)

// truth is what the float64 head says to passages that begin alike in parts. It computes
// each answer once.
type truth struct {
	head     *reference.Head
	c        chainCase
	passages []passage

	mu      sync.Mutex
	chains  map[[2]int]func() (*trueChain, error) // by passage and rows
	rows    map[[2]int]func() (*trueRows, error)  // by passage and module
	choices map[string]*trueChain                 // by passage, rows and tokens
}

// trueChain is a chain of drafts. margins[i] is how close the nearest choice up to draft i
// was, of an expert, a block or a token: where it is tiny, float32 may choose otherwise.
type trueChain struct {
	ids     []int32
	probs   []float32
	margins []float64
	logits  [][]float64 // that each draft is chosen from; −∞ where a token is not allowed
}

// choice is how a chain's tokens are chosen where they are not the most likely ones.
type choice struct {
	tokens  []int32                        // those of a chain, whatever their probability
	allowed func(drafted []int32) []uint32 // as Rows.Allowed; nil: all
}

// trueRows are the results of a module for all rows of a passage.
type trueRows struct {
	hidden, logits []float32
	margins        []float64 // of each row
}

// newTruth makes up count passages of n positions. Each begins as one before it.
func newTruth(head *reference.Head, c chainCase, seed uint64, count, n int) *truth {
	o := &truth{head: head, c: c, chains: map[[2]int]func() (*trueChain, error){}, rows: map[[2]int]func() (*trueRows, error){}, choices: map[string]*trueChain{}}
	for i := range count {
		x := randomPassage(seed+uint64(i), n)
		if i > 0 {
			like := o.passages[int(x.tokens[0])%i]
			shared := int(x.tokens[1]) % n
			copy(x.tokens, like.tokens[:shared+1])
			copy(x.hidden, like.states(0, shared))
		}
		o.passages = append(o.passages, x)
	}
	return o
}

// common returns how many rows two passages begin with alike.
func (o *truth) common(a, b int) int {
	x, y := &o.passages[a], &o.passages[b]
	n := 0
	for n < len(x.tokens)-1 && x.tokens[n+1] == y.tokens[n+1] && slices.Equal(x.states(n, n+1), y.states(n, n+1)) {
		n++
	}
	return n
}

// once returns the answer for a key, computed by the first who asks.
func once[T any](mu *sync.Mutex, answers map[[2]int]func() (T, error), key [2]int, compute func() (T, error)) (T, error) {
	mu.Lock()
	answer := answers[key]
	if answer == nil {
		answer = sync.OnceValues(compute)
		answers[key] = answer
	}
	mu.Unlock()
	return answer()
}

// chain returns k drafts after the first n rows of a passage; k is the same in all calls.
func (o *truth) chain(p, n, k int) (*trueChain, error) {
	return once(&o.mu, o.chains, [2]int{p, n}, func() (*trueChain, error) {
		tokens, hidden := o.passages[p].prompt(n)
		return chainByForward(o.head, o.c, tokens[1:], mat.Data[float64](hidden), k, nil)
	})
}

// chosen returns the chain of the choice's tokens after the first n rows of a passage. The
// choice's masks are those of its passage in all calls.
func (o *truth) chosen(p, n int, by *choice) (*trueChain, error) {
	o.mu.Lock()
	key := fmt.Sprint(p, n, by.tokens, by.allowed == nil)
	chain := o.choices[key]
	o.mu.Unlock()
	if chain != nil {
		return chain, nil
	}
	tokens, hidden := o.passages[p].prompt(n)
	chain, err := chainByForward(o.head, o.c, tokens[1:], mat.Data[float64](hidden), len(by.tokens), by)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.choices[key] = chain
	return chain, err
}

// forward returns what a module makes of all rows of a passage.
func (o *truth) forward(p, module int) (*trueRows, error) {
	return once(&o.mu, o.rows, [2]int{p, module}, func() (*trueRows, error) {
		n := len(o.passages[p].tokens) - 1
		tokens, hidden := o.passages[p].prompt(n)
		stages, err := o.head.Forward(module, tokens[1:], upTo(n), hidden)
		if err != nil {
			return nil, err
		}
		rows := &trueRows{hidden: float32s(stages["hidden"]), logits: float32s(stages["logits"])}
		for row := range n {
			rows.margins = append(rows.margins, closest(stages, row))
		}
		return rows, nil
	})
}

func upTo(n int) (positions []int) {
	for p := range n {
		positions = append(positions, p)
	}
	return positions
}

// closest returns how close the nearest choice of a row was.
func closest(stages map[string]mat.Matrix, row int) float64 {
	least := math.Inf(1)
	for _, name := range []string{"router_margin", "select_margin"} {
		values, width := mat.Data[float64](stages[name]), stages[name].Shape()[1]
		least = min(least, slices.Min(values[row*width:(row+1)*width]))
	}
	return least
}

// chainByForward drafts k tokens after the rows of tokens, in which tokens[i] follows
// position i, by the case's rule and with the oracle's Forward alone. by nil: the most likely
// ones.
func chainByForward(head *reference.Head, c chainCase, tokens []int, hidden []float64, k int, by *choice) (*trueChain, error) {
	type rows struct {
		tokens, positions []int
		hidden            []float64
	}
	n, modules := len(tokens), head.Config.NumMTPModules
	if c.first() {
		modules = 1
	}
	seen := make([]rows, modules) // by each module
	seen[0] = rows{tokens, upTo(n), hidden}
	chain, margin := new(trueChain), math.Inf(1)
	var handed []float64 // hidden states that the last step hands on
	for step := range k {
		module := step % modules
		s, last := &seen[module], []int(nil)
		switch {
		case c.shifts() && step > 0:
			s = &rows{slices.Concat(tokens, ints(chain.ids))[step:], upTo(n), handed}
		case !c.shifts():
			if step > 0 {
				s.tokens = append(slices.Clip(s.tokens), int(chain.ids[step-1]))
				s.positions = append(slices.Clip(s.positions), n+step-1)
				s.hidden = append(slices.Clip(s.hidden), handed...)
			}
			last = []int{len(s.tokens) - 1}
		}
		stages, err := head.Forward(module, s.tokens, s.positions, matrix64(s.hidden), last...)
		if err != nil {
			return nil, err
		}
		computed := stages["hidden"].Shape()[0]
		for row := range computed {
			margin = min(margin, closest(stages, row))
		}
		logits := mat.Data[float64](stages["logits"])[(computed-1)*vocabSize:]
		logits = slices.Clone(logits)
		var mask []uint32
		if by != nil && by.allowed != nil {
			mask = by.allowed(chain.ids)
		}
		for id := range logits {
			if c.vocabulary != nil && !slices.Contains(c.vocabulary, int32(id)) || mask != nil && mask[id/32]>>(id%32)&1 == 0 {
				logits[id] = math.Inf(-1)
			}
		}
		best, lead := leader(logits)
		if by != nil {
			best = int(by.tokens[step])
		} else {
			margin = min(margin, lead)
		}
		chain.logits = append(chain.logits, logits)
		chain.ids, chain.margins = append(chain.ids, int32(best)), append(chain.margins, margin)
		chain.probs = append(chain.probs, softmaxAt(float32s(mat.NewDense[float64](mat.WithBacking(logits))), best))
		handed = mat.Data[float64](stages["hidden"])
		switch {
		case c.chain == mtp.ChainTarget:
			handed = hidden
		case c.postNorm:
			handed = mat.Data[float64](stages["final_norm_out"])
		}
	}
	return chain, nil
}

// leader returns the largest logit, and by how much it is larger than the others.
func leader(logits []float64) (best int, lead float64) {
	second := math.Inf(-1)
	for id, v := range logits {
		if v > logits[best] {
			best = id
		}
	}
	for id, v := range logits {
		if id != best {
			second = max(second, v)
		}
	}
	return best, logits[best] - second
}

func ints(ids []int32) (all []int) {
	for _, id := range ids {
		all = append(all, int(id))
	}
	return all
}

func matrix64(values []float64) mat.Matrix {
	return mat.NewDense[float64](mat.WithShape(len(values)/hiddenSize, hiddenSize), mat.WithBacking(slices.Clone(values)))
}

// TestSoakOracle: the chains of this file are those of package reference, where it has the rule.
func TestSoakOracle(t *testing.T) {
	const n, k = 14, 4
	for _, c := range chainCases {
		head := oracle(t, synthetic{modules: c.modules}.files(t))
		tokens, hidden := randomPassage(1, n).prompt(n)
		got, err := chainByForward(head, c, tokens[1:], mat.Data[float64](hidden), k, nil)
		require.NoError(t, err)
		if c.rule() == "" {
			if c.shifts() {
				ids, _ := shiftedOracle(t, head, tokens, hidden, k, mtp.ChainAligned, c.postNorm)
				require.Equal(t, ids, ints(got.ids), c.name)
			}
			continue
		}
		want, err := head.Chain(tokens, hidden, k, c.rule())
		require.NoError(t, err)
		requireChain(t, want, drafted{{Tokens: got.ids, Probs: got.probs}})
	}
}
