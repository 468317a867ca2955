package moe

import "github.com/drafthead/drafthead/hip"

// route picks the experts of each row, one row per block:
//
//	s   = sigmoid(logits)                        rounded to float32
//	ids = the TopK experts with the largest s + bias, descending
//	w   = s[ids] / Σ s[ids] · scale              float64, rounded once
//
// s + bias is computed in float64 from the float32 values, so that a large bias makes no
// ties by rounding. The lower expert comes first if sums are equal. A NaN is below every
// number, and below −Inf; a row of NaN picks the experts 0 … TopK−1. Picked scores that sum
// to 0 or NaN give NaN weights, as the division does.
//
// The twin serves every CPU device: a choice must not depend on the device.
var route = hip.NewKernel("route", hip.Define("routeThreads", routeThreads)+routeHIP, routeTwin).Block(routeThreads)

const routeThreads = 64

type routeArgs struct {
	Logits  hip.Ptr // [rows, Experts] float32
	Bias    hip.Ptr // [Experts] float32
	Scores  hip.Ptr // [rows, Experts] float32, written
	IDs     hip.Ptr // [rows, TopK] int32, written
	Weights hip.Ptr // [rows, TopK] float32, written
	Scale   float64
	Experts int32
	TopK    int32
}

func launchRoute(d hip.Device, rows int, a *routeArgs) error {
	touched := 4 * (2*int(a.Experts) + 2*int(a.TopK))
	return route.Launch(d, hip.Grid{Blocks: rows, BlockCost: touched}, a)
}

func routeTwin(b *hip.Blocks, a *routeArgs) {
	experts, k, rows := int(a.Experts), int(a.TopK), b.End-b.First
	logits := rowsIn(b, a.Logits, b.First, rows, experts)
	bias := hip.In[float32](b, a.Bias, experts)
	scores := rowsOut[float32](b, a.Scores, b.First, rows, experts)
	ids := rowsOut[int32](b, a.IDs, b.First, rows, k)
	w := rowsOut[float32](b, a.Weights, b.First, rows, k)
	keys := hip.Scratch[float64](b, k)
	for i := range rows {
		s := scores[i*experts : (i+1)*experts]
		for e, logit := range logits[i*experts : (i+1)*experts] {
			s[e] = float32(sigmoid(float64(logit)))
		}
		picks := ids[i*k : (i+1)*k]
		pickLargest(picks, keys, s, bias)
		normalize(w[i*k:(i+1)*k], s, picks, a.Scale)
	}
}

// pickLargest writes the len(ids) ≤ len(s) indices of the largest s + bias, in
// descending order; keys is scratch of the same length.
func pickLargest(ids []int32, keys []float64, s, bias []float32) {
	for e := range s {
		key := float64(s[e]) + float64(bias[e])
		at := min(e, len(ids))
		for at > 0 && above(key, keys[at-1]) {
			at--
		}
		if at < len(ids) {
			copy(keys[at+1:], keys[at:])
			copy(ids[at+1:], ids[at:])
			keys[at], ids[at] = key, int32(e)
		}
	}
}

// above orders numbers, with NaN below them all.
func above(a, b float64) bool { return a > b || a == a && b != b }

// normalize writes s[ids] / Σ s[ids] · scale.
func normalize(w, s []float32, ids []int32, scale float64) {
	sum := 0.0
	for _, e := range ids {
		sum += float64(s[e])
	}
	for k, e := range ids {
		w[k] = float32(float64(s[e]) / sum * scale)
	}
}

// rowsIn returns n rows of width float32 values to read, from row first of the
// memory at p.
func rowsIn(b *hip.Blocks, p hip.Ptr, first, n, width int) []float32 {
	return hip.In[float32](b, p.Add(4*int64(first)*int64(width)), n*width)
}

// rowsOut is [rowsIn] for values of 4 bytes to write.
func rowsOut[T int32 | float32](b *hip.Blocks, p hip.Ptr, first, n, width int) []T {
	return hip.Out[T](b, p.Add(4*int64(first)*int64(width)), n*width)
}
