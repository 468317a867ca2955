package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// inFourBits writes a checkpoint whose routed experts are requantized, as plain rounding does
// it, and named as compressed-tensors does. All other tensors are as they were.
func inFourBits(t *testing.T, checkpoint fs.FS, format weights.Format) string {
	t.Helper()
	from, err := weights.OpenCheckpoint(checkpoint)
	require.NoError(t, err)
	var tensors []*safetensors.Tensor
	for _, x := range from.Tensors() {
		module, isWeight := strings.CutSuffix(x.Name, ".weight")
		switch {
		case !strings.Contains(x.Name, ".mtp.") || !strings.Contains(x.Name, ".block_sparse_moe.experts."):
			tensors = append(tensors, x)
		case isWeight:
			tensors = append(tensors, fourBits(t, format, module, x, from)...)
		}
	}
	var file bytes.Buffer
	require.NoError(t, safetensors.Write(&file, nil, tensors))
	require.NoError(t, from.Close())
	config, err := fs.ReadFile(checkpoint, "config.json")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model.safetensors"), file.Bytes(), 0o600))
	return dir
}

func contents(t *testing.T, x *safetensors.Tensor) []byte {
	t.Helper()
	data := make([]byte, x.Size())
	n, err := x.ReadAt(data, 0)
	require.Equal(t, len(data), n, "%v", err)
	return data
}

// fourBits returns the tensors of a matrix of BF16 or MXFP8.
func fourBits(t *testing.T, format weights.Format, module string, x *safetensors.Tensor, from *safetensors.Folder) []*safetensors.Tensor {
	t.Helper()
	rows, cols := x.Shape[0], x.Shape[1]
	values := make([]float32, rows*cols)
	if x.Dtype == safetensors.BF16 {
		weights.BF16.Decode(values, contents(t, x), nil)
	} else {
		scales, ok := from.Tensor(x.Name + "_scale_inv")
		require.True(t, ok)
		weights.MXFP8.Decode(values, contents(t, x), contents(t, scales)) // rows are of whole blocks
	}
	add := func(name string, dtype safetensors.Dtype, shape []int, data []byte) *safetensors.Tensor {
		return safetensors.NewTensor(module+name, dtype, shape, bytes.NewReader(data))
	}
	if format == weights.MXFP4 {
		data, scales := encodeFourBits(values, 32, func(largest float64) (byte, float64) {
			exponent := int(math.Floor(math.Log2(largest/0.875))) - 2 // the largest becomes 3.5 to 7
			return byte(127 + exponent), math.Ldexp(1, exponent)
		})
		return []*safetensors.Tensor{
			add(".weight_packed", safetensors.U8, []int{rows, cols / 2}, data), add(".weight_scale", safetensors.U8, []int{rows, cols / 32}, scales),
		}
	}
	global := 448 * 6 / largestOf(values)
	data, scales := encodeFourBits(values, 16, func(largest float64) (byte, float64) {
		scale := hip.ToE4M3(float32(largest / 6 * global))
		return byte(scale), float64(scale.Float32()) / global
	})
	divisor := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(global)))
	return []*safetensors.Tensor{
		add(".weight_packed", safetensors.U8, []int{rows, cols / 2}, data), add(".weight_scale", safetensors.F8E4M3, []int{rows, cols / 16}, scales),
		add(".weight_global_scale", safetensors.F32, []int{1}, divisor),
	}
}

func largestOf(values []float32) (largest float64) {
	for _, v := range values {
		largest = max(largest, math.Abs(float64(v)))
	}
	return largest
}

// encodeFourBits rounds to the nearest codes of e2m1, of two an equally near to the lower.
func encodeFourBits(values []float32, block int, scaleOf func(largest float64) (code byte, value float64)) (data, scales []byte) {
	for ; len(values) > 0; values = values[block:] {
		code, scale := scaleOf(largestOf(values[:block]))
		scales = append(scales, code)
		for i := 0; i < block; i += 2 {
			data = append(data, e2m1Of(values[i], scale)|e2m1Of(values[i+1], scale)<<4)
		}
	}
	return data, scales
}

func e2m1Of(v float32, scale float64) (code byte) {
	x := float64(v) / scale
	for i, step := range [...]float64{0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5} {
		if math.Abs(x) > step {
			code = byte(i + 1)
		}
	}
	if math.Signbit(x) {
		code |= 8
	}
	return code
}

// TestFourBitExperts: what four bits of routed experts cost in acceptance, with four drafts.
// -v prints the figures.
func TestFourBitExperts(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the heads are those of other tests")
	}
	for _, head := range []struct {
		model, folder string
		exact         float64 // mean tokens a step as the checkpoint is
	}{
		{"", "built-in", 4.0909},
		{"m3-nano", "bf16", 3.9181}, {"m3-nano", "mxfp8", 3.9181},
		{"m3-tiny", "bundled-bf16", 4.1046}, {"m3-tiny", "bundled-mxfp8", 4.1046}, {"m3-tiny", "aligned3-mxfp8", 3.7158},
	} {
		for _, format := range []weights.Format{weights.MXFP4, weights.NVFP4} {
			t.Run(fmt.Sprint(head.model, " ", head.folder, " ", format), func(t *testing.T) {
				t.Parallel()
				checkpoint, args := m3tiny.Checkpoint(), []string(nil)
				if head.model != "" {
					dir := hiptest.Shared(t, head.model)
					checkpoint = os.DirFS(filepath.Join(dir, head.folder))
					traces, err := filepath.Glob(filepath.Join(dir, "traces", "*.safetensors"))
					require.NoError(t, err)
					args = traces
				}
				s := summaryOf(t, append([]string{"-checkpoint", inFourBits(t, checkpoint, format)}, args...)...)
				t.Logf("%.3f tokens a step, exact %.3f; by position %.3f", s.MeanTokensPerStep, head.exact, s.PerPositionAcceptance)
				require.GreaterOrEqual(t, s.MeanTokensPerStep, 0.985*head.exact)
			})
		}
	}
}
