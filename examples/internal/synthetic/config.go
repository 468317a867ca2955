package synthetic

import (
	"encoding/json"
	"fmt"
)

// Config is the config.json of a standalone MTP checkpoint, key by key. Package
// mtp says what the keys mean and checks them.
type Config struct {
	Architectures          []string        `json:"architectures"`
	ModelType              string          `json:"model_type"`
	HiddenSize             int             `json:"hidden_size"`
	IntermediateSize       int             `json:"intermediate_size"`
	SharedIntermediateSize int             `json:"shared_intermediate_size"`
	NumAttentionHeads      int             `json:"num_attention_heads"`
	NumKeyValueHeads       int             `json:"num_key_value_heads"`
	HeadDim                int             `json:"head_dim"`
	VocabSize              int             `json:"vocab_size"`
	MaxPositionEmbeddings  int             `json:"max_position_embeddings"`
	RMSNormEps             float64         `json:"rms_norm_eps"`
	UseGemmaNorm           bool            `json:"use_gemma_norm"`
	AttentionOutputGate    bool            `json:"attention_output_gate"`
	RopeTheta              int             `json:"rope_theta"`
	RotaryDim              int             `json:"rotary_dim"`
	PartialRotaryFactor    float64         `json:"partial_rotary_factor"`
	HiddenAct              string          `json:"hidden_act"`
	UseQKNorm              bool            `json:"use_qk_norm"`
	QKNormType             string          `json:"qk_norm_type"`
	TieWordEmbeddings      bool            `json:"tie_word_embeddings"`
	NumLocalExperts        int             `json:"num_local_experts"`
	NumExpertsPerTok       int             `json:"num_experts_per_tok"`
	NSharedExperts         int             `json:"n_shared_experts"`
	ScoringFunc            string          `json:"scoring_func"`
	UseRoutingBias         bool            `json:"use_routing_bias"`
	RoutedScalingFactor    float64         `json:"routed_scaling_factor"`
	SwigluAlpha            float64         `json:"swiglu_alpha"`
	SwigluLimit            float64         `json:"swiglu_limit"`
	NumMTPModules          int             `json:"num_mtp_modules"`
	Sparse                 SparseAttention `json:"sparse_attention_config"`
	TorchDtype             string          `json:"torch_dtype"`
	Quantization           any             `json:"quantization_config,omitempty"` // set by New
}

// SparseAttention is sparse_attention_config.
type SparseAttention struct {
	Use           bool   `json:"use_sparse_attention"`
	IndexDim      int    `json:"sparse_index_dim"`
	NumIndexHeads int    `json:"sparse_num_index_heads"`
	TopkBlocks    int    `json:"sparse_topk_blocks"`
	BlockSize     int    `json:"sparse_block_size"`
	ScoreType     string `json:"sparse_score_type"`
	InitBlock     int    `json:"sparse_init_block"`
	LocalBlock    int    `json:"sparse_local_block"`
}

// M3 returns the config of the released MiniMax-M3 head, without quantization.
func M3() Config {
	return Config{
		Architectures: []string{"MiniMaxM3MTP"}, ModelType: "minimax_m3_mtp",
		HiddenSize: 6144, IntermediateSize: 3072, SharedIntermediateSize: 3072,
		NumAttentionHeads: 64, NumKeyValueHeads: 4, HeadDim: 128,
		VocabSize: 200_064, MaxPositionEmbeddings: 1 << 20,
		RMSNormEps: 1e-6, UseGemmaNorm: true,
		RopeTheta: 5_000_000, RotaryDim: 64, PartialRotaryFactor: 0.5,
		HiddenAct: "swigluoai", UseQKNorm: true, QKNormType: "per_head",
		NumLocalExperts: 128, NumExpertsPerTok: 4, NSharedExperts: 1,
		ScoringFunc: "sigmoid", UseRoutingBias: true, RoutedScalingFactor: 2,
		SwigluAlpha: 1.702, SwigluLimit: 7,
		NumMTPModules: 1,
		Sparse: SparseAttention{
			Use: true, IndexDim: 128, NumIndexHeads: 4,
			TopkBlocks: 16, BlockSize: 128, ScoreType: "max", LocalBlock: 1,
		},
		TorchDtype: "bfloat16",
	}
}

// Nano returns the config of m3-nano, M3 in small, without quantization.
func Nano() Config {
	c := M3()
	c.HiddenSize, c.IntermediateSize, c.SharedIntermediateSize = 256, 256, 256
	c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 8, 2, 32
	c.VocabSize, c.MaxPositionEmbeddings = 256, 1024
	c.RopeTheta, c.RotaryDim = 10_000, 16
	c.NumLocalExperts, c.NumExpertsPerTok = 8, 2
	c.Sparse.IndexDim, c.Sparse.NumIndexHeads = 32, 2
	c.Sparse.TopkBlocks, c.Sparse.BlockSize = 4, 32
	return c
}

// Shape returns the config of that name: "m3" or "nano".
func Shape(name string) (Config, error) {
	switch name {
	case "m3":
		return M3(), nil
	case "nano":
		return Nano(), nil
	}
	return Config{}, fmt.Errorf("shape %q: want m3 or nano", name)
}

// WithExperts returns c with only n routed experts, of which no more than n
// serve a token. n is 1 to c.NumLocalExperts.
func (c Config) WithExperts(n int) (Config, error) {
	if n < 1 || n > c.NumLocalExperts {
		return Config{}, fmt.Errorf("%d experts: want 1 to %d", n, c.NumLocalExperts)
	}
	c.NumLocalExperts, c.NumExpertsPerTok = n, min(n, c.NumExpertsPerTok)
	return c, nil
}

// json returns the text of config.json.
func (c *Config) json() ([]byte, error) {
	text, err := json.MarshalIndent(c, "", "  ")
	return append(text, '\n'), err
}
