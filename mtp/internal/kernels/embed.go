package kernels

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
	"github.com/drafthead/drafthead/norm"
	"github.com/drafthead/drafthead/weights"
)

// embedNorm builds the input of eh_proj, a block for each half of each row:
//
//	e      = embed[token], or a given embedding; zero where position is 0
//	out    = [ rms(e; enorm) | rms(hidden; hnorm) ]      embedding half first
//
// The mask comes before enorm, so that the masked half is zero.
var embedNorm = hip.NewKernel("embed_norm", embedSource(), embedNormTwin).Fast(0, embedNormHost).Block(norm.RMSThreads)

// EmbedNormArgs are the arguments of [EmbedNorm].
type EmbedNormArgs struct {
	Out             hip.Ptr // [Rows, 2·Hidden] float32
	Masked          hip.Ptr // [Rows, Hidden] float32: e, if wanted
	States          hip.Ptr // [Rows, Hidden] float32: previous hidden states
	Embeds          hip.Ptr // [EmbedRows, Hidden] float32: embeddings that tokens may stand for
	Table           hip.Ptr // [Segments] weights.Segment of embed_tokens
	Tokens          hip.Ptr // [Rows] int32; −1−i stands for Drafted[i], −1−Drafts−i for row i of Embeds
	Drafted         hip.Ptr // [Drafts] int32
	Positions       hip.Ptr // [Rows] int32
	EmbedNorm       hip.Ptr // [Hidden] float32: enorm
	HiddenNorm      hip.Ptr // [Hidden] float32: hnorm
	Eps             float64
	Drafts          int64
	EmbedRows       int64
	Rows, Hidden    int32
	Segments, Vocab int32
}

// EmbedNorm sets Out to the input of eh_proj:
//
//	e   = embed[token], or a given embedding; zero where position is 0
//	out = [ rms(e; enorm) | rms(states; hnorm) ]
func EmbedNorm(d hip.Device, table *weights.Matrix, a *EmbedNormArgs) error {
	a.Table, a.Segments = table.Table()
	return embedNorm.Launch(d, hip.Grid{Blocks: 2 * int(a.Rows), BlockCost: 12 * int(a.Hidden)}, a)
}

// embedSource is the source of both kernels, which are compiled together.
func embedSource() string { return weights.KernelSource() + norm.RMSSource() + embedHIP }

func embedNormTwin(b *hip.Blocks, a *EmbedNormArgs) { embedNormRows(b, a, vec.RMS64) }

func embedNormHost(b *hip.Blocks, a *EmbedNormArgs) {
	simd := b.SIMD()
	embedNormRows(b, a, func(dst, x, w []float32, eps float64) { vec.RMS(simd, dst, x, w, eps) })
}

func embedNormRows(b *hip.Blocks, a *EmbedNormArgs, rms func(dst, x, w []float32, eps float64)) {
	n, rows := int(a.Hidden), int(a.Rows)
	out := hip.Out[float32](b, a.Out, rows*2*n)
	masked := hip.Out[float32](b, a.Masked, rows*n)
	states := hip.In[float32](b, a.States, rows*n)
	positions := hip.In[int32](b, a.Positions, rows)
	enorm, hnorm := hip.In[float32](b, a.EmbedNorm, n), hip.In[float32](b, a.HiddenNorm, n)
	embedding := openEmbedding(b, a.Table, int(a.Segments), n, a.Tokens, rows)
	embedding.drafted = hip.In[int32](b, a.Drafted, int(a.Drafts))
	embedding.given = hip.In[float32](b, a.Embeds, int(a.EmbedRows)*n)
	e := hip.Scratch[float32](b, n)
	for half := b.First; half < b.End; half++ {
		row, dst := half/2, out[half*n:(half+1)*n]
		if half%2 == 1 {
			rms(dst, states[row*n:(row+1)*n], hnorm, a.Eps)
			continue
		}
		if positions[row] == 0 {
			clear(e)
		} else {
			embedding.row(e, row)
		}
		if masked != nil {
			copy(masked[row*n:], e)
		}
		rms(dst, e, enorm, a.Eps)
	}
}

// gather copies rows of embed_tokens, one token a block.
var gather = hip.NewKernel("embed_gather", embedSource(), gatherTwin).Block(norm.RMSThreads)

// EmbedGatherArgs are the arguments of [EmbedGather].
type EmbedGatherArgs struct {
	Out      hip.Ptr // [Rows, Hidden] float32
	Table    hip.Ptr // [Segments] weights.Segment
	Tokens   hip.Ptr // [Rows] int32
	Rows     int32
	Hidden   int32
	Segments int32
	Vocab    int32
}

// EmbedGather copies rows of an embedding table, as float32.
func EmbedGather(d hip.Device, table *weights.Matrix, a *EmbedGatherArgs) error {
	a.Table, a.Segments = table.Table()
	return gather.Launch(d, hip.Grid{Blocks: int(a.Rows), BlockCost: 8 * int(a.Hidden)}, a)
}

func gatherTwin(b *hip.Blocks, a *EmbedGatherArgs) {
	n, rows := int(a.Hidden), int(a.Rows)
	out := hip.Out[float32](b, a.Out, rows*n)
	embedding := openEmbedding(b, a.Table, int(a.Segments), n, a.Tokens, rows)
	for row := b.First; row < b.End; row++ {
		embedding.row(out[row*n:(row+1)*n], row)
	}
}

// embedding reads a row's embedding from the table or from given ones.
type embedding struct {
	table   *weights.Rows
	tokens  []int32
	drafted []int32   // what negative tokens stand for
	given   []float32 // and those below them
	n       int
}

func openEmbedding(b *hip.Blocks, table hip.Ptr, segments, n int, tokens hip.Ptr, rows int) embedding {
	return embedding{table: weights.OpenRows(b, table, segments, n, true), tokens: hip.In[int32](b, tokens, rows), n: n}
}

func (e *embedding) row(dst []float32, row int) {
	token := e.tokens[row]
	if i := -1 - int(token); i >= len(e.drafted) {
		i -= len(e.drafted)
		copy(dst, e.given[i*e.n:(i+1)*e.n])
		return
	} else if i >= 0 {
		token = e.drafted[i]
	}
	e.table.Decode(dst, int(token))
}
