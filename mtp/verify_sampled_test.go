package mtp_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// sampledRun is what a batch of sampled drafts and their verification come to.
type sampledRun struct {
	drafts   []mtp.Draft
	verified []mtp.Verified
}

// sampledCase is a batch of three sequences, two of which draw their drafts, and the logits
// of a target.
type sampledCase struct {
	passages []passage
	logits   [][]float32
}

func newSampledCase() (c sampledCase) {
	random := rand.New(rand.NewPCG(9, 1))
	for i := range 3 {
		c.passages = append(c.passages, randomPassage(uint64(900+i), 6))
		var logits []float32
		for range 5 * vocabSize {
			logits = append(logits, float32(random.NormFloat64()))
		}
		c.logits = append(c.logits, logits)
	}
	return c
}

// rows returns the rows of sequence i.
func (c sampledCase) rows(s *mtp.Sequence, i int) mtp.Rows {
	r := c.passages[i].rows(s, 0, 3+i)
	r.Drafts = 4
	if i > 0 {
		r.Sampling = &mtp.Sampling{Temperature: 1.3, Seed: 5, Stream: uint64(i), TopK: 5 * i}
	}
	return r
}

// run drafts and verifies some of the sequences together.
func (c sampledCase) run(t testing.TB, head *mtp.Head, of ...int) (r sampledRun) {
	t.Helper()
	cache := newCache(t, head, 40)
	b := new(mtp.Batch)
	for _, i := range of {
		b.Sequences = append(b.Sequences, c.rows(cache.NewSequence(), i))
		b.Hidden.Float32 = append(b.Hidden.Float32, c.passages[i].states(0, 3+i)...)
	}
	var err error
	r.drafts, err = head.Draft(t.Context(), b)
	require.NoError(t, err)
	var chains []mtp.Verification
	for n, i := range of {
		d := r.drafts[n]
		require.NoError(t, d.Err)
		require.NotEmpty(t, d.Tokens)
		chains = append(chains, mtp.Verification{
			Draft: d, Position: 3 + i + 1, Sampling: mtp.Sampling{Temperature: 1, TopP: 0.9, Seed: 5, Stream: uint64(i)},
			Logits: c.logits[i][:(len(d.Tokens)+1)*vocabSize], Block: i == 2,
		})
	}
	r.verified, err = head.VerifySampled(t.Context(), chains)
	require.NoError(t, err)
	require.NoError(t, cache.Close())
	return r
}

// TestSampledAnywhere: drafts that are drawn, and what is decided about them, are the same
// alone and in a batch, on every device, by every rule.
func TestSampledAnywhere(t *testing.T) {
	c := newSampledCase()
	for _, of := range chainCases {
		t.Run(of.name, func(t *testing.T) {
			files := synthetic{modules: of.modules}.files(t)
			want := c.run(t, load(t, files, of.options()), 0, 1, 2)
			onAll := func(t *testing.T, d hip.Device) {
				options := of.options()
				options.Device = d
				head := load(t, files, options)
				require.Equal(t, want.verified, c.run(t, head, 0, 1, 2).verified)
				for i := range c.passages {
					got := c.run(t, head, i)
					require.Equal(t, want.drafts[i].Tokens, got.drafts[0].Tokens)
					require.Equal(t, want.verified[i], got.verified[0], "sequence %d alone", i)
				}
			}
			onAll(t, openDevice(t, hip.NewReference()))
			onAll(t, openDevice(t, hip.Check(hip.NewHost(2))))
			if of.name == "one module" || of.name == "three modules, aligned" {
				hiptest.OnGPUs(t, onAll)
			}
		})
	}
	_ = fmt.Sprint
}
