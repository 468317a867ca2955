package kernels

import "github.com/drafthead/drafthead/hip"

// takeRows copies rows of values together, one a block:
//
//	out[i] = from[sources[i]], or kept[−1−sources[i]] where that is negative
var takeRows = hip.NewKernel("take_rows",
	hip.Define("takeThreads", takeThreads)+takeRowsHIP, takeRowsTwin).Block(takeThreads)

const takeThreads = 256

// TakeRowsArgs are the arguments of [TakeRows].
type TakeRowsArgs struct {
	Out     hip.Ptr // [Rows, Width] float32; not the memory of From or Kept
	From    hip.Ptr // [FromRows, Width] float32
	Kept    hip.Ptr // [KeptRows, Width] float32; none if no source is negative
	Sources hip.Ptr // [Rows] int32

	Rows, FromRows, KeptRows, Width int32
}

// TakeRows copies rows of values together: out[i] = from[sources[i]], or
// kept[−1−sources[i]] where that is negative.
func TakeRows(d hip.Device, a *TakeRowsArgs) error {
	return takeRows.Launch(d, hip.Grid{Blocks: int(a.Rows), BlockCost: 8 * int(a.Width)}, a)
}

func takeRowsTwin(b *hip.Blocks, a *TakeRowsArgs) {
	n, rows := int(a.Width), int(a.Rows)
	out := hip.Out[float32](b, a.Out, rows*n)
	from, kept := hip.In[float32](b, a.From, int(a.FromRows)*n), hip.In[float32](b, a.Kept, int(a.KeptRows)*n)
	sources := hip.In[int32](b, a.Sources, rows)
	for row := b.First; row < b.End; row++ {
		values, source := from, int(sources[row])
		if source < 0 {
			values, source = kept, -1-source
		}
		copy(out[row*n:(row+1)*n], values[source*n:])
	}
}
