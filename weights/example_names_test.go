package weights_test

import (
	"fmt"
	"strings"

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
		table := weights.StackedParams()
		if strings.Contains(mapped, ".experts.") {
			table = weights.ExpertParams(128)
		}
		for _, param := range table {
			for row, part := range param.Parts {
				if strings.Contains(mapped, part.Tensor) {
					fmt.Println(strings.ReplaceAll(mapped, part.Tensor, param.Name), row)
				}
			}
		}
	}
	// Output:
	// model.layers.0.transformer_layer.self_attn.qkv_proj.weight_scale 0
	// model.layers.0.transformer_layer.block_sparse_moe.experts.w13_weight 15
	// not of the draft head
}
