package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// cases returns the names of the golden cases: those of the repository, and what is too
// large for it.
func cases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(hiptest.Shared(t, "golden"), "*", "golden.safetensors"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	names := []string{"slim-real", "tiny-fp8-cache", "tiny-fp8-cache-unscaled", "tiny-mxfp4-quark", "tiny-nvfp4"}
	for _, file := range files {
		if name := filepath.Base(filepath.Dir(file)); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// TestGolden holds every stage and chain of every case to its bound, on every level
// of vector instructions. The cases of a few rows also run under Check, which
// compares each launch.
func TestGolden(t *testing.T) {
	for _, name := range cases(t) {
		if hiptest.RaceDetector && name == "slim-real" {
			continue // its 900 rows are run without the detector
		}
		devices := make(map[string]func() hip.Device)
		for level, d := range hiptest.Hosts(2) {
			devices[level] = func() hip.Device { return d }
		}
		if name != "slim-real" { // 900 rows: the program's run in CI does it on the reference
			devices["reference"] = hip.NewReference
			devices["checked cpu"] = func() hip.Device { return hip.Check(hip.NewHost()) }
		}
		for on, open := range devices {
			t.Run(name+"/"+on, func(t *testing.T) {
				dir := caseFolder(t, name)
				device := open()
				result, err := verifyCase(context.Background(), dir, ranks.Only(device), 0)
				require.NoError(t, err)
				require.Empty(t, result.Error)
				require.Greater(t, len(result.Stages), 30)
				for _, s := range result.Stages {
					require.True(t, s.OK, "%s: off by %.3g, bound %.3g, largest %.3g", s.Name, s.MaxAbs, s.Bound, s.MaxRef)
					require.Zero(t, s.Ties, "%s", s.Name)
				}
				require.True(t, result.OK)
				require.NoError(t, device.Close())
			})
		}
	}
}

// TestGoldenOverRanks holds every case to the same bounds over the ranks of a parallel head.
// Cuts through the blocks that share a scale are refused: those of cases whose matrices are
// smaller than any model's.
func TestGoldenOverRanks(t *testing.T) {
	for _, layout := range []ranks.Layout{{Tensor: 2, Expert: 1}, {Tensor: 4, Expert: 1}, {Tensor: 1, Expert: 2}, {Tensor: 1, Expert: 4}, {Tensor: 2, Expert: 2}, {Tensor: 4, Expert: 2}, {Tensor: 1, Expert: 8}} {
		for _, name := range cases(t) {
			if name == "slim-real" {
				continue // its 900 rows are run on one rank
			}
			for on, open := range map[string]func() hip.Device{"cpu": func() hip.Device { return hip.NewHost(1) }, "reference": hip.NewReference} {
				t.Run(fmt.Sprintf("%s/tp=%d/ep=%d/%s", name, layout.Tensor, layout.Expert, on), func(t *testing.T) {
					opened := make([]hip.Device, layout.Ranks())
					for i := range opened {
						opened[i] = open()
						defer opened[i].Close()
					}
					result := verifyRanks(t.Context(), caseFolder(t, name), layout, opened, 0)
					if layout.Tensor == 4 && (strings.HasPrefix(name, "tiny-mx") || strings.HasPrefix(name, "tiny-nv")) {
						require.Contains(t, result.Error, "share cuts through a scale block")
						return
					}
					require.Empty(t, result.Error)
					require.Greater(t, len(result.Stages), 30)
					for _, s := range result.Stages {
						require.True(t, s.OK, "%s: off by %.3g, bound %.3g, largest %.3g", s.Name, s.MaxAbs, s.Bound, s.MaxRef)
						require.Zero(t, s.Ties, "%s", s.Name)
					}
				})
			}
		}
	}
}

// TestGoldenRoundedHosts: with activations as two bfloat16 every stage, choice and chain is
// the golden one, within a bound of its own. One bfloat16 changes choices of blocks in these
// random models, so that only what comes before them is compared.
func TestGoldenRoundedHosts(t *testing.T) {
	for _, a := range []hip.Activations{hip.ActivationsBF16x2, hip.ActivationsBF16} {
		for name, d := range hiptest.Hosts(2, a) {
			for _, golden := range cases(t) {
				if hiptest.RaceDetector && golden == "slim-real" {
					continue
				}
				t.Run(golden+"/"+name, func(t *testing.T) {
					c := &caseRun{dir: caseFolder(t, golden), rank: ranks.Only(d), bound: relativeBound(d)}
					require.NoError(t, c.all(t.Context()))
					for _, s := range c.results {
						if a == hip.ActivationsBF16 && s.Name != "l0.eh_proj_out" {
							continue
						}
						require.True(t, s.OK, "%s: off by %.3g, bound %.3g, largest %.3g", s.Name, s.MaxAbs, s.Bound, s.MaxRef)
						require.Zero(t, s.Ties, "%s", s.Name)
					}
				})
			}
			require.NoError(t, d.Close())
		}
	}
}

// TestGoldenActivations: rows that are rounded to MXFP8 give the golden results of the first
// rounded product within what rounding to 4 significant bits may do, on all devices alike.
// The golden data are not rounded.
func TestGoldenActivations(t *testing.T) {
	const bound = 5e-2
	for name, stages := range map[string][]string{
		"tiny-mxfp8":      {"eh_proj_out"},
		"tiny-mxfp8-e8m0": {"eh_proj_out"},
		"slim-real":       {"q", "k", "v"}, // its eh_proj and indexer are bfloat16
	} {
		if hiptest.RaceDetector && name == "slim-real" {
			continue
		}
		dir := caseFolder(t, name)
		run := func(t *testing.T, d hip.Device) {
			c := &caseRun{dir: dir, rank: ranks.Only(d), rounds: hip.ActivationsMXFP8, bound: bound}
			require.NoError(t, c.all(t.Context()))
			found := 0
			for _, r := range c.results {
				stage, ok := strings.CutPrefix(r.Name, "l0.")
				if !ok || !slices.Contains(stages, stage) {
					continue
				}
				found++
				require.True(t, r.OK, "%s: off by %.3g, bound %.3g, largest %.3g", r.Name, r.MaxAbs, r.Bound, r.MaxRef)
				require.Greater(t, r.MaxAbs, 1e-3*r.MaxRef, "%s is not rounded", r.Name)
			}
			require.Equal(t, len(stages), found)
		}
		t.Run(name+"/host", func(t *testing.T) { run(t, hip.NewHost(2)) })
		if name != "slim-real" {
			t.Run(name+"/reference", func(t *testing.T) { run(t, hip.NewReference()) })
			if !hiptest.RaceDetector {
				t.Run(name, func(t *testing.T) { hiptest.OnGPUs(t, run, "gfx950") })
			}
		}
	}
}
