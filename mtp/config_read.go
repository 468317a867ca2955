package mtp

import (
	"encoding/json"
	"math"
)

// Upper bounds of the sizes of a config, far above any released model. They
// keep the product of any sizes that form a parameter below 2^50 bytes, and the
// number of tensors a small file can ask for below a few million.
const (
	maxWidth     = 1 << 17 // hidden_size and the intermediate sizes
	maxHeads     = 1 << 12
	maxHeadDim   = 1 << 12 // head_dim, rotary_dim, sparse_index_dim
	maxVocab     = 1 << 24
	maxExperts   = 1 << 12
	maxModules   = 1 << 6
	maxPositions = 1 << 30
	maxBlocks    = 1 << 20 // sparse_topk_blocks, sparse_init_block, sparse_local_block
	maxBlockSize = 1 << 20
)

// readConfig reads the keys of the draft head and checks each value, then all
// of them against each other. Values found wrong are zero in the result.
func readConfig(top section) *Config {
	c := &Config{}
	c.ModelType = top.oneOf("model_type", true, modelBundled, modelM3, modelText, modelVLText, modelMTP)
	text := top
	if nested, ok := top.object("text_config", c.ModelType == modelBundled); ok {
		text, c.Bundled = nested, true
	} else if top.fields["text_config"] != nil || c.ModelType == modelBundled {
		return c // the keys have no place to be
	}
	c.readSizes(text)
	c.readExperts(text)
	indexHeads := c.readSparse(text)
	c.Attention.Rope = text.rope(c.Attention.HeadDim, text.integer("max_position_embeddings", 1, maxPositions))
	c.TieWordEmbeddings = text.tieWordEmbeddings(top)
	c.quantization = readQuantization(text, top)
	text.requireBranches()
	c.checkConsistent(text, indexHeads)
	return c
}

func (c *Config) readSizes(s section) {
	c.HiddenSize = s.integer("hidden_size", 1, maxWidth)
	c.MoE.Intermediate = s.integer("intermediate_size", 1, maxWidth)
	c.MoE.SharedIntermediate = s.integerOr("shared_intermediate_size", 1, maxWidth, c.MoE.Intermediate)
	c.Attention.Heads = s.integer("num_attention_heads", 1, maxHeads)
	c.Attention.KVHeads = s.integer("num_key_value_heads", 1, maxHeads)
	c.Attention.HeadDim = s.integer("head_dim", 1, maxHeadDim)
	c.VocabSize = s.integer("vocab_size", 1, maxVocab)
	c.readModules(s)
	c.Attention.Eps, _ = s.positive("rms_norm_eps", true)
	c.MoE.Hidden = c.HiddenSize
}

func (c *Config) readExperts(s section) {
	c.MoE.Experts = s.integer("num_local_experts", 1, maxExperts)
	c.MoE.TopK = s.integer("num_experts_per_tok", 1, maxExperts)
	c.MoE.Scale, _ = s.positive("routed_scaling_factor", true)
	c.MoE.Alpha, _ = s.positive("swiglu_alpha", true)
	c.MoE.Limit, _ = s.positive("swiglu_limit", true)
	c.MoE.Beta = 1
	if beta, ok := s.float("swiglu_beta", -math.MaxFloat32, math.MaxFloat32, false); ok {
		c.MoE.Beta = beta
	}
	s.oneOf("router_dtype", false, "float32", "bfloat16") // either way it is computed in float32
}

// readModules reads the number of MTP modules, which has two keys. Released configs give
// both, and not always alike; what is in the files then decides: see modulesOf.
func (c *Config) readModules(s section) {
	const key, other = "num_mtp_modules", "num_nextn_predict_layers"
	_, given := s.get(key)
	if _, nextn := s.get(other); nextn && !given {
		c.NumMTPModules = s.integer(other, 1, maxModules)
		return
	}
	c.NumMTPModules = s.integer(key, 1, maxModules)
	if number, ok := s.fields[other].(json.Number); ok {
		if n, err := wholeNumber(number.String()); err == nil && 1 <= n && n <= maxModules {
			c.nextn = int(n)
		}
	}
}

// tieWordEmbeddings reads tie_word_embeddings beside the model's keys or at the top level; given both, they must agree.
func (s section) tieWordEmbeddings(top section) bool {
	const key = "tie_word_embeddings"
	outer := top.boolOr(key, false)
	if _, given := s.get(key); !given || s.path == top.path {
		return outer
	}
	tied := s.boolOr(key, false)
	if _, both := top.get(key); both && tied != outer {
		top.fail(key, "the same as "+joinKey(s.path, key), ruleInconsistent)
	}
	return tied
}
