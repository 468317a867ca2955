package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestConventionsFigures drafts by conventions of each head along all traces, and compares
// every figure with the recorded ones.
func TestConventionsFigures(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the heads are those of other tests")
	}
	dir := hiptest.Shared(t, "m3-tiny")
	raw, err := os.ReadFile(filepath.Join(dir, "conventions.json"))
	require.NoError(t, err)
	var want struct {
		OneModule map[string]json.RawMessage            `json:"one_module_mxfp8"`
		Aligned   map[string]map[string]json.RawMessage `json:"aligned3_mxfp8"`
	}
	require.NoError(t, json.Unmarshal(raw, &want))
	names, err := filepath.Glob(filepath.Join(dir, "traces", "*.safetensors"))
	require.NoError(t, err)
	traces, err := (&settings{traces: names}).readTraces()
	require.NoError(t, err)
	for _, c := range []struct {
		checkpoint, recorded string
		by                   convention
		figures              json.RawMessage
	}{
		{"bundled-mxfp8", "_mxfp8", convention{Chain: mtp.ChainFirst, PostNorm: true, Hidden: preHidden}, want.OneModule["step0_pre_final_norm.between_post_norm"]},
		{"aligned3-mxfp8", "_aligned3_chain_aligned", convention{Chain: mtp.ChainAligned, Hidden: preHidden}, want.Aligned["chain_aligned"]["step0_pre_final_norm.between_pre_norm"]},
	} {
		t.Run(c.checkpoint, func(t *testing.T) {
			t.Parallel()
			var figures struct {
				expected
				EveryPositionMatch    []float64 `json:"every_position_match"`
				DraftsEqualToRecorded []float64 `json:"drafts_equal_to_recorded"`
			}
			require.NoError(t, json.Unmarshal(c.figures, &figures))
			const k = 4
			head, err := mtp.Load(context.Background(), filepath.Join(dir, c.checkpoint),
				mtp.Options{CacheFormat: attention.CacheF32, MaxDraft: k, Chain: c.by.Chain, PostNorm: c.by.PostNorm})
			require.NoError(t, err)
			defer head.Close()
			all := &conventions{K: k}
			require.NoError(t, all.runWith(context.Background(), head, []*convention{&c.by}, traces, func(int) {}))
			c.by.judge(traces, k)
			require.InDelta(t, figures.Mean, c.by.MeanTokensPerStep, 1e-2, "a near tie may change a step")
			require.InDelta(t, figures.Steps, c.by.Steps, 1)
			require.InDeltaSlice(t, figures.Rates, c.by.PerPositionAcceptance, 4e-3)
			require.InDeltaSlice(t, figures.EveryPositionMatch, c.by.EveryPositionMatch, 1e-3)
			require.InDeltaSlice(t, figures.DraftsEqualToRecorded, c.by.against(m3tiny.Variant(c.recorded), traces, k).Equal, 1.5e-3)
		})
	}
}

// shortTrace writes the beginning of a built-in trace, with drafts of its own if there are
// any.
func shortTrace(t *testing.T, tokens int, pre bool, drafts []int32) string {
	t.Helper()
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	trace := traces[0]
	n := trace.PromptLen + tokens
	var list []*safetensors.Tensor
	add := func(name string, dtype safetensors.Dtype, values any, shape ...int) {
		var raw bytes.Buffer
		require.NoError(t, binary.Write(&raw, binary.LittleEndian, values))
		list = append(list, safetensors.NewTensor(name, dtype, shape, bytes.NewReader(raw.Bytes())))
	}
	wide := func(values []int32) (out []int64) {
		for _, v := range values {
			out = append(out, int64(v))
		}
		return out
	}
	add("prompt_len", "I64", []int64{int64(trace.PromptLen)}, 1)
	add("tokens", "I64", wide(trace.Tokens[:n]), n)
	add("hidden", safetensors.BF16, trace.Hidden[:n*trace.Width], n, trace.Width)
	if pre {
		add("hidden_pre", safetensors.BF16, trace.HiddenPre[:n*trace.Width], n, trace.Width)
	}
	if k := len(drafts) / n; k > 0 {
		add("drafts", "I64", wide(drafts), n, k)
		add("margin", safetensors.F32, slices.Repeat([]float32{1}, len(drafts)), n, k)
	}
	var file bytes.Buffer
	require.NoError(t, safetensors.Write(&file, nil, list))
	name := filepath.Join(t.TempDir(), "short.safetensors")
	require.NoError(t, os.WriteFile(name, file.Bytes(), 0o600))
	return name
}

// conventionsOf runs -conventions for its JSON.
func conventionsOf(t *testing.T, args ...string) *conventions {
	t.Helper()
	code, stdout, stderr := runDraft(append(args, "-conventions", "-json")...)
	require.Equal(t, cli.OK, code, stderr)
	require.Empty(t, stderr)
	out := new(conventions)
	require.NoError(t, json.Unmarshal([]byte(stdout), out))
	return out
}

func TestConventionsTriesEveryRule(t *testing.T) {
	const k = 2
	out := conventionsOf(t, "-k", "2", shortTrace(t, 48, true, nil))
	require.Len(t, out.Conventions, 10, "two chains with two norms, chain_target with none, each with two hidden states")
	require.Len(t, out.Comparisons, 45)
	seen := map[string]bool{}
	for i, c := range out.Conventions {
		require.Len(t, c.PerPositionAcceptance, k)
		require.Len(t, c.EveryPositionMatch, k)
		require.Equal(t, i == 0, c.Difference == nil)
		if i > 0 {
			require.LessOrEqual(t, c.MeanTokensPerStep, out.Conventions[i-1].MeanTokensPerStep, "best first")
		}
		seen[c.String()] = true
	}
	require.Len(t, seen, 10)
	require.Equal(t, mtp.ChainTarget, out.Conventions[9].Chain, "by far the last")
	require.True(t, out.Conventions[9].Difference.ToldApart)
	require.Empty(t, out.Recorded)
	require.Len(t, out.Mistakes, 3*len(mistakes))

	out = conventionsOf(t, "-k", "2", shortTrace(t, 16, false, nil))
	require.Len(t, out.Conventions, 5)
	require.Contains(t, strings.Join(out.Findings, "\n"), "no hidden_pre")
}

// TestConventionsNameAMistake records drafts made with each mistake, and asks what they are.
func TestConventionsNameAMistake(t *testing.T) {
	const k, tokens = 2, 32
	traces, err := (&settings{traces: []string{shortTrace(t, tokens, false, nil)}}).readTraces()
	require.NoError(t, err)
	head, err := mtp.LoadFS(context.Background(), m3tiny.Checkpoint(), mtp.Options{CacheFormat: attention.CacheF32})
	require.NoError(t, err)
	defer head.Close()
	for _, m := range mistakes[:2] {
		c := &convention{Chain: mtp.ChainFirst, Hidden: postHidden, Mistake: m.name}
		require.NoError(t, (&conventions{K: k}).runWith(context.Background(), head, []*convention{c}, traces, func(int) {}))
		drafts := slices.Repeat([]int32{-1}, traces[0].PromptLen*k)
		for _, d := range c.drafts[0] {
			drafts = append(drafts, d...)
		}
		out := conventionsOf(t, "-k", "2", shortTrace(t, tokens, false, drafts))
		require.Len(t, out.Recorded, 1)
		r := out.Recorded[0]
		require.True(t, r.Reproduced)
		require.Equal(t, m.name, r.Closest.Mistake)
		require.Equal(t, tokens, r.Rows)
		require.Contains(t, strings.Join(out.Findings, "\n"), m.does)
	}
}

func TestConventionsText(t *testing.T) {
	code, stdout, stderr := runDraft("-conventions", "-k", "2", "-seen", "0.02,0", shortTrace(t, 64, true, nil))
	require.Equal(t, cli.OK, code, stderr)
	for line := range strings.Lines(stdout) {
		require.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), 80, line)
	}
	for _, want := range []string{"10 rules, 2 drafts a step, best first (traces: 1)", "chain_target", "no difference", "the acceptance seen is that of tokens_not_shifted"} {
		require.Contains(t, strings.Join(strings.Fields(stdout), " "), want)
	}
}

func TestConventionsRefuses(t *testing.T) {
	for says, args := range map[string][]string{
		"-seen goes with -conventions only":          {"-seen", "0.5"},
		"-seen has 2 values, want at most 1":         {"-conventions", "-k", "1", "-seen", "0.5,0.2"},
		"want shares of 0 to 1":                      {"-conventions", "-seen", "0.5,2"},
		"-chain does not go with -conventions":       {"-conventions", "-chain", "chain"},
		"-postnorm does not go with -conventions":    {"-conventions", "-postnorm"},
		"-draft-vocab does not go with -conventions": {"-conventions", "-draft-vocab", "20"},
	} {
		code, _, stderr := runDraft(args...)
		require.Equal(t, cli.Usage, code, "%v", args)
		require.Contains(t, stderr, says)
	}
}

func TestPaired(t *testing.T) {
	block := func(values ...float64) [][]float64 {
		out := make([][]float64, len(values))
		for i, v := range values {
			out[i] = []float64{v, v}
		}
		return out
	}
	zero := block(0, 0, 0, 0, 0, 0, 0, 0)
	d := paired(block(1, 3, 1, 3, 1, 3, 1, 3), zero)
	// Student's 99 % quantile for 7 degrees of freedom times sqrt(8/7)/sqrt(8).
	require.InDelta(t, 2, d.Mean, 1e-12)
	require.InDelta(t, 3.4995/2.6458, d.High-d.Mean, 3e-3)
	require.True(t, d.ToldApart)
	require.False(t, paired(block(1, -1, 1, -1, 1, -1, 1, -1), zero).ToldApart)
	require.False(t, paired(zero, zero).ToldApart)
	require.False(t, paired([][]float64{{1, 1}}, [][]float64{{0, 0}}).ToldApart, "too few places for an interval")
	require.True(t, paired([][]float64{{1, 1, 1, 1, 1, 1, 1, 1}}, [][]float64{{0, 0, 0, 0, 0, 0, 0, 0}}).ToldApart)
	require.Equal(t, difference{}, paired(nil, nil))
}
