package moe

import "github.com/drafthead/drafthead/hip"

// groupByExpert sorts the pairs of the experts that are held by expert, in one block; pairs
// of one expert stay in their order. Held experts are counted from 0:
//
//	order[offsets[e] … offsets[e+1]−1] = the pairs p with ids[p] = First + e, ascending
//	active[0 … activeCount−1]          = the held experts with a pair, ascending
//
// Other pairs are left out, and order keeps what it held after offsets[Held].
//
// Integers only: the twin serves every CPU device.
var groupByExpert = hip.NewKernel("group_by_expert",
	hip.Define("groupThreads", groupThreads)+groupByExpertHIP, groupByExpertTwin).Block(groupThreads)

const groupThreads = 256

type groupByExpertArgs struct {
	IDs         hip.Ptr // [Pairs] int32, 0 … Experts−1
	Offsets     hip.Ptr // [Held+1] int32, written
	Order       hip.Ptr // [Pairs] int32, written up to offsets[Held]
	Active      hip.Ptr // [min(Held, Pairs)] int32, written up to the count
	ActiveCount hip.Ptr // [1] int32, written
	Pairs       int32
	Experts     int32
	First       int32 // the first expert held
	Held        int32 // how many are held, 1 to Experts − First
}

func launchGroupByExpert(d hip.Device, a *groupByExpertArgs) error {
	return groupByExpert.Launch(d, hip.Grid{Blocks: 1}, a)
}

func groupByExpertTwin(b *hip.Blocks, a *groupByExpertArgs) {
	pairs, first, held := int(a.Pairs), int(a.First), int(a.Held)
	ids := hip.In[int32](b, a.IDs, pairs)
	offsets := hip.Out[int32](b, a.Offsets, held+1)
	order := hip.Out[int32](b, a.Order, pairs)
	active := hip.Out[int32](b, a.Active, min(held, pairs))
	count := hip.Out[int32](b, a.ActiveCount, 1)

	next := hip.Scratch[int32](b, int(a.Experts)) // pairs of each expert, then where its next goes
	clear(next)
	for _, id := range ids {
		next[id]++
	}
	next = next[first : first+held]
	n, at := 0, int32(0)
	for e, its := range next {
		if its > 0 {
			active[n] = int32(e)
			n++
		}
		offsets[e], next[e] = at, at
		at += its
	}
	offsets[held], count[0] = at, int32(n)

	for pair, id := range ids {
		if e := int(id) - first; e >= 0 && e < held {
			order[next[e]] = int32(pair)
			next[e]++
		}
	}
}
