package hip

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHostThreads: under a quota threads are those that it can keep busy, and none spins.
func TestHostThreads(t *testing.T) {
	all := runtime.GOMAXPROCS(0)
	for _, test := range []struct {
		asked   int
		quota   float64
		limited bool
		threads int
		spins   bool
	}{
		{0, 0, false, all, true},
		{-1, 0, false, all, true},
		{5, 0, false, 5, true},
		{0, 0.5, true, 1, false},
		{0, 1, true, 1, false},
		{0, 1.01, true, min(2, all), false},
		{0, 1e9, true, all, false},
		{5, 0.5, true, 5, false}, // who asks gets it
	} {
		threads, spin := hostThreads(test.asked, test.quota, test.limited)
		require.Equal(t, test.threads, threads, test)
		require.Equal(t, test.spins, spin > 0, test)
	}
}

// run makes launches that take as long as cost says, and returns the numbers of threads of
// those that were no trials.
func (c *crews) run(k *Kernel, grid Grid, launches int, cost func(threads int) time.Duration) (chosen map[int]int) {
	chosen = make(map[int]int)
	for range launches {
		l := c.begin(k, grid)
		if l.of == nil {
			chosen[l.threads]++
			continue
		}
		l.of.end(l.halved, cost(l.threads))
	}
	return chosen
}

func TestCrews(t *testing.T) {
	c, k := &crews{most: 16}, new(Kernel)
	grid := func(bytes int) Grid { return Grid{Blocks: 64, BlockCost: bytes / 64} }
	never := func(int) time.Duration { t.Fatal("tried"); return 0 }
	require.Equal(t, map[int]int{1: 9}, c.run(k, grid(bytesPerThread), 9, never), "too small for two")
	require.Equal(t, map[int]int{16: 9}, c.run(k, grid(triedBytes), 9, never), "large enough for all")
	require.Equal(t, map[int]int{1: 9}, c.run(k, Grid{Blocks: 1, BlockCost: triedBytes}, 9, never), "one block")

	// As long as 1 ÷ threads says, and something for each thread.
	costly := func(each time.Duration) func(int) time.Duration {
		return func(threads int) time.Duration {
			return time.Millisecond/time.Duration(threads) + each*time.Duration(threads)
		}
	}
	const first = 5 * trials // of 16, 8, 4, 2 and 1 threads
	half := grid(triedBytes / 2)
	require.Equal(t, map[int]int{16: 9}, c.run(k, half, first+9, costly(0)))
	require.Equal(t, map[int]int{16: chosenLaunches - 9}, c.run(k, half, chosenLaunches-9, never))
	require.Equal(t, map[int]int{4: 9}, c.run(k, half, first+9, costly(60*time.Microsecond)), "chosen anew: 16 threads 1.02 ms, 8 0.605, 4 0.49, 2 0.62, 1 1.06")
	require.Equal(t, map[int]int{1: 9}, c.run(new(Kernel), half, first+9, costly(time.Millisecond)), "another kernel")
	require.Equal(t, map[int]int{1: 9}, c.run(k, grid(triedBytes/4), first+9, func(int) time.Duration { return time.Millisecond }), "all alike")
	require.Equal(t, map[int]int{1: 9}, c.run(k, grid(2*bytesPerThread), 2*trials+9, costly(time.Second)), "worth two threads at most")

	// A trial in seven that something else held up decides nothing.
	n := 0
	require.Equal(t, map[int]int{8: 9}, c.run(new(Kernel), grid(8*bytesPerThread), 4*trials+9, func(threads int) time.Duration {
		if n++; n%trials == 0 {
			return time.Hour
		}
		return costly(0)(threads)
	}))
}
