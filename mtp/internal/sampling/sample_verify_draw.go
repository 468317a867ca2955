package sampling

import "github.com/drafthead/drafthead/hip"

// drawNext draws the token after the accepted drafts of each chain, in the order of ids,
// from what decide leaves of the row after them. If that is nothing, which only rounding
// can do, it draws from the row as it is.
var drawNext = hip.NewKernel("sample_verify_draw", source(verifyHIP), drawTwin).Block(threads)

func drawTwin(b *hip.Blocks, a *sampleVerifyArgs) {
	v := a.read(b)
	chains := int(a.Chains)
	scales, accepted := hip.In[float64](b, a.Scales, chains), hip.In[int32](b, a.Accepted, chains)
	next := hip.Out[int32](b, a.Next, chains)
	for chain := b.First; chain < b.End; chain++ {
		if next[chain] = -1; accepted[chain] >= 0 {
			next[chain] = v.draw(chain, int(accepted[chain]), scales[chain])
		}
	}
}

// draw draws a token after so many drafts of a chain.
func (v *verification) draw(chain, accepted int, scale float64) int32 {
	row := int(v.first[chain]) + accepted
	weights, least, sum := v.weights(row), v.least[row], v.sum(row)
	var ids []int32
	var listed []float32
	if scale > 0 {
		ids, listed = v.list(row - chain)
		taken := v.taken(row, row-chain, scale)
		if sum -= taken; sum == 0 {
			ids, sum = nil, taken
		}
	}
	left := upperProduct(v.params[row].random(purposeNext), sum)
	for id := int32(0); ; id++ {
		w := keptOf(weights[id], least)
		if len(ids) > 0 && ids[0] == id {
			w -= takenOf(w, listed[0], scale)
			ids, listed = ids[1:], listed[1:]
		}
		if left < w {
			return id
		}
		left -= w
	}
}
