package mtp

import "slices"

// knownKeys are the keys that are read, of any object.
var knownKeys = setOf(slices.Concat(ropeKeys, []string{
	"model_type", "text_config", "hidden_size", "intermediate_size", "shared_intermediate_size",
	"num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "num_mtp_modules",
	"num_nextn_predict_layers", "rms_norm_eps", "num_local_experts", "num_experts_per_tok",
	"routed_scaling_factor", "swiglu_alpha", "swiglu_limit", "swiglu_beta", "router_dtype",
	"tie_word_embeddings", "max_position_embeddings", "hidden_act", "qk_norm_type",
	"scoring_func", "use_gemma_norm", "use_qk_norm", "use_routing_bias", "attention_output_gate",
	"n_shared_experts", "sparse_attention_config", "sparse_attention_freq",
	"sparse_disable_index_value", "sparse_score_type", "use_sparse_attention", "sparse_index_dim",
	"index_head_dim", "sparse_num_index_heads", "index_n_heads", "sparse_topk_blocks",
	"index_topk_blocks", "sparse_block_size", "index_block_size", "sparse_init_block",
	"index_init_blocks", "sparse_local_block", "index_local_blocks", "rope_scaling",
	"rope_parameters", "rotary_dim", "quantization_config", "quant_method", "quant_algo",
	"ignored_layers", "modules_to_not_convert", "quantization", "ignore", "config_groups",
	"targets", "format", "weights", "type", "num_bits", "group_size", "exclude",
	"global_quant_config", "layer_quant_config", "layer_type_quant_config", "weight", "dtype",
	"mx_element_dtype", "scale_format", "exclude_modules", "quantized_layers",
}))

func setOf(keys []string) map[string]bool {
	set := make(map[string]bool)
	for _, key := range keys {
		set[key] = true
	}
	return set
}
