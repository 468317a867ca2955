package synthetic

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// small is a config with every size odd in some way: columns that do not fill a
// block of scales, tensors of uneven numbers of bytes, several modules.
func small() Config {
	c := Nano()
	c.HiddenSize, c.IntermediateSize, c.SharedIntermediateSize = 72, 40, 56
	c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 6, 3, 12
	c.VocabSize, c.RotaryDim, c.NumMTPModules = 51, 6, 2
	c.NumLocalExperts, c.NumExpertsPerTok = 3, 2
	c.Sparse.IndexDim, c.Sparse.NumIndexHeads = 10, 3
	return c
}

func plan(t testing.TB, c Config, opts Options) *Checkpoint {
	t.Helper()
	checkpoint, err := New(c, opts)
	require.NoError(t, err)
	return checkpoint
}

// size sums up the bytes of the tensors, scales included, whose names match.
func size(c *Checkpoint, match func(name string) bool) (n int64) {
	for i := range c.Tensors() {
		if t := &c.Tensors()[i]; match(t.Name) {
			n += t.Size()
		}
	}
	return n
}

func inModule(name string) bool { return strings.HasPrefix(name, "model.mtp.layers.0.") }

func TestM3HasTheReleasedSizes(t *testing.T) {
	c := plan(t, M3(), Options{})
	gigabytes := func(match func(string) bool) float64 { return float64(size(c, match)) / 1e9 }
	require.InDelta(t, 7.73, gigabytes(inModule), 0.005)
	require.InDelta(t, 7.47, gigabytes(func(name string) bool { return strings.Contains(name, ".experts.") }), 0.005)
	require.EqualValues(t, 200_064*6144*2, size(c, func(name string) bool { return name == "lm_head.weight" }))
	require.EqualValues(t, 200_064*6144*2, size(c, func(name string) bool { return name == "model.embed_tokens.weight" }))
	module := c.Parameters() - 2*200_064*6144
	require.InDelta(t, 7.49, float64(module)/1e9, 0.005)

	// What one token reads, in MB.
	parts := func(substring string) float64 {
		return gigabytes(func(name string) bool { return strings.Contains(name, substring) }) * 1000
	}
	require.InDelta(t, 292, parts(".experts.0.")*4+parts(".shared_experts."), 0.5)
	require.InDelta(t, 114, parts(".self_attn."), 0.5)
	require.InDelta(t, 78, parts(".eh_proj."), 0.5)
	require.InDelta(t, 3, parts(".gate.weight"), 0.5)

	require.InDelta(t, 12.65, float64(c.Size())/1e9, 0.005)
	require.Len(t, c.Files(), 5)
	for _, f := range c.Files()[:3] {
		require.LessOrEqual(t, f.Size(), int64(DefaultShardSize+1<<20))
	}
	_, report, err := mtp.InspectFS(c.FS(), mtp.Options{})
	require.NoError(t, err)
	require.Equal(t, c.Parameters(), report.Parameters)
	require.Empty(t, report.Notes)
}

func TestM3HasTheTensorsOfTheTable(t *testing.T) {
	c := plan(t, M3(), Options{})
	got := make(map[string]*Tensor)
	for i := range c.Tensors() {
		got[c.Tensors()[i].Name] = &c.Tensors()[i]
	}
	require.Len(t, got, len(c.Tensors()), "names are unique")
	expected := map[string]bool{}
	expect := func(dtype safetensors.Dtype, name string, shape ...int) {
		expected[name] = true
		tensor := got[name]
		require.NotNil(t, tensor, name)
		require.Equal(t, shape, tensor.Shape, name)
		require.Equal(t, dtype, tensor.Dtype, name)
	}
	matrix := func(name string, rows, cols int) {
		expect(safetensors.F8E4M3, name+".weight", rows, cols)
		expect(safetensors.U8, name+".weight_scale_inv", rows, cols/32)
	}
	const v, h, i, e, d = 200_064, 6144, 3072, 128, 128
	expect(safetensors.BF16, "model.embed_tokens.weight", v, h)
	expect(safetensors.BF16, "lm_head.weight", v, h)
	const module = "model.mtp.layers.0."
	const layer, attn, moe = module + "transformer_layer.", module + "transformer_layer.self_attn.", module + "transformer_layer.block_sparse_moe."
	for _, norm := range []string{module + "enorm", module + "hnorm", module + "final_layernorm", layer + "input_layernorm", layer + "post_attention_layernorm"} {
		expect(safetensors.BF16, norm+".weight", h)
	}
	for _, norm := range []string{"q_norm", "k_norm", "index_q_norm", "index_k_norm"} {
		expect(safetensors.BF16, attn+norm+".weight", d)
	}
	matrix(module+"eh_proj", h, 2*h)
	matrix(attn+"q_proj", 64*d, h)
	matrix(attn+"k_proj", 4*d, h)
	matrix(attn+"v_proj", 4*d, h)
	matrix(attn+"o_proj", h, 64*d)
	matrix(attn+"index_q_proj", 4*128, h)
	matrix(attn+"index_k_proj", 128, h)
	expect(safetensors.F32, moe+"gate.weight", e, h)
	expect(safetensors.F32, moe+"e_score_correction_bias", e)
	for expert := range e {
		prefix := fmt.Sprintf("%sexperts.%d", moe, expert)
		matrix(prefix+".w1", i, h)
		matrix(prefix+".w3", i, h)
		matrix(prefix+".w2", h, i)
	}
	matrix(moe+"shared_experts.gate_proj", i, h)
	matrix(moe+"shared_experts.up_proj", i, h)
	matrix(moe+"shared_experts.down_proj", h, i)
	require.Equal(t, slices.Sorted(maps.Keys(expected)), slices.Sorted(maps.Keys(got)))
}

// TestFourBitsAreOfRoutedExperts: all other tensors are those of the checkpoint in MXFP8, byte
// by byte, and the experts have half its bits.
func TestFourBitsAreOfRoutedExperts(t *testing.T) {
	const routed = ".block_sparse_moe.experts."
	fp8 := contentsOf(t, plan(t, small(), Options{}))
	for format, ends := range map[weights.Format][]string{
		weights.MXFP4: {".weight_packed", ".weight_scale"},
		weights.NVFP4: {".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale"},
	} {
		c := plan(t, small(), Options{Format: format})
		others := 0
		for name, data := range contentsOf(t, c) {
			if strings.Contains(name, routed) {
				require.Contains(t, ends, name[strings.LastIndex(name, "."):])
				continue
			}
			others++
			require.Equal(t, fp8[name], data, name)
		}
		require.Equal(t, len(fp8)-2*3*2*3, others, "weights and scales of 3 matrices of 3 experts of 2 modules")
		_, report, err := mtp.InspectFS(c.FS(), mtp.Options{})
		require.NoError(t, err)
		require.Equal(t, c.Parameters(), report.Parameters)
		require.Positive(t, report.Formats[format.String()])
	}
}

func TestM3InFourBitsHasItsSizes(t *testing.T) {
	for format, gigabytes := range map[weights.Format]struct{ experts, all float64 }{
		weights.MXFP4: {3.850, 9.025}, weights.NVFP4: {4.077, 9.251},
	} {
		c := plan(t, M3(), Options{Format: format})
		experts := size(c, func(name string) bool { return strings.Contains(name, ".experts.") })
		require.InDelta(t, gigabytes.experts, float64(experts)/1e9, 0.001)
		require.InDelta(t, gigabytes.all, float64(c.Size())/1e9, 0.005)
	}
}

func TestFormatNames(t *testing.T) {
	for _, f := range formats {
		name := strings.ToLower(f.String())
		require.Contains(t, FormatNames, name)
		got, err := FormatOf(name)
		require.NoError(t, err)
		require.Equal(t, f, got)
	}
	_, err := FormatOf("fp5")
	require.ErrorContains(t, err, "want "+FormatNames)
}

func TestFolderIsAFileSystem(t *testing.T) {
	single, sharded := plan(t, small(), Options{}), plan(t, small(), Options{ShardSize: 20_000})
	require.NoError(t, fstest.TestFS(single.FS(), "config.json", "model.safetensors"))
	require.NoError(t, fstest.TestFS(sharded.FS(), "config.json", indexName, sharded.Files()[0].Name))
	_, err := single.FS().Open("absent")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = single.FS().Open("../config.json")
	require.ErrorIs(t, err, fs.ErrInvalid)
}

// contentsOf returns the bytes of every tensor, by name, read by weights.
func contentsOf(t *testing.T, c *Checkpoint) map[string]string {
	t.Helper()
	opened, err := weights.OpenCheckpoint(c.FS())
	require.NoError(t, err)
	defer opened.Close()
	contents := make(map[string]string)
	for _, tensor := range opened.Tensors() {
		data := make([]byte, tensor.Size())
		n, err := tensor.ReadAt(data, 0)
		require.Equal(t, len(data), n, "%v", err)
		contents[tensor.Name] = string(data)
	}
	return contents
}

func TestWeightsDependOnSeedAndNameAlone(t *testing.T) {
	first := contentsOf(t, plan(t, small(), Options{Seed: 7}))
	require.Equal(t, first, contentsOf(t, plan(t, small(), Options{Seed: 7})))
	require.Equal(t, first, contentsOf(t, plan(t, small(), Options{Seed: 7, ShardSize: 5_000})), "the cut into shards changes nothing")

	fewer, err := small().WithExperts(2)
	require.NoError(t, err)
	for name, data := range contentsOf(t, plan(t, fewer, Options{Seed: 7})) {
		require.True(t, strings.HasPrefix(first[name], data), name)
	}
	others := contentsOf(t, plan(t, small(), Options{Seed: 8}))
	seen := make(map[string]string)
	for name, data := range first {
		if len(data) < 16 {
			continue
		}
		require.NotEqual(t, data, others[name], "%s is the same for another seed", name)
		require.Empty(t, seen[data], "%s is the same as another tensor", name)
		seen[data] = name
	}
}

func TestShards(t *testing.T) {
	tensors := plan(t, small(), Options{}).Tensors()
	for _, limit := range []int64{1, 100, 5_000, 20_000, 1 << 30} {
		c := plan(t, small(), Options{ShardSize: limit})
		opened, err := weights.OpenCheckpoint(c.FS())
		require.NoError(t, err)
		require.Len(t, opened.Tensors(), len(tensors))
		for _, tensor := range opened.Tensors() {
			require.Zero(t, tensor.Offset()%int64(tensor.Dtype.Bits()/8), "%s is not aligned", tensor.Name)
		}
		require.NoError(t, opened.Close())
		for _, shard := range cut(tensors, limit) {
			total := int64(0)
			for _, tensor := range shard {
				total += tensor.Size()
			}
			require.True(t, total <= limit || len(shard) == 1, "%d bytes in a shard of %d", total, limit)
		}
		require.Equal(t, "config.json", c.Files()[len(c.Files())-1].Name)
	}
}

func TestReadAtEnds(t *testing.T) {
	f := plan(t, small(), Options{}).Files()[0]
	p := make([]byte, 8)
	n, err := f.ReadAt(p, f.Size()-3)
	require.Equal(t, 3, n)
	require.ErrorIs(t, err, io.EOF)
	for _, off := range []int64{f.Size(), f.Size() + 1, math.MaxInt64} {
		n, err = f.ReadAt(p, off)
		require.Zero(t, n)
		require.ErrorIs(t, err, io.EOF)
	}
	_, err = f.ReadAt(p, -1)
	require.ErrorIs(t, err, errNegativeOffset)
	n, err = f.ReadAt(nil, 0)
	require.Zero(t, n)
	require.NoError(t, err)
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Nano(), Options{Format: weights.F16})
	require.ErrorContains(t, err, "F16")
	broken := Nano()
	broken.NumKeyValueHeads, broken.HiddenAct = 3, "gelu"
	_, err = New(broken, Options{})
	require.ErrorIs(t, err, mtp.ErrConfig)
	require.ErrorContains(t, err, "num_attention_heads")
	require.ErrorContains(t, err, "hidden_act")
}

func TestWithExperts(t *testing.T) {
	for n, perToken := range map[int]int{1: 1, 3: 3, 4: 4, 128: 4} {
		c, err := M3().WithExperts(n)
		require.NoError(t, err)
		require.Equal(t, [2]int{n, perToken}, [2]int{c.NumLocalExperts, c.NumExpertsPerTok})
		_, _, err = mtp.InspectFS(plan(t, c, Options{}).FS(), mtp.Options{})
		require.NoError(t, err)
	}
	for _, n := range []int{-1, 0, 129} {
		_, err := M3().WithExperts(n)
		require.ErrorContains(t, err, "want 1 to 128")
	}
	_, err := Shape("m4")
	require.ErrorContains(t, err, "want m3 or nano")
}
