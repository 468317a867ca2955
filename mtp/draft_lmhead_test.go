package mtp_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// someTokens returns n tokens in random order.
func someTokens(seed uint64, n int) []int32 {
	var tokens []int32
	for _, t := range rand.New(rand.NewPCG(seed, 7)).Perm(vocabSize)[:n] {
		tokens = append(tokens, int32(t))
	}
	return tokens
}

// draftDevices are the devices that tests of drafting run on, by name.
var draftDevices = map[string]func() hip.Device{
	"reference":    hip.NewReference,
	"host":         func() hip.Device { return hip.NewHost(2) },
	"checked host": func() hip.Device { return hip.Check(hip.NewHost(2)) },
}

// TestVocabularyOfAllTokens: a list of all tokens, in any order, drafts the same
// bits as none, by every rule and on every device.
func TestVocabularyOfAllTokens(t *testing.T) {
	for name, open := range draftDevices {
		for _, c := range chainCases {
			if hiptest.RaceDetector && c.modules == 1 {
				continue
			}
			t.Run(name+"/"+c.name, func(t *testing.T) {
				files, opts := synthetic{modules: c.modules}.files(t), c.options()
				opts.Device = openDevice(t, open())
				want := draftsOf(t, files, opts)
				opts.DraftVocabulary = someTokens(600, vocabSize)
				require.Equal(t, want, draftsOf(t, files, opts))
			})
		}
	}
}

// restricted is the most probable token of a vocabulary, by brute force over the
// logits of all, and its probability among them.
func restricted(logits []float32, vocabulary []int32) (best int32, probability float32) {
	sorted := slices.Sorted(slices.Values(vocabulary))
	best = sorted[0]
	for _, t := range sorted {
		if logits[t] > logits[best] {
			best = t
		}
	}
	sum := 0.0
	for _, t := range sorted {
		sum += math.Exp(float64(logits[t]) - float64(logits[best]))
	}
	return best, float32(1 / sum)
}

// TestRestrictedDrafts: each step of a chain drafts the most probable token of the
// vocabulary, and goes on from it.
func TestRestrictedDrafts(t *testing.T) {
	const n, k = 11, 5
	for name, open := range draftDevices {
		for _, size := range []int{1, 2, 7, 20, vocabSize - 1} {
			t.Run(fmt.Sprintf("%s/%d tokens", name, size), func(t *testing.T) {
				files, x := synthetic{modules: 3}.files(t), randomPassage(uint64(600+size), n)
				opts := mtp.Options{Chain: mtp.ChainModOwn, DraftVocabulary: someTokens(uint64(size), size)}
				opts.Device = openDevice(t, open())
				given := slices.Clone(opts.DraftVocabulary)
				head := load(t, files, opts)
				require.Equal(t, given, opts.DraftVocabulary, "the caller's list is left alone")
				require.Equal(t, slices.Sorted(slices.Values(given)), head.DraftVocabulary())
				require.Equal(t, size, head.DraftLMHead().Rows)
				require.Equal(t, int64(size*hiddenSize*4), head.DraftLMHead().Bytes())

				cache := newCache(t, head, 8)
				s := cache.NewSequence()
				states := forward(t, head, x.batch(s, 0, n), 0)[(n-1)*hiddenSize:]
				var ids []int32
				var probs []float32
				for step := range k {
					logits, err := head.Logits(t.Context(), mtp.Hidden{Float32: states}, nil, step)
					require.NoError(t, err)
					require.Len(t, logits, vocabSize, "logits are of all tokens")
					id, p := restricted(logits, given)
					ids, probs = append(ids, id), append(probs, p)
					states = forward(t, head, &mtp.Batch{
						Sequences: []mtp.Rows{{Sequence: s, Position: n + step, Tokens: []int32{id}}}, Hidden: mtp.Hidden{Float32: states},
					}, step+1)
				}
				got := draft(t, head, x.batch(cache.NewSequence(), 0, n), k)
				require.Equal(t, [][]int32{ids}, got.ids())
				require.NoError(t, hiptest.Within(got.probs()[0], probs, 1e-5))
			})
		}
	}
}

// TestRestrictedTies: of equal logits the lower token is drafted, however the list
// is ordered, and one token alone is certain.
func TestRestrictedTies(t *testing.T) {
	d := openDevice(t, hip.NewReference())
	same := make([]float32, vocabSize*hiddenSize) // all logits are 0
	m, err := weights.NewMatrix(d, hiddenSize, []weights.Segment{weights.DenseSegment(weights.F32, vocabSize, hiddenSize, upload(t, d, same), 0)})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Free(d)) }()
	for _, vocabulary := range [][]int32{{40, 3, 17}, {3, 17, 40}, {17}} {
		for _, format := range []weights.Format{0, weights.MXFP8, weights.INT8, weights.MXFP4} {
			opts := mtp.Options{Device: d, LMHead: m, DraftVocabulary: vocabulary, DraftLMHead: format}
			head := load(t, synthetic{}.files(t), opts)
			b := atLeast(randomPassage(601, 5).batch(newCache(t, head, 4).NewSequence(), 0, 5), 1/float64(len(vocabulary))*0.999)
			got := draft(t, head, b, 3)
			lowest := slices.Min(vocabulary)
			require.Equal(t, [][]int32{{lowest, lowest, lowest}}, got.ids())
			for _, p := range got.probs()[0] {
				require.InDelta(t, 1/float64(len(vocabulary)), p, 1e-6)
			}
			require.NoError(t, head.Close())
		}
	}
}

// decoded returns the values of a matrix: its products with the columns' unit vectors.
func decoded(t testing.TB, d hip.Device, m *weights.Matrix) []float32 {
	t.Helper()
	units, columns, values := make([]float32, m.Cols*m.Cols), make([]float32, m.Cols*m.Rows), make([]float32, m.Rows*m.Cols)
	for c := range m.Cols {
		units[c*m.Cols+c] = 1
	}
	y := upload(t, d, columns)
	require.NoError(t, m.Product(d, y, upload(t, d, units), m.Cols))
	require.NoError(t, hip.ReadOf(d, columns, y))
	for row := range m.Rows {
		for c := range m.Cols {
			values[row*m.Cols+c] = columns[c*m.Rows+row]
		}
	}
	return values
}

// TestRequantizedDrafts: drafts are those of a head whose lm_head holds the
// requantized values, by every rule; logits are the exact head's.
func TestRequantizedDrafts(t *testing.T) {
	const n = 9
	x, cases := randomPassage(300, n), chainCases
	if hiptest.RaceDetector {
		cases = cases[:1] // rules differ in what one goroutine does
	}
	for _, format := range []weights.Format{weights.MXFP8, weights.INT8, weights.MXFP4} {
		for _, stored := range []string{"F32", "MXFP8"} { // of which the latter keeps lm_head in BF16
			for _, c := range cases {
				t.Run(fmt.Sprintf("%v of %s/%s", format, stored, c.name), func(t *testing.T) {
					d := openDevice(t, hip.NewReference())
					files, opts := synthetic{modules: c.modules, format: stored}.files(t), c.options()
					opts.Device = d
					exact := load(t, files, opts)
					opts.DraftLMHead = format
					head := load(t, files, opts)
					require.Equal(t, format.Bytes(vocabSize, hiddenSize), head.DraftLMHead().Bytes())
					require.Nil(t, head.DraftVocabulary())
					values := decoded(t, d, head.DraftLMHead())
					got := draftsOf(t, files, opts)

					opts.DraftLMHead, opts.LMHead = 0, f32Matrix(t, d, values)
					require.Equal(t, draftsOf(t, files, opts), got)

					states := mtp.Hidden{Float32: x.states(0, n)}
					want, err := exact.Logits(t.Context(), states, nil, 0)
					require.NoError(t, err)
					logits, err := head.Logits(t.Context(), states, nil, 0)
					require.NoError(t, err)
					require.Equal(t, want, logits)
				})
			}
		}
	}
}

// f32Matrix puts an lm_head of these values on a device.
func f32Matrix(t testing.TB, d hip.Device, values []float32) *weights.Matrix {
	t.Helper()
	m, err := weights.NewMatrix(d, hiddenSize, []weights.Segment{weights.DenseSegment(weights.F32, len(values)/hiddenSize, hiddenSize, upload(t, d, values), 0)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Free(d)) })
	return m
}

// TestCheaperLMHeadFromEverywhere: it is made of an lm_head that is mapped, read,
// tied to embed_tokens, or the engine's, with the same drafts.
func TestCheaperLMHeadFromEverywhere(t *testing.T) {
	whole := synthetic{modules: 3, tiedCopy: true}
	for _, format := range []weights.Format{0, weights.MXFP8, weights.INT8, weights.MXFP4} {
		for _, vocabulary := range [][]int32{nil, someTokens(602, 19)} {
			t.Run(fmt.Sprintf("%v/%d tokens", format, len(vocabulary)), func(t *testing.T) {
				opts := mtp.Options{DraftLMHead: format, DraftVocabulary: vocabulary}
				want := draftsOf(t, whole.files(t), opts)
				for _, drafts := range want {
					for _, id := range slices.Concat(drafts.ids()...) {
						require.True(t, vocabulary == nil || slices.Contains(vocabulary, id))
					}
				}
				dir := whole.folder(t)
				require.Equal(t, want, draftsOf(t, os.DirFS(dir), opts), "mapped")
				tied := synthetic{modules: 3, config: []edit{set("tie_word_embeddings", "true")}, omit: []string{lmHeadName}}
				require.Equal(t, want, draftsOf(t, tied.files(t), opts), "tied")
				opts.Device = openDevice(t, hip.NewReference())
				opts.LMHead = matrixOf(t, opts.Device, whole, lmHeadName)
				require.Equal(t, want, draftsOf(t, synthetic{modules: 3, omit: []string{lmHeadName}}.files(t), opts), "the engine's")
				opts.Embed, opts.LMHead = opts.LMHead, nil
				tied.omit = append(tied.omit, embedName)
				require.Equal(t, want, draftsOf(t, tied.files(t), opts), "tied to the engine's")
			})
		}
	}
}

// TestStoredInTheFormat: what is in the format already is not copied.
func TestStoredInTheFormat(t *testing.T) {
	d := openDevice(t, hip.NewReference())
	first := load(t, synthetic{}.files(t), mtp.Options{Device: d, DraftLMHead: weights.MXFP8})
	for _, config := range [][]edit{nil, {set("tie_word_embeddings", "true")}} {
		opts := mtp.Options{Device: d, LMHead: first.DraftLMHead(), DraftLMHead: weights.MXFP8}
		if config != nil {
			opts.LMHead, opts.Embed = nil, first.DraftLMHead()
		}
		last := progressOf(t, &opts)
		head := load(t, synthetic{config: config, tiedCopy: config != nil}.files(t), opts)
		require.Same(t, first.DraftLMHead(), head.DraftLMHead())
		require.Equal(t, head.Report().Bytes, *last)
		require.NoError(t, head.Close())
	}
}

// progressOf checks the calls of Progress during a load, and gives the last total.
func progressOf(t testing.TB, opts *mtp.Options) *int64 {
	last, before := new(int64), int64(0)
	opts.Progress = func(done, total int64) {
		require.GreaterOrEqual(t, done, before)
		require.LessOrEqual(t, done, total)
		require.True(t, before == 0 || total == *last, "the total is known from the start")
		before, *last = done, total
	}
	t.Cleanup(func() { require.Equal(t, *last, before, "all is done") })
	return last
}

func TestRequantizingTells(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	load(t, synthetic{}.files(t), mtp.Options{DraftLMHead: weights.INT8, DraftVocabulary: someTokens(603, 11), Logger: logger})
	require.Contains(t, log.String(), `msg="lm_head for drafting" tokens=11 format=INT8 bytes=374`)
	for _, populate := range []bool{false, true} {
		opts := mtp.Options{DraftLMHead: weights.INT8, DraftVocabulary: someTokens(603, 11), Populate: populate}
		last := progressOf(t, &opts)
		head := load(t, os.DirFS(synthetic{}.folder(t)), opts)
		require.Equal(t, head.Report().Bytes+weights.INT8.Bytes(11, hiddenSize), *last)
	}
}

func TestCheaperLMHeadRefused(t *testing.T) {
	tokens := func(tokens ...int32) mtp.Options { return mtp.Options{DraftVocabulary: tokens} }
	sharded := mtp.Shard{Rank: 0, Size: 2}
	for name, c := range map[string]struct {
		opts mtp.Options
		want error
		says string
	}{
		"BF16":             {mtp.Options{DraftLMHead: weights.BF16}, mtp.ErrInput, "Options.DraftLMHead is BF16, want INT8, MXFP8"},
		"no format":        {mtp.Options{DraftLMHead: 77}, mtp.ErrInput, "Options.DraftLMHead is Format(77)"},
		"empty":            {mtp.Options{DraftVocabulary: []int32{}}, mtp.ErrInput, "Options.DraftVocabulary is empty"},
		"negative":         {tokens(3, -1), mtp.ErrToken, "Options.DraftVocabulary[1] is -1, want 0 to 47"},
		"past the end":     {tokens(vocabSize), mtp.ErrToken, "Options.DraftVocabulary[0] is 48"},
		"largest":          {tokens(math.MaxInt32), mtp.ErrToken, "DraftVocabulary[0]"},
		"twice":            {tokens(5, 6, 7, 6), mtp.ErrInput, "Options.DraftVocabulary[3] is 6, want each token once: it is DraftVocabulary[1] too"},
		"rank, requantize": {mtp.Options{DraftLMHead: weights.INT8, TensorParallel: sharded}, mtp.ErrInput, "Options.TensorParallel"},
		"rank, vocabulary": {mtp.Options{DraftVocabulary: []int32{1}, TensorParallel: sharded}, mtp.ErrInput, "a whole head, with DraftLMHead or DraftVocabulary"},
		"all at once":      {mtp.Options{DraftLMHead: -1, DraftVocabulary: []int32{-1}, MaxDraft: -1}, mtp.ErrToken, "Options.MaxDraft"},
	} {
		t.Run(name, func(t *testing.T) {
			files := synthetic{}.files(t)
			c.opts.Device = openDevice(t, hip.NewReference())
			head, err := mtp.LoadFS(t.Context(), files, c.opts)
			require.Nil(t, head)
			require.ErrorIs(t, err, c.want)
			require.ErrorIs(t, err, mtp.ErrInput)
			require.ErrorContains(t, err, c.says)
			_, _, inspectErr := mtp.InspectFS(files, c.opts)
			require.EqualError(t, inspectErr, err.Error())
		})
	}
	head := load(t, synthetic{}.files(t), mtp.Options{TensorParallel: sharded})
	require.Nil(t, head.DraftLMHead(), "of a rank")
}

// TestCheaperLMHeadFaults: whichever operation of a load fails, and wherever its
// context ends, everything is given back.
func TestCheaperLMHeadFaults(t *testing.T) {
	inner := openDevice(t, hip.NewReference())
	f := &faulty{Device: inner, failIn: -1}
	files := synthetic{}.files(t)
	opts := mtp.Options{Device: f, DraftLMHead: weights.MXFP8, DraftVocabulary: someTokens(604, 9)}
	kinds := eachFault(t, 2000, func(n int) string {
		f.arm(n)
		head, err := mtp.LoadFS(t.Context(), files, opts)
		failed := f.disarm()
		if failed == "" {
			require.NoError(t, err)
			require.NoError(t, head.Close())
			return ""
		}
		require.ErrorIs(t, err, errDevice, failed)
		require.Nil(t, head, failed)
		requireEmpty(t, inner)
		return failed
	})
	requireKinds(t, kinds, "alloc", "write", "read")

	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(done, total int64) {
		if done == total {
			cancel()
		}
	}
	head, err := mtp.LoadFS(ctx, files, opts)
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, head)
	requireEmpty(t, inner)
}
