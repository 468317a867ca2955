package mtp_test

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// mutation changes a mutant and says what must become of it if nothing else is changed; it
// reports false where it has nothing to change.
type mutation struct {
	name string
	do   func(m *mutant) (verdict, bool)
}

// Values of the kinds that readers get wrong.
var (
	weirdNumbers = []string{
		"0", "1", "-1", "2", "3", "4", "5", "7", "8", "16", "31", "32", "33", "48", "64", "96", "255", "256", "1024", "4096", "65536", "1048576",
		"16777216", "2147483647", "2147483648", "4294967296", "1073741824", "9007199254740993", "4611686018427387904", "9223372036854775807",
		"9223372036854775808", "18446744073709551615", "18446744073709551616", "1e999", "1e400", "-1e999", "1e-999", "0.5", "1.5", "16.0", "1e1", "1E2",
		"-0", "-0.0", "1e-6", "3e38", "1e38", "1e-45", "0.1", "2.5", "10000", "1e300", "NaN", "Infinity", "-Infinity", "00", "0x10", "1_000", "+1", ".5", "1.",
		strings.Repeat("9", 400), "0." + strings.Repeat("0", 400) + "1", "1e" + strings.Repeat("9", 30),
	}
	weirdTexts = []string{
		"", ".", "..", "../config.json", "/etc/passwd", "a/b", "a/../b", `a\b`, "C:x", "model.safetensors", "config.json", "\x00", "\x1b[31mred\x1b[0m", "line\nloads\r\n", "\u202etxt",
		"\xff\xfe", "\x85", "\u0085\u009b31m", "\ufeff", "\ufffd", "\u2028", "é", "e\u0301", "🙂", "%s%n%d", strings.Repeat("a", 3000), strings.Repeat("é", 1500), strings.Repeat("\x1b", 500),
		"model.mtp.layers.0.", "model.mtp.layers.00.enorm.weight", "model.mtp.layers.-1.enorm.weight", "model.mtp.layers.9.enorm.weight",
		"model.mtp.layers.99999999999999999999.enorm.weight", "model.mtp.layers.63.enorm.weight", "mtp.layers.0.enorm.weight", "model.layers.0.self_attn.q_proj.weight",
		"model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.5.w1.weight", "model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.99999.w2.weight",
		"model.mtp.layers.0.transformer_layer.self_attn.k_proj.k_scale", "model.mtp.norm.weight", "lm_head.weight", "lm_head.bias", "lm_head.weight_scale", "model.embed_tokens.weight",
		"language_model.lm_head.weight", "language_model.language_model.lm_head.weight", "model.language_model.embed_tokens.weight", "visual.blocks.0.weight",
		"weight_map", "metadata", "__metadata__", "dtype", "shape", "data_offsets", "text_config",
	}
	weirdValues = []string{
		"null", "true", "false", `""`, "[]", "{}", "[1]", `[null]`, `{"a":1}`, `"16"`, `"float32"`, `[1,32]`, `[128,128]`, `"\ud800"`, `"\ud83d\ude00"`, `"a\u0000b"`, `"\u001b[2J"`, `"` + strings.Repeat("x", 3000) + `"`,
		strings.Repeat("[", 100) + strings.Repeat("]", 100), strings.Repeat("[", 20000) + strings.Repeat("]", 20000), strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000),
		`{"rope_type":"yarn","factor":4}`, `{"rope_type":"linear","factor":1.5}`, `{"type":"default"}`, `{"rope_type":"dynamic","factor":1e308}`, `{"rope_type":"yarn","factor":1e-300,"original_max_position_embeddings":1}`,
		`["re:.*","re:(a+)+$","lm_head"]`, `["re:(?P<a>x)(?P=a)"]`, `["re:("]`, `["re:` + strings.Repeat("(a*)*", 60) + `b"]`, `[` + strings.Repeat(`"re:.*a.*b.*c.*d",`, 300) + `""]`,
		`"minimax_m3_vl"`, `"minimax_m3"`, `"minimax_m3_text"`, `"minimax_m3_mtp"`, `"silu"`, `"swigluoai"`, `"sigmoid"`, `"softmax"`, `"max"`, `"mean"`, `"per_head"`, `"per_layer"`, `"mxfp8"`, `"fp8"`, `"modelopt"`, `"bfloat16"`,
		`{"quant_method":"fp8","weight_block_size":[128,128]}`, `{"quant_method":"compressed-tensors","config_groups":{}}`, `{"quant_method":"mxfp8","ignored_layers":["re:(x+x+)+y"]}`,
	}
	knownKeys = []string{
		"model_type", "text_config", "hidden_size", "num_mtp_modules", "num_nextn_predict_layers", "tie_word_embeddings", "rope_scaling", "rope_parameters", "rope_theta", "rotary_dim", "partial_rotary_factor",
		"quantization_config", "quantization_config\x00ignored_layers", "quantization_config\x00quant_method", "quantization_config\x00weight_block_size", "compression_config", "hidden_act", "scoring_func", "router_dtype",
		"swiglu_alpha", "swiglu_beta", "swiglu_limit", "max_position_embeddings", "num_experts_per_tok", "use_gemma_norm", "qk_norm_type", "sparse_attention_config\x00sparse_topk_blocks",
		"sparse_attention_config\x00sparse_block_size", "sparse_attention_config\x00sparse_init_block", "sparse_attention_config\x00sparse_local_block", "index_topk_blocks", "layer_types", "dtype", "torch_dtype",
	}
	weirdDtypes = []string{"F32", "BF16", "F16", "F8_E4M3", "F8_E8M0", "F8_E5M2", "U8", "I8", "F64", "I64", "F4", "BOOL", "C64", "f32", "", "F32 ", "U128", "F8_E4M3FN", strings.Repeat("F", 2000), "\x1b[0m"}
	otherFiles  = []string{
		"", " ", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1000\n", "<!DOCTYPE html><html></html>", "GGUF\x03\x00\x00\x00", "PK\x03\x04aaaa", "\x80\x04\x95aaaa", "\x89HDF\r\n\x1a\n", "\x93NUMPY", "\x1f\x8b\x08",
		strings.Repeat("\x00", 100), strings.Repeat("\x00", 4096), "{}", "[]", "null", "\ufeff{}", "\x02\x00\x00\x00\x00\x00\x00\x00{}", "\xff\xff\xff\xff\xff\xff\xff\xff{}", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", "\x00\x00\x00\x00\x00\x00\x00\x00",
		"model.safetensors", "\x1b[31mtext", strings.Repeat("[", 50000), `{"weight_map":{}}`, `{"weight_map":{"a":"b"}}`, `{"weight_map":null}`,
	}
	otherModes = []fs.FileMode{fs.ModeDir, fs.ModeNamedPipe, fs.ModeSocket, fs.ModeDevice | fs.ModeCharDevice, fs.ModeSymlink}
	extraNames = []string{"README.md", ".hidden.safetensors", "._model.safetensors", "model.safetensors.tmp", "x.safetensors", "model-00001-of-00002.safetensors", "hf_quant_config.json", "generation_config.json", "tokenizer.json", "config.json.bak", "consolidated.pth", "A.SAFETENSORS", "zz\x1b.safetensors"}
)

func (m *mutant) number() string {
	if n := m.pick(len(weirdNumbers) + 8); n < len(weirdNumbers) {
		return weirdNumbers[n]
	}
	return strconv.Itoa(m.pick(1 << 16))
}

func (m *mutant) text() string {
	n := m.pick(len(weirdTexts) + 24)
	switch {
	case n < len(weirdTexts):
		return weirdTexts[n]
	case n < len(weirdTexts)+8: // the program's own bytes
		n = min(m.pick(32), len(m.program))
		text := string(m.program[:n])
		m.program = m.program[n:]
		return text
	}
	names := m.tensorNames()
	if len(names) == 0 {
		return ""
	}
	name := names[m.pick(len(names))]
	switch m.pick(8) {
	case 0:
		return "language_model." + name
	case 1:
		return strings.TrimPrefix(name, "language_model.")
	case 2:
		return name + "_scale_inv"
	case 3:
		return strings.ToUpper(name)
	case 4:
		return name[:m.pick(len(name)+1)]
	case 5:
		return strings.Replace(name, ".0.", ".1.", 1)
	}
	return name
}

func (m *mutant) value() string {
	switch n := m.pick(len(weirdValues) + 40); {
	case n < len(weirdValues):
		return weirdValues[n]
	case n < len(weirdValues)+30:
		return m.number()
	}
	return quoteJSON(m.text())
}

func (m *mutant) tensorNames() (names []string) {
	for _, shard := range m.shards() {
		for _, t := range m.files[shard].shard.tensors {
			names = append(names, t.name)
		}
	}
	return names
}

// tensor picks a tensor of a shard; nil if there is none.
func (m *mutant) tensor() (*mutantShard, *mutantTensor, int) {
	names := m.shards()
	if len(names) == 0 {
		return nil, nil, 0
	}
	shard := m.files[names[m.pick(len(names))]].shard
	i := m.pick(len(shard.tensors))
	return shard, &shard.tensors[i], i
}

// json picks a JSON file of the given name that is not text yet.
func (m *mutant) json(name string) *mutantFile {
	if f := m.files[name]; f != nil && f.mode == 0 && f.keys != nil {
		return f
	}
	return nil
}

// indexed returns the index, made up from the shards if there is none.
func (m *mutant) indexed() *mutantFile {
	if f := m.files[indexFile]; f != nil {
		return m.json(indexFile)
	}
	f := &mutantFile{keys: []jsonKey{}}
	for _, name := range m.shards() {
		for _, t := range m.files[name].shard.tensors {
			f.keys = append(f.keys, jsonKey{"weight_map\x00" + t.name, quoteJSON(name)})
		}
	}
	m.files[indexFile] = f
	return f
}

// onTensor is a mutation of one tensor's header.
func onTensor(v verdict, change func(m *mutant, s *mutantShard, t *mutantTensor, i int)) func(m *mutant) (verdict, bool) {
	return func(m *mutant) (verdict, bool) {
		s, t, i := m.tensor()
		if t == nil {
			return v, false
		}
		change(m, s, t, i)
		return v, true
	}
}

// onConfig is a mutation of config.json.
func onConfig(v verdict, change func(m *mutant, f *mutantFile)) func(m *mutant) (verdict, bool) {
	return func(m *mutant) (verdict, bool) {
		f := m.json("config.json")
		if f == nil || len(f.keys) == 0 {
			return v, false
		}
		change(m, f)
		return v, true
	}
}

// onIndex is a mutation of the index, which may have to be made first.
func onIndex(v verdict, change func(m *mutant, f *mutantFile)) func(m *mutant) (verdict, bool) {
	return func(m *mutant) (verdict, bool) {
		f := m.indexed()
		if f == nil || len(f.keys) == 0 {
			return v, false
		}
		change(m, f)
		return v, true
	}
}

// anyFile picks a file.
func (m *mutant) anyFile() (string, *mutantFile) {
	names := slices.Sorted(maps.Keys(m.files))
	name := names[m.pick(len(names))]
	return name, m.files[name]
}

// edit changes the bytes that a file comes to.
func (m *mutant) edit(f *mutantFile, change func(data []byte) []byte) {
	f.edits = append(f.edits, func(data []byte) []byte { return change(slices.Clone(data)) })
}

// foreign returns a tensor of another module.
func (m *mutant) foreign() mutantTensor {
	m.foreigners++
	return mutantTensor{name: fmt.Sprintf("visual.blocks.%d.weight", m.foreigners), dtype: "U8", shape: []string{"3"}, data: []byte{1, 2, 3}}
}

// mutations are all there are. Their order is that of the bytes of a program.
var mutations = slices.Concat(tensorMutations, fileMutations, textMutations)

// mutate runs the program.
func (m *mutant) mutate() {
	for len(m.program) > 0 && len(m.done) < 8 {
		mutation := &mutations[m.pick(len(mutations))]
		v, changed := mutation.do(m)
		if !changed {
			continue
		}
		if v == fatal && len(m.done) > 0 || m.verdict == fatal {
			v = unknown // what came before or comes after may make it good
		}
		if m.done = append(m.done, mutation.name); v > m.verdict || m.verdict == fatal {
			m.verdict = v
		}
	}
}
