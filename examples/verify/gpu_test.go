package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// checkedCase also has every kernel run beside its reference.
const checkedCase = "tiny-init1-local2"

// TestGoldenOnEmulations holds every stage and chain of the golden cases to its bound,
// on every emulation.
func TestGoldenOnEmulations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			dir := caseFolder(t, name)
			hiptest.OnEmulations(t, func(t *testing.T, _, _ int, d hip.Device) {
				if name == checkedCase {
					d = hip.Check(d)
				}
				r, err := verifyCase(context.Background(), dir, ranks.Only(d), 0)
				require.NoError(t, err)
				require.Empty(t, r.Error)
				require.Greater(t, len(r.Stages), 30)
				for _, s := range r.Stages {
					require.True(t, s.OK, "%s: off by %.3g, bound %.3g, largest %.3g", s.Name, s.MaxAbs, s.Bound, s.MaxRef)
				}
				require.True(t, r.OK)
			})
		})
	}
}

// TestGoldenOverProcesses: ranks that meet by a file, as in processes of their own, here of
// one with emulated GPUs, tell each other what they found.
func TestGoldenOverProcesses(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	driver := hiptest.NewEmulator(t, "cuda", 1<<30)
	results := make([]caseResult, 2)
	var all sync.WaitGroup
	group := filepath.Join(t.TempDir(), "group")
	for rank := range results {
		var layout ranks.Layout
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		layout.Var(flags)
		require.NoError(t, flags.Parse([]string{"-tp", "2", "-group", group, "-rank", fmt.Sprint(rank), "-group-library", driver.Options().Library}))
		d, err := hip.Open(rank, driver.Options())
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		all.Go(func() {
			results[rank] = verifyRanks(t.Context(), caseFolder(t, "tiny-f32"), layout, []hip.Device{d}, 0)
		})
	}
	all.Wait()
	require.Empty(t, results[0].Error)
	require.True(t, results[0].OK)
	require.Greater(t, len(results[0].Stages), 30)
	require.Equal(t, results[0], results[1])
}
