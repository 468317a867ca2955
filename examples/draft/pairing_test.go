package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// otherModel writes the built-in checkpoint with its lm_head turned upside down: another
// model of the same shapes.
func otherModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, m3tiny.Checkpoint()))
	const shard = "model-00001-of-00002.safetensors"
	file, err := safetensors.Open(m3tiny.Checkpoint(), shard)
	require.NoError(t, err)
	var tensors []*safetensors.Tensor
	for _, x := range file.Tensors() {
		if x.Name == "language_model.lm_head.weight" {
			data := make([]byte, x.Size())
			_, err := x.ReadAt(data, 0)
			require.NoError(t, err)
			row := 2 * x.Shape[1]
			turned := make([]byte, 0, len(data))
			for at := len(data) - row; at >= 0; at -= row {
				turned = append(turned, data[at:at+row]...)
			}
			x = safetensors.NewTensor(x.Name, x.Dtype, x.Shape, bytes.NewReader(turned))
		}
		tensors = append(tensors, x)
	}
	var model bytes.Buffer
	require.NoError(t, safetensors.Write(&model, nil, tensors))
	require.NoError(t, file.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, shard), model.Bytes(), 0o600))
	return dir
}

// TestTraceOfAnotherModel: a trace that names its model is refused with another one's
// checkpoint; along one that does not, an acceptance near 0 is said to mean that.
func TestTraceOfAnotherModel(t *testing.T) {
	other := otherModel(t)
	code, stdout, stderr := runDraft("-checkpoint", other)
	require.Equal(t, cli.Failed, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "trace-00 is a trace of another model than the checkpoint: its lm_head is sha256:")

	same := t.TempDir()
	require.NoError(t, os.CopyFS(same, m3tiny.Checkpoint()))
	code, stdout, _ = runDraft("-json", "-k", "1", "-checkpoint", same)
	require.Equal(t, cli.OK, code)
	require.NotContains(t, stdout, "warning")

	trace := filepath.Join("..", "m3tiny", "traces", "trace-00.safetensors")
	code, stdout, _ = runDraft("-json", "-k", "2", "-checkpoint", other, trace)
	require.Equal(t, cli.OK, code)
	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Contains(t, got.Warning, "the traces are of another model than the checkpoint, most likely")
	code, stdout, _ = runDraft("-k", "2", "-checkpoint", other, trace)
	require.Equal(t, cli.OK, code)
	require.Contains(t, stdout, "\nwarning: ")
	require.Contains(t, stdout, got.Warning)
}

// TestTraceThatNamesItsModel: the name is in the file's metadata.
func TestTraceThatNamesItsModel(t *testing.T) {
	name, err := m3tiny.LMHeadHash(m3tiny.Checkpoint())
	require.NoError(t, err)
	source := os.DirFS(filepath.Join("..", "m3tiny", "traces"))
	for lmHead, want := range map[string]int{name: cli.OK, "sha256:00": cli.Failed, "": cli.OK} {
		file, err := safetensors.Open(source, "trace-00.safetensors")
		require.NoError(t, err)
		var data bytes.Buffer
		require.NoError(t, safetensors.Write(&data, map[string]string{"lm_head": lmHead}, file.Tensors()))
		require.NoError(t, file.Close())
		trace := filepath.Join(t.TempDir(), "t.safetensors")
		require.NoError(t, os.WriteFile(trace, data.Bytes(), 0o600))
		code, _, stderr := runDraft("-json", "-k", "1", trace)
		require.Equal(t, want, code, stderr)
	}
}
