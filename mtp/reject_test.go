package mtp_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// refusal is what a test of bad input starts from: a sequence of 9 drafted rows
// on a device that counts launches.
type refusal struct {
	t        testing.TB
	ctx      context.Context
	device   *counting
	head     *mtp.Head
	cache    *mtp.Cache
	sequence *mtp.Sequence
	x        passage
}

const refusalRows, refusalPages = 9, 5

func newRefusal(t testing.TB, c chainCase) *refusal {
	t.Helper()
	r := &refusal{t: t, ctx: t.Context(), x: randomPassage(500, maxTokens+8)}
	r.device = &counting{Device: openDevice(t, hip.NewReference())}
	options := c.options()
	options.Device = r.device
	r.head = load(t, synthetic{modules: c.modules}.files(t), options)
	r.cache = newCache(t, r.head, refusalPages)
	r.sequence = r.cache.NewSequence()
	draft(t, r.head, r.x.batch(r.sequence, 0, refusalRows), 2)
	return r
}

// good is a batch that is not refused.
func (r *refusal) good() *mtp.Batch { return r.x.batch(r.sequence, refusalRows, refusalRows+3) }

// table is an engine's own pages, enough for all positions that the cache has room for.
func (r *refusal) table() *mtp.Batch {
	b := r.x.batch(nil, 0, 3)
	b.Sequences[0].BlockTable, b.Cache = []int32{4, 3, 2, 1, 0}, newCache(r.t, r.head, refusalPages)
	return b
}

// edit changes a batch that would be good.
func (r *refusal) edit(b *mtp.Batch, change func(b *mtp.Batch, rows *mtp.Rows)) *mtp.Batch {
	change(b, &b.Sequences[0])
	return b
}

func (r *refusal) draft(b *mtp.Batch, k int) error {
	drafts, err := draftOf(r.ctx, r.head, b, k)
	require.Nil(r.t, drafts)
	return err
}

func (r *refusal) forward(b *mtp.Batch, step int) error {
	hidden, err := r.head.Forward(r.ctx, b, step)
	require.Zero(r.t, hidden)
	return err
}

// badBatches are refused by Forward and Draft alike.
var badBatches = map[string]struct {
	change func(r *refusal, b *mtp.Batch, rows *mtp.Rows)
	want   error
}{
	"no sequences":            {func(_ *refusal, b *mtp.Batch, _ *mtp.Rows) { b.Sequences = nil }, mtp.ErrInput},
	"no tokens":               {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Tokens = nil }, mtp.ErrInput},
	"negative token":          {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Tokens = []int32{1, 2, -1} }, mtp.ErrToken},
	"token past the end":      {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Tokens = []int32{1, vocabSize, 2} }, mtp.ErrToken},
	"largest token":           {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Tokens = []int32{math.MaxInt32, 1, 2} }, mtp.ErrToken},
	"no hidden states":        {func(_ *refusal, b *mtp.Batch, _ *mtp.Rows) { b.Hidden = mtp.Hidden{} }, mtp.ErrInput},
	"hidden states too short": {func(_ *refusal, b *mtp.Batch, _ *mtp.Rows) { b.Hidden.Float32 = b.Hidden.Float32[1:] }, mtp.ErrInput},
	"hidden states too long": {func(_ *refusal, b *mtp.Batch, _ *mtp.Rows) {
		b.Hidden = mtp.Hidden{BFloat16: make([]uint16, 4*hiddenSize)}
	}, mtp.ErrInput},
	"hidden states in two forms": {func(_ *refusal, b *mtp.Batch, _ *mtp.Rows) { b.Hidden.BFloat16 = narrow(b.Hidden.Float32) }, mtp.ErrInput},
	"embeddings too short":       {func(_ *refusal, b *mtp.Batch, _ *mtp.Rows) { b.Embeds.Float32 = make([]float32, hiddenSize) }, mtp.ErrInput},
	"negative position":          {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Position = -1 }, mtp.ErrInput},
	"position beyond Len":        {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Position++ }, mtp.ErrInput},
	"largest position":           {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Position = math.MaxInt }, mtp.ErrInput},
	"sequence and table":         {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.BlockTable = []int32{0} }, mtp.ErrInput},
	"neither sequence nor table": {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) { rows.Sequence = nil }, mtp.ErrInput},
	"table without cache": {func(_ *refusal, _ *mtp.Batch, rows *mtp.Rows) {
		rows.Sequence, rows.BlockTable = nil, []int32{0, 1, 2}
	}, mtp.ErrInput},
	"same sequence twice": {func(r *refusal, b *mtp.Batch, _ *mtp.Rows) { *b = *join(r.good(), r.good()) }, mtp.ErrInput},
	"two caches": {func(r *refusal, b *mtp.Batch, _ *mtp.Rows) {
		*b = *join(r.good(), r.x.batch(newCache(r.t, r.head, 1).NewSequence(), 0, 1))
	}, mtp.ErrInput},
	"another head's cache": {func(r *refusal, _ *mtp.Batch, rows *mtp.Rows) {
		other := load(r.t, synthetic{}.files(r.t), mtp.Options{})
		rows.Sequence = newCache(r.t, other, 5).NewSequence()
	}, mtp.ErrInput},
	"closed sequence": {func(r *refusal, _ *mtp.Batch, rows *mtp.Rows) {
		rows.Sequence = r.cache.NewSequence()
		require.NoError(r.t, rows.Sequence.Close())
	}, mtp.ErrClosed},
	"closed cache": {func(r *refusal, _ *mtp.Batch, rows *mtp.Rows) {
		cache := newCache(r.t, r.head, 2)
		rows.Sequence, rows.Position = cache.NewSequence(), 0
		require.NoError(r.t, cache.Close())
	}, mtp.ErrClosed},
	"canceled": {func(r *refusal, _ *mtp.Batch, _ *mtp.Rows) {
		ctx, cancel := context.WithCancel(r.ctx)
		cancel()
		r.ctx = ctx
	}, context.Canceled},
	"full cache": {func(r *refusal, b *mtp.Batch, _ *mtp.Rows) { *b = *r.x.batch(r.sequence, refusalRows, 21) }, attention.ErrCacheFull},
	"full cache for the second sequence": {func(r *refusal, b *mtp.Batch, _ *mtp.Rows) {
		*b = *join(r.good(), r.x.batch(r.cache.NewSequence(), 0, 9))
	}, attention.ErrCacheFull},
	"positions that are not covered": {func(r *refusal, b *mtp.Batch, _ *mtp.Rows) {
		*b = *r.x.batch(r.sequence, refusalRows, maxTokens+1)
	}, attention.ErrPosition},
	"Sequences and tables": {func(r *refusal, b *mtp.Batch, _ *mtp.Rows) {
		b.Sequences = append(b.Sequences, mtp.Rows{BlockTable: []int32{0}, Tokens: []int32{1}})
		b.Cache, b.Hidden.Float32 = r.cache, append(b.Hidden.Float32, make([]float32, hiddenSize)...)
	}, mtp.ErrInput},
}

// TestBadBatches: what is refused leaves the sequences, the pages and the device
// alone, and the next good call gives what it would have given.
func TestBadBatches(t *testing.T) {
	for _, c := range []chainCase{chainCases[0], chainCases[5], chainCases[7]} {
		t.Run(c.name, func(t *testing.T) {
			r := newRefusal(t, c)
			want := draft(t, r.head, r.good(), 3)
			for name, bad := range badBatches {
				t.Run(name, func(t *testing.T) {
					r := newRefusal(t, c)
					b := r.good()
					bad.change(r, b, &b.Sequences[0])
					free, launches := r.cache.FreePages(), r.device.launches
					require.ErrorIs(t, r.draft(b, 3), bad.want)
					require.ErrorIs(t, r.forward(b, 1), bad.want)
					require.Equal(t, []int{refusalRows, free, launches}, []int{r.sequence.Len(), r.cache.FreePages(), r.device.launches})
					require.Equal(t, want, draft(t, r.head, r.good(), 3))
				})
			}
		})
	}
}

// TestBadCalls: refusals that belong to one method.
func TestBadCalls(t *testing.T) {
	one, aligned := chainCases[0], chainCases[7]
	hidden := mtp.Hidden{Float32: make([]float32, 2*hiddenSize)}
	for name, c := range map[string]struct {
		chain chainCase
		call  func(r *refusal) error
		want  error
	}{
		"Draft of less":       {one, func(r *refusal) error { return r.draft(r.good(), -1) }, mtp.ErrInput},
		"Draft of too many":   {one, func(r *refusal) error { return r.draft(r.good(), 65) }, mtp.ErrInput},
		"Draft before Len":    {one, func(r *refusal) error { return r.draft(r.x.batch(r.sequence, 7, 11), 2) }, mtp.ErrInput},
		"Draft over MaxDraft": {aligned, func(r *refusal) error { return r.draft(r.good(), 5) }, mtp.ErrInput},
		"Draft aligned by table without rows again": {aligned, func(r *refusal) error {
			return r.draft(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.Position = 5 }), 2)
		}, mtp.ErrInput},
		"Draft aligned of too few embeddings": {aligned, func(r *refusal) error {
			return r.draft(r.edit(r.good(), func(b *mtp.Batch, _ *mtp.Rows) { b.Embeds.Float32 = make([]float32, 2*hiddenSize) }), 2)
		}, mtp.ErrInput},
		"Draft by table past the positions": {one, func(r *refusal) error {
			return r.draft(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) {
				rows.Position, rows.BlockTable = maxTokens-2, make([]int32, 30)
			}), 3)
		}, attention.ErrPosition},
		"Forward at the last table position and one": {one, func(r *refusal) error {
			return r.forward(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) {
				rows.Position, rows.BlockTable = maxTokens-2, make([]int32, 30)
			}), 0)
		}, attention.ErrPosition},
		"Forward at the largest position of a table": {one, func(r *refusal) error {
			return r.forward(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.Position = math.MaxInt - 1 }), 0)
		}, attention.ErrPosition},
		"Forward by short table": {one, func(r *refusal) error {
			return r.forward(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.Position = 18 }), 0)
		}, mtp.ErrInput},
		"Forward by page outside": {one, func(r *refusal) error {
			return r.forward(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.BlockTable[0] = refusalPages }), 0)
		}, mtp.ErrInput},
		"Forward by a page twice": {one, func(r *refusal) error {
			return r.forward(r.edit(r.table(), func(b *mtp.Batch, rows *mtp.Rows) { rows.Position, rows.BlockTable[1] = 2, 4 }), 0)
		}, mtp.ErrInput},
		"Forward by a page that is read before": {one, func(r *refusal) error {
			return r.forward(r.edit(r.table(), func(b *mtp.Batch, rows *mtp.Rows) { rows.Position, rows.BlockTable[2] = 8, 4 }), 0)
		}, mtp.ErrInput},
		"Draft by two tables of the same pages": {one, func(r *refusal) error {
			b := r.table()
			both := join(b, r.table())
			both.Cache = b.Cache
			return r.draft(both, 2)
		}, mtp.ErrInput},
		"Forward by negative page": {one, func(r *refusal) error {
			return r.forward(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.BlockTable[0] = -1 }), 0)
		}, mtp.ErrInput},
		"Forward at step -1": {one, func(r *refusal) error { return r.forward(r.good(), -1) }, mtp.ErrInput},
		"Logits at step -1":  {one, func(r *refusal) error { return second(r.head.Logits(r.ctx, hidden, nil, -1)) }, mtp.ErrInput},
		"Logits of row 2":    {one, func(r *refusal) error { return second(r.head.Logits(r.ctx, hidden, []int{0, 2}, 0)) }, mtp.ErrInput},
		"Logits of row -1":   {one, func(r *refusal) error { return second(r.head.FinalNorm(r.ctx, hidden, []int{-1}, 0)) }, mtp.ErrInput},
		"Logits of a device's row -1": {one, func(r *refusal) error {
			return second(r.head.Logits(r.ctx, mtp.Hidden{Device: 64}, []int{1, -1}, 0))
		}, mtp.ErrInput},
		"Logits outside of the device": {one, func(r *refusal) error {
			return second(r.head.Logits(r.ctx, mtp.Hidden{Device: 64}, []int{math.MaxInt64 / hiddenSize / 8}, 0))
		}, hip.ErrAccess},
		"Logits of all rows of a device": {one, func(r *refusal) error { return second(r.head.Logits(r.ctx, mtp.Hidden{Device: 64}, nil, 0)) }, mtp.ErrInput},
		"Logits of a part of a row": {one, func(r *refusal) error {
			return second(r.head.Logits(r.ctx, mtp.Hidden{Float32: make([]float32, hiddenSize+1)}, nil, 0))
		}, mtp.ErrInput},
		"Embed outside":              {one, func(r *refusal) error { return second(r.head.Embed(r.ctx, []int32{0, vocabSize})) }, mtp.ErrToken},
		"Embed negative":             {one, func(r *refusal) error { return second(r.head.Embed(r.ctx, []int32{-1})) }, mtp.ErrToken},
		"Truncate up":                {one, func(r *refusal) error { return r.sequence.Truncate(refusalRows + 1) }, mtp.ErrInput},
		"Truncate negative":          {one, func(r *refusal) error { return r.sequence.Truncate(-1) }, mtp.ErrInput},
		"Reserve too much":           {one, func(r *refusal) error { return r.sequence.Reserve(20) }, attention.ErrCacheFull},
		"Reserve negative":           {one, func(r *refusal) error { return r.sequence.Reserve(-1) }, mtp.ErrInput},
		"Reserve past the positions": {one, func(r *refusal) error { return r.sequence.Reserve(maxTokens - refusalRows + 1) }, attention.ErrPosition},
		"Reserve largest":            {one, func(r *refusal) error { return r.sequence.Reserve(math.MaxInt) }, attention.ErrPosition},
		"cache of no pages":          {one, func(r *refusal) error { return second(r.head.NewCache(0)) }, mtp.ErrInput},
		"Buffers of no layer":        {one, func(r *refusal) error { _, _, err := r.cache.Buffers(1); return err }, mtp.ErrInput},
		"cache of too many":          {one, func(r *refusal) error { return second(r.head.NewCache(math.MaxInt32)) }, mtp.ErrInput},
	} {
		t.Run(name, func(t *testing.T) {
			pristine, r := newRefusal(t, c.chain), newRefusal(t, c.chain)
			want := draft(t, pristine.head, pristine.good(), 3)
			free, launches := r.cache.FreePages(), r.device.launches
			require.ErrorIs(t, c.call(r), c.want)
			require.Equal(t, []int{refusalRows, free, launches}, []int{r.sequence.Len(), r.cache.FreePages(), r.device.launches})
			require.Equal(t, want, draft(t, r.head, r.good(), 3))
		})
	}
}

// second returns a call's error.
func second[T any](_ T, err error) error { return err }

// TestInputError: the error says where, what, and what would do.
func TestInputError(t *testing.T) {
	r := newRefusal(t, chainCases[0])
	err := r.draft(join(r.good(), r.edit(r.x.batch(r.cache.NewSequence(), 0, 3), func(_ *mtp.Batch, rows *mtp.Rows) {
		rows.Tokens = []int32{1, 2, vocabSize}
	})), 2)
	var input *mtp.InputError
	require.ErrorAs(t, err, &input)
	require.Equal(t, &mtp.InputError{Op: "mtp", Sequence: 2, Field: "Tokens[2]", Got: int32(vocabSize), Want: "0 to 47", Err: mtp.ErrToken}, input)
	require.EqualError(t, err, "mtp: Sequences[1].Tokens[2] is 48, want 0 to 47: token id outside of the vocabulary")
	require.ErrorIs(t, err, mtp.ErrInput)

	err = r.draft(r.x.batch(r.sequence, refusalRows, 21), 1)
	require.ErrorIs(t, err, attention.ErrCacheFull)
	require.EqualError(t, err, "mtp: Sequences[0]: cache is full: 3 pages needed, 2 free; close or truncate other sequences, or make a larger cache")
	require.NotErrorIs(t, err, mtp.ErrInput)
	full, is := errors.AsType[*attention.CacheFullError](r.draft(join(r.good(), r.x.batch(r.cache.NewSequence(), 0, 9)), 2))
	require.True(t, is)
	require.Equal(t, &attention.CacheFullError{Op: "mtp", Sequence: 2, Needed: 3, Free: 2}, full)
	full, is = errors.AsType[*attention.CacheFullError](r.sequence.Reserve(20))
	require.True(t, is)
	require.Equal(t, "mtp: reserve", full.Op)
}

// TestRefusalsSayWhatToDo: what is found by package attention's rules is told in the
// words of the batch.
func TestRefusalsSayWhatToDo(t *testing.T) {
	r := newRefusal(t, chainCases[0])
	for want, err := range map[string]error{
		"mtp: new cache: pages is 0, want 1 to 536870911":                          second(r.head.NewCache(0)),
		"mtp: truncate: n is 10000, want 0 to 9, the positions of the sequence":    r.sequence.Truncate(10000),
		"mtp: reserve: n is -1, want at least 0":                                   r.sequence.Reserve(-1),
		"mtp: hidden is not given, want one of Float32, BFloat16, Device":          second(r.head.Logits(r.ctx, mtp.Hidden{}, nil, 0)),
		"mtp: Hidden is not given, want one of Float32, BFloat16, Device":          r.draft(r.edit(r.good(), func(b *mtp.Batch, _ *mtp.Rows) { b.Hidden = mtp.Hidden{} }), 2),
		"mtp: len(Hidden.Float32) is 64, want 96, 3 rows × hidden_size 32":         r.draft(r.edit(r.good(), func(b *mtp.Batch, _ *mtp.Rows) { b.Hidden.Float32 = b.Hidden.Float32[:2*hiddenSize] }), 2),
		"mtp: Batch is nil, want a batch":                                          r.draft(nil, 2),
		"mtp: Sequences[0].Sequence is the zero Sequence, want one of NewSequence": r.draft(r.edit(r.good(), func(b *mtp.Batch, rows *mtp.Rows) { rows.Sequence = new(mtp.Sequence) }), 2),
		"mtp: Sequences[0].Drafts is 65, want 0 to 64":                             r.draft(r.good(), 65),
		"mtp: Sequences[0].Sequence is nil, and BlockTable too, want one of them":  r.draft(r.edit(r.good(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.Sequence = nil }), 2),
		"mtp: Cache is nil, want one of NewCache, which has the pages of Sequences[0].BlockTable": r.draft(
			r.edit(r.table(), func(b *mtp.Batch, _ *mtp.Rows) { b.Cache = nil }), 2),
		"mtp: len(Sequences[0].BlockTable) is 5, want at least 6, for position 20": r.forward(
			r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.Position = 18 }), 0),
		"mtp: Sequences[0].BlockTable[1] is 4, want a page of its own: rows are written to it as BlockTable[0] of Sequences[0]": r.draft(
			r.edit(r.table(), func(b *mtp.Batch, rows *mtp.Rows) { rows.Position, rows.BlockTable[1] = 2, 4 }), 3),
	} {
		require.EqualError(t, err, want)
	}
	r = newRefusal(t, chainCases[7]) // shifts, of 4 steps
	for position, want := range map[int]string{
		5: "5, of 3 rows, want at position 4 or before: a BlockTable brings 3 rows again before a new one",
		1: "1, of 3 rows, want at position 0: a BlockTable brings 3 rows again before a new one, or all before it",
	} {
		require.EqualError(t, r.draft(r.edit(r.table(), func(_ *mtp.Batch, rows *mtp.Rows) { rows.Position = position }), 2),
			"mtp: Sequences[0].Position is "+want)
	}
}

// TestLongBlockTablesAreRefused: a table of more blocks than a cache has room to select, of
// those that the config has selected, is an error and never a smaller selection.
func TestLongBlockTablesAreRefused(t *testing.T) {
	const blocks = 257
	files := synthetic{topBlocks: 300, config: []edit{set("max_position_embeddings", "4096")}}.files(t)
	head := load(t, files, mtp.Options{})
	b := randomPassage(501, 1).batch(nil, 0, 1)
	b.Cache = newCache(t, head, 3)
	rows := &b.Sequences[0]
	rows.Position, rows.BlockTable = (blocks-1)*blockSize, make([]int32, blocks)
	rows.BlockTable[blocks-1] = 1
	_, err := head.Draft(t.Context(), b)
	require.ErrorIs(t, err, mtp.ErrInput)
	require.EqualError(t, err, "mtp: Sequences[0].BlockTable is of 257 blocks, want at most 256, which a cache of 3 pages has room to select")
	rows.Position, rows.BlockTable = rows.Position-blockSize, rows.BlockTable[1:]
	draft(t, head, b, 1)
}
