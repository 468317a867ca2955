package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/reference"
)

// load loads a head that the test closes, on opts.Device or else on a reference
// device of its own, which must then have all its memory back.
func load(t testing.TB, fsys fs.FS, opts mtp.Options) *mtp.Head {
	t.Helper()
	if opts.Device == nil {
		opts.Device = openDevice(t, hip.NewReference())
	}
	head, err := mtp.LoadFS(t.Context(), fsys, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := head.Close(); err != nil {
			require.ErrorIs(t, err, mtp.ErrClosed, "closed by the test")
		}
	})
	return head
}

// openDevice closes d after the heads that a test loads on it, and checks that
// they left nothing there.
func openDevice(t testing.TB, d hip.Device) hip.Device {
	t.Helper()
	t.Cleanup(func() {
		requireEmpty(t, d)
		require.NoError(t, d.Close())
	})
	return d
}

// requireEmpty checks that nothing of a device's memory is in use.
func requireEmpty(t testing.TB, d hip.Device) {
	t.Helper()
	bytes, live := hiptest.InUse(d)
	require.Zero(t, bytes, "bytes left on the device")
	require.Zero(t, live, "allocations left on the device")
}

// ability is what a device can do besides; it must.
func ability[T any](d hip.Device) T {
	a, ok := hip.As[T](d)
	if !ok {
		panic(fmt.Sprintf("%s is not a %T", d.Info().Name, *new(T)))
	}
	return a
}

func newCache(t testing.TB, head *mtp.Head, pages int) *mtp.Cache {
	t.Helper()
	cache, err := head.NewCache(pages)
	require.NoError(t, err)
	return cache
}

// passage is a token sequence with the target's hidden state of each position.
type passage struct {
	tokens []int32   // one more than positions
	hidden []float32 // positions × hiddenSize
}

// randomPassage makes up n positions. Hidden states are bfloat16 numbers.
func randomPassage(seed uint64, n int) passage {
	random := rand.New(rand.NewPCG(seed, 2))
	var x passage
	for range n + 1 {
		x.tokens = append(x.tokens, random.Int32N(vocabSize))
	}
	for range n * hiddenSize {
		x.hidden = append(x.hidden, hip.ToBF16(float32(random.NormFloat64())).Float32())
	}
	return x
}

// rows returns positions from … to−1 as rows of s.
func (x passage) rows(s *mtp.Sequence, from, to int) mtp.Rows {
	return mtp.Rows{Sequence: s, Tokens: x.tokens[from+1 : to+1], Position: from}
}

func (x passage) states(from, to int) []float32 { return x.hidden[from*hiddenSize : to*hiddenSize] }

// batch returns positions from … to−1 as a batch of one sequence.
func (x passage) batch(s *mtp.Sequence, from, to int) *mtp.Batch {
	return &mtp.Batch{Sequences: []mtp.Rows{x.rows(s, from, to)}, Hidden: mtp.Hidden{Float32: x.states(from, to)}}
}

// join makes one batch of several.
func join(batches ...*mtp.Batch) *mtp.Batch {
	joined := new(mtp.Batch)
	for _, b := range batches {
		joined.Sequences = append(joined.Sequences, b.Sequences...)
		joined.Hidden.Float32 = append(joined.Hidden.Float32, b.Hidden.Float32...)
	}
	return joined
}

// forward runs a batch and returns its hidden states on the host.
func forward(t testing.TB, head *mtp.Head, b *mtp.Batch, step int) []float32 {
	t.Helper()
	hidden, err := head.Forward(t.Context(), b, step)
	require.NoError(t, err)
	return hidden.Float32
}

// drafted is what Draft returns.
type drafted []mtp.Draft

// ids returns the tokens of each sequence.
func (d drafted) ids() (ids [][]int32) {
	for i := range d {
		ids = append(ids, d[i].Tokens)
	}
	return ids
}

// probs returns the probabilities of each sequence's tokens.
func (d drafted) probs() (probs [][]float32) {
	for i := range d {
		probs = append(probs, d[i].Probs)
	}
	return probs
}

// atLeast ends the chains of b before the first token that is less likely than p.
func atLeast(b *mtp.Batch, p float64) *mtp.Batch {
	for i := range b.Sequences {
		b.Sequences[i].MinProbability = p
	}
	return b
}

// draftOf drafts up to k tokens for every sequence of b.
func draftOf(ctx context.Context, head *mtp.Head, b *mtp.Batch, k int) (drafted, error) {
	drafts, err := head.Draft(ctx, withDrafts(b, k))
	for _, d := range drafts {
		err = errors.Join(err, d.Err)
	}
	return drafts, err
}

// withDrafts returns b with k drafts after the rows of every sequence.
func withDrafts(b *mtp.Batch, k int) *mtp.Batch {
	if b == nil {
		return nil
	}
	with := *b
	with.Sequences = slices.Clone(b.Sequences)
	for i := range with.Sequences {
		with.Sequences[i].Drafts = k
	}
	return &with
}

func draft(t testing.TB, head *mtp.Head, b *mtp.Batch, k int) drafted {
	t.Helper()
	drafts, err := draftOf(t.Context(), head, b, k)
	require.NoError(t, err)
	require.Len(t, drafts, len(b.Sequences))
	for i := range drafts {
		require.Len(t, drafts[i].Probs, len(drafts[i].Tokens))
		require.LessOrEqual(t, len(drafts[i].Tokens), k)
		if s := b.Sequences[i].Sequence; s != nil {
			require.Equal(t, b.Sequences[i].Position+len(b.Sequences[i].Tokens), s.Len(), "a sequence ends at its committed rows")
		}
	}
	return drafts
}

// one returns the drafts of sequence i alone.
func (d drafted) one(i int) drafted {
	return d[i : i+1]
}

// oracle is the head of the same checkpoint in float64.
func oracle(t testing.TB, fsys fs.FS) *reference.Head {
	t.Helper()
	head, err := reference.Load(fsys)
	require.NoError(t, err)
	return head
}

// prompt returns the first n positions as an oracle takes them.
func (x passage) prompt(n int) (tokens []int, hidden mat.Matrix) {
	for _, id := range x.tokens[:n+1] {
		tokens = append(tokens, int(id))
	}
	return tokens, matrix(x.states(0, n))
}

// matrix returns hidden states as a matrix of float64.
func matrix(states []float32) mat.Matrix {
	values := make([]float64, len(states))
	for i, v := range states {
		values[i] = float64(v)
	}
	return mat.NewDense[float64](mat.WithShape(len(states)/hiddenSize, hiddenSize), mat.WithBacking(values))
}

// float32s returns a matrix's values, rounded.
func float32s(m mat.Matrix) []float32 { return mat.Data[float32](m) }

// chainCase is a way to draft.
type chainCase struct {
	name     string
	modules  int
	chain    mtp.Chain
	postNorm bool
	maxDraft int

	vocabulary []int32 // Options.DraftVocabulary
}

// chainCases are all ways that differ, each for the chains of up to 4 tokens.
var chainCases = []chainCase{
	{name: "one module", modules: 1, chain: ""},
	{name: "one module, post norm", modules: 1, chain: mtp.ChainFirst, postNorm: true},
	{name: "one module, own rows", modules: 1, chain: mtp.ChainModOwn},
	{name: "one module, aligned", modules: 1, chain: mtp.ChainAligned, maxDraft: 4},
	{name: "three modules, first", modules: 3, chain: mtp.ChainFirst},
	{name: "three modules, own rows", modules: 3, chain: mtp.ChainModOwn},
	{name: "three modules, own rows, post norm", modules: 3, chain: mtp.ChainModOwn, postNorm: true},
	{name: "three modules, aligned", modules: 3, chain: "", maxDraft: 4},
	{name: "three modules, aligned, post norm", modules: 3, chain: mtp.ChainAligned, postNorm: true, maxDraft: 5},
	{name: "three modules, target", modules: 3, chain: mtp.ChainTarget, maxDraft: 4},
	{name: "one module, target", modules: 1, chain: mtp.ChainTarget, maxDraft: 5},
}

// options are those of the case, with a cache that rounds nothing.
func (c chainCase) options() mtp.Options {
	return mtp.Options{Chain: c.chain, PostNorm: c.postNorm, MaxDraft: c.maxDraft, CacheFormat: attention.CacheF32}
}

// resolved is the rule that the case drafts by.
func (c chainCase) resolved() mtp.Chain {
	switch {
	case c.chain != "":
		return c.chain
	case c.modules > 1:
		return mtp.ChainAligned
	}
	return mtp.ChainFirst
}

// shifts reports whether every step of the case runs all rows, with tokens shifted.
func (c chainCase) shifts() bool {
	return c.resolved() == mtp.ChainAligned || c.resolved() == mtp.ChainTarget
}

// steps is how many steps run all rows: 1 unless tokens are shifted.
func (c chainCase) steps() int {
	if c.shifts() {
		return c.maxDraft
	}
	return 1
}

// first reports whether the case drafts by ChainFirst.
func (c chainCase) first() bool { return c.resolved() == mtp.ChainFirst }
