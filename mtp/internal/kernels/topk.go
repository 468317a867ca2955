package kernels

import (
	"errors"
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
)

// topk picks the K largest of each row of logits, in descending order. It takes two
// kernels, for parts of a row and then for the parts of each row, so that one row keeps
// every core busy. The lower index comes first if logits are equal; NaN is below every
// number.
//
//	id          = the index; where there is a list of tokens, the one at that index
//	probability = exp(logit − largest) / Σ exp(logit − largest), over the whole row;
//	              NaN if any logit is
var (
	topkParts = hip.NewKernel("topk_parts", topkSource(), topkPartsTwin).Fast(0, topkPartsHost).Block(partThreads)
	topkMerge = hip.NewKernel("topk_merge", topkSource(), topkMergeTwin).Block(mergeThreads)
)

const (
	topkPart     = 4096 // logits that one block looks at
	partThreads  = 256
	mergeThreads = 64
)

// topkSource is the source of both kernels, which are compiled together.
func topkSource() string {
	return hip.Define("topkPart", topkPart) + hip.Define("partThreads", partThreads) + hip.Define("mergeThreads", mergeThreads) + topkHIP
}

// MaxTopK bounds the tokens that [TopK] picks from a row.
const MaxTopK = 64

// TopK picks the most likely tokens of rows of logits. It holds what the two kernels
// hand on, and serves one call at a time. The zero TopK is ready for use.
type TopK struct {
	largest, index, sums hip.Buffer
}

// Grow makes room for the k largest of rows rows of vocab logits, k ≤ MaxTopK.
func (t *TopK) Grow(d hip.Device, rows, vocab, k int) error {
	parts := topkPartsOf(vocab)
	return errors.Join(t.largest.Grow(d, rows*parts*k, 4), t.index.Grow(d, rows*parts*k, 4), t.sums.Grow(d, rows*parts, 8))
}

// Picked is where Pick leaves its results, [rows, k] each, in descending order of
// probability.
type Picked struct {
	IDs           hip.Ptr // int32
	Probabilities hip.Ptr // float32, a softmax over the row
}

// Pick sets out to the k largest of each of the rows of vocab float32 logits. tokens is
// the token of each logit, int32; 0: its index. Grow comes first.
func (t *TopK) Pick(d hip.Device, out Picked, logits, tokens hip.Ptr, rows, vocab, k int) error {
	a := t.args(logits, rows, vocab, k)
	a.Tokens, a.IDs, a.Probabilities = tokens, out.IDs, out.Probabilities
	if err := a.launchParts(d); err != nil {
		return err
	}
	return topkMerge.Launch(d, hip.Grid{Blocks: rows, BlockCost: 16 * int(a.Parts) * k}, a)
}

// args is the arguments of both kernels, but for the results.
func (t *TopK) args(logits hip.Ptr, rows, vocab, k int) *topkArgs {
	return &topkArgs{
		Logits: logits, Largest: t.largest.Ptr(), Index: t.index.Ptr(), Sums: t.sums.Ptr(),
		Rows: int32(rows), Vocab: int32(vocab), Parts: int32(topkPartsOf(vocab)), K: int32(k),
	}
}

// launchParts finds the k largest of each part of each row.
func (a *topkArgs) launchParts(d hip.Device) error {
	return topkParts.Launch(d, hip.Grid{Blocks: int(a.Rows) * int(a.Parts), BlockCost: 16 * topkPart}, a)
}

// Free gives the memory back.
func (t *TopK) Free(d hip.Device) error {
	return errors.Join(t.largest.Free(d), t.index.Free(d), t.sums.Free(d))
}

// topkPartsOf is the parts of a row.
func topkPartsOf(vocab int) int { return ceilDiv(vocab, topkPart) }

type topkArgs struct {
	Logits        hip.Ptr // [Rows, Vocab] float32
	Largest       hip.Ptr // [Rows, Parts, K] float32: in descending order
	Index         hip.Ptr // [Rows, Parts, K] int32; −1 where a part has fewer logits
	Sums          hip.Ptr // [Rows, Parts] float64: Σ exp(logit − largest of the part)
	Tokens        hip.Ptr // [Vocab] int32: the token of each index; none: the index
	IDs           hip.Ptr // [Rows, K] int32
	Probabilities hip.Ptr // [Rows, K] float32
	Rows, Vocab   int32
	Parts, K      int32
}

// ranking is the largest values of those that were offered, in ascending order of
// their index, in descending order.
type ranking struct {
	values []float32 // as many as count, of len(values)
	index  []int32
	count  int
}

func (r *ranking) offer(value float32, index int32) {
	at := r.count
	for at > 0 && (value > r.values[at-1] || value == value && r.values[at-1] != r.values[at-1]) {
		at--
	}
	if at == len(r.values) {
		return
	}
	r.count = min(r.count+1, len(r.values))
	copy(r.values[at+1:r.count], r.values[at:])
	copy(r.index[at+1:r.count], r.index[at:])
	r.values[at], r.index[at] = value, index
}

func topkPartsTwin(b *hip.Blocks, a *topkArgs) {
	topkOfParts(b, a, hip.SIMDNone, func(logits []float32, top float32) float64 {
		sum := 0.0
		for _, v := range logits {
			sum += math.Exp(float64(v) - float64(top))
		}
		return sum
	})
}

// topkPartsHost sums as vec.ExpSum does.
func topkPartsHost(b *hip.Blocks, a *topkArgs) {
	simd := b.SIMD()
	topkOfParts(b, a, simd, func(logits []float32, top float32) float64 { return vec.ExpSum(simd, logits, top) })
}

func topkOfParts(b *hip.Blocks, a *topkArgs, simd hip.SIMD, expSum func(logits []float32, top float32) float64) {
	rows, vocab, parts, k := int(a.Rows), int(a.Vocab), int(a.Parts), int(a.K)
	largest, index := hip.Out[float32](b, a.Largest, rows*parts*k), hip.Out[int32](b, a.Index, rows*parts*k)
	sums := hip.Out[float64](b, a.Sums, rows*parts)
	for block := b.First; block < b.End; block++ {
		row, first := block/parts, block%parts*topkPart
		n := min(topkPart, vocab-first)
		logits := hip.In[float32](b, a.Logits.Add(4*int64(row*vocab+first)), n)
		best := ranking{values: largest[block*k : (block+1)*k], index: index[block*k : (block+1)*k]}
		if k == 1 {
			at := vec.Largest(simd, logits)
			best.offer(logits[at], int32(first+at))
		} else {
			for i, v := range logits {
				best.offer(v, int32(first+i))
			}
		}
		for i := best.count; i < k; i++ {
			best.values[i], best.index[i] = float32(math.NaN()), -1
		}
		if top := best.values[0]; math.IsInf(float64(top), 0) { // exp(∞ − ∞) is NaN; the limit is not
			sums[block] = countEqual(logits, top)
		} else {
			sums[block] = expSum(logits, top)
		}
	}
}

// countEqual returns how many values are want, or NaN if any is NaN.
func countEqual(values []float32, want float32) float64 {
	n := 0.0
	for _, v := range values {
		if v == want {
			n++
		} else if v != v {
			return math.NaN()
		}
	}
	return n
}

// weightOf is exp(value − top), 1 also where both are infinite.
func weightOf(value, top float32) float64 {
	if value == top {
		return 1
	}
	return math.Exp(float64(value) - float64(top))
}

func topkMergeTwin(b *hip.Blocks, a *topkArgs) {
	rows, parts, k := int(a.Rows), int(a.Parts), int(a.K)
	largest, index := hip.In[float32](b, a.Largest, rows*parts*k), hip.In[int32](b, a.Index, rows*parts*k)
	sums := hip.In[float64](b, a.Sums, rows*parts)
	ids, probabilities := hip.Out[int32](b, a.IDs, rows*k), hip.Out[float32](b, a.Probabilities, rows*k)
	tokens := hip.In[int32](b, a.Tokens, int(a.Vocab))
	values := hip.Scratch[float32](b, k)
	for row := b.First; row < b.End; row++ {
		best := ranking{values: values, index: ids[row*k : (row+1)*k]}
		for i := row * parts * k; i < (row+1)*parts*k; i++ {
			if index[i] >= 0 {
				best.offer(largest[i], index[i])
			}
		}
		top := values[0]
		sum := 0.0
		for part := row * parts; part < (row+1)*parts; part++ {
			sum += sums[part] * weightOf(largest[part*k], top)
		}
		for i := range best.count {
			probabilities[row*k+i] = float32(weightOf(values[i], top) / sum)
			if tokens != nil {
				best.index[i] = tokens[best.index[i]]
			}
		}
	}
}
