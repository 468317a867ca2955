package sampling

import (
	_ "embed"
	"math"

	"github.com/drafthead/drafthead/hip"
)

//go:embed sample_verify.hip
var verifyHIP string

// decide accepts drafts, so that the text has the target's distribution p whatever the
// distributions q are from which they were drawn. With u a random number of the draft's
// own, standard rejection sampling takes drafts d one after the other as long as
//
//	u < min(1, p(d) / q(d))
//
// Block verification (Sun et al., 2024) takes the longest prefix whose last draft, of
// number i, has
//
//	a  = min(1, a · p(d) / q(d)), from 1 on
//	s  = Σ max(a·p − q, 0) = a − Σ min(a·p, q)     p and q after this draft
//	u  < s / (s + 1 − a), for the last draft of the chain u < a
//
// Draw then draws the next token from max(a·p − q, 0), a = 1 in the standard rule, or from
// p after all drafts. Scale is what turns whole numbers of the list into those of the row:
//
//	a·p − q  is in proportion to  W − scale · (the list's W)
//	scale    = sum of the row ÷ (sum of the list · a); 0 where nothing is taken
//
// All sums are of whole numbers. A draft that was not drawn has a list of its own: itself.
var decide = hip.NewKernel("sample_verify_decide", source(verifyHIP), decideTwin).Block(threads)

type sampleVerifyArgs struct {
	Weights     hip.Ptr // [Rows, Vocab] float32
	Least       hip.Ptr // [Rows] float32
	Sums        hip.Ptr // [Rows, Parts] uint64
	Params      hip.Ptr // [Rows] Params
	First       hip.Ptr // [Chains + 1] int32: the first row of each; it has a row more than drafts
	Block       hip.Ptr // [Chains] int32: 1 for block verification
	Tokens      hip.Ptr // [Drafts] int32
	ListAt      hip.Ptr // [Drafts + 1] int32: where the list of each draft begins
	ListIDs     hip.Ptr // [Listed] int32, ascending in each list
	ListWeights hip.Ptr // [Listed] float32
	Chances     hip.Ptr // [Drafts] float64: with which each is accepted, if those before it are
	Scales      hip.Ptr // [Chains] float64
	Accepted    hip.Ptr // [Chains] int32; −1: a row of the chain has no weights
	Next        hip.Ptr // [Chains] int32: the token after the accepted drafts, or −1

	Rows, Vocab, Parts, Chains, Listed, Pad int32
}

// takenOf returns what a token of a list takes from its whole number in a row: the list's
// number times scale, and at most all of it.
func takenOf(whole uint64, listed float32, scale float64) uint64 {
	taken := math.FMA(float64(wholeOf(listed)), scale, 0.5)
	if taken >= float64(whole) {
		return whole
	}
	return uint64(taken)
}

// verification is what decide and draw read of a launch.
type verification struct {
	vocab, parts int
	least        []float32
	sums         []uint64
	params       []Params
	first        []int32
	tokens       []int32
	listAt       []int32
	listIDs      []int32
	listWeights  []float32
	weights      func(row int) []float32
}

func (a *sampleVerifyArgs) read(b *hip.Blocks) *verification {
	rows, chains := int(a.Rows), int(a.Chains)
	drafts, listed, vocab := rows-chains, int(a.Listed), int(a.Vocab)
	return &verification{
		vocab: vocab, parts: int(a.Parts),
		least: hip.In[float32](b, a.Least, rows), sums: hip.In[uint64](b, a.Sums, rows*int(a.Parts)),
		params: hip.In[Params](b, a.Params, rows), first: hip.In[int32](b, a.First, chains+1), tokens: hip.In[int32](b, a.Tokens, drafts),
		listAt: hip.In[int32](b, a.ListAt, drafts+1), listIDs: hip.In[int32](b, a.ListIDs, listed), listWeights: hip.In[float32](b, a.ListWeights, listed),
		weights: func(row int) []float32 { return hip.In[float32](b, a.Weights.Add(4*int64(row*vocab)), vocab) },
	}
}

// sum is that of a row.
func (v *verification) sum(row int) (sum uint64) {
	for _, part := range v.sums[row*v.parts : (row+1)*v.parts] {
		sum += part
	}
	return sum
}

// list returns the list of a draft.
func (v *verification) list(draft int) (ids []int32, weights []float32) {
	from, to := v.listAt[draft], v.listAt[draft+1]
	return v.listIDs[from:to], v.listWeights[from:to]
}

// probabilities returns those of a draft, in its row and in its list.
func (v *verification) probabilities(row, draft int, sum uint64) (p, q float64) {
	own := uint64(0)
	ids, weights := v.list(draft)
	for i, id := range ids {
		if id == v.tokens[draft] {
			own = wholeOf(weights[i])
		}
	}
	return float64(keptOf(v.weights(row)[v.tokens[draft]], v.least[row])) / float64(sum), float64(own) / float64(v.listed(draft))
}

// listed is the sum of a draft's list.
func (v *verification) listed(draft int) (sum uint64) {
	_, weights := v.list(draft)
	for _, w := range weights {
		sum += wholeOf(w)
	}
	return sum
}

// taken returns what a draft's list takes from its row.
func (v *verification) taken(row, draft int, scale float64) (sum uint64) {
	of := v.weights(row)
	ids, weights := v.list(draft)
	for i, id := range ids {
		sum += takenOf(keptOf(of[id], v.least[row]), weights[i], scale)
	}
	return sum
}

func decideTwin(b *hip.Blocks, a *sampleVerifyArgs) {
	v := a.read(b)
	chains := int(a.Chains)
	block, chances := hip.In[int32](b, a.Block, chains), hip.Out[float64](b, a.Chances, len(v.tokens))
	scales, accepted := hip.Out[float64](b, a.Scales, chains), hip.Out[int32](b, a.Accepted, chains)
	for chain := b.First; chain < b.End; chain++ {
		first := int(v.first[chain])
		drafts := int(v.first[chain+1]) - first - 1
		judge := v.standard
		if block[chain] != 0 {
			judge = v.block
		}
		n, scale := 0, 0.0
		for j := range drafts + 1 {
			if v.sum(first+j) == 0 {
				n = -1
			}
		}
		if n == 0 {
			n, scale = judge(first, first-chain, drafts, chances)
		}
		accepted[chain], scales[chain] = int32(n), scale
	}
}

// standard decides by standard rejection sampling about drafts from draft on, of rows from
// row on.
func (v *verification) standard(row, draft, drafts int, chances []float64) (accepted int, scale float64) {
	alive := true
	for j := range drafts {
		sum := v.sum(row + j)
		if alive {
			accepted, scale = j, float64(sum)/float64(v.listed(draft+j))
		}
		p, q := v.probabilities(row+j, draft+j, sum)
		chances[draft+j] = min(1, p/q)
		alive = alive && unit(v.params[row+j].random(purposeAccept)) < chances[draft+j]
	}
	if alive {
		return drafts, 0
	}
	return accepted, scale
}

// block decides by block verification.
func (v *verification) block(row, draft, drafts int, chances []float64) (accepted int, scale float64) {
	if drafts == 0 {
		return 0, 0
	}
	scale = float64(v.sum(row)) / float64(v.listed(draft))
	ratio := 1.0
	for j := range drafts {
		p, q := v.probabilities(row+j, draft+j, v.sum(row+j))
		ratio = min(1, ratio*(p/q))
		chance, next := ratio, 0.0
		if j+1 < drafts && ratio > 0 {
			sum := v.sum(row + j + 1)
			next = float64(sum) / float64(float64(v.listed(draft+j+1))*ratio)
			left := float64(sum-v.taken(row+j+1, draft+j+1, next)) / float64(sum)
			rest := float64(ratio * left)
			if chance = 1; rest+1-ratio > 0 {
				chance = rest / (rest + 1 - ratio)
			}
		}
		chances[draft+j] = chance
		if unit(v.params[row+j].random(purposeAccept)) < chance {
			accepted, scale = j+1, next
		}
	}
	return accepted, scale
}
