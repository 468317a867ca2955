package mtp_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// launches is a device that notes which kernels are launched, and how their products round.
type launches struct {
	hip.Device
	noted []launched
}

type launched struct {
	kernel string
	rounds hip.Activations
}

func (l *launches) Unwrap() hip.Device { return l.Device }

func (l *launches) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	l.noted = append(l.noted, launched{k.Name, grid.Activations})
	return l.Device.Launch(k, grid, args)
}

// of returns what f launches.
func (l *launches) of(f func()) []launched {
	l.noted = nil
	f()
	return l.noted
}

// TestDraftActivationsRoundWhatIsNotKept: of the batch's rows nothing is rounded until keys
// and values are in the cache, and all of what follows is. Steps that keep what they compute
// round logits alone. Other calls round nothing.
func TestDraftActivationsRoundWhatIsNotKept(t *testing.T) {
	const n, k = 7, 3
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			d, options := &launches{Device: hip.NewReference()}, c.options()
			options.Device, options.DraftActivations = openDevice(t, d), hip.ActivationsBF16
			head, x := load(t, synthetic{modules: c.modules}.files(t), options), randomPassage(620, n+1)
			s := newCache(t, head, 8).NewSequence()
			noted, products, committed := d.of(func() { draft(t, head, x.batch(s, 0, n), k) }), 0, false
			for i, l := range noted {
				rounded := l.rounds == hip.ActivationsBF16
				if strings.HasPrefix(l.kernel, "product") && rounded {
					products++
				}
				if c.shifts() {
					require.True(t, !rounded || strings.HasPrefix(l.kernel, "product") || slices.Contains([]string{"take_rows", "rms_norm", "topk_parts", "topk_merge"}, l.kernel), "launch %d, %v", i, l)
				} else {
					require.Equal(t, committed, rounded, "launch %d, %v", i, l)
				}
				committed = committed || l.kernel == "qk_norm_rope_insert"
			}
			if c.shifts() {
				require.Equal(t, k, products, "lm_head, once a draft")
			}
			for _, l := range d.of(func() {
				hidden := forward(t, head, x.batch(s, n, n+1), 0)
				_, err := head.Logits(t.Context(), mtp.Hidden{Float32: hidden}, nil, 0)
				require.NoError(t, err)
				_, _, err = head.TopK(t.Context(), mtp.Hidden{Float32: hidden}, nil, 0, 2)
				require.NoError(t, err)
			}) {
				require.Zero(t, l.rounds, l.kernel)
			}
		})
	}
}

// goldenCase is a golden checkpoint with a rule, and rows of its size.
type goldenCase struct {
	folder   string
	chain    mtp.Chain
	maxDraft int
}

var roundedCases = []goldenCase{
	{"tiny-mxfp8", mtp.ChainFirst, 0}, {"tiny-3modules", mtp.ChainModOwn, 0},
	{"tiny-3modules", mtp.ChainAligned, 4}, {"tiny-mxfp8", mtp.ChainTarget, 4},
}

func (c goldenCase) load(t testing.TB, d hip.Device, drafts hip.Activations) *mtp.Head {
	return load(t, os.DirFS("testdata/golden/"+c.folder), mtp.Options{
		Device: d, Chain: c.chain, MaxDraft: c.maxDraft, CacheFormat: attention.CacheF32, DraftActivations: drafts,
	})
}

// rows returns random rows from … to−1, the same for the same seed.
func (c goldenCase) rows(head *mtp.Head, s *mtp.Sequence, seed uint64, from, to int) *mtp.Batch {
	r, config := rand.New(rand.NewPCG(seed, 21)), head.Config()
	var rows mtp.Rows
	var hidden []float32
	for p := range to {
		token := int32(r.IntN(config.VocabSize))
		var row []float32
		for range config.HiddenSize {
			row = append(row, float32(r.NormFloat64()))
		}
		if p >= from {
			rows.Tokens, hidden = append(rows.Tokens, token), append(hidden, row...)
		}
	}
	rows.Sequence, rows.Position = s, from
	return &mtp.Batch{Sequences: []mtp.Rows{rows}, Hidden: mtp.Hidden{Float32: hidden}}
}

// roundingHost is a CPU that rounds so, if the machine can.
func roundingHost(t testing.TB, a hip.Activations) (d hip.Device, rounds bool) {
	t.Helper()
	d, err := hip.OpenHost(hip.HostOptions{Threads: 2, Activations: a})
	require.NoError(t, err)
	return openDevice(t, d), d.Info().Activations == a
}

// TestDraftActivationsAreADevices: drafts have the bits that a device which rounds everything
// gives, from the same keys, values and hidden states; what sequences keep, and hidden states
// and logits of other calls, have those of a device that rounds nothing.
func TestDraftActivationsAreADevices(t *testing.T) {
	const n, k = 9, 4
	for _, a := range []hip.Activations{hip.ActivationsBF16, hip.ActivationsBF16x2} {
		for _, c := range roundedCases {
			t.Run(c.folder+"/"+string(c.chain)+"/"+a.String(), func(t *testing.T) {
				host := openDevice(t, hip.NewHost(2))
				rounding, rounds := roundingHost(t, a)
				exact, head, other := c.load(t, host, 0), c.load(t, host, a), c.load(t, rounding, 0)
				s, exactly := newCache(t, head, 12).NewSequence(), newCache(t, exact, 12).NewSequence()

				b := c.rows(head, s, 1, 0, n)
				var states [][]float32 // that tokens are drafted from
				b.Observe = func(stage mtp.Stage) {
					if width := stage.Shape[len(stage.Shape)-1]; stage.Name == "hidden" {
						states = append(states, stage.Float32[len(stage.Float32)-width:])
					}
				}
				got := draft(t, head, b, k).one(0)[0]
				require.Len(t, got.Tokens, k)
				want := draft(t, exact, c.rows(exact, exactly, 1, 0, n), k).one(0)[0]
				require.Equal(t, !rounds, slices.Equal(want.Probs, got.Probs), "drafts are rounded")
				require.Equal(t, written(t, exactly), written(t, s), "what is kept is not")

				for step, hidden := range states {
					ids, probs, err := other.TopK(t.Context(), mtp.Hidden{Float32: hidden}, nil, step, 1)
					require.NoError(t, err)
					require.Equal(t, []int32{got.Tokens[step]}, ids)
					require.Equal(t, []float32{got.Probs[step]}, probs, "step %d", step)
				}
				if c.maxDraft == 0 { // steps after the first keep nothing
					cache := newCache(t, other, 12)
					moved, err := cache.ReadSequence(bytes.NewReader(written(t, s)))
					require.NoError(t, err)
					for step := 1; step < k; step++ {
						if c.chain == mtp.ChainModOwn && step > 1 { // whose modules see their own rows alone
							break
						}
						next := &mtp.Batch{Sequences: []mtp.Rows{{Sequence: moved, Tokens: got.Tokens[step-1 : step], Position: n + step - 1}}, Hidden: mtp.Hidden{Float32: states[step-1]}}
						require.Equal(t, states[step], forward(t, other, next, step), "step %d", step)
					}
				}

				x := c.rows(head, s, 2, 0, 3)
				hidden := forward(t, head, c.rows(head, newCache(t, head, 4).NewSequence(), 2, 0, 3), 0)
				require.Equal(t, forward(t, exact, c.rows(exact, newCache(t, exact, 4).NewSequence(), 2, 0, 3), 0), hidden)
				logits, err := head.Logits(t.Context(), x.Hidden, nil, 0)
				require.NoError(t, err)
				exactLogits, err := exact.Logits(t.Context(), x.Hidden, nil, 0)
				require.NoError(t, err)
				require.Equal(t, exactLogits, logits)
			})
		}
	}
}

// TestDraftActivationsChecked: every launch of a Draft is within the bound of its rounding.
func TestDraftActivationsChecked(t *testing.T) {
	for _, c := range roundedCases {
		d := openDevice(t, hip.Check(hip.NewHost(2)))
		head := c.load(t, d, hip.ActivationsBF16)
		s := newCache(t, head, 12).NewSequence()
		draft(t, head, c.rows(head, s, 3, 0, 9), 4)
		draft(t, head, c.rows(head, s, 3, 9, 12), 4)
	}
}

// TestDraftActivationsConcurrent: drafts that round and calls that do not, at the same time on
// one device, have the results that they have alone.
func TestDraftActivationsConcurrent(t *testing.T) {
	const n, rounds = 9, 6
	c := roundedCases[0]
	head := c.load(t, openDevice(t, hip.NewHost(2)), hip.ActivationsBF16)
	cache := newCache(t, head, 64)
	drafts := func(seed uint64) any {
		s := cache.NewSequence()
		d, err := draftOf(t.Context(), head, c.rows(head, s, seed, 0, n), 4)
		if err == nil {
			err = s.Close()
		}
		return []any{d, err}
	}
	logits := func(seed uint64) any {
		l, err := head.Logits(t.Context(), c.rows(head, nil, seed, 0, n).Hidden, nil, 0)
		return []any{l, err}
	}
	var group sync.WaitGroup
	for i, call := range []func(uint64) any{drafts, logits, drafts, logits} {
		want := call(uint64(i))
		require.Nil(t, want.([]any)[1])
		group.Go(func() {
			for range rounds {
				if got := call(uint64(i)); !assert.ObjectsAreEqual(want, got) {
					t.Errorf("goroutine %d: %v, want %v", i, got, want)
				}
			}
		})
	}
	group.Wait()
}

func TestDraftActivationsRefused(t *testing.T) {
	for _, a := range []hip.Activations{hip.ActivationsMXFP8, -1, 9} {
		_, err := mtp.LoadFS(t.Context(), synthetic{}.files(t), mtp.Options{DraftActivations: a})
		var input *mtp.InputError
		require.ErrorAs(t, err, &input)
		require.Equal(t, "Options.DraftActivations", input.Field)
		require.ErrorContains(t, err, "is "+a.String()+", want ActivationsExact, ActivationsBF16x2 or ActivationsBF16; Options.Activations rounds to MXFP8")
	}
}

// TestDraftActivationsOnGPUs: a GPU ignores them.
func TestDraftActivationsOnGPUs(t *testing.T) {
	c := roundedCases[0]
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		var want drafted
		for i, a := range []hip.Activations{hip.ActivationsExact, hip.ActivationsBF16} {
			head := c.load(t, d, a)
			got := draft(t, head, c.rows(head, newCache(t, head, 12).NewSequence(), 4, 0, 9), 4)
			if i == 0 {
				want = got
			}
			require.Equal(t, want, got)
		}
	})
}
