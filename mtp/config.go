package mtp

import (
	"fmt"
	"io"
	"io/fs"

	"github.com/drafthead/drafthead/attention"
)

// Model types of a config.json that holds a MiniMax-M3 MTP head.
const (
	// modelBundled is the multimodal checkpoint; its text model is nested under text_config.
	modelBundled = "minimax_m3_vl"
	// modelM3 and modelText are the text model alone, as Hugging Face transformers spells it.
	modelM3   = "minimax_m3"
	modelText = "minimax_m3_text"
	// modelMTP is a standalone MTP checkpoint.
	modelMTP = "minimax_m3_mtp"
)

// configName is the file that ReadConfig reads, and maxConfigSize the most it accepts of it, in bytes.
const (
	configName    = "config.json"
	maxConfigSize = 16 << 20
)

// Config is the part of a Hugging Face config.json that defines the draft head.
// Values are checked: what ParseConfig returns satisfies every rule stated
// here. It is read only after parsing and safe for concurrent use.
type Config struct {
	// ModelType is model_type, one of the ModelType constants.
	ModelType string
	// Bundled reports that the text model's keys sit under text_config.
	Bundled bool

	// HiddenSize is hidden_size, the width H of a hidden state.
	HiddenSize int
	// IntermediateSize is intermediate_size, the inner width of one routed expert.
	IntermediateSize int
	// SharedIntermediateSize is shared_intermediate_size, the inner width of the shared expert; absent: IntermediateSize.
	SharedIntermediateSize int
	// NumAttentionHeads is num_attention_heads, a multiple of NumKeyValueHeads.
	NumAttentionHeads int
	// NumKeyValueHeads is num_key_value_heads.
	NumKeyValueHeads int
	// HeadDim is head_dim, the width of a query, key or value head.
	HeadDim int
	// VocabSize is vocab_size; token ids lie in [0, VocabSize).
	VocabSize int
	// MaxPositionEmbeddings is max_position_embeddings; Rope.Positions tells the range that is usable.
	MaxPositionEmbeddings int
	// RMSNormEps is rms_norm_eps, added to the mean of squares.
	RMSNormEps float64

	// NumLocalExperts is num_local_experts, the routed experts.
	NumLocalExperts int
	// NumExpertsPerTok is num_experts_per_tok, at most NumLocalExperts.
	NumExpertsPerTok int
	// RoutedScalingFactor is routed_scaling_factor, applied to the normalized routing weights.
	RoutedScalingFactor float64
	// SwigluAlpha is swiglu_alpha, the slope inside the gate's sigmoid.
	SwigluAlpha float64
	// SwigluLimit is swiglu_limit, the clamp of gate and up.
	SwigluLimit float64
	// SwigluBeta is swiglu_beta, added to up; absent: 1.
	SwigluBeta float64

	// NumMTPModules is num_mtp_modules, the MTP layers of the checkpoint.
	NumMTPModules int
	// TieWordEmbeddings is tie_word_embeddings; true: lm_head is embed_tokens.
	TieWordEmbeddings bool

	// Sparse is sparse_attention_config.
	Sparse SparseAttention
	// Rope is resolved from rope_theta, rotary_dim, partial_rotary_factor and rope_scaling or rope_parameters.
	Rope         attention.Rope
	quantization *quantization // quantization_config; nil when the checkpoint has none
}

// SparseAttention is sparse_attention_config: the indexer and its block selection.
type SparseAttention struct {
	// IndexDim is sparse_index_dim, the width of an index head.
	IndexDim int
	// NumIndexHeads is sparse_num_index_heads, equal to NumKeyValueHeads: index head g selects for KV head g.
	NumIndexHeads int
	// TopkBlocks is sparse_topk_blocks, the most blocks a query attends to.
	TopkBlocks int
	// BlockSize is sparse_block_size, in positions.
	BlockSize int
	// InitBlock is sparse_init_block, the first blocks always taken; absent: 0.
	InitBlock int
	// LocalBlock is sparse_local_block, the last blocks always taken; absent: 0.
	// InitBlock + LocalBlock may exceed TopkBlocks: init then comes first.
	LocalBlock int
}

// ReadConfig reads and parses config.json of a checkpoint folder. An absent
// file matches fs.ErrNotExist; a file over 16 MiB is refused unread.
func ReadConfig(fsys fs.FS) (*Config, error) {
	file, err := fsys.Open(configName)
	if err != nil {
		return nil, fmt.Errorf("mtp: read config: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConfigSize+1))
	if err != nil {
		return nil, fmt.Errorf("mtp: read config: %s: %w", configName, err)
	}
	return ParseConfig(data)
}

// ParseConfig parses a config.json, bundled or flat, and checks it.
//
// The reading is strict: UTF-8, one object, no key twice, integers written as
// integers, every required key present. A null counts as an absent key. Keys
// that do not concern the draft head are not looked at. All problems are
// reported together: the error joins one *ConfigError per problem, each of
// which matches ErrConfig and its kind.
//
// Sizes are bounded so that the bytes of any parameter, at 4 an element and over
// all experts of a layer, stay below 2^50.
func ParseConfig(data []byte) (*Config, error) {
	var found problems
	top, err := decodeObject(data, &found)
	if err != nil {
		return nil, err
	}
	c := readConfig(section{fields: top, problems: &found})
	if err := found.err(); err != nil {
		return nil, err
	}
	return c, nil
}
