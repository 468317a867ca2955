package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestRoundedActivations: what activations as two and as one bfloat16 cost in acceptance,
// with four drafts. Two cost nothing; one costs up to 0.01 tokens a step. On a machine that
// does not multiply bfloat16 all are the same. Where drafts alone are rounded, to one, what
// they cost is bounded alike. -v prints the figures.
func TestRoundedActivations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the heads are those of other tests")
	}
	for _, head := range []struct{ model, folder string }{
		{"", "built-in"}, {"m3-nano", "bf16"}, {"m3-nano", "mxfp8"},
		{"m3-tiny", "bundled-bf16"}, {"m3-tiny", "bundled-mxfp8"}, {"m3-tiny", "aligned3-mxfp8"},
	} {
		t.Run(head.model+" "+head.folder, func(t *testing.T) {
			t.Parallel()
			args := []string{"-json", "-k", "4"}
			if head.model != "" {
				dir := hiptest.Shared(t, head.model)
				traces, err := filepath.Glob(filepath.Join(dir, "traces", "*.safetensors"))
				require.NoError(t, err)
				args = append(append(args, "-checkpoint", filepath.Join(dir, head.folder)), traces...)
			}
			on := func(device string, flags ...string) (s summary) {
				code, out, stderr := runDraft(slices.Concat([]string{"-device", device}, flags, args)...)
				require.Equal(t, cli.OK, code, stderr)
				require.NoError(t, json.Unmarshal([]byte(out), &s))
				t.Logf("%-10s %-25s %.4f tokens a step, accepted %.4f", device, strings.Join(flags, " "), s.MeanTokensPerStep, s.PerPositionAcceptance)
				return s
			}
			exact, two, one := on("cpu"), on("cpu:bf16x2"), on("cpu:bf16")
			require.Equal(t, exact.MeanTokensPerStep, two.MeanTokensPerStep)
			require.Equal(t, exact.PerPositionAcceptance, two.PerPositionAcceptance)
			for _, trace := range two.Traces {
				require.Zero(t, trace.Mismatches, trace.Name)
			}
			for _, rounded := range []summary{one, on("cpu", "-draft-activations", "bf16")} {
				require.InDelta(t, exact.MeanTokensPerStep, rounded.MeanTokensPerStep, 0.02)
				require.InDeltaSlice(t, exact.PerPositionAcceptance, rounded.PerPositionAcceptance, 0.01)
			}
		})
	}
}
