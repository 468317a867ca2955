package sampling

import (
	_ "embed"
	"math"

	"github.com/drafthead/drafthead/hip"
)

//go:embed sample_filter.hip
var filterHIP string

// filter finds the least weight of a row that its filters leave, one after the other:
//
//	min-p   weights from MinP on; the largest is 1
//	top-k   the TopK largest of these
//	top-p   the largest of these that come to TopP of their sum
//	        the Most largest of these; 0: all
//
// Weights equal to the least one stay too. It searches among the bits of float32, which
// ascend as positive numbers do: each pass over a row narrows the search to a quarter, so
// that 15 passes find a number, and nothing is sorted.
//
// filterSums then adds up the whole numbers of what is left, part by part.
var (
	filter     = hip.NewKernel("sample_filter", source(filterHIP), filterTwin).Block(threads)
	filterSums = hip.NewKernel("sample_filter_sums", source(filterHIP), filterSumsTwin).Block(threads)
)

type sampleFilterArgs struct {
	Weights hip.Ptr // [Rows, Vocab] float32
	Params  hip.Ptr // [Rows] Params
	Least   hip.Ptr // [Rows] float32
	Sums    hip.Ptr // [Rows, Parts] uint64

	Rows, Vocab, Parts, Most int32
}

const (
	lowestBits = 0x2a000000 // of leastWeight
	aboveBits  = 0x3f800001 // above 1
)

func filterTwin(b *hip.Blocks, a *sampleFilterArgs) {
	rows, vocab := int(a.Rows), int(a.Vocab)
	params, least := hip.In[Params](b, a.Params, rows), hip.Out[float32](b, a.Least, rows)
	for row := b.First; row < b.End; row++ {
		if params[row].Flags&FlagGreedy != 0 {
			continue
		}
		least[row] = leastOf(hip.In[float32](b, a.Weights.Add(4*int64(row*vocab)), vocab), &params[row], int(a.Most))
	}
}

// leastOf returns the least weight that the filters leave.
func leastOf(weights []float32, q *Params, most int) float32 {
	low := lowOf(q)
	if q.Flags&FlagProbabilities == 0 {
		low = largestFew(weights, int(q.TopK), low)
		if q.TopP > 0 && q.TopP < 1 {
			if sum := measureOf(weights, false, low); sum > 0 {
				low = highest(weights, false, max(1, uint64(float64(sum)*q.TopP)), low)
			}
		}
	}
	return math.Float32frombits(largestFew(weights, most, low))
}

// lowOf returns the bits from which on min-p leaves weights.
func lowOf(q *Params) uint32 {
	if q.Flags&FlagProbabilities != 0 || !(q.MinP > 0) {
		return lowestBits
	}
	least := math.Float32bits(float32(q.MinP))
	if float64(math.Float32frombits(least)) < q.MinP {
		least++
	}
	return max(lowestBits, least)
}

// largestFew returns the bits of the least of the few largest weights, or low if there are
// no more; few 0 stands for all.
func largestFew(weights []float32, few int, low uint32) uint32 {
	if few <= 0 || few >= len(weights) || measureOf(weights, true, low) <= uint64(few) {
		return low
	}
	return highest(weights, true, uint64(few), low)
}

// measureOf is what the weights from a mark on come to: their whole numbers, or how many
// they are.
func measureOf(weights []float32, count bool, mark uint32) (n uint64) {
	least := math.Float32frombits(mark)
	for _, v := range weights {
		switch {
		case v < least:
		case count:
			n++
		default:
			n += wholeOf(v)
		}
	}
	return n
}

// highest returns the bits of the highest weight from which on the weights come to need.
// From low on they do.
func highest(weights []float32, count bool, need uint64, low uint32) uint32 {
	for high := uint32(aboveBits); high-low > 1; {
		step := (high - low + 3) / 4
		to := high
		for j := uint32(3); j >= 1; j-- {
			mark := low + j*step
			if mark >= high {
				continue
			}
			n := measureOf(weights, count, mark)
			if n >= need {
				if low = mark; count && n == need {
					return low
				}
				break
			}
			to = mark
		}
		high = to
	}
	return low
}

func filterSumsTwin(b *hip.Blocks, a *sampleFilterArgs) {
	rows, vocab, parts := int(a.Rows), int(a.Vocab), int(a.Parts)
	least, sums := hip.In[float32](b, a.Least, rows), hip.Out[uint64](b, a.Sums, rows*parts)
	for block := b.First; block < b.End; block++ {
		row, first := block/parts, block%parts*part
		sum := uint64(0)
		for _, v := range hip.In[float32](b, a.Weights.Add(4*int64(row*vocab+first)), min(part, vocab-first)) {
			sum += keptOf(v, least[row])
		}
		sums[block] = sum
	}
}
