package attention

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestGolden gives the kernels behind Insert the queries and keys of every tiny
// case and compares scores, selections and attention with what is recorded.
func TestGolden(t *testing.T) {
	for name, layers := range map[string]int{
		"tiny-f32": 1, "tiny-bf16-bundled-sharded": 3, "tiny-mxfp8": 1, "tiny-mxfp8-e8m0": 1, "tiny-init1-local2": 1, "tiny-local0": 1,
	} {
		t.Run(name, func(t *testing.T) {
			dir := hiptest.Shared(t, "golden", name)
			golden, err := safetensors.Open(os.DirFS(dir), "golden.safetensors")
			require.NoError(t, err)
			defer golden.Close()
			g := readGeometry(t, dir)
			forEachDevice(t, func(t *testing.T, d hip.Device) {
				for layer := range layers {
					compareGolden(t, d, g, func(stage string) *safetensors.Tensor {
						tensor, ok := golden.Tensor(fmt.Sprintf("l%d.%s", layer, stage))
						require.True(t, ok, stage)
						return tensor
					})
				}
			})
		})
	}
}

func compareGolden(t *testing.T, d hip.Device, g Geometry, stage func(string) *safetensors.Tensor) {
	t.Helper()
	floats := func(name string) []float32 { return readTensor(t, stage(name), math.Float32frombits) }
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
		for _, x := range [][]float32{of(q, g.Heads*g.HeadDim), of(k, kv), of(v, kv), of(indexQ, g.IndexHeads*g.IndexDim), of(indexK, g.IndexDim)} {
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

	qkv := QKV{mustPut(t, a, columns), g.Columns()}
	scores := mustPut(t, a, make([]float32, rows*g.IndexHeads*pages))
	selected := mustPut(t, a, make([]int32, rows*g.IndexHeads*g.TopkBlocks))
	out := mustPut(t, a, make([]float32, rows*g.Heads*g.HeadDim))
	require.NoError(t, Scores(b, 0, qkv, scores))
	require.NoError(t, Select(b, scores, selected))
	require.NoError(t, Attend(b, 0, qkv, selected, out))
	const bound = 2e-6 // float32 sums over inputs that are rounded to float32
	require.NoError(t, hiptest.Within(get[float32](t, d, scores, rows*g.IndexHeads*pages), floats("block_scores"), bound), "block_scores")
	want := readTensor(t, stage("selected_blocks"), func(bits uint32) int32 { return int32(bits) })
	require.NoError(t, hiptest.EqualInts(get[int32](t, d, selected, rows*g.IndexHeads*g.TopkBlocks), want), "selected_blocks")
	require.NoError(t, hiptest.Within(get[float32](t, d, out, rows*g.Heads*g.HeadDim), floats("attn_ctx"), bound), "attn_ctx")
	require.NoError(t, b.Close())
	require.NoError(t, a.close())
	require.NoError(t, c.Close())
}

func readTensor[T any](t *testing.T, tensor *safetensors.Tensor, of func(bits uint32) T) []T {
	t.Helper()
	raw := make([]byte, tensor.Size())
	_, err := tensor.ReadAt(raw, 0)
	require.NoError(t, err)
	values := make([]T, len(raw)/4)
	for i := range values {
		values[i] = of(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return values
}

// readGeometry reads what the kernels need of a config.
func readGeometry(t *testing.T, dir string) Geometry {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	type model struct {
		Heads     int     `json:"num_attention_heads"`
		KVHeads   int     `json:"num_key_value_heads"`
		HeadDim   int     `json:"head_dim"`
		Eps       float64 `json:"rms_norm_eps"`
		Theta     float64 `json:"rope_theta"`
		RotaryDim int     `json:"rotary_dim"`
		Positions int     `json:"max_position_embeddings"`
		Sparse    struct {
			IndexDim    int `json:"sparse_index_dim"`
			IndexHeads  int `json:"sparse_num_index_heads"`
			TopkBlocks  int `json:"sparse_topk_blocks"`
			BlockSize   int `json:"sparse_block_size"`
			InitBlocks  int `json:"sparse_init_block"`
			LocalBlocks int `json:"sparse_local_block"`
		} `json:"sparse_attention_config"`
	}
	var config struct {
		model
		Text *model `json:"text_config"`
	}
	require.NoError(t, json.Unmarshal(text, &config))
	m := config.model
	if config.Text != nil {
		m = *config.Text
	}
	return Geometry{
		Heads: m.Heads, KVHeads: m.KVHeads, HeadDim: m.HeadDim, IndexHeads: m.Sparse.IndexHeads, IndexDim: m.Sparse.IndexDim,
		BlockSize: m.Sparse.BlockSize, TopkBlocks: m.Sparse.TopkBlocks, InitBlocks: m.Sparse.InitBlocks, LocalBlocks: m.Sparse.LocalBlocks,
		Eps: m.Eps, Rope: Rope{Theta: m.Theta, Dim: m.RotaryDim, Type: "default", MaxPosition: m.Positions, AttentionFactor: 1},
	}
}
