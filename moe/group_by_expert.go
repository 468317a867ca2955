package moe

import "github.com/drafthead/drafthead/hip"

// groupByExpert sorts the pairs by expert, in one block; pairs of one expert
// stay in their order:
//
//	order[offsets[e] … offsets[e+1]−1] = the pairs p with ids[p] = e, ascending
//	active[0 … activeCount−1]          = the experts with a pair, ascending
//
// Integers only: the twin serves every CPU device.
var groupByExpert = hip.NewKernel("group_by_expert",
	hip.Define("groupThreads", groupThreads)+groupByExpertHIP, groupByExpertTwin).Block(groupThreads)

const groupThreads = 256

type groupByExpertArgs struct {
	IDs         hip.Ptr // [Pairs] int32, 0 … Experts−1
	Offsets     hip.Ptr // [Experts+1] int32, written
	Order       hip.Ptr // [Pairs] int32, written
	Active      hip.Ptr // [min(Experts, Pairs)] int32, written up to the count
	ActiveCount hip.Ptr // [1] int32, written
	Pairs       int32
	Experts     int32
}

func launchGroupByExpert(d hip.Device, a *groupByExpertArgs) error {
	return groupByExpert.Launch(d, hip.Grid{Blocks: 1}, a)
}

func groupByExpertTwin(b *hip.Blocks, a *groupByExpertArgs) {
	pairs, experts := int(a.Pairs), int(a.Experts)
	ids := hip.In[int32](b, a.IDs, pairs)
	offsets := hip.Out[int32](b, a.Offsets, experts+1)
	order := hip.Out[int32](b, a.Order, pairs)
	active := hip.Out[int32](b, a.Active, min(experts, pairs))
	count := hip.Out[int32](b, a.ActiveCount, 1)

	clear(offsets)
	for _, e := range ids {
		offsets[e+1]++
	}
	n := 0
	for e := range experts {
		if offsets[e+1] > 0 {
			active[n] = int32(e)
			n++
		}
		offsets[e+1] += offsets[e]
	}
	count[0] = int32(n)

	next := hip.Scratch[int32](b, experts)
	copy(next, offsets)
	for pair, e := range ids {
		order[next[e]] = int32(pair)
		next[e]++
	}
}
