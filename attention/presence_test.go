package attention

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Random marks and cuts against a set of positions.
func TestPresenceAgainstSet(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		var p presence
		set := map[int]bool{}
		for range 30 {
			if r.IntN(4) == 0 {
				n := r.IntN(150)
				p.cut(n)
				for j := range set {
					if j >= n {
						delete(set, j)
					}
				}
			} else {
				from := r.IntN(140)
				if r.IntN(2) == 0 {
					from = p.end
				}
				to := from + r.IntN(40)
				p.mark(from, to)
				for j := from; j < to; j++ {
					set[j] = true
				}
			}
			requirePresence(t, set, p.contiguous(), p.end, p.words)
			if clone := p.clone(); len(p.words) > 0 {
				clone.words[0] = ^clone.words[0]
				requirePresence(t, set, p.contiguous(), p.end, p.words)
			}
		}
	}
}

func requirePresence(t *testing.T, set map[int]bool, contiguous, end int, words []uint32) {
	t.Helper()
	wantEnd, run := 0, 0
	for j := range set {
		wantEnd = max(wantEnd, j+1)
	}
	for set[run] {
		run++
	}
	require.Equal(t, wantEnd, end)
	require.Equal(t, run, contiguous)
	require.Equal(t, run == len(set), words == nil, "bits are kept for holes only")
	for j := range 32 * len(words) {
		require.Equal(t, set[j], words[j/32]>>(j%32)&1 != 0, "position %d", j)
	}
	for from := 0; from < 32*len(words)+40 && words != nil; from += 7 {
		for _, n := range []int{0, 1, 5, 32, 70} {
			any := false
			for j := from; j < from+n; j++ {
				any = any || set[j]
			}
			require.Equal(t, any, anyBit(words, from, from+n), "[%d, %d)", from, from+n)
		}
	}
}
