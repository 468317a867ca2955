package mtp_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestEmbedsOfTheTable: embeddings that are those of the tokens change nothing,
// others do, and position 0 is masked either way.
func TestEmbedsOfTheTable(t *testing.T) {
	const n = 11
	for _, layout := range layouts {
		t.Run(layout.String(), func(t *testing.T) {
			d := openDevice(t, hip.Check(hip.NewHost(2)))
			head := load(t, layout.files(t), mtp.Options{Device: d, Chain: mtp.ChainFirst})
			cache, x := newCache(t, head, 24), randomPassage(202, n)
			want := draft(t, head, x.batch(cache.NewSequence(), 0, n), 4)
			embeds, err := head.Embed(t.Context(), x.tokens[1:])
			require.NoError(t, err)
			for i := range hiddenSize {
				embeds[i] = 1e6 // of position 0
			}
			b := x.batch(cache.NewSequence(), 0, n)
			b.Embeds = mtp.Hidden{Float32: embeds}
			require.Equal(t, want, draft(t, head, b, 4))
			b = x.batch(cache.NewSequence(), 0, n)
			b.Embeds = mtp.Hidden{Device: upload(t, d, embeds)}
			require.Equal(t, want, draft(t, head, b, 4))

			states := forward(t, head, x.batch(cache.NewSequence(), 0, n), 0)
			embeds[len(embeds)-1]++
			b = x.batch(cache.NewSequence(), 0, n)
			b.Embeds = mtp.Hidden{Float32: embeds}
			got := forward(t, head, b, 0)
			require.Equal(t, states[:(n-1)*hiddenSize], got[:(n-1)*hiddenSize])
			require.NotEqual(t, states[(n-1)*hiddenSize:], got[(n-1)*hiddenSize:])
		})
	}
}

// TestEmbedsForms: embeddings may be handed over in each way, whatever the hidden
// states are handed over in.
func TestEmbedsForms(t *testing.T) {
	const n = 9
	x, embeds := randomPassage(204, n), randomPassage(205, n).hidden
	for name, d := range map[string]hip.Device{"reference": hip.NewReference(), "host": hip.NewHost(2)} {
		openDevice(t, d)
		head := load(t, synthetic{format: "BF16"}.files(t), mtp.Options{Device: d})
		cache := newCache(t, head, 4)
		forwardWith := func(t *testing.T, hidden, embeds mtp.Hidden) []float32 {
			s := cache.NewSequence()
			defer s.Close()
			b := x.batch(s, 0, n)
			b.Hidden, b.Embeds = hidden, embeds
			return forward(t, head, b, 0)
		}
		want := forwardWith(t, mtp.Hidden{Float32: x.hidden}, mtp.Hidden{Float32: embeds})
		for hiddenName, hidden := range hiddenForms {
			for embedsName, form := range hiddenForms {
				t.Run(strings.Join([]string{name, hiddenName, embedsName}, "/"), func(t *testing.T) {
					require.Equal(t, want, forwardWith(t, hidden(t, d, x.hidden), form(t, d, embeds)))
				})
			}
		}
	}
}

// TestEmbedsShift: a chain that shifts tokens shifts embeddings with them, whatever form they
// come in, in pieces of a prompt, step by step, and where a step runs in pieces. Its drafts
// are those of Forwards in empty sequences, one for each step.
func TestEmbedsShift(t *testing.T) {
	const n, k = 12, 4
	x, embeds := randomPassage(206, n), randomPassage(207, n).hidden
	for _, c := range chainCases {
		if !c.shifts() || c.postNorm {
			continue
		}
		files := synthetic{modules: c.modules, format: "BF16"}.files(t)
		test := func(t *testing.T, d hip.Device, most int, forms ...string) {
			options := c.options()
			options.Device, options.MaxRows = d, most
			head := load(t, files, options)
			defer func() { require.NoError(t, head.Close()) }()
			cache := newCache(t, head, 20)
			want := map[int][]int32{}
			for _, end := range []int{5, 6, n} {
				want[end] = embedsChain(t, head, c, &x, embeds, end, k)
			}
			for _, form := range forms {
				for _, least := range []float64{0, 1e-9} { // which takes each step alone
					s := cache.NewSequence()
					for _, end := range []int{5, 6, n} {
						b := x.batch(s, s.Len(), end)
						b.Embeds = hiddenForms[form](t, d, embeds[s.Len()*hiddenSize:end*hiddenSize])
						b.Sequences[0].MinProbability = least
						clear(b.Sequences[0].Tokens)
						require.Equal(t, want[end], draft(t, head, b, k)[0].Tokens, "%s, %d rows", form, end)
					}
					require.NoError(t, s.Close())
				}
			}
		}
		t.Run(c.name, func(t *testing.T) {
			for _, most := range []int{0, 3} {
				test(t, openDevice(t, hip.NewHost(2)), most, "float32", "bfloat16", "device", "device bfloat16")
			}
			test(t, openDevice(t, hip.NewReference()), 0, "float32", "device bfloat16")
			if c.name == "three modules, aligned" {
				hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { test(t, d, 0, "bfloat16", "device bfloat16") })
			}
		})
	}
}

// embedsChain drafts k tokens after the first n rows of x, whose tokens have embeddings of
// their own, by Forward alone.
func embedsChain(t *testing.T, head *mtp.Head, c chainCase, x *passage, embeds []float32, n, k int) (ids []int32) {
	t.Helper()
	cache, hidden := newCache(t, head, 4), x.states(0, n)
	for step := range k {
		s := cache.NewSequence()
		b := x.batch(s, 0, n)
		clear(b.Sequences[0].Tokens)
		drafted, err := head.Embed(t.Context(), ids)
		require.NoError(t, err)
		b.Hidden = mtp.Hidden{Float32: hidden}
		b.Embeds.Float32 = append(embeds[step*hiddenSize:n*hiddenSize:n*hiddenSize], drafted...)
		states := forward(t, head, b, step)
		id, _, err := head.TopK(t.Context(), mtp.Hidden{Float32: states}, []int{n - 1}, step, 1)
		require.NoError(t, err)
		ids = append(ids, id[0])
		if c.resolved() == mtp.ChainAligned {
			hidden = states
		}
		require.NoError(t, s.Close())
	}
	require.NoError(t, cache.Close())
	return ids
}
