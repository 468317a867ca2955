package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func runDraft(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// chainLengths are the k that are tried.
func chainLengths() []string {
	if hiptest.RaceDetector {
		return []string{"4"}
	}
	return []string{"1", "2", "3", "4", "5"}
}

// expected is acceptance.json's figures of one variant and k, over all traces.
type expected struct {
	Steps    int
	Drafted  []int
	Accepted []int
	Mean     float64   `json:"mean_tokens_per_step"`
	Rates    []float64 `json:"per_position_acceptance"`
}

// TestBuiltIn holds the built-in checkpoint to its recorded drafts and to the figures that
// the recorded drafts give along the built-in traces, for every k.
func TestBuiltIn(t *testing.T) {
	figures := map[string]expected{
		"1": {399, []int{399}, []int{368}, 1.9173, []float64{0.9223}},
		"2": {281, []int{281, 280}, []int{258, 229}, 2.7224, []float64{0.9181, 0.8179}},
		"3": {215, []int{215, 214, 214}, []int{199, 183, 170}, 3.5581, []float64{0.9256, 0.8551, 0.7944}},
		"4": {187, []int{187, 186, 186, 186}, []int{167, 149, 138, 126}, 4.0909, []float64{0.8930, 0.8011, 0.7419, 0.6774}},
		"5": {165, []int{165, 165, 165, 165, 164}, []int{148, 130, 121, 107, 97}, 4.6364, []float64{0.8970, 0.7879, 0.7333, 0.6485, 0.5915}},
	}
	for _, k := range chainLengths() {
		t.Run("k "+k, func(t *testing.T) {
			t.Parallel()
			checkFigures(t, figures[k], 3, "-json", "-k", k)
		})
	}
}

// TestReadmeDrafts: the README's picture is drawn from what the program prints today.
func TestReadmeDrafts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "bench", "testdata", "readme", "draft-*.json"))
	require.NoError(t, err)
	require.Len(t, files, 8)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var recorded, got summary
		require.NoError(t, json.Unmarshal(text, &recorded))
		code, out, stderr := runDraft("-json", "-k", fmt.Sprint(recorded.K))
		require.Equal(t, cli.OK, code, stderr)
		require.NoError(t, json.Unmarshal([]byte(out), &got))
		require.InDelta(t, recorded.MeanTokensPerStep, got.MeanTokensPerStep, 1e-4, "%s, see README.md beside it", file)
		require.InDeltaSlice(t, recorded.PerPositionAcceptance, got.PerPositionAcceptance, 1e-4, file)
	}
}

// checkFigures runs the program and compares its figures, with no mismatch.
func checkFigures(t *testing.T, want expected, traces int, args ...string) {
	t.Helper()
	code, stdout, stderr := runDraft(args...)
	require.Equal(t, cli.OK, code, stderr)
	require.Empty(t, stderr, "nothing but the result in a pipe")
	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Len(t, got.Traces, traces)
	steps, drafted, accepted := 0, 0, 0
	for _, trace := range got.Traces {
		require.Zero(t, trace.Mismatches, trace.Name)
		steps, drafted, accepted = steps+trace.Steps, drafted+trace.Drafted, accepted+trace.Accepted
	}
	require.Equal(t, want.Steps, steps)
	require.Equal(t, sum(want.Drafted), drafted)
	require.Equal(t, sum(want.Accepted), accepted)
	require.InDelta(t, want.Mean, got.MeanTokensPerStep, 1e-4)
	require.InDeltaSlice(t, want.Rates, got.PerPositionAcceptance, 1e-4)
}

func sum(values []int) (total int) {
	for _, v := range values {
		total += v
	}
	return total
}

// TestReproducesItsFigures drafts with the checkpoints that came with figures: a standalone
// one and a bundled one, each in both formats.
func TestReproducesItsFigures(t *testing.T) {
	for _, model := range []struct{ name, bf16, mxfp8, bf16Figures, mxfp8Figures string }{
		{"m3-nano", "bf16", "mxfp8", "bf16", "mxfp8"},
		{"m3-tiny", "bundled-bf16", "bundled-mxfp8", "drafts", "drafts_mxfp8"},
		{"m3-tiny", "aligned3-mxfp8", "", "drafts_aligned3_chain_aligned", ""},
	} {
		t.Run(model.name+" "+model.bf16, func(t *testing.T) {
			variants := map[string]string{model.bf16: model.bf16Figures, model.mxfp8: model.mxfp8Figures}
			if hiptest.RaceDetector || model.mxfp8 == "" {
				delete(variants, model.mxfp8) // the format of the built-in one
			}
			reproducesItsFigures(t, hiptest.Shared(t, model.name), variants)
		})
	}
}

// reproducesItsFigures drafts with variants of a model, folders by the names of their
// figures.
func reproducesItsFigures(t *testing.T, dir string, variants map[string]string) {
	raw, err := os.ReadFile(filepath.Join(dir, "acceptance.json"))
	require.NoError(t, err)
	var figures struct {
		Variants map[string]map[string]json.RawMessage
	}
	require.NoError(t, json.Unmarshal(raw, &figures))
	traces, err := filepath.Glob(filepath.Join(dir, "traces", "*.safetensors"))
	require.NoError(t, err)
	for folder, name := range variants {
		for _, k := range chainLengths() {
			t.Run(folder+" k "+k, func(t *testing.T) {
				t.Parallel()
				var want expected
				require.NoError(t, json.Unmarshal(figures.Variants[name][k], &want))
				args := []string{"-json", "-k", k, "-checkpoint", filepath.Join(dir, folder)}
				for _, trace := range traces[:6] {
					args = append(args, "-trace", trace)
				}
				checkFigures(t, want, len(traces), append(args, traces[6:]...)...)
			})
		}
	}
}

func TestText(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("what is printed does not depend on the race detector")
	}
	code, stdout, stderr := runDraft("-k", "2", "-show", "3")
	require.Equal(t, cli.OK, code, stderr)
	for _, want := range []string{"trace-00, the first 3 of ", "step  drafted", "mismatches", "trace-04", "acceptance by position   0.918 0.818", "mean tokens per step     2.722"} {
		require.Contains(t, stdout, want)
	}
}

func TestOtherSettingsDraftToo(t *testing.T) {
	dir := t.TempDir()
	trace := filepath.Join("..", "m3tiny", "traces", "trace-02.safetensors")
	raw, err := os.ReadFile(trace)
	require.NoError(t, err)
	own := filepath.Join(dir, "own.safetensors")
	require.NoError(t, os.WriteFile(own, raw, 0o600))
	var all, sure summary
	for _, c := range []struct {
		into *summary
		args []string
	}{
		{&all, []string{"-bf16-cache"}},
		{new(summary), []string{"-cache", "fp8"}},
		{new(summary), []string{"-cache", "fp8-index"}},
		{new(summary), []string{"-postnorm"}},
		{new(summary), []string{"-chain", "chain_mod_own"}},
		{new(summary), []string{"-chain", "chain_aligned"}},
		{new(summary), []string{"-chain", "chain_target"}},
		{&sure, []string{"-min-prob", "0.7"}},
	} {
		code, stdout, stderr := runDraft(append(c.args, "-json", "-trace", own)...)
		require.Equal(t, cli.OK, code, stderr)
		require.NoError(t, json.Unmarshal([]byte(stdout), c.into))
		require.Greater(t, c.into.MeanTokensPerStep, 1.5, "%v", c.args)
	}
	require.Less(t, sure.Traces[0].Drafted, all.Traces[0].Drafted, "unlikely drafts are left out")
	rate := func(s *summary) float64 { return ratio(s.Traces[0].Accepted, s.Traces[0].Drafted) }
	require.Greater(t, rate(&sure), rate(&all), "what is left is better")
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.safetensors")
	require.NoError(t, os.WriteFile(broken, []byte("no trace"), 0o600))
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-h"}, cli.OK, "exit status"},
		{[]string{"-wrong"}, cli.Usage, "draft: flag provided but not defined: -wrong; run draft -h for its flags\n"},
		{[]string{"-k", "0"}, cli.Usage, "-k is 0, want 1 to 64"},
		{[]string{"-device", "hip:999"}, cli.Failed, "no GPU device"},
		{[]string{"-checkpoint", filepath.Join(dir, "none")}, cli.Failed, "stat " + filepath.Join(dir, "none")},
		{[]string{"-checkpoint", dir}, cli.Failed, dir + ": read config: open config.json"},
		{[]string{broken}, cli.Failed, "draft: safetensors: " + filepath.ToSlash(broken) + ": another kind of file: "},
		{[]string{filepath.Join(dir, "none.safetensors")}, cli.Failed, "open " + filepath.ToSlash(filepath.Join(dir, "none.safetensors")) + ": "},
		{[]string{"-chain", "zigzag"}, cli.Usage, "draft: -chain is zigzag, want chain, chain_mod_own, chain_aligned or chain_target; run "},
		{[]string{"-min-prob", "2"}, cli.Usage, "draft: -min-prob is 2, want 0 to 1; run "},
		{[]string{"-min-prob", "NaN"}, cli.Usage, "draft: -min-prob is NaN, want 0 to 1; run "},
		{[]string{"-show", "-1"}, cli.Usage, "draft: -show is -1, want 0 or more; run "},
		{[]string{"-k", "65", "-chain", "x"}, cli.Usage, "draft: -k is 65, want 1 to 64; -chain is x, want"},
		{[]string{"-device", "abacus"}, cli.Usage, `invalid value "abacus" for flag -device: want cpu[:bf16x2|bf16], reference or hip[:n]`},
		{[]string{"-tp", "0", "-ep", "65"}, cli.Usage, "draft: -tp is 0, want 1 to 64; -ep is 65, want 1 to 64; run "},
		{[]string{"-tp", "8", "-ep", "9"}, cli.Usage, "draft: -tp 8 and -ep 9 are 72 devices, want at most 64; run "},
		{[]string{"-tp", "2", "-conventions"}, cli.Usage, "-conventions runs on one device, not with -tp or -ep"},
		{[]string{"-tp", "3"}, cli.Failed, "TensorParallel.Size is 3, want a divisor of"},
		{[]string{"-device", ""}, cli.Usage, "want cpu[:bf16x2|bf16], reference or hip[:n]"},
	} {
		code, stdout, stderr := runDraft(c.args...)
		require.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		require.Contains(t, stdout+stderr, c.says, "%v", c.args)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	require.Equal(t, cli.Failed, run(ctx, nil, &out, &errs))
	require.Equal(t, "draft: interrupted\n", errs.String())
	require.Empty(t, out.String())
}

// TestRanks: a parallel head drafts along the traces what one device does.
func TestRanks(t *testing.T) {
	results := func(args ...string) []string {
		code, stdout, stderr := runDraft(append(args, "-json")...)
		require.Equal(t, cli.OK, code, stderr)
		var out summary
		require.NoError(t, json.Unmarshal([]byte(stdout), &out))
		for _, n := range []struct {
			flag string
			got  int
		}{{"-tp", out.TensorParallel}, {"-ep", out.ExpertParallel}} {
			want := "1"
			if i := slices.Index(args, n.flag); i >= 0 {
				want = args[i+1]
			}
			require.Equal(t, want, fmt.Sprint(n.got), n.flag)
		}
		var figures []string
		for _, r := range out.Traces {
			figures = append(figures, fmt.Sprintf("%s: %d steps, %d of %d, %d mismatches", r.Name, r.Steps, r.Accepted, r.Drafted, r.Mismatches))
		}
		return figures
	}
	want := results()
	for _, layout := range [][]string{nil, {"-tp", "2"}} {
		args := append(layout, "-checkpoint", filepath.Join(t.TempDir(), "absent"))
		code, _, stderr := runDraft(args...)
		require.Equal(t, cli.Failed, code)
		require.Contains(t, stderr, "draft: mtp: stat ", "it is not one rank's")
	}
	for _, layout := range [][]string{{"-tp", "2"}, {"-ep", "2"}, {"-tp", "2", "-ep", "2"}, {"-tp", "8"}, {"-ep", "8"}, {"-tp", "4", "-ep", "2"}} {
		require.Equal(t, want, results(layout...), "%v", layout)
	}
	trace := filepath.Join("..", "m3tiny", "traces", "trace-00.safetensors")
	for _, layout := range [][]string{{"-tp", "2"}, {"-ep", "2"}} {
		require.Equal(t, want[:1], results(append(layout, "-device", "reference", trace)...), "reference, %v", layout)
	}
}
