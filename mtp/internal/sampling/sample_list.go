package sampling

import (
	_ "embed"

	"github.com/drafthead/drafthead/hip"
)

//go:embed sample_list.hip
var listHIP string

// list lists the tokens that the filters of a row leave, with their weights, in the order
// of their ids, and draws one of them. Of tokens whose weight is the least, the lowest ids
// fill the list up to Most. Tokens whose probability at temperature 1, which is
//
//	probability of the most likely token · e^(logit − largest)
//
// is below Params.Least are left out. If no token is left, or the row is greedy, its id and
// probability stay as they are: those of the most likely token.
var list = hip.NewKernel("sample_list", source(listHIP), listTwin).Block(threads)

type sampleListArgs struct {
	Logits        hip.Ptr // [Rows, Vocab] float32
	Weights       hip.Ptr // [Rows, Vocab] float32
	Largest       hip.Ptr // [Rows, Parts] float32
	Least         hip.Ptr // [Rows] float32
	Params        hip.Ptr // [Rows] Params
	Tokens        hip.Ptr // [Vocab] int32: the token of each logit, ascending; none: its index
	IDs           hip.Ptr // [Rows] int32: the most likely token, then the drawn one
	Probabilities hip.Ptr // [Rows] float32
	Counts        hip.Ptr // [Rows] int32
	ListIDs       hip.Ptr // [Rows, Most] int32; −1 after the last
	ListWeights   hip.Ptr // [Rows, Most] float32

	Rows, Vocab, Parts, Most int32
}

// probabilityOf returns the probability of a token, from that of the most likely one.
func probabilityOf(logit, top, ofTop float32) float32 {
	if logit == top {
		return ofTop
	}
	return float32(float64(ofTop) * expOf(float64(logit)-float64(top)))
}

func listTwin(b *hip.Blocks, a *sampleListArgs) {
	rows, vocab, parts, most := int(a.Rows), int(a.Vocab), int(a.Parts), int(a.Most)
	largest, leasts := hip.In[float32](b, a.Largest, rows*parts), hip.In[float32](b, a.Least, rows)
	params, tokens := hip.In[Params](b, a.Params, rows), hip.In[int32](b, a.Tokens, vocab)
	ids, probabilities := hip.Out[int32](b, a.IDs, rows), hip.Out[float32](b, a.Probabilities, rows)
	counts := hip.Out[int32](b, a.Counts, rows)
	listIDs, listWeights := hip.Out[int32](b, a.ListIDs, rows*most), hip.Out[float32](b, a.ListWeights, rows*most)
	for row := b.First; row < b.End; row++ {
		q, top, least, ofTop := &params[row], topOf(largest[row*parts:(row+1)*parts]), leasts[row], probabilities[row]
		if q.Flags&FlagGreedy != 0 {
			continue
		}
		at := 4 * int64(row*vocab)
		logits, weights := hip.In[float32](b, a.Logits.Add(at), vocab), hip.In[float32](b, a.Weights.Add(at), vocab)
		listed := func(i int) bool {
			return weights[i] >= least && float64(probabilityOf(logits[i], top, ofTop)) >= q.Least
		}
		room := most
		for i, v := range weights {
			if v > least && listed(i) {
				room--
			}
		}
		n, drawIDs, drawWeights := 0, listIDs[row*most:(row+1)*most], listWeights[row*most:(row+1)*most]
		for i, v := range weights {
			if !listed(i) {
				continue
			}
			if v == least {
				if room == 0 {
					continue
				}
				room--
			}
			drawIDs[n], drawWeights[n] = int32(i), v
			n++
		}
		if counts[row] = int32(n); n > 0 {
			drawn := drawIDs[draw(drawWeights[:n], q.random(purposeDraft))]
			ids[row], probabilities[row] = drawn, probabilityOf(logits[drawn], top, ofTop)
			if tokens != nil {
				ids[row] = tokens[drawn]
			}
		}
		for i := range drawIDs {
			if i >= n {
				drawIDs[i], drawWeights[i] = -1, 0
			} else if tokens != nil {
				drawIDs[i] = tokens[drawIDs[i]]
			}
		}
	}
}

// draw returns the index of a weight, each with its share of their sum.
func draw(weights []float32, random uint64) int {
	total := uint64(0)
	for _, v := range weights {
		total += wholeOf(v)
	}
	left := upperProduct(random, total)
	for i, v := range weights {
		w := wholeOf(v)
		if left < w {
			return i
		}
		left -= w
	}
	panic("unreachable: left is below the sum")
}
