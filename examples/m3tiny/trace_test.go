package m3tiny

import (
	"bytes"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

func TestEmbedded(t *testing.T) {
	_, err := fs.Stat(Checkpoint(), "config.json")
	require.NoError(t, err)
	traces, err := Traces()
	require.NoError(t, err)
	require.Len(t, traces, 3)
	for _, trace := range traces {
		require.Len(t, trace.Tokens, trace.PromptLen+256, trace.Name)
		require.Len(t, trace.Hidden, len(trace.Tokens)*256)
		require.Len(t, trace.HiddenPre, len(trace.Hidden))
		for _, v := range []Variant{BF16, MXFP8} {
			d := trace.Drafts[v]
			require.Equal(t, 5, d.K)
			require.EqualValues(t, -1, d.IDs[(trace.PromptLen-1)*5])
			require.GreaterOrEqual(t, d.IDs[trace.PromptLen*5], int32(0))
		}
	}
}

// tensor is one of a file built by a test.
type tensor struct {
	dtype safetensors.Dtype
	shape []int
	bytes int
	fill  byte
}

// file builds a safetensors file of the tensors.
func file(t *testing.T, tensors map[string]tensor) fs.FS {
	t.Helper()
	var list []*safetensors.Tensor
	for name, x := range tensors {
		list = append(list, safetensors.NewTensor(name, x.dtype, x.shape, bytes.NewReader(bytes.Repeat([]byte{x.fill}, x.bytes))))
	}
	var file bytes.Buffer
	require.NoError(t, safetensors.Write(&file, nil, list))
	return fstest.MapFS{"t.safetensors": {Data: file.Bytes()}}
}

func TestBadTraces(t *testing.T) {
	good := func() map[string]tensor {
		return map[string]tensor{
			"prompt_len": {"I64", []int{1}, 8, 0}, // refused in the end, so that every case is
			"tokens":     {"I64", []int{4}, 32, 0},
			"hidden":     {"BF16", []int{4, 2}, 16, 0},
			"drafts":     {"I64", []int{4, 3}, 96, 0},
			"margin":     {"F32", []int{4, 3}, 48, 0},
		}
	}
	for _, c := range []struct {
		name, says string
		change     func(map[string]tensor)
	}{
		{"prompt of nothing", "prompt_len is 0, want 1 to 3", func(map[string]tensor) {}},
		{"no tokens", "tokens is missing", func(m map[string]tensor) { delete(m, "tokens") }},
		{"tokens of another dtype", "tokens is I32 [4], want I64 [any]", func(m map[string]tensor) { m["tokens"] = tensor{"I32", []int{4}, 16, 0} }},
		{"token beyond int32", "tokens[0] is", func(m map[string]tensor) { m["tokens"] = tensor{"I64", []int{4}, 32, 0x55} }},
		{"hidden of other rows", "hidden is BF16 [3 2], want BF16 [4 any]", func(m map[string]tensor) { m["hidden"] = tensor{"BF16", []int{3, 2}, 12, 0} }},
		{"hidden_pre of another width", "hidden_pre is BF16 [4 3], want BF16 [4 2]", func(m map[string]tensor) { m["hidden_pre"] = tensor{"BF16", []int{4, 3}, 24, 0} }},
		{"margin of another shape", "margin is 8", func(m map[string]tensor) { m["margin"] = tensor{"F32", []int{4, 2}, 32, 0} }},
		{"drafts without margin", "margin is missing", func(m map[string]tensor) { delete(m, "margin") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tensors := good()
			c.change(tensors)
			_, err := ReadTrace(file(t, tensors), "t.safetensors")
			require.ErrorIs(t, err, ErrTrace)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "t.safetensors")
		})
	}
	_, err := ReadTrace(fstest.MapFS{}, "none.safetensors")
	require.ErrorIs(t, err, fs.ErrNotExist)
}
