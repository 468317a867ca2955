package mtp_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// upload puts values on a device until the test ends.
func upload[T any](t testing.TB, d hip.Device, values []T) hip.Ptr {
	t.Helper()
	p, err := hip.Upload(d, values)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Free(p)) })
	return p
}

// adopt makes Go memory the device's until the test ends.
func adopt(t testing.TB, d hip.Device, mem []byte, writable bool) hip.Ptr {
	t.Helper()
	p, err := hip.Adopt(d, mem, writable)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Free(p)) })
	return p
}

// littleEndian returns values as they lie in memory.
func littleEndian(values any) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, values); err != nil {
		panic(err) // a type of no fixed size
	}
	return b.Bytes()
}

// narrow returns bfloat16 of values that are bfloat16 numbers.
func narrow(values []float32) []uint16 {
	out := make([]uint16, len(values))
	for i, v := range values {
		out[i] = uint16(hip.ToBF16(v))
	}
	return out
}

// hiddenForms are the ways to hand over the same hidden states.
var hiddenForms = map[string]func(t testing.TB, d hip.Device, states []float32) mtp.Hidden{
	"float32":  func(_ testing.TB, _ hip.Device, x []float32) mtp.Hidden { return mtp.Hidden{Float32: x} },
	"bfloat16": func(_ testing.TB, _ hip.Device, x []float32) mtp.Hidden { return mtp.Hidden{BFloat16: narrow(x)} },
	"device":   func(t testing.TB, d hip.Device, x []float32) mtp.Hidden { return mtp.Hidden{Device: upload(t, d, x)} },
	"device bfloat16": func(t testing.TB, d hip.Device, x []float32) mtp.Hidden {
		return mtp.Hidden{Device: upload(t, d, narrow(x)), DeviceBFloat16: true}
	},
	"adopted": func(t testing.TB, d hip.Device, x []float32) mtp.Hidden {
		return mtp.Hidden{Device: adopt(t, d, littleEndian(x), false)}
	},
	"adopted bfloat16": func(t testing.TB, d hip.Device, x []float32) mtp.Hidden {
		return mtp.Hidden{Device: adopt(t, d, littleEndian(narrow(x)), false), DeviceBFloat16: true}
	},
}

func TestHiddenForms(t *testing.T) {
	const n = 70 // more than one tile of the widening kernel
	x := randomPassage(200, n)
	for i, d := range []hip.Device{hip.NewReference(), hip.NewHost(2), hip.Check(hip.NewHost(2))} {
		openDevice(t, d)
		head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Device: d, MaxDraft: 4})
		cache := newCache(t, head, 40)
		want := forward(t, head, x.batch(cache.NewSequence(), 0, n), 0)
		s := cache.NewSequence()
		defer s.Close()
		wantDrafts := draft(t, head, x.batch(s, 0, 12), 4)
		wantLogits, err := head.Logits(t.Context(), mtp.Hidden{Float32: x.hidden}, []int{69, 0, 31, 31}, 2)
		require.NoError(t, err)
		for name, form := range hiddenForms {
			t.Run([]string{"reference", "host", "checked"}[i]+"/"+name, func(t *testing.T) {
				s := cache.NewSequence()
				defer s.Close()
				b := x.batch(s, 0, n)
				b.Hidden = form(t, d, x.hidden)
				require.Equal(t, want, forward(t, head, b, 0))
				logits, err := head.Logits(t.Context(), b.Hidden, []int{69, 0, 31, 31}, 2)
				require.NoError(t, err)
				require.Equal(t, wantLogits, logits)

				require.NoError(t, s.Truncate(0))
				b = x.batch(s, 0, 12)
				b.Hidden = form(t, d, x.states(0, 12))
				require.Equal(t, wantDrafts, draft(t, head, b, 4))
			})
		}
	}
}

// TestForwardOutput: hidden states that stay on the device go from step to step
// without the host, also in place.
func TestForwardOutput(t *testing.T) {
	const n = 9
	d := openDevice(t, hip.NewReference())
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Device: d})
	x, s := randomPassage(201, n), newCache(t, head, 4).NewSequence()
	var want [3][]float32
	states := x.hidden
	for step := range want {
		b := x.batch(s, 0, n)
		b.Hidden.Float32 = states
		want[step] = forward(t, head, b, step)
		states = want[step]
	}
	mem := make([]byte, 4*n*hiddenSize)
	for name, outputs := range map[string][2]hip.Ptr{
		"two buffers": {upload(t, d, make([]float32, n*hiddenSize)), adopt(t, d, mem, true)},
		"in place":    {upload(t, d, make([]float32, n*hiddenSize))},
	} {
		t.Run(name, func(t *testing.T) {
			if outputs[1] == 0 {
				outputs[1] = outputs[0]
			}
			hidden := mtp.Hidden{Float32: x.hidden}
			for step := range want {
				b := x.batch(s, 0, n)
				b.Hidden, b.Output = hidden, outputs[step%2]
				var err error
				hidden, err = head.Forward(t.Context(), b, step)
				require.NoError(t, err)
				require.Equal(t, mtp.Hidden{Device: b.Output}, hidden)
				got := make([]float32, n*hiddenSize)
				require.NoError(t, hip.ReadOf(d, got, hidden.Device))
				require.Equal(t, want[step], got, "step %d", step)
			}
		})
	}
	require.Equal(t, littleEndian(want[1]), mem, "adopted memory is the caller's")
}

// TestEmbedAndLogits: rows come in any order, repeated, or not at all.
func TestEmbedAndLogits(t *testing.T) {
	const n = 6
	files := synthetic{format: "BF16"}.files(t)
	head, x := load(t, files, mtp.Options{}), randomPassage(203, n)
	all := make([]int32, vocabSize)
	for i := range all {
		all[i] = int32(i)
	}
	table, err := head.Embed(t.Context(), all)
	require.NoError(t, err)
	require.Equal(t, stored(t, files, "model.embed_tokens.weight"), table)
	some, err := head.Embed(t.Context(), []int32{47, 3, 3})
	require.NoError(t, err)
	row := func(values []float32, i, width int) []float32 { return values[i*width : (i+1)*width] }
	require.Equal(t, append(append(append([]float32{}, row(table, 47, hiddenSize)...), row(table, 3, hiddenSize)...), row(table, 3, hiddenSize)...), some)

	every, err := head.Logits(t.Context(), mtp.Hidden{Float32: x.hidden}, nil, 0)
	require.NoError(t, err)
	require.Len(t, every, n*vocabSize)
	picked, err := head.Logits(t.Context(), mtp.Hidden{Float32: x.hidden}, []int{5, 0, 5}, 0)
	require.NoError(t, err)
	for i, r := range []int{5, 0, 5} {
		require.Equal(t, row(every, r, vocabSize), row(picked, i, vocabSize))
	}
	for _, none := range []func() ([]float32, error){
		func() ([]float32, error) { return head.Embed(t.Context(), nil) },
		func() ([]float32, error) { return head.Logits(t.Context(), mtp.Hidden{Float32: x.hidden}, []int{}, 0) },
		func() ([]float32, error) { return head.Logits(t.Context(), mtp.Hidden{Float32: []float32{}}, nil, 0) },
	} {
		got, err := none()
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

// stored returns the values of a tensor of a synthetic checkpoint.
func stored(t testing.TB, files interface{ ReadFile(string) ([]byte, error) }, name string) []float32 {
	t.Helper()
	data, err := files.ReadFile("model.safetensors")
	require.NoError(t, err)
	file, err := safetensors.Open(fstest.MapFS{"model.safetensors": {Data: data}}, "model.safetensors")
	require.NoError(t, err)
	tensor, ok := file.Tensor(name)
	require.True(t, ok)
	raw := make([]byte, tensor.Size())
	_, err = tensor.ReadAt(raw, 0)
	require.NoError(t, err)
	format := map[safetensors.Dtype]weights.Format{safetensors.F32: weights.F32, safetensors.BF16: weights.BF16}[tensor.Dtype]
	values := make([]float32, len(raw)/int(tensor.Dtype.Bits()/8))
	format.Decode(values, raw, nil)
	return values
}
