package sampling

import (
	_ "embed"
	"math"

	"github.com/drafthead/drafthead/hip"
)

//go:embed sample_weights.hip
var weightsHIP string

// weights makes the weights of rows of logits, after weightsMax has found the largest of
// every part:
//
//	weight = e^((logit − largest) / temperature)     1 where the logit is the largest
//	         1 for the first of the largest          temperature 0
//	         probability ÷ the largest               rows of probabilities
//
// A logit that is NaN makes the largest NaN, as does a probability that is negative or
// infinite. All weights of such a row are 0, as are those of a row of nothing but −∞.
var (
	weightsMax = hip.NewKernel("sample_weights_max", source(weightsHIP), weightsMaxTwin).Block(threads)
	weights    = hip.NewKernel("sample_weights", source(weightsHIP), weightsTwin).Block(threads)
)

type sampleWeightsArgs struct {
	Logits  hip.Ptr // [Rows, Vocab] float32
	Weights hip.Ptr // [Rows, Vocab] float32; may be Logits
	Largest hip.Ptr // [Rows, Parts] float32
	Params  hip.Ptr // [Rows] Params

	Rows, Vocab, Parts, Pad int32
}

func weightsMaxTwin(b *hip.Blocks, a *sampleWeightsArgs) {
	rows, vocab, parts := int(a.Rows), int(a.Vocab), int(a.Parts)
	largest, params := hip.Out[float32](b, a.Largest, rows*parts), hip.In[Params](b, a.Params, rows)
	for block := b.First; block < b.End; block++ {
		row, first := block/parts, block%parts*part
		probabilities := params[row].Flags&FlagProbabilities != 0
		top := float32(math.Inf(-1))
		for _, v := range hip.In[float32](b, a.Logits.Add(4*int64(row*vocab+first)), min(part, vocab-first)) {
			if probabilities && !(v >= 0 && v <= math.MaxFloat32) {
				v = float32(math.NaN())
			}
			top = larger(top, v)
		}
		largest[block] = top
	}
}

func weightsTwin(b *hip.Blocks, a *sampleWeightsArgs) {
	rows, vocab, parts := int(a.Rows), int(a.Vocab), int(a.Parts)
	largest, params := hip.In[float32](b, a.Largest, rows*parts), hip.In[Params](b, a.Params, rows)
	for block := b.First; block < b.End; block++ {
		row, p := block/parts, block%parts
		q, n, at := &params[row], min(part, vocab-p*part), 4*int64(row*vocab+p*part)
		if q.Flags&FlagGreedy != 0 {
			continue
		}
		of := largest[row*parts : (row+1)*parts]
		rowWeights(hip.Out[float32](b, a.Weights.Add(at), n), hip.In[float32](b, a.Logits.Add(at), n), q, of, p)
	}
}

// rowWeights sets out to the weights of part p of a row. largest are those of its parts.
func rowWeights(out, logits []float32, q *Params, largest []float32, p int) {
	top := topOf(largest)
	if q.Flags&FlagProbabilities == 0 && q.Temperature == 0 {
		first := top > float32(math.Inf(-1))
		for _, before := range largest[:p] {
			first = first && before != top
		}
		for i, v := range logits {
			out[i] = 0
			if first && v == top {
				out[i], first = 1, false
			}
		}
		return
	}
	for i, v := range logits {
		weight := 1.0
		switch {
		case q.Flags&FlagProbabilities != 0:
			weight = float64(v) / float64(top)
		case v != top || v == float32(math.Inf(-1)): // both may be infinite
			weight = expOf((float64(v) - float64(top)) / q.Temperature)
		}
		if out[i] = 0; weight >= leastWeight {
			out[i] = float32(weight)
		}
	}
}
