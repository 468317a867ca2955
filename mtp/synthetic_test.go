package mtp_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// synthetic says what checkpoint to make up. The zero value is one module of
// F32 weights in a standalone layout, small enough to load in a millisecond and
// with blocks of 4 positions, of which a row attends to 3.
type synthetic struct {
	modules   int    // 0: 1
	format    string // of matrices: "F32", "BF16" or "MXFP8"; "": F32
	bundled   bool   // names and config as in a checkpoint with its target
	seed      uint64
	config    []edit   // more changes to the config
	omit      []string // tensors that the checkpoint does not hold
	kvScales  map[string]float32
	tiedCopy  bool // lm_head holds the values of embed_tokens
	topBlocks int  // sparse_topk_blocks; 0: 3
}

// Sizes of a synthetic head.
const (
	hiddenSize = 32
	vocabSize  = 48
	blockSize  = 4
	maxTokens  = 96 // positions that the rotary embedding covers
)

func (s synthetic) configJSON(t testing.TB) []byte {
	t.Helper()
	edits := []edit{
		set("hidden_size", strconv.Itoa(hiddenSize)), set("intermediate_size", "32"), set("shared_intermediate_size", "64"),
		set("num_attention_heads", "4"), set("num_key_value_heads", "2"), set("head_dim", "8"),
		set("vocab_size", strconv.Itoa(vocabSize)), set("max_position_embeddings", strconv.Itoa(maxTokens)),
		set("rope_theta", "10000"), set("rotary_dim", "4"), set("num_local_experts", "5"), set("num_experts_per_tok", "2"),
		set("num_mtp_modules", strconv.Itoa(max(s.modules, 1))),
		set("sparse_attention_config.sparse_index_dim", "8"), set("sparse_attention_config.sparse_num_index_heads", "2"),
		set("sparse_attention_config.sparse_block_size", strconv.Itoa(blockSize)),
		set("sparse_attention_config.sparse_topk_blocks", strconv.Itoa(cmp.Or(s.topBlocks, 3))),
	}
	if s.format != "MXFP8" {
		edits = append(edits, remove("quantization_config"))
	}
	edits = append(edits, s.config...)
	if s.bundled {
		return bundled(t, edits...)
	}
	return editedConfig(t, releasedConfig, edits...)
}

// files returns the checkpoint as a folder in memory, which is not mapped.
func (s synthetic) files(t testing.TB) fstest.MapFS {
	t.Helper()
	return fstest.MapFS{
		"config.json":       {Data: s.configJSON(t)},
		"model.safetensors": {Data: s.weights(t)},
	}
}

// folder writes the checkpoint to a new folder of the test's.
func (s synthetic) folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, file := range s.files(t) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), file.Data, 0o600))
	}
	return dir
}

// fileBuilder collects the tensors of a safetensors file.
type fileBuilder struct {
	synthetic
	random  *rand.Rand
	tensors []*safetensors.Tensor
	last    []byte // bytes of the last one
}

// weights returns a safetensors file with every tensor that a head has.
func (s synthetic) weights(t testing.TB) []byte {
	t.Helper()
	b := &fileBuilder{synthetic: s, random: rand.New(rand.NewPCG(s.seed, 1))}
	plain := safetensors.BF16 // what a quantized checkpoint leaves as it is
	if cmp.Or(s.format, "F32") == "F32" {
		plain = safetensors.F32
	}
	b.matrix("model.embed_tokens.weight", string(plain), vocabSize, hiddenSize)
	embed := b.last
	b.matrix("lm_head.weight", string(plain), vocabSize, hiddenSize)
	if s.tiedCopy {
		copy(b.last, embed)
	}
	for module := range max(s.modules, 1) {
		b.module(fmt.Sprintf("model.mtp.layers.%d.", module), plain)
	}
	for _, name := range slices.Sorted(maps.Keys(s.kvScales)) {
		b.add(name, safetensors.F32, binary.LittleEndian.AppendUint32(nil, math.Float32bits(s.kvScales[name])))
	}
	var file bytes.Buffer
	require.NoError(t, safetensors.Write(&file, nil, b.tensors))
	return file.Bytes()
}

func (b *fileBuilder) module(prefix string, plain safetensors.Dtype) {
	const n = hiddenSize
	quantized := cmp.Or(b.format, "F32")
	layer := prefix + "transformer_layer."
	attn, moe := layer+"self_attn.", layer+"block_sparse_moe."
	for _, name := range []string{prefix + "enorm", prefix + "hnorm", prefix + "final_layernorm", layer + "input_layernorm", layer + "post_attention_layernorm"} {
		b.vector(name+".weight", plain, n)
	}
	for _, name := range []string{"q_norm", "k_norm", "index_q_norm", "index_k_norm"} {
		b.vector(attn+name+".weight", plain, 8)
	}
	b.matrix(moe+"gate.weight", "F32", 5, n)
	b.vector(moe+"e_score_correction_bias", "F32", 5)
	for _, m := range []struct {
		name       string
		rows, cols int
	}{
		{prefix + "eh_proj", n, 2 * n}, {attn + "q_proj", 32, n}, {attn + "k_proj", 16, n}, {attn + "v_proj", 16, n}, {attn + "o_proj", n, 32},
		{attn + "index_q_proj", 16, n}, {attn + "index_k_proj", 8, n},
		{moe + "shared_experts.gate_proj", 64, n}, {moe + "shared_experts.up_proj", 64, n}, {moe + "shared_experts.down_proj", n, 64},
	} {
		b.matrix(m.name+".weight", quantized, m.rows, m.cols)
	}
	for e := range 5 {
		expert := fmt.Sprintf("%sexperts.%d.", moe, e)
		b.matrix(expert+"w1.weight", quantized, 32, n)
		b.matrix(expert+"w3.weight", quantized, 32, n)
		b.matrix(expert+"w2.weight", quantized, n, 32)
	}
}

// add puts a tensor into the file, unless it is to be left out.
func (b *fileBuilder) add(name string, dtype safetensors.Dtype, data []byte, shape ...int) {
	if slices.Contains(b.omit, name) {
		return
	}
	if b.bundled {
		name = "language_model." + name
	}
	b.last = data
	b.tensors = append(b.tensors, safetensors.NewTensor(name, dtype, shape, bytes.NewReader(data)))
}

// vector adds weights of a norm, or a bias: small, since a norm multiplies by 1 + w.
func (b *fileBuilder) vector(name string, dtype safetensors.Dtype, n int) {
	b.add(name, dtype, b.normal(dtype, n, 0.2), n)
}

// matrix adds weights that keep the size of what they are applied to.
func (b *fileBuilder) matrix(name, format string, rows, cols int) {
	if format != "MXFP8" {
		dtype := safetensors.Dtype(format)
		b.add(name, dtype, b.normal(dtype, rows*cols, 1.5/math.Sqrt(float64(cols))), rows, cols)
		return
	}
	codes := make([]byte, rows*cols)
	for i := range codes { // exponents that give ±1/8 to ±1.9
		codes[i] = byte(b.random.IntN(2)<<7 | (4+b.random.IntN(4))<<3 | b.random.IntN(8))
	}
	scales := make([]byte, rows*((cols+31)/32))
	for i := range scales { // 2^−3 and 2^−2
		scales[i] = byte(124 + b.random.IntN(2))
	}
	b.add(name, safetensors.F8E4M3, codes, rows, cols)
	b.add(name+"_scale_inv", safetensors.U8, scales, rows, (cols+31)/32)
}

func (b *fileBuilder) normal(dtype safetensors.Dtype, n int, deviation float64) []byte {
	var data []byte
	for range n {
		v := float32(b.random.NormFloat64() * deviation)
		if dtype == safetensors.BF16 {
			data = binary.LittleEndian.AppendUint16(data, uint16(hip.ToBF16(v)))
		} else {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	return data
}
