package weights_test

import (
	"fmt"

	"github.com/drafthead/drafthead/weights"
)

// Which parameter of the draft head is a tensor of the checkpoint part of?
func Example_names() {
	for _, name := range []string{
		"language_model.model.mtp.layers.0.transformer_layer.self_attn.q_proj.weight_scale_inv",
		"language_model.model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.7.w3.weight",
		"language_model.model.layers.0.self_attn.q_proj.weight",
	} {
		mapped, ok := weights.MapName(name)
		if !ok {
			fmt.Println("not of the draft head")
			continue
		}
		if param, shard, ok := weights.Stacked(mapped); ok {
			fmt.Println(param, shard)
		}
		if param, expert, shard, ok := weights.Expert(mapped); ok {
			fmt.Println(param, expert, shard)
		}
	}
	// Output:
	// model.layers.0.transformer_layer.self_attn.qkv_proj.weight_scale q
	// model.layers.0.transformer_layer.block_sparse_moe.experts.w13_weight 7 w3
	// not of the draft head
}
