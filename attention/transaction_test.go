package attention

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// A Begin that one sequence has no pages for, or one of whose copies fails, changes nothing
// in any sequence.
func TestBeginIsAtomic(t *testing.T) {
	d := hiptest.NewFaulty(hip.NewReference(), errFault)
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), modelLayers, 8, CacheF32)
	m, other := newModeled(c), newModeled(c)
	m.grow(t, 0, 0, 10, 1)
	other.grow(t, 1, 0, 3, 2)
	seq, err := m.seq.Fork()
	require.NoError(t, err)
	live := []*modeled{m, other, m.fork(seq)}
	fork := live[2]
	first, second := Claim{Sequence: other.seq, From: 3, To: 5}, Claim{Sequence: seq, From: 0, To: 12, Spare: 9}

	second.To = 16
	_, err = c.Begin(first, second)
	requireFull(t, err, 4, 3)
	require.EqualError(t, err, "attention: begin: Sequences[1]: cache is full: 4 pages needed, 3 free; close or truncate other sequences, or make a larger cache")
	requireModel(t, c, live)

	second.To = 12
	for n := 1; n <= 3*modelLayers*3; n++ { // every copy of three pages, in turn
		d.FailAt(n, "alloc", "copy")
		_, err := c.Begin(first, second)
		require.ErrorIs(t, err, errFault)
		require.ErrorContains(t, err, "attention: begin: Sequences[1]: copy page")
		requireModel(t, c, live)
	}
	d.FailAt(0)
	tx, err := c.Begin(first, second)
	require.NoError(t, err)
	require.Zero(t, c.FreePages())
	require.Equal(t, []int{0, 0}, []int{tx.Spare(0), tx.Spare(1)})
	require.NoError(t, tx.Rollback())
	requireModel(t, c, live)
	require.Equal(t, 1, c.FreePages(), "copies stay")
	fork.grow(t, 1, 0, 12, 2)
	requireModel(t, c, live)
}

// Spare positions are given in the order of claims, up to the free pages, the positions,
// and rows that are there.
func TestSpare(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny() // pages of 4
	g.Rope.Positions = 18
	c := newCache(t, d, g, 1, 7, CacheF32)
	a, b := c.NewSequence(), c.NewSequence()
	tx, err := c.Begin(Claim{Sequence: a, To: 6, Spare: 7}, Claim{Sequence: b, To: 5, Spare: 64})
	require.NoError(t, err)
	require.Equal(t, []int{7, 3 + 4, 0, 0}, []int{tx.Spare(0), tx.Spare(1), tx.Spare(2), tx.Spare(-1)})
	require.Zero(t, c.FreePages())
	require.NoError(t, tx.Commit())
	require.Equal(t, []int{6, 5, 3}, []int{a.Len(), b.Len(), c.FreePages()})
	require.NoError(t, b.Close())

	tx, err = c.Begin(Claim{Sequence: a, From: 6, To: 9, Spare: math.MaxInt})
	require.NoError(t, err)
	require.Equal(t, 9, tx.Spare(0), "of 18 positions")
	require.NoError(t, tx.Rollback())
	tx, err = c.Begin(Claim{Sequence: a, From: 2, To: 4, Spare: 5})
	require.NoError(t, err)
	require.Zero(t, tx.Spare(0), "rows that stay are in the way")
	require.NoError(t, tx.Rollback())

	// Without a free page for a copy, a shared page has no room for spare rows.
	full := c.NewSequence()
	require.NoError(t, full.Reserve(18))
	fork, err := a.Fork()
	require.NoError(t, err)
	tx, err = c.Begin(Claim{Sequence: fork, From: 6, To: 6, Spare: 1})
	require.NoError(t, err)
	require.Zero(t, tx.Spare(0))
	require.NoError(t, tx.Commit())
	require.Equal(t, a.BlockTable(), fork.BlockTable())
}

// What was reserved ahead stays, and the spare rows leave nothing.
func TestCommitKeepsReservedPages(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 2, 8, CacheF32)
	s := c.NewSequence()
	require.NoError(t, s.Reserve(9))
	table := s.BlockTable()
	tx, err := c.Begin(Claim{Sequence: s, To: 2, Spare: 20})
	require.NoError(t, err)
	_, err = tx.Span(0, 0, 0, 22)
	require.NoError(t, err)
	_, err = tx.Span(0, 1, 21, 1)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.Equal(t, table, s.BlockTable())
	require.Equal(t, []int{2, 5}, []int{s.Len(), c.FreePages()})
	require.Equal(t, []presence{{end: 2}, {}}, s.written)
}

func TestSpanOfTransaction(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 2, 8, CacheF32)
	s, b := c.NewSequence(), NewBatch(c)
	tx, err := c.Begin(Claim{Sequence: s, To: 10, Spare: 2})
	require.NoError(t, err)
	span, err := tx.Span(0, 0, 0, 10)
	require.NoError(t, err)
	require.Equal(t, Span{of: tx, table: s.BlockTable(), rows: 10}, span)
	require.NoError(t, b.Upload(span))
	span, err = tx.Span(0, 1, 10, 1)
	require.NoError(t, err)
	require.Equal(t, Span{of: tx, table: s.BlockTable(), presence: []uint32{1 << 10}, position: 10, rows: 1}, span)
	require.NoError(t, b.Upload(span))

	for name, refused := range map[string]struct {
		claim, layer, from, rows int
		text                     string
	}{
		"claim":           {1, 0, 0, 1, "claim is 1, want 0 to 0"},
		"layer":           {0, 2, 0, 1, "layer is 2, want 0 to 1"},
		"negative layer":  {0, -1, 0, 1, "layer is -1, want 0 to 1"},
		"before":          {0, 0, -1, 1, "from is -1, want 0 to 12, positions that Sequences[0] claims"},
		"after":           {0, 0, 13, 1, "from is 13, want 0 to 12, positions that Sequences[0] claims"},
		"no rows":         {0, 0, 3, 0, "rows is 0, want 1 to 9, which Sequences[0] claims from there on"},
		"too many rows":   {0, 0, 3, 10, "rows is 10, want 1 to 9, which Sequences[0] claims from there on"},
		"rows past a int": {0, 0, 3, math.MaxInt, "rows is 9223372036854775807, want 1 to 9, which Sequences[0] claims from there on"},
	} {
		_, err := tx.Span(refused.claim, refused.layer, refused.from, refused.rows)
		require.ErrorIs(t, err, hip.ErrInput, name)
		require.EqualError(t, err, "attention: span: "+refused.text, name)
	}
	other := NewBatch(newCache(t, d, tiny(), 2, 8, CacheF32))
	require.EqualError(t, other.Upload(span), "attention: batch: Sequences[0].span is another cache's, want one of this cache")
	require.NoError(t, tx.Commit())
	err = b.Upload(span)
	require.EqualError(t, err, "attention: batch: Sequences[0].span is of a transaction that ended, want one of an open transaction: closed")
	require.ErrorIs(t, err, ErrClosed)
	_, err = tx.Span(0, 0, 0, 1)
	require.EqualError(t, err, "attention: span: transaction is closed")
	require.ErrorIs(t, err, ErrClosed)
	require.EqualError(t, tx.Commit(), "attention: commit: transaction is closed")
	require.NoError(t, tx.Rollback(), "can be deferred")
	require.Equal(t, 10, s.Len())
	require.NoError(t, b.Close())
}

func TestRefusedClaims(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny()
	g.Rope.Positions = 30
	c, other := newCache(t, d, g, 1, 8, CacheF32), newCache(t, d, g, 1, 8, CacheF32)
	s, closed := c.NewSequence(), c.NewSequence()
	require.NoError(t, closed.Close())
	good := Claim{Sequence: s, To: 4}
	table := func(to int, pages ...int32) Claim { return Claim{BlockTable: append([]int32{}, pages...), To: to} }
	for name, refused := range map[string]struct {
		claims []Claim
		rule   error
		text   string
	}{
		"none":                       {nil, nil, "claims is empty, want at least one"},
		"a zero claim":               {[]Claim{{}}, nil, "Sequences[0].Sequence is nil, and BlockTable too, want one of them"},
		"both":                       {[]Claim{{Sequence: s, BlockTable: []int32{1}, To: 1}}, nil, "Sequences[0].Sequence is given, and BlockTable too, want one of them"},
		"two kinds":                  {[]Claim{good, table(1, 1)}, nil, "Sequences[1].BlockTable is given, where the first claim has a Sequence, want Sequences or BlockTables, not both"},
		"another cache":              {[]Claim{good, {Sequence: other.NewSequence(), To: 1}}, nil, "Sequences[1].Sequence is another cache's, want one of this cache"},
		"a zero sequence":            {[]Claim{{Sequence: new(Sequence), To: 1}}, nil, "Sequences[0].Sequence is a zero Sequence, want one of this cache"},
		"twice":                      {[]Claim{good, {Sequence: c.NewSequence()}, good}, nil, "Sequences[2].Sequence is that of Sequences[0], want each once"},
		"closed":                     {[]Claim{good, {Sequence: closed, To: 1}}, ErrClosed, "Sequences[1].Sequence is closed, want an open one: closed"},
		"negative":                   {[]Claim{{Sequence: s, From: -1, To: 1}}, nil, "Sequences[0].From is -1, want at least 0"},
		"reversed":                   {[]Claim{{Sequence: s, From: 3, To: 2}}, nil, "Sequences[0].To is 2, want at least From, 3"},
		"negative spare":             {[]Claim{{Sequence: s, To: 2, Spare: -1}}, nil, "Sequences[0].Spare is -1, want at least 0"},
		"negative layers":            {[]Claim{{BlockTable: []int32{1}, To: 2, Layers: -1}}, nil, "Sequences[0].Layers is -1, want 0 to 1"},
		"more layers than there are": {[]Claim{{BlockTable: []int32{1}, To: 2, Layers: 2}}, nil, "Sequences[0].Layers is 2, want 0 to 1"},
		"past the positions":         {[]Claim{good, {Sequence: c.NewSequence(), To: 31}}, ErrPosition, "Sequences[1].To is 31, want at most 30, the positions that there are: position out of range"},
		"table past the positions":   {[]Claim{table(31, 0, 1, 2, 3, 4, 5, 6, 7)}, ErrPosition, "Sequences[0].To is 31, want at most 30, the positions that there are: position out of range"},
		"empty table":                {[]Claim{table(1)}, nil, "len(Sequences[0].BlockTable) is 0, want at least 1, for position 0"},
		"short table":                {[]Claim{table(4, 1), table(9, 2, 3)}, nil, "len(Sequences[1].BlockTable) is 2, want at least 3, for position 8"},
		"page past the cache":        {[]Claim{table(4, 1), table(5, 2, 8)}, nil, "Sequences[1].BlockTable[1] is 8, want a page, 0 to 7"},
		"negative page":              {[]Claim{table(5, -1, 1)}, nil, "Sequences[0].BlockTable[0] is -1, want a page, 0 to 7"},
		"page written twice":         {[]Claim{table(4, 1), table(5, 2, 1)}, nil, "Sequences[1].BlockTable[1] is 1, want a page of its own: rows are written to it as BlockTable[0] of Sequences[0]"},
		"page twice in a table":      {[]Claim{table(8, 3, 3)}, nil, "Sequences[0].BlockTable[1] is 3, want a page of its own: rows are written to it as BlockTable[0] of Sequences[0]"},
		"page read and written":      {[]Claim{{BlockTable: []int32{5, 3, 3}, From: 8, To: 9}}, nil, "Sequences[0].BlockTable[1] is 3, want a page of its own: rows are written to it as BlockTable[2] of Sequences[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := c.Begin(refused.claims...)
			require.Nil(t, tx)
			require.EqualError(t, err, "attention: begin: "+refused.text)
			require.ErrorIs(t, err, hip.ErrInput)
			if refused.rule != nil {
				require.ErrorIs(t, err, refused.rule)
			}
			require.Equal(t, c.Pages(), c.FreePages())
			require.NoError(t, s.Truncate(0), "not in use")
		})
	}
	_, err := new(Cache).Begin(table(0))
	require.ErrorIs(t, err, hip.ErrInput)
	require.NoError(t, c.Close())
	for _, claim := range []Claim{good, table(1, 0)} {
		_, err := c.Begin(claim)
		require.EqualError(t, err, "attention: begin: cache is closed")
		require.ErrorIs(t, err, ErrClosed)
	}
}

// An engine's block tables give spare positions as far as they have pages of their own, and
// may read each other's.
func TestSpareOfTables(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny() // pages of 4
	g.Rope.Positions = 30
	c := newCache(t, d, g, 1, 12, CacheF32)
	spare := func(claims ...Claim) (spare []int) {
		tx, err := c.Begin(claims...)
		require.NoError(t, err)
		defer tx.Rollback()
		for i := range claims {
			span, err := tx.Span(i, 0, claims[i].From, claims[i].To+tx.Spare(i)-claims[i].From)
			require.NoError(t, err)
			require.Equal(t, Span{of: tx, table: claims[i].BlockTable, position: claims[i].From, rows: claims[i].To + tx.Spare(i) - claims[i].From}, span)
			spare = append(spare, tx.Spare(i))
		}
		return spare
	}
	claim := func(from, to, spare int, pages ...int32) Claim {
		return Claim{BlockTable: pages, From: from, To: to, Spare: spare}
	}
	require.Equal(t, []int{3}, spare(claim(0, 5, 3, 0, 1)))
	require.Equal(t, []int{3}, spare(claim(0, 5, 9, 0, 1)), "the table ends")
	require.Equal(t, []int{3}, spare(claim(0, 5, 9, 0, 1, -1)), "no page")
	require.Equal(t, []int{7}, spare(claim(0, 5, 9, 0, 1, 2, 12)), "no page of the cache")
	require.Equal(t, []int{3}, spare(claim(0, 5, 9, 0, 1, 0)), "a page that is read")
	require.Equal(t, []int{3, 6}, spare(claim(4, 5, 9, 7, 1, 2), claim(4, 6, 9, 7, 2, 3, 1)), "pages that others write")
	require.Equal(t, []int{7, 2}, spare(claim(4, 5, 9, 7, 1, 2), claim(4, 6, 9, 7, 3, 2)), "in the order of claims")
	require.Equal(t, []int{2}, spare(claim(27, 28, 9, 0, 1, 2, 3, 4, 5, 6, 7)), "the positions end")
	require.Equal(t, []int{3}, spare(claim(4, 5, math.MaxInt, 0, 1)))
	require.Equal(t, 12, c.FreePages())
}

// A block table may say that only its first layers hold what came before. Rows of the others
// see what the transaction has marked there.
func TestLayersOfTables(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 3, 8, CacheF32)
	b := NewBatch(c)
	defer func() { require.NoError(t, b.Close()) }()
	table := []int32{5, 2, 7, 1}
	tx, err := c.Begin(Claim{BlockTable: table, From: 6, To: 9, Spare: 4, Layers: 1})
	require.NoError(t, err)
	defer tx.Rollback()
	for _, marked := range []struct {
		layer, from, rows int
		presence          []uint32
	}{
		{0, 6, 3, nil},
		{1, 9, 1, []uint32{1 << 9}},
		{2, 10, 1, []uint32{1 << 10}},
		{0, 11, 1, []uint32{0x1ff | 1<<11}}, // 9 and 10 are holes
		{1, 12, 1, []uint32{1<<9 | 1<<12}},
		{2, 6, 1, []uint32{1<<6 | 1<<10}},
	} {
		span, err := tx.Span(0, marked.layer, marked.from, marked.rows)
		require.NoError(t, err)
		require.Equal(t, Span{of: tx, table: table, presence: marked.presence, position: marked.from, rows: marked.rows}, span)
		require.NoError(t, b.Upload(span))
	}
}
