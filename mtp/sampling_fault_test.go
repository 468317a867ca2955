package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// TestSampledFaults: whichever operation of a sampled draft or of its verification fails,
// the error is the device's, and what follows is as if nothing had failed.
func TestSampledFaults(t *testing.T) {
	files := synthetic{}.files(t)
	c := newSampledCase()
	want := c.run(t, load(t, files, mtp.Options{}), 0, 1, 2)
	kinds := map[string]bool{}
	for n := 0; ; n++ {
		require.Less(t, n, 2000)
		f := &faulty{Device: openDevice(t, hip.NewReference())}
		f.disarm()
		head := load(t, files, mtp.Options{Device: f})
		cache := newCache(t, head, 40)
		b := new(mtp.Batch)
		for i := range c.passages {
			r := c.rows(cache.NewSequence(), i)
			r.Allowed = func([]int32) []uint32 { return maskOf(func(int) bool { return true }) }
			b.Sequences = append(b.Sequences, r)
			b.Hidden.Float32 = append(b.Hidden.Float32, c.passages[i].states(0, 3+i)...)
		}
		verify := func(drafts []mtp.Draft) ([]mtp.Verified, error) {
			var chains []mtp.Verification
			for i := range c.passages {
				chains = append(chains, c.verification(drafts[i], i))
			}
			return head.VerifySampled(t.Context(), chains)
		}
		f.arm(n)
		drafts, err := head.Draft(t.Context(), b)
		var verified []mtp.Verified
		if err == nil {
			verified, err = verify(drafts)
		}
		kind := f.disarm()
		if kind == "" {
			require.NoError(t, err)
			require.Equal(t, want, sampledRun{drafts, verified})
			break
		}
		kinds[kind] = true
		require.ErrorIs(t, err, errDevice, kind)
		if drafts == nil {
			drafts, err = head.Draft(t.Context(), b)
			require.NoError(t, err)
		}
		verified, err = verify(drafts)
		require.NoError(t, err)
		require.Equal(t, want, sampledRun{drafts, verified})
	}
	requireKinds(t, kinds, "alloc", "write", "launch sample_list", "launch sample_verify_draw", "read")
}
