package attention

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// modeled is a sequence beside what it should be: nothing is shared here, and everything
// is copied.
type modeled struct {
	seq      *Sequence
	length   int
	pages    int
	contents []map[int]float32 // by layer: position to what was written there
}

const modelLayers = 2

func newModeled(c *Cache) *modeled {
	m := &modeled{seq: c.NewSequence()}
	for range modelLayers {
		m.contents = append(m.contents, map[int]float32{})
	}
	return m
}

// fork copies the model for another sequence.
func (m *modeled) fork(seq *Sequence) *modeled {
	f := &modeled{seq: seq, length: m.length, pages: m.pages}
	for _, layer := range m.contents {
		f.contents = append(f.contents, maps.Clone(layer))
	}
	return f
}

func (m *modeled) truncate(n int) {
	m.length, m.pages = n, min(m.pages, blocksFor(n, m.seq.cache.geometry.BlockSize))
	m.forget(func(_, p int) bool { return p >= n })
}

func (m *modeled) forget(drop func(layer, position int) bool) {
	for layer, contents := range m.contents {
		maps.DeleteFunc(contents, func(p int, _ float32) bool { return drop(layer, p) })
	}
}

// write writes position p of a layer, whose pages are the sequence's alone.
func (m *modeled) write(t *testing.T, layer, p int, value float32) {
	c := m.seq.cache
	page := m.seq.table[p/c.geometry.BlockSize]
	require.EqualValues(t, 1, c.pages.refs[page], "a page to be written is not shared")
	for _, at := range m.seq.places(layer, p) {
		require.NoError(t, hip.WriteOf(c.device, at, []float32{value}))
	}
	m.contents[layer][p] = value
}

// grow writes positions from … to−1 of a layer in a transaction of their own.
func (m *modeled) grow(t *testing.T, layer, from, to int, stamp float32) {
	tx, err := m.seq.cache.Begin(Claim{Sequence: m.seq, From: from, To: to})
	require.NoError(t, err)
	_, err = tx.Span(0, layer, from, to-from)
	require.NoError(t, err)
	for p := from; p < to; p++ {
		m.write(t, layer, p, stamp+float32(p)/1000)
	}
	require.NoError(t, tx.Commit())
	m.length, m.pages = max(m.length, to), max(m.pages, blocksFor(to, m.seq.cache.geometry.BlockSize))
}

// places are the first value of head 1's key, of its value, and of the index
// key at a position.
func (s *Sequence) places(layer, position int) [3]hip.Ptr {
	g, l := &s.cache.geometry, s.cache.layers[layer]
	page, slot := int64(s.table[position/g.BlockSize]), int64(position%g.BlockSize)
	head := ((page*int64(g.KVHeads)+1)*int64(g.BlockSize) + slot) * int64(g.HeadDim) * 4
	return [3]hip.Ptr{l.keys.Add(head), l.values.Add(head), l.indexKeys.Add((page*int64(g.BlockSize) + slot) * int64(g.IndexDim) * 4)}
}

// requireModel compares all contents, lengths and pages with what they should be.
func requireModel(t *testing.T, c *Cache, live []*modeled) {
	t.Helper()
	refs := make([]int32, c.Pages())
	for _, m := range live {
		require.Equal(t, m.length, m.seq.Len())
		table := m.seq.BlockTable()
		require.Len(t, table, m.pages)
		for _, page := range table {
			refs[page]++
		}
		for layer, contents := range m.contents {
			set := map[int]bool{}
			for p, want := range contents {
				set[p] = true
				for _, at := range m.seq.places(layer, p) {
					require.Equal(t, []float32{want}, get[float32](t, c.device, at, 1), "layer %d, position %d", layer, p)
				}
			}
			written := &m.seq.written[layer]
			requirePresence(t, set, written.contiguous(), written.end, written.words)
		}
	}
	require.Equal(t, refs, c.pages.refs)
	used := 0
	for _, n := range refs {
		used += int(min(n, 1))
	}
	require.Equal(t, c.Pages()-used, c.FreePages())
}

// expected is what Begin should do, worked out page by page and position by position.
type expected struct {
	refs  []int32
	free  int
	spare []int
	full  int // claim that does not fit, or −1
	need  int // of that claim
}

// expect works out what the claims should get.
func expect(c *Cache, claims []Claim) expected {
	e := expected{refs: append([]int32(nil), c.pages.refs...), free: c.FreePages(), full: -1}
	tables := make([][]int32, len(claims)) // −1: a page that was taken
	size := c.geometry.BlockSize
	// grown returns a table with pages to write the positions in, and how many that took.
	grown := func(table []int32, from, to int) ([]int32, int) {
		table, taken := append([]int32(nil), table...), 0
		for p := from; p < to; p++ {
			if block := p / size; block < len(table) && table[block] >= 0 && e.refs[table[block]] > 1 {
				table[block] = -1
				taken++
			}
			for len(table) <= p/size {
				table = append(table, -1)
				taken++
			}
		}
		return table, taken
	}
	take := func(i int, table []int32, taken int) {
		for block, page := range tables[i] {
			if page != table[block] {
				e.refs[page]--
			}
		}
		tables[i], e.free = table, e.free-taken
	}
	for i, claim := range claims {
		tables[i] = claim.Sequence.table
		table, taken := grown(tables[i], claim.From, claim.To)
		if taken > e.free {
			e.full, e.need = i, taken
			return e
		}
		take(i, table, taken)
	}
	for i, claim := range claims {
		spare := min(claim.Spare, c.geometry.Rope.Positions-claim.To)
		if claim.To < claim.Sequence.length {
			spare = 0
		}
		for ; spare > 0; spare-- {
			if table, taken := grown(tables[i], claim.To, claim.To+spare); taken <= e.free {
				take(i, table, taken)
				break
			}
		}
		e.spare = append(e.spare, spare)
	}
	return e
}

// TestTransactionsAgainstModel does random operations on several sequences of one
// small cache and compares all contents, lengths and page counts with the model's.
func TestTransactionsAgainstModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 9))
		d := hiptest.NewFaulty(hip.NewReference(), errFault)
		g := tiny()
		g.Rope.Positions = 34
		c := newCache(t, d, g, modelLayers, 12, CacheF32)
		live := []*modeled{newModeled(c)}
		stamp := float32(0)
		for range 150 {
			i := r.IntN(len(live))
			m := live[i]
			switch r.IntN(12) {
			case 0:
				n := r.IntN(m.length + 1)
				require.NoError(t, m.seq.Truncate(n))
				m.truncate(n)
			case 1, 2:
				if len(live) < 6 {
					seq, err := m.seq.Fork()
					require.NoError(t, err)
					live = append(live, m.fork(seq))
				}
			case 3:
				require.NoError(t, m.seq.Close())
				require.Empty(t, m.seq.BlockTable())
				live[i] = newModeled(c)
			case 4:
				reserve(t, c, m, r.IntN(10))
			default:
				r.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
				stamp++
				transact(t, r, d, c, live[:1+r.IntN(min(3, len(live)))], live, stamp)
			}
			requireModel(t, c, live)
		}
		for _, m := range live {
			require.NoError(t, m.seq.Close())
		}
		require.Equal(t, c.Pages(), c.FreePages(), "no page leaked")
		require.NoError(t, c.Close())
		require.NoError(t, d.Close())
	}
}

// reserve reserves n positions, if there is room.
func reserve(t *testing.T, c *Cache, m *modeled, n int) {
	n = min(n, c.geometry.Rope.Positions-m.length)
	want := expect(c, []Claim{{Sequence: m.seq, From: m.length, To: m.length + n}})
	if err := m.seq.Reserve(n); want.full >= 0 {
		requireFull(t, err, want.need, want.free)
	} else if require.NoError(t, err); n > 0 {
		m.pages = max(m.pages, blocksFor(m.length+n, c.geometry.BlockSize))
	}
}

func requireFull(t *testing.T, err error, need, free int) {
	t.Helper()
	require.ErrorIs(t, err, ErrCacheFull)
	require.ErrorContains(t, err, fmt.Sprintf("cache is full: %d pages needed, %d free", need, free))
}

// errFault is what a device fails with.
var errFault = errors.New("fault")

// faulty is what [hiptest.NewFaulty] returns.
type faulty interface {
	hip.Device
	FailAt(n int, ops ...string) (calls int)
}

// transact claims, writes and commits or rolls back random rows of some sequences. Now and
// then a page copy of Begin fails.
func transact(t *testing.T, r *rand.Rand, d faulty, c *Cache, used, live []*modeled, stamp float32) {
	size, limit := c.geometry.BlockSize, c.geometry.Rope.Positions
	claims, before := make([]Claim, len(used)), make([]*modeled, len(used))
	for i, m := range used {
		from := m.length
		if r.IntN(3) == 0 {
			from = r.IntN(m.length + 4)
		}
		from = min(from, limit)
		claims[i] = Claim{Sequence: m.seq, From: from, To: min(from+r.IntN(9), limit), Spare: r.IntN(12)}
		before[i] = m.fork(nil)
	}
	want := expect(c, claims)
	failAt := 0
	if r.IntN(4) == 0 {
		failAt = 1 + r.IntN(12)
	}
	d.FailAt(failAt, "alloc", "copy")
	tx, err := c.Begin(claims...)
	failed := d.FailAt(0) >= failAt && failAt > 0
	switch {
	case want.full >= 0:
		requireFull(t, err, want.need, want.free)
		require.ErrorContains(t, err, "Sequences["+string(rune('0'+want.full))+"]")
		return
	case failed:
		require.ErrorIs(t, err, errFault)
		require.ErrorContains(t, err, "attention: begin: Sequences[")
		return
	}
	require.NoError(t, err)
	taken := c.FreePages()
	require.Equal(t, want.free, taken)
	for i, m := range used {
		require.Equal(t, want.spare[i], tx.Spare(i), "%+v", claims[i])
		require.Equal(t, before[i].length, m.seq.Len(), "until Commit")
		for range r.IntN(4) {
			layer, from := r.IntN(modelLayers), claims[i].From
			all := claims[i].To + want.spare[i] - from
			if all == 0 {
				continue
			}
			first := r.IntN(all)
			rows := 1 + r.IntN(all-first)
			span, err := tx.Span(i, layer, from+first, rows)
			require.NoError(t, err)
			require.Equal(t, m.seq.table, span.table)
			for p := from + first; p < from+first+rows; p++ {
				m.write(t, layer, p, stamp+float32(p)/1000)
				require.True(t, span.presence == nil || span.presence[p/32]>>(p%32)&1 != 0)
			}
		}
	}
	if r.IntN(2) == 0 {
		require.NoError(t, tx.Rollback())
		for i, m := range used {
			m.length, m.pages = before[i].length, before[i].pages
			m.forget(func(layer, p int) bool { _, was := before[i].contents[layer][p]; return !was })
		}
		return
	}
	require.NoError(t, tx.Commit())
	for i, m := range used {
		claim := claims[i]
		if claim.From < claim.To {
			m.length, m.pages = max(m.length, claim.To), max(m.pages, blocksFor(claim.To, size))
		}
		m.forget(func(layer, p int) bool {
			_, was := before[i].contents[layer][p]
			return p >= claim.To && !was
		})
	}
}
