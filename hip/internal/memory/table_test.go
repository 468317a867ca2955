package memory

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// plain is the simplest table: what each address belongs to.
type plain struct {
	of        [300]int // region at each address; 0: none
	regions   map[int]Region
	adoptions map[int]int
}

func (p *plain) insert(id int, r Region) bool {
	if same := p.of[r.Base]; same != 0 && p.regions[same].Base == r.Base {
		old := p.regions[same]
		if !old.Adopted || !r.Adopted || old.Size != r.Size || old.Writable != r.Writable {
			return false
		}
		p.adoptions[same]++
		return true
	}
	for at := r.Base; at < r.Base+uint64(r.Size); at++ {
		if p.of[at] != 0 {
			return false
		}
	}
	for at := r.Base; at < r.Base+uint64(r.Size); at++ {
		p.of[at] = id
	}
	p.regions[id], p.adoptions[id] = r, 1
	return true
}

func (p *plain) remove(base uint64) bool {
	id := p.of[base]
	if id == 0 || p.regions[id].Base != base {
		return false
	}
	if p.adoptions[id]--; p.adoptions[id] > 0 {
		return true
	}
	for at := range p.of {
		if p.of[at] == id {
			p.of[at] = 0
		}
	}
	delete(p.regions, id)
	return true
}

// known reports whether n bytes, at least one, lie in one region.
func (p *plain) known(at uint64, n int64, write bool) bool {
	id := p.of[at]
	for i := at; i < at+uint64(n); i++ {
		if id == 0 || p.of[i] != id {
			return false
		}
	}
	return p.regions[id].Writable || !write
}

// TestTableOfRandomRegions compares what the table says with the simplest of tables.
func TestTableOfRandomRegions(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 4))
		table, want := New(), &plain{regions: map[int]Region{}, adoptions: map[int]int{}}
		for id := 1; id < 400; id++ {
			region := Region{Base: uint64(1 + r.IntN(200)), Size: int64(1 + r.IntN(30)), Writable: r.IntN(3) > 0, Adopted: r.IntN(2) > 0}
			if known := len(want.regions); known > 0 && r.IntN(3) == 0 { // one that is there
				for _, old := range want.regions {
					region = old
					break
				}
			}
			if r.IntN(2) == 0 {
				require.Equal(t, want.insert(id, region), table.Insert(region) == nil, "%+v", region)
			} else {
				before, removed := table.Removed(), len(want.regions)
				_, err := table.Remove(region.Base)
				require.Equal(t, want.remove(region.Base), err == nil, "%+v", region)
				require.EqualValues(t, removed-len(want.regions), table.Removed()-before)
			}
			bytes, live := table.InUse()
			require.Len(t, want.regions, live)
			for _, old := range want.regions {
				if !old.Adopted {
					bytes -= old.Size
				}
			}
			require.Zero(t, bytes, "of allocations alone")
			for range 30 {
				at, n, write := uint64(1+r.IntN(240)), int64(1+r.IntN(40)), r.IntN(2) > 0
				require.Equal(t, want.known(at, n, write), table.Check(at, n, write) == nil, "%d bytes at %d", n, at)
			}
		}
	}
}

func TestRangesThatOverflow(t *testing.T) {
	table := New()
	require.NoError(t, table.Insert(Region{Base: 1000, Size: 100, Writable: true}))
	for _, c := range []struct {
		at uint64
		n  int64
	}{{1000, math.MaxInt64}, {1099, math.MaxInt64}, {1050, -1}, {1000, -100}, {math.MaxUint64, 1}, {0, 1}, {0, 0}, {999, 0}, {1101, 0}} {
		require.ErrorIs(t, table.Check(c.at, c.n, false), fail.Access, "%+v", c)
	}
	require.NoError(t, table.Check(1100, 0, true), "nothing, at the end")
}

func TestClosedTable(t *testing.T) {
	table := New()
	require.NoError(t, table.Insert(Region{Base: 10, Size: 5}))
	require.False(t, table.Closed())
	require.True(t, table.Close())
	require.False(t, table.Close(), "twice")
	require.True(t, table.Closed())
	require.Empty(t, table.Regions())
	require.ErrorIs(t, table.Insert(Region{Base: 10, Size: 5}), fail.Closed)
	_, err := table.Remove(10)
	require.ErrorIs(t, err, fail.Closed)
	require.ErrorIs(t, table.Check(10, 1, false), fail.Closed)
	bytes, live := table.InUse()
	require.Zero(t, bytes)
	require.Zero(t, live)
}

// TestLookupsBesideChanges: a region that stays is found whatever comes and goes beside it.
// The race detector sees whether a snapshot is changed.
func TestLookupsBesideChanges(t *testing.T) {
	table := New()
	require.NoError(t, table.Insert(Region{Base: 500, Size: 10, Mem: make([]byte, 10)}))
	var group sync.WaitGroup
	errs := make([]error, 4)
	for g := range errs {
		group.Go(func() {
			for i := range 500 {
				base := uint64(1000*(g+1) + i)
				if errs[g] == nil {
					errs[g] = table.Insert(Region{Base: base, Size: 1})
				}
				if _, err := table.Resolve("read", 502, 3, false); err != nil {
					errs[g] = fmt.Errorf("round %d: %w", i, err)
				}
				if _, err := table.Remove(base); err != nil {
					errs[g] = err
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}
