package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// arithmetic is how a Go side multiplies and activates.
type arithmetic struct {
	exact    bool                                                // see [weights.OpenRows]
	activate func(act swiGLU, simd hip.SIMD, gate, up []float32) // gate becomes the result
}

var (
	definition = arithmetic{true, swiGLU.define}
	host       = arithmetic{false, swiGLU.activate}
)

// open opens a matrix of weights for products.
func (with arithmetic) open(b *hip.Blocks, table hip.Ptr, segments, in int32) *weights.Rows {
	return weights.OpenRows(b, table, int(segments), int(in), with.exact)
}

// gateUp multiplies rows with gate and up weights and activates the products,
// for the routed and for the shared experts.
type gateUp struct {
	w    *weights.Rows
	with arithmetic
	act  swiGLU
	b    *hip.Blocks
	gate []float32 // [rows, count] each
	up   []float32
}

func newGateUp(b *hip.Blocks, w *weights.Rows, with arithmetic, act swiGLU) *gateUp {
	return &gateUp{w: w, with: with, act: act, b: b}
}

// multiply returns n × count values, valid until the next call:
//
//	y[i][j] = act(w[gate+j] · x[i], w[up+j] · x[i])      i < n, the rows of x that are loaded
func (g *gateUp) multiply(gate, up, count, n int) []float32 {
	y, other := grow(g.b, &g.gate, n*count), grow(g.b, &g.up, n*count)
	g.w.Multiply(y, count, gate, count)
	g.w.Multiply(other, count, up, count)
	g.with.activate(g.act, g.b.SIMD(), y, other)
	return y
}

// unitsText says in the table of kernels that one multiplies on matrix units, and by rounded
// rows, or on warpgroups, if it does. A line of the table fits a terminal.
func unitsText(rounded, warpgroups bool) string {
	switch {
	case rounded:
		return "x rounded"
	case warpgroups:
		return "warpgroups"
	}
	return "matrix units"
}

// rowBytes is roughly the bytes of a row of weights, for [hip.Grid.BlockCost].
func rowBytes(w *weights.Matrix) int { return int(w.Bytes() / int64(w.Rows)) }

// tiles returns how many tiles of the given size cover n columns.
func tiles(n, size int) int { return n/size + min(n%size, 1) }
