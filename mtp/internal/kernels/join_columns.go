package kernels

import "github.com/drafthead/drafthead/hip"

// joinColumns puts rows together whose columns lie on several ranks, as an all-gather
// leaves them: each rank's rows end to end, in as much room as the widest rank takes. One
// block does one rank's part of one row.
//
//	out[row] = [ from[0][row] | from[1][row] | … ]
var joinColumns = hip.NewKernel("join_columns",
	hip.Define("joinThreads", joinThreads)+joinColumnsHIP, joinColumnsTwin).Block(joinThreads)

const joinThreads = 256

// JoinColumnsArgs are the arguments of [JoinColumns].
type JoinColumnsArgs struct {
	Out   hip.Ptr // [Rows, Width] float32
	From  hip.Ptr // [Ranks, Rows · Widest] float32, of which a rank fills the first
	First hip.Ptr // [Ranks + 1] int32: the first column of each rank, and Width

	Rows, Ranks, Width, Widest int32
}

// JoinColumns puts the rows of all ranks together.
func JoinColumns(d hip.Device, a *JoinColumnsArgs) error {
	return joinColumns.Launch(d, hip.Grid{Blocks: int(a.Rows) * int(a.Ranks), BlockCost: 8 * int(a.Widest)}, a)
}

func joinColumnsTwin(b *hip.Blocks, a *JoinColumnsArgs) {
	rows, ranks, width, room := int(a.Rows), int(a.Ranks), int(a.Width), int(a.Rows)*int(a.Widest)
	out, from := hip.Out[float32](b, a.Out, rows*width), hip.In[float32](b, a.From, ranks*room)
	first := hip.In[int32](b, a.First, ranks+1)
	for block := b.First; block < b.End; block++ {
		row, rank := block/ranks, block%ranks
		at, end := int(first[rank]), int(first[rank+1])
		copy(out[row*width+at:row*width+end], from[rank*room+row*(end-at):])
	}
}
