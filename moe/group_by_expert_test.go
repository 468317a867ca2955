package moe

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

type groups struct {
	offsets, order, active []int32
}

func runGroup(t *testing.T, d hip.Device, ids []int32, experts int) groups {
	t.Helper()
	return runGroupHeld(t, d, ids, experts, 0, experts)
}

// runGroupHeld is runGroup of a rank that holds held experts from first on. order is that
// of their pairs.
func runGroupHeld(t *testing.T, d hip.Device, ids []int32, experts, first, held int) groups {
	t.Helper()
	const stale = -7
	most := min(held, len(ids))
	before := make([]int32, len(ids))
	for i := range before {
		before[i] = stale
	}
	a := groupByExpertArgs{
		IDs: upload(t, d, ids), Offsets: alloc(t, d, held+1), Order: upload(t, d, before),
		Active: alloc(t, d, most), ActiveCount: alloc(t, d, 1),
		Pairs: int32(len(ids)), Experts: int32(experts), First: int32(first), Held: int32(held),
	}
	require.NoError(t, launchGroupByExpert(d, &a))
	count := read[int32](t, d, a.ActiveCount, 1)[0]
	require.LessOrEqual(t, int(count), most)
	offsets, order := read[int32](t, d, a.Offsets, held+1), read[int32](t, d, a.Order, len(ids))
	require.LessOrEqual(t, int(offsets[held]), len(ids))
	require.Equal(t, before[offsets[held]:], order[offsets[held]:], "stays")
	return groups{offsets, order[:offsets[held]], read[int32](t, d, a.Active, most)[:count]}
}

// TestGroupByExpertHeld: pairs of other experts are left out, and the experts held are
// counted from the first.
func TestGroupByExpertHeld(t *testing.T) {
	ids := []int32{5, 2, 2, 7, 0, 5}
	for _, c := range []struct {
		name        string
		first, held int
		want        groups
	}{
		{"the first", 0, 1, groups{[]int32{0, 1}, []int32{4}, []int32{0}}},
		{"the middle", 2, 4, groups{[]int32{0, 2, 2, 2, 4}, []int32{1, 2, 0, 5}, []int32{0, 3}}},
		{"the last", 6, 2, groups{[]int32{0, 0, 1}, []int32{3}, []int32{1}}},
		{"none picked", 3, 2, groups{[]int32{0, 0, 0}, []int32{}, []int32{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d hip.Device) {
				require.Equal(t, c.want, runGroupHeld(t, d, ids, 8, c.first, c.held))
			})
		})
	}
}

func TestGroupByExpert(t *testing.T) {
	for _, c := range []struct {
		name    string
		ids     []int32
		experts int
		want    groups
	}{
		{"one pair", []int32{2}, 4, groups{[]int32{0, 0, 0, 1, 1}, []int32{0}, []int32{2}}},
		{"one expert", []int32{0, 0, 0}, 1, groups{[]int32{0, 3}, []int32{0, 1, 2}, []int32{0}}},
		{"first and last expert", []int32{3, 0, 3}, 4, groups{[]int32{0, 1, 1, 1, 3}, []int32{1, 0, 2}, []int32{0, 3}}},
		{"the picture of the package", []int32{5, 2, 2, 7}, 8, groups{
			[]int32{0, 0, 0, 2, 2, 2, 3, 3, 4}, []int32{1, 2, 0, 3}, []int32{2, 5, 7},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d hip.Device) {
				require.Equal(t, c.want, runGroup(t, d, c.ids, c.experts))
			})
		})
	}
}

// TestGroupByExpertProperties: order is a permutation, sorted by expert and
// then by pair, and offsets and active say where each expert lies.
func TestGroupByExpertProperties(t *testing.T) {
	onEach(t, func(t *testing.T, d hip.Device) {
		for _, experts := range []int{1, 2, 3, 16, 128, 255, 256, 257, 600} {
			for _, pairs := range []int{1, 2, 3, 63, 64, 65, 255, 256, 257, 1030} {
				rng := rand.New(rand.NewPCG(uint64(experts), uint64(pairs)))
				ids := make([]int32, pairs)
				for i := range ids {
					ids[i] = int32(rng.IntN(experts))
				}
				g := runGroup(t, d, ids, experts)
				seen := make([]bool, pairs)
				var active []int32
				for e := range experts {
					for at := g.offsets[e]; at < g.offsets[e+1]; at++ {
						pair := g.order[at]
						require.Equal(t, int32(e), ids[pair])
						require.True(t, at == g.offsets[e] || g.order[at-1] < pair, "pairs in their order")
						seen[pair] = true
					}
					if g.offsets[e+1] > g.offsets[e] {
						active = append(active, int32(e))
					}
				}
				require.NotContains(t, seen, false)
				require.Equal(t, active, g.active)
				require.Equal(t, int32(pairs), g.offsets[experts])
			}
		}
	})
}

// TestGroupByExpertBadID: an id that is not an expert's fails the launch.
func TestGroupByExpertBadID(t *testing.T) {
	for _, id := range []int32{-1, 4, 1 << 30} {
		d := hip.NewReference()
		a := groupByExpertArgs{
			IDs: upload(t, d, []int32{0, id}), Offsets: alloc(t, d, 5), Order: alloc(t, d, 2),
			Active: alloc(t, d, 2), ActiveCount: alloc(t, d, 1), Pairs: 2, Experts: 4, Held: 4,
		}
		err := launchGroupByExpert(d, &a)
		require.ErrorIs(t, err, hip.ErrAccess, "id %d", id)
		require.ErrorContains(t, err, "kernel group_by_expert: ")
	}
}
