package attention

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// CompareGolden gives the kernels after Insert the recorded queries and keys of one
// layer and compares scores, selections and attention with what is recorded. Its
// callers are tests outside of the package, which can read configs.
func CompareGolden(t *testing.T, g Geometry, recorded *safetensors.File, layer int) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		compareGolden(t, d, g, func(stage string) *safetensors.Tensor {
			tensor, ok := recorded.Tensor(fmt.Sprintf("l%d.%s", layer, stage))
			require.True(t, ok, stage)
			return tensor
		})
	})
}

func compareGolden(t *testing.T, d hip.Device, g Geometry, stage func(string) *safetensors.Tensor) {
	t.Helper()
	floats := func(name string) []float32 { return readTensor[float32](t, stage(name)) }
	q, k, v, indexQ, indexK := floats("q"), floats("k"), floats("v"), floats("index_q"), floats("index_k")
	rows := len(indexK) / g.IndexDim
	pages := (rows + g.BlockSize - 1) / g.BlockSize
	c, err := NewCache(d, g, 1, pages, CacheF32)
	require.NoError(t, err)
	a, b := &arena{d: d}, NewBatch(c)
	seq := c.NewSequence()
	tx, err := c.Begin(Claim{Sequence: seq, To: rows})
	require.NoError(t, err)
	defer tx.Rollback()
	span, err := tx.Span(0, 0, 0, rows)
	require.NoError(t, err)
	require.NoError(t, b.Upload(span))

	var columns []float32
	keys, values := make([]float32, pages*g.BlockSize*g.KVHeads*g.HeadDim), make([]float32, pages*g.BlockSize*g.KVHeads*g.HeadDim)
	indexKeys := make([]float32, pages*g.BlockSize*g.IndexDim)
	for row := range rows {
		of := func(x []float32, n int) []float32 { return x[row*n:][:n] }
		kv := g.KVHeads * g.HeadDim
		for _, x := range [][]float32{of(q, g.Heads*g.HeadDim), of(k, kv), of(v, kv), of(indexQ, g.KVHeads*g.IndexDim), of(indexK, g.IndexDim)} {
			columns = append(columns, x...)
		}
		page, slot := int(seq.table[row/g.BlockSize]), row%g.BlockSize
		for head := range g.KVHeads {
			at := ((page*g.KVHeads+head)*g.BlockSize + slot) * g.HeadDim
			copy(keys[at:], of(k, kv)[head*g.HeadDim:][:g.HeadDim])
			copy(values[at:], of(v, kv)[head*g.HeadDim:][:g.HeadDim])
		}
		copy(indexKeys[(page*g.BlockSize+slot)*g.IndexDim:], of(indexK, g.IndexDim))
	}
	require.NoError(t, hip.WriteOf(d, c.layers[0].keys, keys))
	require.NoError(t, hip.WriteOf(d, c.layers[0].values, values))
	require.NoError(t, hip.WriteOf(d, c.layers[0].indexKeys, indexKeys))

	qkv := mustPut(t, a, columns)
	scores := mustPut(t, a, make([]float32, rows*g.KVHeads*pages))
	selected := mustPut(t, a, make([]int32, rows*g.KVHeads*g.TopkBlocks))
	out := mustPut(t, a, make([]float32, rows*g.Heads*g.HeadDim))
	require.NoError(t, Scores(b, 0, qkv, scores))
	require.NoError(t, Select(b, scores, selected))
	require.NoError(t, Attend(b, 0, qkv, selected, out))
	const bound = 2e-6 // float32 sums over inputs that are rounded to float32
	require.NoError(t, hiptest.Within(get[float32](t, d, scores, rows*g.KVHeads*pages), floats("block_scores"), bound), "block_scores")
	want := readTensor[int32](t, stage("selected_blocks"))
	require.Equal(t, want, get[int32](t, d, selected, rows*g.KVHeads*g.TopkBlocks), "selected_blocks")
	require.NoError(t, hiptest.Within(get[float32](t, d, out, rows*g.Heads*g.HeadDim), floats("attn_ctx"), bound), "attn_ctx")
	require.NoError(t, b.Close())
	require.NoError(t, a.close())
	require.NoError(t, c.Close())
}

// readTensor reads a tensor whose elements are of type T.
func readTensor[T any](t *testing.T, tensor *safetensors.Tensor) []T {
	t.Helper()
	data := make([]byte, tensor.Size())
	_, err := tensor.ReadAt(data, 0)
	require.NoError(t, err)
	values := make([]T, len(data)/binary.Size(*new(T)))
	_, err = binary.Decode(data, binary.LittleEndian, values)
	require.NoError(t, err)
	return values
}
