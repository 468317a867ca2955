package reference

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

func TestLoadFormats(t *testing.T) {
	const name = "model.mtp.layers.1.eh_proj.weight"
	want := syntheticHead(t, "").modules[1]
	codes := make([]byte, 8*16)
	for i := range codes {
		codes[i] = byte(i)%0x7f | byte(i&1)<<7
	}

	tensors := syntheticTensors()
	tensors[name] = stored{"F8_E4M3", []int{8, 16}, codes}
	tensors[name+"_scale_inv"] = stored{"U8", []int{8, 1}, []byte{127, 128, 126, 127, 127, 127, 127, 130}}
	head, err := Load(checkpoint(t, tensors, ""))
	require.NoError(t, err)
	require.Equal(t, want.qProj, head.modules[1].qProj)
	for i, factor := range []float64{1, 2, 0.5, 1, 1, 1, 1, 8} {
		for j := range 16 {
			require.Equal(t, e4m3(codes[i*16+j])*factor, row(head.modules[1].ehProj, i)[j])
		}
	}
}

func TestLoadBundledPrefix(t *testing.T) {
	prefixed := map[string]stored{}
	for name, tensor := range syntheticTensors() {
		prefixed["language_model."+name] = tensor
	}
	prefixed["model.layers.0.self_attn.q_proj.weight"] = f32([]float32{float32(math.NaN())}, 1, 1) // the target's
	head, err := Load(checkpoint(t, prefixed, ""))
	require.NoError(t, err)
	require.Equal(t, syntheticHead(t, ""), head)
}

func TestLoadTiedEmbeddings(t *testing.T) {
	tensors := syntheticTensors()
	delete(tensors, "lm_head.weight")
	head, err := Load(checkpoint(t, tensors, `, "tie_word_embeddings": true`))
	require.NoError(t, err)
	require.Same(t, head.embed, head.lmHead)

	_, err = Load(checkpoint(t, tensors, ""))
	require.ErrorContains(t, err, "lm_head.weight")
}

func TestLoadRejects(t *testing.T) {
	const matrix, vector = "model.mtp.layers.0.eh_proj.weight", "model.mtp.layers.1.enorm.weight"
	scale := stored{"U8", []int{8, 1}, make([]byte, 8)}
	fp8 := stored{"F8_E4M3", []int{8, 16}, make([]byte, 128)}
	tests := []struct {
		name, tensor string
		change       func(tensors map[string]stored)
	}{
		{"matrix missing", matrix, func(m map[string]stored) { delete(m, matrix) }},
		{"vector missing", vector, func(m map[string]stored) { delete(m, vector) }},
		{"expert missing", "experts.2.w2.weight", func(m map[string]stored) {
			delete(m, "model.mtp.layers.1.transformer_layer.block_sparse_moe.experts.2.w2.weight")
		}},
		{"matrix transposed", matrix, func(m map[string]stored) { m[matrix] = f32(make([]float32, 128), 16, 8) }},
		{"vector too long", vector, func(m map[string]stored) { m[vector] = f32(make([]float32, 9), 9) }},
		{"matrix of integers", matrix, func(m map[string]stored) { m[matrix] = stored{"I8", []int{8, 16}, make([]byte, 128)} }},
		{"vector of bytes", vector, func(m map[string]stored) { m[vector] = stored{"F8_E4M3", []int{8}, make([]byte, 8)} }},
		{"both with and without the prefix", vector, func(m map[string]stored) { m["language_model."+vector] = m[vector] }},
		{"scale missing", matrix, func(m map[string]stored) { m[matrix] = fp8 }},
		{"scale beside a float", matrix + "_scale_inv", func(m map[string]stored) { m[matrix+"_scale_inv"] = scale }},
		{"scale of another dtype", matrix + "_scale_inv", func(m map[string]stored) {
			m[matrix], m[matrix+"_scale_inv"] = fp8, stored{"I8", []int{8, 1}, make([]byte, 8)}
		}},
		{"scale of another shape", matrix + "_scale_inv", func(m map[string]stored) {
			m[matrix], m[matrix+"_scale_inv"] = fp8, stored{"U8", []int{8, 2}, make([]byte, 16)}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tensors := syntheticTensors()
			test.change(tensors)
			head, err := Load(checkpoint(t, tensors, ""))
			require.Nil(t, head)
			var unusable *tensorError
			require.ErrorAs(t, err, &unusable)
			require.Contains(t, unusable.tensor, test.tensor)
		})
	}
}

func TestLoadReportsAllProblems(t *testing.T) {
	tensors := syntheticTensors()
	for _, name := range []string{"lm_head.weight", "model.mtp.layers.0.hnorm.weight", "model.mtp.layers.1.eh_proj.weight"} {
		delete(tensors, name)
	}
	_, err := Load(checkpoint(t, tensors, ""))
	for _, name := range []string{"lm_head.weight", "layers.0.hnorm.weight", "layers.1.eh_proj.weight"} {
		require.ErrorContains(t, err, name)
	}
}

func TestLoadFiles(t *testing.T) {
	_, err := Load(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	whole := checkpoint(t, syntheticTensors(), "")
	_, err = Load(fstest.MapFS{"config.json": whole["config.json"]})
	require.Error(t, err)
	_, err = Load(fstest.MapFS{"config.json": {Data: []byte("{}")}, "model.safetensors": whole["model.safetensors"]})
	require.ErrorIs(t, err, mtp.ErrConfig)
}

// TestLoadTroubles: what the head refuses beside what the oracle finds by itself is refused
// here too, and as many modules are loaded.
func TestLoadTroubles(t *testing.T) {
	_, err := Load(os.DirFS(hiptest.Shared(t, "golden-next", "broken", "tied-own-lm-head")))
	require.ErrorContains(t, err, "tie_word_embeddings")
	head, err := Load(os.DirFS(hiptest.Shared(t, "golden-next", "broken", "tied-same-lm-head")))
	require.NoError(t, err)
	require.Same(t, head.embed, head.lmHead)

	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(hiptest.Shared(t, "golden", "tiny-f32"))))
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	set := func(modules string) {
		t.Helper()
		text := strings.Replace(string(config), `"num_mtp_modules": 1`, `"num_mtp_modules": `+modules, 1)
		require.NoError(t, os.Remove(filepath.Join(dir, "config.json")))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600))
	}
	set("7")
	head, err = Load(os.DirFS(dir))
	require.NoError(t, err)
	require.Len(t, head.modules, 1)
	set("64")
	_, err = Load(os.DirFS(dir))
	require.ErrorContains(t, err, "model.mtp.layers.1.enorm.weight")
	require.LessOrEqual(t, strings.Count(err.Error(), "\n"), maxProblems)
}
