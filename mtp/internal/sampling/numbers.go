package sampling

import (
	_ "embed"
	"math"
	"math/bits"

	"github.com/drafthead/drafthead/hip"
)

//go:embed sampling.h
var samplingH string

const (
	part    = 4096 // logits that one block looks at
	threads = 256
	// MaxList bounds the tokens that a draft is drawn from.
	MaxList = 256
)

// source returns the source of a kernel with the constants and numbers of all.
func source(kernel string) string {
	return hip.Define("part", part) + hip.Define("threads", threads) + hip.Define("maxList", MaxList) + hip.Define("filterBins", bins) +
		hip.Define("flagProbabilities", FlagProbabilities) + hip.Define("flagGreedy", FlagGreedy) +
		hip.Define("purposeDraft", purposeDraft) + hip.Define("purposeAccept", purposeAccept) + hip.Define("purposeNext", purposeNext) +
		samplingH + kernel
}

// partsOf returns how many parts a row of vocab logits has.
func partsOf(vocab int) int { return (vocab + part - 1) / part }

// expTerms are 1/n of the series of e^x.
var expTerms = func() (t [15]float64) {
	for n := 1; n < len(t); n++ {
		t[n] = 1 / float64(n)
	}
	return t
}()

// expOf returns e^x for x ≤ 0, the same bits on every device: 0 below −700. Products that
// are added are fused or in a conversion of their own, so that no compiler chooses.
func expOf(x float64) float64 {
	if !(x >= -700) {
		return 0
	}
	k := int32(math.FMA(x, 1.4426950408889634, -0.5))
	r := math.FMA(float64(-k), 6.93147180369123816490e-01, x) // ln 2 in two parts
	r = math.FMA(float64(-k), 1.90821492927058770002e-10, r)
	sum := 1.0 // Horner over Σ r^n/n!
	for n := 14; n > 0; n-- {
		sum = math.FMA(sum, float64(r*expTerms[n]), 1)
	}
	return sum * math.Float64frombits(uint64(1023+k)<<52)
}

// leastWeight is the least weight whose whole number is not 0.
const leastWeight = 1.0 / (1 << 43)

// wholeOf returns the whole number of a weight.
func wholeOf(weight float32) uint64 { return uint64(float64(float64(weight)*(1<<42)) + 0.5) }

// keptOf is wholeOf for weights from least on, and 0 below.
func keptOf(weight, least float32) uint64 {
	if weight >= least {
		return wholeOf(weight)
	}
	return 0
}

func upperProduct(a, b uint64) uint64 {
	upper, _ := bits.Mul64(a, b)
	return upper
}

// larger returns the larger of two; NaN is above every number.
func larger(a, b float32) float32 {
	if a != a || a > b {
		return a
	}
	if b != b || b > a {
		return b
	}
	return a
}

// topOf returns the largest logit of a row from those of its parts; NaN if one is.
func topOf(largest []float32) float32 {
	top := largest[0]
	for _, v := range largest[1:] {
		top = larger(top, v)
	}
	return top
}
