package attention

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// modelled is a sequence beside what it should be.
type modelled struct {
	seq      *Sequence
	length   int
	contents []map[int]float32 // by layer: position to what was written there
}

func (m *modelled) fork(seq *Sequence) *modelled {
	f := &modelled{seq: seq, length: m.length}
	for _, layer := range m.contents {
		clone := map[int]float32{}
		for p, v := range layer {
			clone[p] = v
		}
		f.contents = append(f.contents, clone)
	}
	return f
}

const modelLayers = 2

// TestSequencesAgainstModel does random operations on several sequences of one
// small cache and compares all contents, lengths and page counts with maps.
func TestSequencesAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		d := hip.NewReference()
		g := tiny()
		c := newCache(t, d, g, modelLayers, 12, CacheF32)
		live := []*modelled{newModelled(c)}
		stamp := float32(0)
		for range 150 {
			i := r.IntN(len(live))
			m := live[i]
			switch r.IntN(10) {
			case 0:
				n := r.IntN(m.length + 1)
				require.NoError(t, m.seq.Truncate(n))
				m.truncate(n)
			case 1:
				if len(live) < 6 {
					seq, err := m.seq.Fork()
					require.NoError(t, err)
					live = append(live, m.fork(seq))
				}
			case 2:
				require.NoError(t, m.seq.Close())
				live[i] = newModelled(c)
			case 3:
				before, pages, state := m.fork(nil), len(m.seq.table), m.seq.State()
				for range r.IntN(4) {
					from := r.IntN(m.length + 4)
					stamp++
					m.write(t, r.IntN(modelLayers), from, from+1+r.IntN(8), stamp)
				}
				require.NoError(t, m.seq.Restore(state))
				require.Len(t, m.seq.table, pages)
				m.restore(before)
			default:
				from, n := m.length, r.IntN(9)
				if r.IntN(3) == 0 && m.length > 0 {
					from = r.IntN(m.length) // rewrite
				}
				stamp++
				m.write(t, r.IntN(modelLayers), from, from+n, stamp)
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

func newModelled(c *Cache) *modelled {
	m := &modelled{seq: c.NewSequence()}
	for range modelLayers {
		m.contents = append(m.contents, map[int]float32{})
	}
	return m
}

// restore forgets where m was written since; what was written again stays.
func (m *modelled) restore(before *modelled) {
	m.length = before.length
	for layer, contents := range m.contents {
		for p := range contents {
			if _, there := before.contents[layer][p]; !there {
				delete(contents, p)
			}
		}
	}
}

func (m *modelled) truncate(n int) {
	m.length = n
	for _, layer := range m.contents {
		for p := range layer {
			if p >= n {
				delete(layer, p)
			}
		}
	}
}

// write reserves and writes from … to−1 of a layer, if there is room.
func (m *modelled) write(t *testing.T, layer, from, to int, stamp float32) {
	c := m.seq.cache
	table, free := m.seq.BlockTable(), c.FreePages()
	if err := m.seq.ReserveRange(from, to); err != nil {
		var full *CacheFullError
		require.ErrorAs(t, err, &full)
		require.Equal(t, free, full.Free)
		require.Greater(t, full.Need, full.Free)
		require.Equal(t, table, m.seq.BlockTable(), "nothing changed")
		require.Equal(t, free, c.FreePages(), "nothing changed")
		return
	}
	for p := from; p < to; p++ {
		page := m.seq.table[p/c.geometry.BlockSize]
		require.EqualValues(t, 1, c.pages.refs[page], "a page to be written is not shared")
		for _, at := range m.seq.places(layer, p) {
			require.NoError(t, hip.WriteOf(c.device, at, []float32{stamp + float32(p)/1000}))
		}
		m.contents[layer][p] = stamp + float32(p)/1000
		m.length = max(m.length, p+1)
	}
	require.NoError(t, m.seq.MarkWritten(layer, from, to))
}

// places are the first value of head 1's key, of its value, and of the index
// key at a position.
func (s *Sequence) places(layer, position int) [3]hip.Ptr {
	g, l := &s.cache.geometry, s.cache.layers[layer]
	page, slot := int64(s.table[position/g.BlockSize]), int64(position%g.BlockSize)
	head := ((page*int64(g.KVHeads)+1)*int64(g.BlockSize) + slot) * int64(g.HeadDim) * 4
	return [3]hip.Ptr{l.keys.Add(head), l.values.Add(head), l.indexKeys.Add((page*int64(g.BlockSize) + slot) * int64(g.IndexDim) * 4)}
}

func requireModel(t *testing.T, c *Cache, live []*modelled) {
	t.Helper()
	refs := make([]int32, c.Pages())
	for _, m := range live {
		require.Equal(t, m.length, m.seq.Len())
		for _, page := range m.seq.BlockTable() {
			refs[page]++
		}
		for layer, contents := range m.contents {
			contiguous, words := m.seq.Present(layer)
			set := map[int]bool{}
			for p, want := range contents {
				set[p] = true
				for _, at := range m.seq.places(layer, p) {
					require.Equal(t, []float32{want}, get[float32](t, c.device, at, 1), "layer %d, position %d", layer, p)
				}
			}
			requirePresence(t, set, contiguous, m.seq.written[layer].end, words)
		}
	}
	require.Equal(t, refs, c.pages.refs)
	used := 0
	for _, n := range refs {
		used += int(min(n, 1))
	}
	require.Equal(t, c.Pages()-used, c.FreePages())
}

func TestReserveIsAtomic(t *testing.T) {
	d := &failing{Device: hip.NewReference()}
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), modelLayers, 6, CacheF32)
	m := newModelled(c)
	m.write(t, 0, 0, 10, 1)
	seq, err := m.seq.Fork()
	require.NoError(t, err)
	fork := m.fork(seq)

	err = fork.seq.ReserveRange(0, 16)
	var full *CacheFullError
	require.ErrorAs(t, err, &full)
	require.ErrorIs(t, err, ErrCacheFull)
	require.Equal(t, CacheFullError{Need: 4, Free: 3}, *full, "three copies and a new page")
	requireModel(t, c, []*modelled{m, fork})

	for n := 1; n <= 3*modelLayers*3; n++ { // every copy of three pages, in turn
		d.failAt(n)
		require.ErrorIs(t, fork.seq.ReserveRange(0, 12), errInjected)
		requireModel(t, c, []*modelled{m, fork})
	}
	d.failAt(0)
	fork.write(t, 1, 0, 12, 2)
	requireModel(t, c, []*modelled{m, fork})
	require.Zero(t, c.FreePages())
}

// A reservation that was never written is given back by Truncate, and a shared
// one is replaced without a copy.
func TestReservedPages(t *testing.T) {
	d := &failing{Device: hip.NewReference()}
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 8, CacheF32)
	s := c.NewSequence()
	require.NoError(t, s.Reserve(0))
	require.Equal(t, 8, c.FreePages())
	require.NoError(t, s.Reserve(5))
	require.Equal(t, 6, c.FreePages())
	require.Zero(t, s.Len())
	require.NoError(t, s.Reserve(3), "already there")
	require.Equal(t, 6, c.FreePages())

	fork, err := s.Fork()
	require.NoError(t, err)
	d.failAt(1)
	require.NoError(t, fork.Reserve(5), "nothing to copy")
	require.Equal(t, 4, c.FreePages())
	require.NoError(t, s.Truncate(s.Len()))
	require.Equal(t, 6, c.FreePages())
}

func TestSpanOfSequence(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 2, 8, CacheF32)
	s, b := c.NewSequence(), NewBatch(c)
	require.NoError(t, s.Reserve(12))
	require.NoError(t, s.MarkWritten(0, 0, 10))
	require.NoError(t, s.MarkWritten(1, 10, 11))
	require.Equal(t, 11, s.Len())

	require.Nil(t, s.Span(0, 7, 3).Presence)
	require.NoError(t, b.Upload(s.Span(0, 7, 3)))
	require.Equal(t, []uint32{1 << 10}, s.Span(1, 10, 1).Presence)
	require.NoError(t, b.Upload(s.Span(1, 10, 1)))
	for name, span := range map[string]Span{
		"row not marked":     s.Span(0, 9, 2),
		"no row marked":      s.Span(0, 11, 1),
		"row before a hole":  s.Span(1, 9, 2),
		"layer out of range": s.Span(2, 0, 1),
	} {
		require.ErrorIs(t, b.Upload(span), ErrArgument, name)
	}
	require.NoError(t, b.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, b.Upload(s.Span(0, 0, 1)), ErrArgument, "closed")
}

// TestRestore: rows go, also those marked in a hole, and of the pages those that were not
// there before.
func TestRestore(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 2, 8, CacheF32) // pages of 4
	s := c.NewSequence()
	require.NoError(t, s.Reserve(3))
	require.NoError(t, s.MarkWritten(0, 0, 3))
	require.NoError(t, s.Reserve(7))
	state, table := s.State(), s.BlockTable()
	require.Equal(t, []int{3, 3, 5}, []int{s.Len(), len(table), c.FreePages()})
	require.NoError(t, s.ReserveRange(0, 20))
	require.NoError(t, s.MarkWritten(0, 3, 18))
	require.NoError(t, s.MarkWritten(1, 0, 2))
	for range 2 { // the state is not used up
		require.NoError(t, s.Restore(state))
		require.Equal(t, []int{3, state.Len(), 5}, []int{s.Len(), s.Len(), c.FreePages()})
		require.Equal(t, table, s.BlockTable())
		for layer, want := range []int{3, 0} {
			contiguous, words := s.Present(layer)
			require.True(t, contiguous == want && words == nil, "layer %d", layer)
		}
	}
	require.NoError(t, s.Close())
	require.Equal(t, 8, c.FreePages())
}

func TestRefusedSequenceCalls(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny()
	g.Rope.MaxPosition = 10
	c := newCache(t, d, g, 2, 8, CacheF32)
	s := c.NewSequence()
	require.NoError(t, s.Reserve(10))
	require.NoError(t, s.MarkWritten(0, 0, 6))
	for name, err := range map[string]error{
		"reserve past the rotation":       s.Reserve(5),
		"reserve a negative number":       s.Reserve(-1),
		"reserve a reversed range":        s.ReserveRange(4, 3),
		"reserve a negative range":        s.ReserveRange(-1, 3),
		"reserve range past the rotation": s.ReserveRange(0, 11),
		"mark what is not reserved":       s.MarkWritten(0, 6, 13),
		"mark a reversed range":           s.MarkWritten(0, 6, 5),
		"truncate to more":                s.Truncate(7),
		"truncate to less than nothing":   s.Truncate(-1),
	} {
		require.ErrorIs(t, err, ErrRange, name)
		var outside *RangeError
		require.ErrorAs(t, err, &outside, name)
	}
	require.EqualError(t, s.Truncate(9), "truncate: range outside of the sequence: positions [9, 9), want a range within [0, 7)")
	require.ErrorIs(t, s.MarkWritten(2, 0, 1), ErrArgument)
	require.ErrorIs(t, s.MarkWritten(-1, 0, 1), ErrArgument)
	contiguous, words := s.Present(5)
	require.True(t, contiguous == 0 && words == nil)

	open := c.NewSequence()
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "again")
	_, err := s.Fork()
	state := open.State()
	for _, err := range []error{err, s.Reserve(1), s.ReserveRange(0, 1), s.MarkWritten(0, 0, 0), s.Truncate(0), s.Restore(state)} {
		require.ErrorIs(t, err, ErrClosedSequence)
	}
	require.NoError(t, open.Reserve(1))
	state = open.State()
	require.NoError(t, open.Truncate(0))
	require.ErrorIs(t, open.Restore(state), ErrArgument, "pages that were given back")
	require.NoError(t, open.Reserve(1))
	require.ErrorIs(t, open.Restore(state), ErrArgument, "and others taken")
	require.ErrorIs(t, open.Restore(c.NewSequence().State()), ErrArgument, "of another sequence")
	require.ErrorIs(t, open.Restore(State{}), ErrArgument)
	require.NoError(t, c.Close())
	require.ErrorIs(t, open.Reserve(1), ErrClosedCache)
	_, err = open.Fork()
	require.ErrorIs(t, err, ErrClosedCache)
	require.NoError(t, open.Close())
}

// Sequences of one cache, forks of one parent among them, each in a goroutine.
func TestSequencesConcurrently(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 64, CacheF32)
	parent := c.NewSequence()
	require.NoError(t, parent.Reserve(10))
	require.NoError(t, parent.MarkWritten(0, 0, 10))
	errs := make([]error, 8)
	var group sync.WaitGroup
	for i := range errs {
		fork, err := parent.Fork()
		require.NoError(t, err)
		group.Go(func() {
			for round := range 50 {
				n := 1 + (i+round)%12
				errs[i] = errors.Join(errs[i], fork.Reserve(n), fork.MarkWritten(0, fork.Len(), fork.Len()+n), fork.Truncate(10-round%3), fork.ReserveRange(5, 7))
				errs[i] = errors.Join(errs[i], fork.Reserve(2), fork.MarkWritten(0, fork.Len(), 10), fork.Truncate(10))
			}
			errs[i] = errors.Join(errs[i], fork.Close())
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, parent.Close())
	require.Equal(t, 64, c.FreePages())
}
