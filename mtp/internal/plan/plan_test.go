package plan

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// state stands for a hidden state: of which position, after which step; the batch's own
// are of step −1.
type state struct {
	sequence, position, step int
}

// text is a sequence whose tokens are known: draft n of a round is the token that follows,
// so that drafts are right unless the text is cut after it.
type text struct {
	sequence int
	tokens   []int32          // each another
	rows     int              // committed
	whole    int              // before the first row that was cut
	carry    map[int]state    // by rows back from the last, of the call before; nil: nothing
	kept     map[int]state    // of this call
	written  map[[2]int]int32 // by layer and position: the token
}

// token is that at a position.
func (x *text) token(p int) int32 {
	for len(x.tokens) <= p {
		x.tokens = append(x.tokens, fresh.Add(1))
	}
	return x.tokens[p]
}

// fresh is the last token that was made up.
var fresh atomic.Int32

// cut leaves n rows, whose tokens end at n; what follows is another text.
func (x *text) cut(n int) {
	x.tokens = x.tokens[:min(n+1, len(x.tokens))]
	x.rows, x.whole = n, min(x.whole, n)
}

// run makes plans and follows them with states and tokens in place of numbers.
type run struct {
	*testing.T
	call   Call
	texts  []*text
	drafts [][]int32 // of each sequence
	tokens []int32   // of the drafts of the call, by number
}

// follow runs one step over the states that the step before handed on, and returns what
// it hands on.
func (r *run) follow(n int, s, before *Step, handed []state) []state {
	require.Len(r, s.Tokens, s.Rows())
	var out []state
	row := 0
	for _, span := range s.Spans {
		x := r.texts[span.Sequence]
		for p := span.From; p < span.End(); p++ {
			shift := 0
			if r.call.Rule.shifts() {
				shift = n
			}
			token := s.Tokens[row]
			if token < 0 {
				token = r.tokens[-1-token]
			}
			require.Equal(r, x.token(p+1+shift), token, "step %d, sequence %d, position %d", n, span.Sequence, p)
			in := state{span.Sequence, p, -1}
			if before != nil {
				in = r.source(s, row, handed)
			}
			want := state{span.Sequence, p, n - 1}
			switch {
			case r.call.Rule == Target:
				want.step = -1 // the target's
			case r.call.Rule != Aligned && n > 0:
				want.position = p - 1 // the row before gave it
			}
			require.Equal(r, want, in, "step %d", n)
			x.written[[2]int{s.Layer, p}] = token
			out = append(out, state{span.Sequence, p, n})
			row++
		}
	}
	for i, pick := range s.Picks {
		q := s.SpanOf(pick).Sequence
		require.Equal(r, len(r.tokens), s.FirstDraft+i)
		token := r.texts[q].token(r.call.Sequences[q].end() + 1 + len(r.drafts[q]))
		r.tokens, r.drafts[q] = append(r.tokens, token), append(r.drafts[q], token)
	}
	if r.call.Rule == Target {
		handed = r.share(s, handed)
	} else if r.call.Rule == Aligned {
		handed = out
	}
	require.Len(r, s.Kept, len(s.Keeps))
	for i, as := range s.Kept {
		kept := handed[s.Keeps[i]]
		require.Equal(r, as.Sequence, kept.sequence)
		require.Equal(r, r.call.Sequences[as.Sequence].end()-1-as.Back, kept.position)
		r.texts[kept.sequence].kept[as.Back] = kept
	}
	if s.Wanted != nil {
		require.Equal(r, append([]int32{}, s.Picks...), s.Wanted)
		require.Len(r, s.WantedSpans(), len(s.Wanted))
		for i, span := range s.WantedSpans() {
			require.Equal(r, s.SpanOf(s.Wanted[i]), s.Spans[span])
		}
	}
	if r.call.Rule.shifts() {
		return handed
	}
	var picked []state
	for _, pick := range s.Picks {
		picked = append(picked, out[pick])
	}
	return picked
}

// share returns what a step of Target hands on: at step 0 of several, the batch's states
// and those that sequences carried.
func (r *run) share(s *Step, handed []state) []state {
	require.Equal(r, s.Layer > 0 || r.call.Steps == 1, s.Shared == nil)
	if s.Shared == nil {
		return handed
	}
	var batch []state
	for i, q := range r.call.Sequences {
		for p := q.Position; p < q.end(); p++ {
			batch = append(batch, state{i, p, -1})
		}
	}
	for _, source := range s.Shared {
		handed = append(handed, r.state(s, source, batch))
	}
	return handed
}

// source is the state that a row starts from.
func (r *run) source(s *Step, row int, handed []state) state {
	return r.state(s, s.Sources[row], handed)
}

// state is that of a source.
func (r *run) state(s *Step, source int32, handed []state) state {
	if source >= 0 {
		return handed[source]
	}
	carried := s.Carried[-1-source]
	kept, ok := r.texts[carried.Sequence].carry[carried.Back]
	require.True(r, ok, "%d rows back, sequence %d kept nothing", carried.Back, carried.Sequence)
	return kept
}

// TestPlans: whatever the rule, lengths, and sequences that end, every row has the token
// and the hidden state that the rule says, every layer of an aligned chain is whole, and
// every sequence drafts what it may.
func TestPlans(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		rule, modules, steps := Rule(random.IntN(4)), 1+random.IntN(3), 1+random.IntN(5)
		texts := make([]*text, 1+random.IntN(4))
		for i := range texts {
			texts[i] = &text{sequence: i + 1, written: map[[2]int]int32{}}
		}
		t.Run(fmt.Sprintf("%d: rule %d, %d modules, %d steps", seed, rule, modules, steps), func(t *testing.T) {
			for range 4 {
				r := &run{T: t, texts: texts, drafts: make([][]int32, len(texts))}
				r.call = Call{Rule: rule, Modules: modules, Steps: steps}
				for _, x := range texts {
					x.kept = map[int]state{}
					switch random.IntN(4) {
					case 0: // drafts were wrong
						x.cut(x.rows)
					case 1: // rows were
						x.cut(random.IntN(x.rows + 1))
						x.carry = nil
					}
					q := Sequence{Position: x.rows, Drafts: random.IntN(steps + 1), Forgets: random.IntN(4) == 0}
					if q.Again = x.carry == nil || random.IntN(4) == 0; q.Again && rule.shifts() {
						q.Position = max(0, x.whole-(steps-1)-random.IntN(2))
					}
					for range max(0, x.rows-q.Position) + 1 + random.IntN(4) {
						q.Tokens = append(q.Tokens, x.token(q.end()+1))
					}
					r.call.Sequences = append(r.call.Sequences, q)
				}
				ends := map[int]int{}
				if random.IntN(2) == 0 {
					ends[random.IntN(len(texts))] = random.IntN(steps)
				}
				var before *Step
				var handed []state
				keeps := 0
				for n := 0; ; n++ {
					s := r.call.Next()
					if s == nil {
						break
					}
					if rule != First {
						require.Equal(t, n%modules, s.Module)
					} else {
						require.Zero(t, s.Module)
					}
					require.LessOrEqual(t, s.Rows(), r.call.MostRows())
					require.Equal(t, keeps, s.FirstKeep)
					keeps += len(s.Keeps)
					handed, before = r.follow(n, s, before, handed), s
					for q, at := range ends {
						if at == n {
							r.call.End(q)
							require.True(t, r.call.Ended(q))
						}
					}
				}
				require.LessOrEqual(t, keeps, r.call.MostKeeps())
				require.LessOrEqual(t, len(r.tokens), r.call.MostDrafts())
				for i, q := range r.call.Sequences {
					want := q.Drafts
					if at, ends := ends[i]; ends {
						want = min(want, at+1)
					}
					require.Len(t, r.drafts[i], want)
					x := texts[i]
					x.rows, x.whole, x.carry = q.end(), q.end(), x.kept
					if q.Forgets {
						require.Empty(t, x.kept)
						x.carry = nil
					}
					if rule.shifts() {
						for layer := range steps {
							for p := range x.rows - layer {
								require.Equal(t, x.token(p+1+layer), x.written[[2]int{layer, p}], "layer %d, position %d of %d", layer, p, x.rows)
							}
						}
					}
				}
			}
		})
	}
}

// TestOneRowPlan is a plan in full: a sequence of four rows that drafts two tokens.
func TestOneRowPlan(t *testing.T) {
	call := Call{Rule: ModOwn, Modules: 2, Sequences: []Sequence{{Position: 7, Tokens: []int32{40, 41, 42, 43}, Drafts: 2}}}
	require.Equal(t, &Step{Spans: []Span{{0, 7, 4}}, Tokens: []int32{40, 41, 42, 43}, Wanted: []int32{3}, Picks: []int32{3}}, call.Next())
	require.Equal(t, &Step{
		Module: 1, Layer: 1, Spans: []Span{{0, 11, 1}}, Tokens: []int32{-1}, Sources: []int32{0}, Picks: []int32{0}, FirstDraft: 1,
	}, call.Next())
	require.Nil(t, call.Next())
}
