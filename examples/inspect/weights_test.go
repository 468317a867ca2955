package main

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// changed writes the built-in checkpoint with the bytes of some tensors changed.
func changed(t *testing.T, change func(tensor string, data []byte)) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, m3tiny.Checkpoint()))
	shards, err := fs.Glob(m3tiny.Checkpoint(), "*.safetensors")
	require.NoError(t, err)
	for _, shard := range shards {
		file, err := safetensors.Open(m3tiny.Checkpoint(), shard)
		require.NoError(t, err)
		var tensors []*safetensors.Tensor
		for _, x := range file.Tensors() {
			data := make([]byte, x.Size())
			_, err := x.ReadAt(data, 0)
			require.NoError(t, err)
			change(x.Name, data)
			tensors = append(tensors, safetensors.NewTensor(x.Name, x.Dtype, x.Shape, bytes.NewReader(data)))
		}
		require.NoError(t, file.Close())
		var data bytes.Buffer
		require.NoError(t, safetensors.Write(&data, nil, tensors))
		require.NoError(t, os.WriteFile(filepath.Join(dir, shard), data.Bytes(), 0o600))
	}
	return dir
}

// TestWeights: -weights reads the values, and only it does.
func TestWeights(t *testing.T) {
	const eh, norm = "language_model.model.mtp.layers.0.eh_proj.weight", "language_model.model.mtp.layers.0.enorm.weight"
	good := changed(t, func(string, []byte) {})
	code, stdout, stderr := inspectText(t, "-weights", good)
	require.Equal(t, cli.OK, code)
	require.Empty(t, stderr)
	require.NotContains(t, stdout, "note:")
	for name, c := range map[string]struct {
		change func(tensor string, data []byte)
		says   []string
	}{
		"zeros of a preallocated file": {func(_ string, data []byte) { clear(data) }, []string{eh + ": all values are zero", norm + ": all values are zero", "language_model.lm_head.weight: all values are zero"}},
		"NaN": {func(tensor string, data []byte) {
			if tensor == eh {
				data[100], data[101] = 0xff, 0xff
			}
		}, []string{eh + ": values are NaN or infinite", "does not load: 1 problem"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := changed(t, c.change)
			code, _, _ := inspectText(t, dir)
			require.Equal(t, cli.OK, code)
			code, stdout, _ := inspectText(t, "-weights", dir)
			require.Equal(t, cli.Failed, code)
			for _, text := range c.says {
				require.Contains(t, stdout, text)
			}
			code, object := inspectJSON(t, "-weights", dir)
			require.Equal(t, cli.Failed, code)
			require.NotEmpty(t, object["problems"].([]any)[0].(map[string]any)["tensor"])
		})
	}
	ones := changed(t, func(tensor string, data []byte) {
		for i := 0; strings.HasSuffix(tensor, "norm.weight") && i < len(data); i += 2 {
			binary.LittleEndian.PutUint16(data[i:], 0x3f80)
		}
	})
	code, object := inspectJSON(t, "-weights", ones)
	require.Equal(t, cli.OK, code)
	require.Contains(t, object["notes"].([]any)[0], "norms are centered on 1")
}

// TestFirstModules: -modules loads the first modules, whatever the config promises.
func TestFirstModules(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(hiptest.Shared(t, "golden", "tiny-mxfp8"), name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	config := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, bytes.Replace(data, []byte(`"num_mtp_modules": 1`), []byte(`"num_mtp_modules": 3`), 1), 0o600))
	code, stdout, _ := inspectText(t, dir)
	require.Equal(t, cli.Failed, code)
	require.Contains(t, stdout, "(-modules 1)")
	code, object := inspectJSON(t, "-modules", "1", dir)
	require.Equal(t, cli.OK, code)
	require.Equal(t, 1.0, object["modules"])
	for _, bad := range []string{"-1", "65", "x"} {
		code, _, stderr := inspectText(t, "-modules", bad, dir)
		require.Equal(t, cli.Usage, code)
		require.Contains(t, stderr, "-modules")
	}
}
