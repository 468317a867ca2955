package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// summaryOf runs the program for its JSON.
func summaryOf(t *testing.T, args ...string) summary {
	t.Helper()
	code, stdout, stderr := runDraft(append(args, "-json")...)
	require.Equal(t, cli.OK, code, stderr)
	var s summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &s))
	return s
}

// allTokens writes a list of all ids, in random order.
func allTokens(t *testing.T) string {
	t.Helper()
	var list bytes.Buffer
	for _, id := range rand.New(rand.NewPCG(1, 1)).Perm(256) {
		fmt.Fprintln(&list, id)
	}
	name := filepath.Join(t.TempDir(), "all.txt")
	require.NoError(t, os.WriteFile(name, list.Bytes(), 0o600))
	return name
}

// TestCheaperLMHead: the effect of each way to read less, along some of the
// built-in traces. A list of all tokens has none.
func TestCheaperLMHead(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the heads are those of other tests")
	}
	var traces []string
	for _, trace := range []string{"trace-00", "trace-02", "trace-04"} {
		traces = append(traces, filepath.Join("..", "m3tiny", "traces", trace+".safetensors"))
	}
	exact := summaryOf(t, traces...)
	require.Nil(t, exact.DraftLMHead)
	for _, c := range []struct {
		args       []string
		format     string
		vocabulary int
		bytes      int64
		equal      float64 // at least
		lost       float64 // tokens per step, at most
	}{
		{[]string{"-draft-vocab", allTokens(t)}, "BF16", 256, 256 * 512, 1, 0},
		{[]string{"-draft-lm-head", "int8"}, "INT8", 256, 256 * (256 + 16), 0.99, 0.01},
		{[]string{"-draft-lm-head", "mxfp8"}, "MXFP8", 256, 256 * (256 + 8), 0.975, 0.05},
		{[]string{"-draft-lm-head", "mxfp4"}, "MXFP4", 256, 256 * (128 + 8), 0.94, 0.05},
		{[]string{"-draft-vocab", "50"}, "BF16", 50, 50 * 512, 0.94, 0.15},
		{[]string{"-draft-vocab", "50", "-draft-lm-head", "int8"}, "INT8", 50, 50 * (256 + 16), 0.94, 0.15},
		{[]string{"-draft-vocab", "1"}, "BF16", 1, 512, 0.1, 3},
	} {
		t.Run(fmt.Sprintf("%s, %d tokens", c.format, c.vocabulary), func(t *testing.T) {
			t.Parallel()
			s := summaryOf(t, append(c.args, traces...)...)
			got := s.DraftLMHead
			require.Equal(t, c.format, got.Format)
			require.Equal(t, []int{c.vocabulary, 256}, []int{got.Vocabulary, got.VocabSize})
			require.Equal(t, []int64{c.bytes, 256 * 512}, []int64{got.Bytes, got.StoredBytes})
			require.GreaterOrEqual(t, got.EqualDrafts, c.equal)
			require.Greater(t, got.Compared, 700)
			require.Equal(t, exact.PerPositionAcceptance, got.Exact.PerPositionAcceptance, "as without the flags")
			require.Equal(t, exact.MeanTokensPerStep, got.Exact.MeanTokensPerStep)
			require.GreaterOrEqual(t, s.MeanTokensPerStep, exact.MeanTokensPerStep-c.lost)
			if c.equal < 1 {
				require.Less(t, got.EqualDrafts, 1.0, "drafts are made with it")
				return
			}
			require.Equal(t, exact.PerPositionAcceptance, s.PerPositionAcceptance)
			for i, trace := range s.Traces {
				require.Zero(t, trace.Mismatches)
				require.Equal(t, exact.Traces[i].Accepted, trace.Accepted)
			}
		})
	}
}

// TestCheaperLMHeadOverRanks: what the ranks of a parallel head read is counted together, also
// where the first or the last of them has no row of the draft vocabulary.
func TestCheaperLMHeadOverRanks(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the heads are those of other tests")
	}
	high := filepath.Join(t.TempDir(), "high.txt")
	require.NoError(t, os.WriteFile(high, []byte("255\n240\n"), 0o600))
	trace := filepath.Join("..", "m3tiny", "traces", "trace-00.safetensors")
	for _, cheaper := range [][]string{
		{"-draft-lm-head", "int8"},
		{"-draft-lm-head", "mxfp4"},
		{"-draft-vocab", "50"}, // bytes of text: all below 128, on the first rank
		{"-draft-vocab", high, "-draft-lm-head", "mxfp8"},
	} {
		args := append(cheaper, "-k", "2", trace)
		want := summaryOf(t, args...).DraftLMHead
		for _, layout := range [][]string{{"-tp", "2"}, {"-ep", "2"}, {"-tp", "2", "-ep", "2"}} {
			got := summaryOf(t, append(layout, args...)...).DraftLMHead
			require.Equal(t, want.Format, got.Format, "%v %v", cheaper, layout)
			require.Equal(t, []int{want.Vocabulary, want.VocabSize}, []int{got.Vocabulary, got.VocabSize}, "%v %v", cheaper, layout)
			require.Equal(t, []int64{want.Bytes, want.StoredBytes}, []int64{got.Bytes, got.StoredBytes}, "%v %v", cheaper, layout)
			require.InDelta(t, want.EqualDrafts, got.EqualDrafts, 0.01, "%v %v", cheaper, layout)
			require.Equal(t, want.Exact.PerPositionAcceptance, got.Exact.PerPositionAcceptance, "%v %v", cheaper, layout)
		}
	}
}

// TestEqualDraftsAtEveryPosition compares five drafts with those of the exact
// head all along the traces: at least 99 of 100 are equal with INT8, as many of
// the first drafts with MXFP8, whose later ones are fed with more differences.
func TestEqualDraftsAtEveryPosition(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("there is time for too few positions to measure")
	}
	folders := map[string]func(t *testing.T) fs.FS{
		"mxfp8, built in": func(*testing.T) fs.FS { return m3tiny.Checkpoint() },
		"bf16":            func(t *testing.T) fs.FS { return os.DirFS(hiptest.Shared(t, "m3-tiny", "bundled-bf16")) },
	}
	for name, folder := range folders {
		t.Run(name, func(t *testing.T) {
			files := folder(t)
			device := hip.NewHost()
			defer device.Close()
			drafts := func(format weights.Format) [][]int32 {
				head, err := mtp.LoadFS(t.Context(), files, mtp.Options{Device: device, CacheFormat: attention.CacheF32, DraftLMHead: format})
				require.NoError(t, err)
				defer head.Close()
				return everyDraft(t, head, positionStride())
			}
			exact := drafts(0)
			first, all := equalShares(exact, drafts(weights.INT8))
			t.Logf("INT8: %.4f of first drafts and %.4f of all are equal", first, all)
			require.GreaterOrEqual(t, first, 0.995)
			require.GreaterOrEqual(t, all, 0.99)
			first, all = equalShares(exact, drafts(weights.MXFP8))
			t.Logf("MXFP8: %.4f of first drafts and %.4f of all are equal", first, all)
			require.GreaterOrEqual(t, first, 0.99)
			require.GreaterOrEqual(t, all, 0.975)
		})
	}
}

// everyDraft drafts 5 tokens at every stride-th position of the traces.
func everyDraft(t *testing.T, head *mtp.Head, stride int) (drafts [][]int32) {
	t.Helper()
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	cache, err := head.NewCache(1 + 512/head.Config().Attention.BlockSize)
	require.NoError(t, err)
	for _, trace := range traces {
		seq := cache.NewSequence()
		for n := trace.PromptLen; n < len(trace.Tokens); n += stride {
			ids, err := draftAt(context.Background(), &drafter{head: head}, seq, trace, n, 5)
			require.NoError(t, err)
			drafts = append(drafts, ids)
		}
		require.NoError(t, seq.Close())
	}
	return drafts
}

// equalShares are the shares of first drafts and of all drafts that are equal.
func equalShares(want, got [][]int32) (first, all float64) {
	n := 0
	for i := range want {
		for j, id := range want[i] {
			if n++; got[i][j] != id {
				continue
			}
			if all++; j == 0 {
				first++
			}
		}
	}
	return first / float64(len(want)), all / float64(n)
}

func TestCheaperText(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("what is printed does not depend on the race detector")
	}
	trace := filepath.Join("..", "m3tiny", "traces", "trace-02.safetensors")
	code, stdout, stderr := runDraft("-k", "2", "-show", "0", "-draft-lm-head", "int8", "-draft-vocab", "90", trace)
	require.Equal(t, cli.OK, code, stderr)
	for _, want := range []string{"lm_head for drafts  tokens   bytes", " INT8 ", " exact     256  131072", "drafts are equal; ", " % of the bytes are read"} {
		require.Contains(t, stdout, want)
	}
}

func TestCheaperRefuses(t *testing.T) {
	twice := filepath.Join(t.TempDir(), "twice.txt")
	require.NoError(t, os.WriteFile(twice, []byte("1\n2\n1\n"), 0o600))
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-draft-lm-head", "int4"}, cli.Usage, "-draft-lm-head is int4, want stored, int8, mxfp8 or mxfp4"},
		{[]string{"-draft-vocab", "0"}, cli.Usage, "-draft-vocab is 0, want at least 1, or a file"},
		{[]string{"-draft-vocab", "257"}, cli.Usage, "-draft-vocab is 257, want at most 256"},
		{[]string{"-draft-vocab", twice + "x"}, cli.Failed, "twice.txtx"},
		{[]string{"-draft-vocab", twice}, cli.Failed, "twice.txt: vocabulary: line 3 is 1 again"},
	} {
		code, stdout, stderr := runDraft(c.args...)
		require.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		require.Empty(t, stdout)
		require.Contains(t, stderr, c.says)
	}
}

func TestMostFrequent(t *testing.T) {
	counts := []int64{5, 0, 9, 5, -3, 5, 1}
	for n, want := range map[int][]int32{
		-1: {}, 0: {}, 1: {2}, 2: {0, 2}, 3: {0, 2, 3}, 4: {0, 2, 3, 5}, 5: {0, 2, 3, 5, 6}, 6: {0, 2, 3, 5, 6}, 1 << 40: {0, 2, 3, 5, 6},
	} {
		got := mostFrequent(counts, n)
		require.NotNil(t, got)
		require.Equal(t, want, got, "%d", n)
	}
	require.Empty(t, mostFrequent(nil, 3))
}
