package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// arithmetic is how a Go side multiplies and activates.
type arithmetic struct {
	prepare  func(w *weights.Rows, x []float32, n int) *weights.Operand
	multiply func(w *weights.Rows, y []float32, yStride, first, count int, x *weights.Operand)
	activate func(act swiGLU, gate, up float32) float32
}

var (
	definition = arithmetic{(*weights.Rows).Plain, (*weights.Rows).Multiply64, swiGLU.activate64}
	host       = arithmetic{(*weights.Rows).Prepare, (*weights.Rows).Multiply, swiGLU.activate}
)

// gateUp multiplies rows with gate and up weights and activates the products,
// for the routed and for the shared experts.
type gateUp struct {
	with arithmetic
	act  swiGLU
	gate []float32 // [rows, count] each
	up   []float32
}

// newGateUp takes scratch for tiles of up to rows × count values.
func newGateUp(b *hip.Blocks, with arithmetic, act swiGLU, rows, count int) *gateUp {
	return &gateUp{
		with: with, act: act,
		gate: hip.Scratch[float32](b, rows*count),
		up:   hip.Scratch[float32](b, rows*count),
	}
}

// multiply returns n × count values, valid until the next call:
//
//	y[i][j] = act(w[gate+j] · x[i], w[up+j] · x[i])      i < n, the rows of x
func (g *gateUp) multiply(w *weights.Rows, gate, up, count int, x *weights.Operand) []float32 {
	n := x.Rows()
	g.with.multiply(w, g.gate, count, gate, count, x)
	g.with.multiply(w, g.up, count, up, count, x)
	y := g.gate[:n*count]
	for i, v := range y {
		y[i] = g.with.activate(g.act, v, g.up[i])
	}
	return y
}
