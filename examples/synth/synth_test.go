package main

import (
	"bytes"
	"context"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

func runSynth(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// drafts loads a head, checks that everything stays in range, and returns what
// it drafts along two sequences.
func drafts(t *testing.T, folder fs.FS) (ids [][]int32, probs [][]float32) {
	t.Helper()
	const rows, k = 36, 3 // rows of the first sequence, over a block of 32
	ctx := context.Background()
	head, err := mtp.LoadFS(ctx, folder, mtp.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, head.Close()) }()
	c := head.Config()
	cache, err := head.NewCache(8)
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(5, 6))
	batch := &mtp.Batch{}
	for _, n := range []int{rows, 2} {
		r := mtp.Rows{Sequence: cache.NewSequence()}
		for range n {
			r.Tokens = append(r.Tokens, random.Int32N(int32(c.VocabSize)))
			for range c.HiddenSize {
				batch.Hidden.Float32 = append(batch.Hidden.Float32, float32(random.NormFloat64()))
			}
		}
		batch.Sequences = append(batch.Sequences, r)
	}
	hidden, err := head.Forward(ctx, batch, 0)
	require.NoError(t, err)
	squares := 0.0
	for _, v := range hidden.Float32 {
		require.Less(t, math.Abs(float64(v)), 100.0)
		squares += float64(v) * float64(v)
	}
	size := math.Sqrt(squares / float64(len(hidden.Float32)))
	require.True(t, size > 0.3 && size < 10, "hidden states of size %g", size)
	for _, r := range batch.Sequences {
		require.NoError(t, r.Sequence.Truncate(0))
	}
	for i := range batch.Sequences {
		batch.Sequences[i].Drafts = k
	}
	drafts, err := head.Draft(ctx, batch)
	require.NoError(t, err)
	for i, d := range drafts {
		ids, probs = append(ids, d.Tokens), append(probs, d.Probs)
		require.Len(t, ids[i], k)
		for j, p := range probs[i] {
			require.True(t, p > 0 && p <= 1, "probability %g", p)
			require.True(t, ids[i][j] >= 0 && int(ids[i][j]) < c.VocabSize)
		}
	}
	return ids, probs
}

func TestWhatIsWrittenLoadsAndDrafts(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string
		format  weights.Format
		experts int
	}{
		{"mxfp8", nil, weights.MXFP8, 8},
		{"bf16", []string{"-format", "bf16"}, weights.BF16, 8},
		{"one expert", []string{"-experts", "1", "-seed", "9"}, weights.MXFP8, 1},
		{"mxfp4", []string{"-format", "mxfp4"}, weights.MXFP4, 8},
		{"nvfp4", []string{"-format", "nvfp4", "-experts", "5"}, weights.NVFP4, 5},
		{"three experts", []string{"-experts=3", "-format=bf16"}, weights.BF16, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			code, stdout, stderr := runSynth(append(c.args, "-shape", "nano", "-out", dir)...)
			require.Equal(t, cli.OK, code, stderr)
			require.Contains(t, stdout, dir)
			config, report, err := mtp.Inspect(dir, mtp.Options{})
			require.NoError(t, err)
			require.Equal(t, c.experts, config.MoE.Experts)
			require.Equal(t, min(2, c.experts), config.MoE.TopK)
			text, err := os.ReadFile(filepath.Join(dir, "config.json"))
			require.NoError(t, err)
			require.Equal(t, c.format != weights.BF16, strings.Contains(string(text), "quantization_config"))
			require.Contains(t, report.Formats, c.format.String())
			for _, note := range report.Notes { // nothing but who wrote it: config and tensors agree
				require.Contains(t, note, "quantization_config is by compressed-tensors: ")
			}
			drafts(t, os.DirFS(dir))
		})
	}
}

func TestDraftsFromDiskAndMemoryAreTheSame(t *testing.T) {
	c, dir := sharded(t), filepath.Join(t.TempDir(), "out")
	require.NoError(t, testWriter(dir).write(context.Background(), c))
	diskIDs, diskProbs := drafts(t, os.DirFS(dir))
	memoryIDs, memoryProbs := drafts(t, c.FS())
	require.Equal(t, diskIDs, memoryIDs)
	require.Equal(t, diskProbs, memoryProbs)
}

func TestSameFlagsSameBytes(t *testing.T) {
	write := func(args ...string) []byte {
		dir := filepath.Join(t.TempDir(), "out")
		code, _, stderr := runSynth(append(args, "-shape", "nano", "-out", dir)...)
		require.Equal(t, cli.OK, code, stderr)
		data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
		require.NoError(t, err)
		return data
	}
	first := write()
	require.True(t, bytes.Equal(write("-format", "nvfp4"), write("-format", "nvfp4")))
	require.True(t, bytes.Equal(first, write()))
	require.True(t, bytes.Equal(first, write("-seed", "0")))
	require.False(t, bytes.Equal(first, write("-seed", "1")))
}

func TestM3InSmall(t *testing.T) {
	config, err := synthetic.M3().WithExperts(2)
	require.NoError(t, err)
	config.VocabSize = 100
	c, err := synthetic.New(config, synthetic.Options{ShardSize: 1 << 27})
	require.NoError(t, err)
	_, report, err := mtp.InspectFS(c.FS(), mtp.Options{})
	require.NoError(t, err)
	require.Equal(t, c.Parameters(), report.Parameters)
}

func TestRunRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	taken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(taken, "precious"), nil, 0o600))
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"help", []string{"-h"}, cli.OK, []string{"exit status"}},
		{"no folder", []string{"-shape", "nano"}, cli.Usage, []string{"want -out DIR"}},
		{"unknown flag", []string{"-out", out, "-wrong"}, cli.Usage, []string{"synth: flag provided but not defined: -wrong; run synth -h for its flags\n"}},
		{"everything wrong", []string{"-shape", "m4", "-format", "fp5", "x"}, cli.Usage,
			[]string{"want -out DIR", `"x"`, "want m3 or nano", "want mxfp8, bf16, mxfp4 or nvfp4"}},
		{"too many experts", []string{"-out", out, "-shape", "nano", "-experts", "9"}, cli.Usage, []string{"want 1 to 8"}},
		{"negative experts", []string{"-out", out, "-experts", "-1"}, cli.Usage, []string{"want 1 to 128"}},
		{"folder in use", []string{"-out", taken, "-shape", "nano"}, cli.Failed, []string{"not empty", "precious"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runSynth(c.args...)
			require.Equal(t, c.code, code)
			require.Empty(t, stdout)
			for _, text := range c.says {
				require.Contains(t, stderr, text)
			}
			require.NoDirExists(t, out)
		})
	}
}

func TestCountText(t *testing.T) {
	for n, text := range map[int64]string{999: "999", 2_223_496: "2.22 M", 9_949_969_024: "9.95 G"} {
		require.Equal(t, text, countText(n))
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "out")
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Failed, run(ctx, []string{"-shape", "nano", "-out", dir}, &stdout, &stderr))
	require.Equal(t, "synth: interrupted\n", stderr.String())
	require.NoDirExists(t, dir)
}
