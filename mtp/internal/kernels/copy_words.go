package kernels

import "github.com/drafthead/drafthead/hip"

// copyWords copies 32-bit words, a tile a block.
var copyWords = hip.NewKernel("copy_words",
	hip.Define("copyWordsTile", copyWordsTile)+copyWordsHIP, copyWordsTwin).Block(copyWordsTile / 4)

type copyWordsArgs struct {
	Out hip.Ptr // [N] int32; at a multiple of 16
	In  hip.Ptr // [N] int32; at a multiple of 16
	N   int64
}

const copyWordsTile = 1024

// CopyWords copies n words of 32 bits. Both addresses are multiples of 16. Where one of
// them is memory that the host shares, the launch costs less than the driver's copy.
func CopyWords(d hip.Device, out, in hip.Ptr, n int) error {
	grid := hip.Grid{Blocks: ceilDiv(n, copyWordsTile), BlockCost: 4 * copyWordsTile}
	return copyWords.Launch(d, grid, &copyWordsArgs{Out: out, In: in, N: int64(n)})
}

func copyWordsTwin(b *hip.Blocks, a *copyWordsArgs) {
	first := b.First * copyWordsTile
	n := min(b.End*copyWordsTile, int(a.N)) - first
	at := 4 * int64(first)
	copy(hip.Out[int32](b, a.Out.Add(at), n), hip.In[int32](b, a.In.Add(at), n))
}
