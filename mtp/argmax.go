package mtp

import (
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/norm"
)

// argmax picks the greedy token of each row of logits, in two kernels so that
// one row keeps every core busy: parts of a row, then the parts of each row.
//
//	id          = the lowest index of the largest logit; NaN is below every
//	              number, and a row of nothing but NaN gives 0. Where there is a
//	              list of tokens, the one at that index
//	probability = 1 / Σ exp(logit − largest): softmax at id; NaN if any is
var (
	argmaxParts = hip.NewKernel("argmax_parts", argmaxHIP, argmaxPartsTwin).Fast(1e-5, argmaxPartsHost)
	argmaxMerge = hip.NewKernel("argmax_merge", argmaxHIP, argmaxMergeTwin)
)

// argmaxPart is the logits that one block looks at.
const argmaxPart = 4096

// argmaxPartsOf is the parts of a row.
func argmaxPartsOf(vocab int) int { return (vocab + argmaxPart - 1) / argmaxPart }

type argmaxArgs struct {
	Logits        hip.Ptr // [Rows, Vocab] float32
	Largest       hip.Ptr // [Rows, Parts] float32
	Sums          hip.Ptr // [Rows, Parts] float64: Σ exp(logit − largest of the part)
	Index         hip.Ptr // [Rows, Parts] int32
	Tokens        hip.Ptr // [Vocab] int32: the token of each index; none: the index
	IDs           hip.Ptr // [Rows] int32
	Probabilities hip.Ptr // [Rows] float32
	Rows, Vocab   int32
	Parts         int64
}

func argmaxPartsTwin(b *hip.Blocks, a *argmaxArgs) {
	argmaxOfParts(b, a, hip.SIMDNone, func(logits []float32, top float32) float64 {
		sum := 0.0
		for _, v := range logits {
			sum += math.Exp(float64(v) - float64(top))
		}
		return sum
	})
}

// argmaxPartsHost sums as norm.ExpSum does.
func argmaxPartsHost(b *hip.Blocks, a *argmaxArgs) {
	simd := b.SIMD()
	argmaxOfParts(b, a, simd, func(logits []float32, top float32) float64 { return norm.ExpSum(simd, logits, top) })
}

func argmaxOfParts(b *hip.Blocks, a *argmaxArgs, simd hip.SIMD, expSum func(logits []float32, top float32) float64) {
	rows, vocab, parts := int(a.Rows), int(a.Vocab), int(a.Parts)
	largest, sums := hip.Out[float32](b, a.Largest, rows*parts), hip.Out[float64](b, a.Sums, rows*parts)
	index := hip.Out[int32](b, a.Index, rows*parts)
	for block := b.First; block < b.End; block++ {
		row, first := block/parts, block%parts*argmaxPart
		n := min(argmaxPart, vocab-first)
		logits := hip.In[float32](b, a.Logits.Add(4*int64(row*vocab+first)), n)
		at := norm.Largest(simd, logits)
		top := logits[at]
		largest[block], index[block] = top, int32(first+at)
		if math.IsInf(float64(top), 0) { // exp(∞ − ∞) is no number, but a limit is
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

func argmaxMergeTwin(b *hip.Blocks, a *argmaxArgs) {
	rows, parts := int(a.Rows), int(a.Parts)
	largest, sums := hip.In[float32](b, a.Largest, rows*parts), hip.In[float64](b, a.Sums, rows*parts)
	index := hip.In[int32](b, a.Index, rows*parts)
	ids, probabilities := hip.Out[int32](b, a.IDs, rows), hip.Out[float32](b, a.Probabilities, rows)
	tokens := hip.In[int32](b, a.Tokens, int(a.Vocab))
	for row := b.First; row < b.End; row++ {
		of := largest[row*parts : (row+1)*parts]
		best := norm.Largest(hip.SIMDNone, of)
		sum := 0.0
		for p, v := range of {
			part := sums[row*parts+p]
			if v != of[best] { // equal also where both are infinite
				part *= math.Exp(float64(v) - float64(of[best]))
			}
			sum += part
		}
		ids[row] = index[row*parts+best]
		if of[best] != of[best] {
			ids[row] = 0
		}
		if tokens != nil {
			ids[row] = tokens[ids[row]]
		}
		probabilities[row] = float32(1 / sum)
	}
}
