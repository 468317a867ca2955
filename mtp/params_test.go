package mtp_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// shape is rows and columns; a vector has no columns.
type shape struct{ rows, cols int }

// releasedTensors is every tensor of a head of the released dimensions, with 3 modules.
func releasedTensors() map[string]shape {
	const hidden, inner, vocab, experts, heads, kvHeads, dim = 6144, 3072, 200064, 128, 64, 4, 128
	table := map[string]shape{"model.embed_tokens.weight": {vocab, hidden}, "lm_head.weight": {vocab, hidden}}
	for module := range 3 {
		prefix := fmt.Sprintf("model.mtp.layers.%d.", module)
		layer := prefix + "transformer_layer."
		attn, moe := layer+"self_attn.", layer+"block_sparse_moe."
		for name, s := range map[string]shape{
			prefix + "enorm": {hidden, 0}, prefix + "hnorm": {hidden, 0}, prefix + "final_layernorm": {hidden, 0},
			prefix + "eh_proj": {hidden, 2 * hidden}, layer + "input_layernorm": {hidden, 0}, layer + "post_attention_layernorm": {hidden, 0},
			attn + "q_proj": {heads * dim, hidden}, attn + "k_proj": {kvHeads * dim, hidden}, attn + "v_proj": {kvHeads * dim, hidden},
			attn + "o_proj": {hidden, heads * dim}, attn + "q_norm": {dim, 0}, attn + "k_norm": {dim, 0},
			attn + "index_q_proj": {kvHeads * dim, hidden}, attn + "index_k_proj": {dim, hidden},
			attn + "index_q_norm": {dim, 0}, attn + "index_k_norm": {dim, 0}, moe + "gate": {experts, hidden},
			moe + "shared_experts.gate_proj": {inner, hidden}, moe + "shared_experts.up_proj": {inner, hidden}, moe + "shared_experts.down_proj": {hidden, inner},
		} {
			table[name+".weight"] = s
		}
		table[moe+"e_score_correction_bias"] = shape{experts, 0}
		for e := range experts {
			expert := fmt.Sprintf("%sexperts.%d.", moe, e)
			table[expert+"w1.weight"], table[expert+"w3.weight"], table[expert+"w2.weight"] = shape{inner, hidden}, shape{inner, hidden}, shape{hidden, inner}
		}
	}
	return table
}

func releasedHead(t testing.TB) *mtp.Config {
	t.Helper()
	config, err := mtp.ParseConfig(editedConfig(t, releasedConfig, set("num_mtp_modules", "3")))
	require.NoError(t, err)
	return config
}

// TestParametersTakeEveryTensor: each tensor of the table is a part of exactly
// one parameter, the one that its name leads to.
func TestParametersTakeEveryTensor(t *testing.T) {
	params, err := releasedHead(t).Parameters(mtp.Shard{}, mtp.Shard{})
	require.NoError(t, err)
	names := map[string]bool{}
	for _, p := range params {
		require.False(t, names[p.Name], "two parameters %s", p.Name)
		names[p.Name] = true
	}
	table, taken := releasedTensors(), map[string]string{}
	for _, p := range params {
		for _, part := range p.Parts {
			if p.Optional {
				require.NotContains(t, table, part.Tensor)
				continue
			}
			require.NotContains(t, taken, part.Tensor)
			taken[part.Tensor] = p.Name
			want, ok := table[part.Tensor]
			require.True(t, ok, "%s is in no checkpoint", part.Tensor)
			if want.cols == 0 {
				require.Equal(t, []int{want.rows}, part.Shape, part.Tensor)
			} else {
				require.Equal(t, []int{want.rows, want.cols}, part.Shape, part.Tensor)
			}
			for _, prefix := range []string{"", "language_model."} {
				require.Equal(t, p.Name, mapped(t, prefix+part.Tensor), prefix+part.Tensor)
			}
		}
	}
	require.Len(t, taken, len(table))
}

// mapped is the parameter that a tensor belongs to, by its name and vLLM's tables.
func mapped(t testing.TB, tensor string) string {
	t.Helper()
	name, ok := weights.MapName(tensor)
	require.True(t, ok, tensor)
	table := weights.StackedParams()
	if strings.Contains(name, "block_sparse_moe.experts.") {
		table = weights.ExpertParams(128)
	}
	for _, p := range table {
		for _, part := range p.Parts {
			if strings.Contains(name, part.Tensor) {
				return strings.ReplaceAll(name, part.Tensor, p.Name)
			}
		}
	}
	return name
}

// hollow is a folder with a weights file that has a header and reads as zeros
// with no file: a checkpoint of the real size, for free.
type hollow struct {
	fstest.MapFS
	header []byte
	size   int64
}

const hollowFile = "model-00001-of-00001.safetensors"

func (h *hollow) Open(name string) (fs.File, error) {
	if name != hollowFile {
		return h.MapFS.Open(name)
	}
	info, err := fs.Stat(h.MapFS, name)
	return &hollowReader{h, info}, err
}

type hollowReader struct {
	*hollow
	info fs.FileInfo
}

func (r *hollowReader) Stat() (fs.FileInfo, error) { return hollowInfo{r.info, r.size}, nil }
func (r *hollowReader) Read([]byte) (int, error)   { return 0, errors.New("read from the start") }
func (r *hollowReader) Close() error               { return nil }
func (r *hollowReader) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > r.size {
		return 0, io.ErrUnexpectedEOF
	}
	clear(p)
	if at < int64(len(r.header)) {
		copy(p, r.header[at:])
	}
	return len(p), nil
}

type hollowInfo struct {
	fs.FileInfo
	size int64
}

func (i hollowInfo) Size() int64 { return i.size }

// releasedCheckpoint is the released layout in MXFP8, with bf16 norms and an
// f32 router.
func releasedCheckpoint(t testing.TB, bundledLayout bool) (fsys fs.FS, tensors int) {
	t.Helper()
	type entry struct {
		Dtype   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, index, end := map[string]entry{}, map[string]string{}, int64(0)
	add := func(name, dtype string, size int64, shape ...int) {
		begin := end
		for _, n := range shape {
			size *= int64(n)
		}
		end += size
		if bundledLayout {
			name = "language_model." + name
		}
		header[name], index[name] = entry{dtype, shape, [2]int64{begin, end}}, hollowFile
	}
	for name, s := range releasedTensors() {
		_, ours := weights.MTPLayer(name)
		switch {
		case s.cols == 0:
			add(name, "BF16", 2, s.rows)
		case !ours:
			add(name, "BF16", 2, s.rows, s.cols)
		case strings.HasSuffix(name, ".gate.weight"):
			add(name, "F32", 4, s.rows, s.cols)
		default:
			add(name, "F8_E4M3", 1, s.rows, s.cols)
			add(name+"_scale_inv", "U8", 1, s.rows, s.cols/32)
		}
	}
	text, err := json.Marshal(header)
	require.NoError(t, err)
	weightMap, err := json.Marshal(map[string]any{"weight_map": index})
	require.NoError(t, err)
	config := editedConfig(t, releasedConfig, set("num_mtp_modules", "3"))
	if bundledLayout {
		config = bundled(t, set("num_mtp_modules", "3"))
	}
	start := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return &hollow{fstest.MapFS{
		"config.json": {Data: config}, "model.safetensors.index.json": {Data: weightMap}, hollowFile: {},
	}, append(start, text...), int64(8+len(text)) + end}, len(header)
}

// TestInspectReleasedLayout: every tensor of a real checkpoint is taken, and the
// sums are those of the released shape.
func TestInspectReleasedLayout(t *testing.T) {
	for _, bundledLayout := range []bool{false, true} {
		t.Run(fmt.Sprintf("bundled=%v", bundledLayout), func(t *testing.T) {
			fsys, tensors := releasedCheckpoint(t, bundledLayout)
			config, report, err := mtp.InspectFS(fsys, mtp.Options{})
			require.NoError(t, err)
			require.Equal(t, 3, config.NumMTPModules)
			require.Equal(t, tensors, report.Tensors)
			require.Empty(t, report.Ignored)
			const shared = 2 * 200064 * 6144
			require.InDelta(t, 7.49e9, float64(report.Parameters-shared)/3, 0.01e9)
			require.InDelta(t, 7.73e9, float64(report.Bytes-2*shared)/3, 0.01e9)
		})
	}
}
