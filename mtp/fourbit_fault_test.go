package mtp_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// fourBitTensors changes the tensors of a folder's file.
func fourBitTensors(t *testing.T, files fstest.MapFS, change func(tensors []*safetensors.Tensor) []*safetensors.Tensor) {
	t.Helper()
	const name = "model.safetensors"
	file, err := safetensors.Open(files, name)
	require.NoError(t, err)
	var changed bytes.Buffer
	require.NoError(t, safetensors.Write(&changed, nil, change(file.Tensors())))
	require.NoError(t, file.Close())
	files[name] = &fstest.MapFile{Data: changed.Bytes()}
}

// TestFourBitFaults: what is wrong with a matrix of four bits is an error of Inspect and of
// Load that names the tensor.
func TestFourBitFaults(t *testing.T) {
	const w1, w2 = "model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.1.w1.", "model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.1.w2."
	type tensors = []*safetensors.Tensor
	made := func(name string, dtype safetensors.Dtype, shape ...int) *safetensors.Tensor {
		n := dtype.Bits() / 8
		for _, d := range shape {
			n *= d
		}
		return safetensors.NewTensor(name, dtype, shape, bytes.NewReader(make([]byte, n)))
	}
	without := func(name string) func(tensors) tensors {
		return func(all tensors) tensors {
			return slices.DeleteFunc(slices.Clone(all), func(x *safetensors.Tensor) bool { return x.Name == name })
		}
	}
	with := func(x *safetensors.Tensor) func(tensors) tensors {
		return func(all tensors) tensors { return append(slices.Clone(all), x) }
	}
	instead := func(x *safetensors.Tensor) func(tensors) tensors {
		return func(all tensors) tensors { return with(x)(without(x.Name)(all)) }
	}
	filled := func(name string, code byte) func(tensors) tensors {
		return func(all tensors) tensors {
			all = slices.Clone(all)
			for i, x := range all {
				if x.Name == name {
					all[i] = safetensors.NewTensor(name, x.Dtype, x.Shape, bytes.NewReader(bytes.Repeat([]byte{code}, int(x.Size()))))
				}
			}
			return all
		}
	}
	none := func(all tensors) tensors { return all }
	checked := mtp.Options{CheckWeights: true}
	const mxfp4, nvfp4 = "tiny-mxfp4", "tiny-nvfp4-modelopt"
	for name, c := range map[string]struct {
		folder  string
		change  func(tensors) tensors
		options mtp.Options
		tensor  string
		says    string
	}{
		"weight of a wrong shape":     {mxfp4, instead(made(w1+"weight_packed", safetensors.U8, 64, 64)), mtp.Options{}, w1 + "weight_packed", "wrong shape: got [64 64], want [64 32]"},
		"weight of more dimensions":   {mxfp4, instead(made(w1+"weight_packed", safetensors.U8, 64, 2, 16)), mtp.Options{}, w1 + "weight_packed", "got [64 2 16], want [64 32]"},
		"weight in integers":          {mxfp4, instead(made(w1+"weight_packed", "I32", 64, 8)), mtp.Options{}, w1 + "weight_packed", "I32"},
		"no weight":                   {mxfp4, without(w1 + "weight_packed"), mtp.Options{}, w1 + "weight_scale", "a weight beside it"},
		"no scale":                    {mxfp4, without(w1 + "weight_scale"), mtp.Options{}, w1 + "weight_packed", "scale"},
		"two scales":                  {mxfp4, with(made(w1+"weight_scale_inv", safetensors.U8, 64, 2)), mtp.Options{}, w1 + "weight_scale", "also " + w1 + "weight_scale"},
		"two weights":                 {mxfp4, with(made(w1+"weight", safetensors.U8, 64, 32)), mtp.Options{}, w1 + "weight", "also " + w1 + "weight"},
		"scale of a wrong shape":      {mxfp4, instead(made(w1+"weight_scale", safetensors.U8, 64, 4)), mtp.Options{}, w1 + "weight_scale", "got [64 4], want [64 2]"},
		"scale turned over":           {nvfp4, instead(made(w1+"weight_scale", safetensors.F8E4M3, 4, 64)), mtp.Options{}, w1 + "weight_scale", "got [4 64], want [64 4]"},
		"scale of a wrong dtype":      {mxfp4, instead(made(w1+"weight_scale", safetensors.F32, 64, 2)), mtp.Options{}, w1 + "weight_packed", "U8 with F32 scales"},
		"no scale of the matrix":      {nvfp4, without(w2 + "weight_scale_2"), mtp.Options{}, w2 + "weight", "weight_scale_2"},
		"two scales of the matrix":    {nvfp4, with(made(w2+"weight_global_scale", safetensors.F32, 1)), mtp.Options{}, w2 + "weight_", "also " + w2},
		"scale of the matrix of half": {nvfp4, instead(made(w2+"weight_scale_2", safetensors.F16)), mtp.Options{}, w2 + "weight_scale_2", "got F16, want F32"},
		"scale of the matrix is zero": {nvfp4, instead(made(w2+"weight_scale_2", safetensors.F32)), mtp.Options{}, w2 + "weight_scale_2", "got 0, want a positive finite number"},
		"NaN scales":                  {mxfp4, filled(w1+"weight_scale", 255), checked, w1 + "weight_scale", "NaN"},
		"NaN scales of NVFP4":         {nvfp4, filled(w1+"weight_scale", 0x7f), checked, w1 + "weight_scale", "NaN"},
		"blocks cut by a share":       {mxfp4, none, mtp.Options{TensorParallel: mtp.Shard{Rank: 1, Size: 4}}, w2 + "weight_packed", "columns 16 to 32, want multiples of the scale block, 32"},
	} {
		t.Run(name, func(t *testing.T) {
			files := fourBitFolder(t, c.folder)
			fourBitTensors(t, files, c.change)
			_, _, inspectErr := mtp.InspectFS(files, c.options)
			require.Error(t, inspectErr)
			c.options.Device = openDevice(t, hip.NewReference())
			head, err := mtp.LoadFS(t.Context(), files, c.options)
			require.Nil(t, head)
			for _, err := range []error{inspectErr, err} {
				require.ErrorContains(t, err, c.tensor)
				require.ErrorContains(t, err, c.says)
				_, isProblem := weights.Problems(err)[0].(*weights.Problem)
				require.True(t, isProblem, fmt.Sprintf("%T", weights.Problems(err)[0]))
			}
		})
	}
}
