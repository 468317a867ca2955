package mtp

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Model types of a config.json that holds a MiniMax-M3 MTP head.
const (
	// modelBundled is the multimodal checkpoint; its text model is nested under text_config.
	modelBundled = "minimax_m3_vl"
	// modelM3, modelText and modelVLText are the text model alone, as versions of Hugging
	// Face transformers spell it.
	modelM3     = "minimax_m3"
	modelText   = "minimax_m3_text"
	modelVLText = "minimax_m3_vl_text"
	// modelMTP is a standalone MTP checkpoint.
	modelMTP = "minimax_m3_mtp"
)

// configName is the file that ReadConfig reads, and maxConfigSize the largest size that it
// accepts, in bytes.
const (
	configName    = "config.json"
	maxConfigSize = 16 << 20
)

// Config is the part of a Hugging Face config.json that defines the draft head. Values are
// checked: what ReadConfig returns satisfies every rule stated here. Nothing changes it
// afterwards, so several goroutines may use it.
type Config struct {
	// ModelType is model_type.
	ModelType string
	// Bundled reports whether the text model's keys sit under text_config.
	Bundled bool

	// HiddenSize is hidden_size, the width H of a hidden state.
	HiddenSize int
	// VocabSize is vocab_size; token ids lie in [0, VocabSize).
	VocabSize int
	// NumMTPModules is num_mtp_modules, or num_nextn_predict_layers if that is absent: the
	// MTP layers of the checkpoint. In a config that [Inspect] or [Head.Config] returns, it
	// is the number of layers that are loaded: see Options.Modules.
	NumMTPModules int
	// TieWordEmbeddings is tie_word_embeddings; true: lm_head is embed_tokens.
	TieWordEmbeddings bool

	// Attention is the shape of a module's attention:
	//
	//	Heads, KVHeads, HeadDim    num_attention_heads, num_key_value_heads, head_dim
	//	IndexDim                   sparse_index_dim; sparse_num_index_heads equals KVHeads
	//	BlockSize, TopkBlocks      sparse_block_size, sparse_topk_blocks
	//	InitBlocks, LocalBlocks    sparse_init_block, sparse_local_block; absent: 0
	//	Eps                        rms_norm_eps, of all norms of a module
	//	Rope                       made from rope_theta, rotary_dim, partial_rotary_factor,
	//	                           rope_scaling or rope_parameters, max_position_embeddings
	//
	// InitBlocks + LocalBlocks may exceed TopkBlocks: init then comes first.
	Attention attention.Geometry

	// MoE is the shape of a module's experts:
	//
	//	Hidden                             hidden_size
	//	Intermediate, SharedIntermediate   intermediate_size; shared_intermediate_size,
	//	                                   absent: intermediate_size
	//	Experts, TopK                      num_local_experts, num_experts_per_tok
	//	Scale                              routed_scaling_factor
	//	Alpha, Limit, Beta                 swiglu_alpha, swiglu_limit; swiglu_beta, absent: 1
	MoE moe.Config

	nextn        int           // num_nextn_predict_layers beside num_mtp_modules; 0: none
	shareBlock   int           // of parallel, as the plan of the parameters found it
	quantization *quantization // quantization_config; nil when the checkpoint has none
}

// ReadConfig reads config.json, bundled or flat, from the top folder of fsys, and checks
// it. If the file is missing, the error matches fs.ErrNotExist. A file over 16 MiB is refused
// unread.
//
// It reads both shapes: the released one, with sparse_attention_config, and the one that
// Hugging Face transformers writes from version 5 on, with index_n_heads and similar keys
// beside the model's. In the latter "silu" stands for swigluoai. Keys that are the same in
// all models of the family may be absent.
//
// It is strict: UTF-8, one object, no key twice, whole numbers for sizes (16.0 is 16),
// every required key present. A null counts as an absent key. It skips keys that do not
// concern the draft head, which may hold Python's NaN and Infinity. Nothing depends on
// quantization_config. All problems are reported together, the first 100 of a kind: the
// error joins one [InputError] per problem, each of which matches ErrConfig.
//
// Sizes are bounded so that the bytes of any parameter, at 4 an element and over
// all experts of a layer, stay below 2^50.
func ReadConfig(fsys fs.FS) (*Config, error) {
	data, err := safetensors.ReadText(fsys, configName, maxConfigSize)
	if e, ok := errors.AsType[*safetensors.FormatError](err); ok {
		err = &configError{got: e.Got, want: e.Want, rule: e.Rule.Error()}
		if errors.Is(e, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
		}
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("mtp: read config: %w", err)
	}
	return parseConfig(data)
}

// parseConfig is ReadConfig of a text.
func parseConfig(data []byte) (*Config, error) {
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
