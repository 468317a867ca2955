package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// Config is the shape of the target.
type Config struct {
	HiddenSize, VocabSize, Layers int
	Attention                     attention.Geometry // of every layer
	MLP                           []moe.Config       // by layer
}

// targetKeys are the keys of config.json that are the target's alone.
type targetKeys struct {
	Layers            int   `json:"num_hidden_layers"`
	DenseIntermediate int   `json:"dense_intermediate_size"`
	MoE               []int `json:"moe_layer_freq"` // by layer: 1 where there are experts
	Sparse            struct {
		Layers []int `json:"sparse_attention_freq"` // by layer: 1 where blocks are selected
	} `json:"sparse_attention_config"`
}

// readConfig adds what config.json says of the target alone to what it says of the head.
func readConfig(fsys fs.FS, head *mtp.Config) (*Config, error) {
	data, err := fs.ReadFile(fsys, "config.json")
	if err != nil {
		return nil, err
	}
	var top struct {
		targetKeys
		Text *targetKeys `json:"text_config"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	k := &top.targetKeys
	if top.Text != nil {
		k = top.Text
	}
	var errs []error
	refuse := func(bad bool, key string, got any, want string) {
		if bad {
			errs = append(errs, &mtp.InputError{Op: "config", Field: key, Got: got, Want: want})
		}
	}
	refuse(k.Layers < 1 || k.Layers > 1<<10, "num_hidden_layers", k.Layers, "1 to 1024")
	refuse(len(k.MoE) != k.Layers, "moe_layer_freq", k.MoE, "a number for each layer")
	refuse(len(k.Sparse.Layers) != k.Layers, "sparse_attention_freq", k.Sparse.Layers, "a number for each layer")
	for i, sparse := range k.Sparse.Layers {
		refuse(sparse != 0, fmt.Sprintf("sparse_attention_freq[%d]", i), sparse, "0, since this target computes dense attention alone")
	}
	c := &Config{HiddenSize: head.HiddenSize, VocabSize: head.VocabSize, Layers: k.Layers, Attention: head.Attention}
	c.Attention.IndexDim, c.Attention.TopkBlocks, c.Attention.InitBlocks, c.Attention.LocalBlocks = 0, 0, 0, 0 // dense
	for i, experts := range k.MoE {
		refuse(experts != 0 && experts != 1, fmt.Sprintf("moe_layer_freq[%d]", i), experts, "0 or 1")
		mlp := head.MoE
		if experts == 0 {
			refuse(k.DenseIntermediate < 1 || k.DenseIntermediate > 1<<17, "dense_intermediate_size", k.DenseIntermediate, "1 to 2^17")
			mlp.SharedIntermediate, mlp.Intermediate, mlp.Experts, mlp.TopK, mlp.Scale = k.DenseIntermediate, 0, 0, 0, 0
		}
		c.MLP = append(c.MLP, mlp)
	}
	return c, errors.Join(errs...)
}

const (
	finalNorm  = "model.norm.weight"
	expertBias = "block_sparse_moe.e_score_correction_bias"
)

// owns reports whether a tensor is the target's: the head and other modalities have names of
// their own.
func owns(tensor string) bool {
	name := strings.TrimPrefix(tensor, "language_model.")
	return strings.HasPrefix(name, "model.layers.") || strings.HasPrefix(name, "model.norm.")
}

func layerName(i int, name string) string { return fmt.Sprintf("model.layers.%d.%s", i, name) }

// mlpName returns where a layer has what package moe calls name.
func (c *Config) mlpName(i int, name string) string {
	if c.MLP[i].Experts == 0 {
		return "mlp." + strings.TrimPrefix(name, "shared_experts.")
	}
	return "block_sparse_moe." + name
}

// params returns all parameters, each with the tensors that it is stacked from.
func (c *Config) params() []weights.Param {
	var all []weights.Param
	// add adds a parameter. prefix is before the names of all, and cols 0 for a vector.
	add := func(prefix, name string, cols int, parts ...weights.Part) {
		for i := range parts {
			p := &parts[i]
			if p.Tensor = prefix + p.Tensor; cols > 0 {
				p.Shape, p.KeepCols = append(p.Shape, cols), [2]int{0, cols}
			}
		}
		all = append(all, weights.Param{Name: prefix + name, Parts: parts})
	}
	rows := func(tensor string, n int) weights.Part {
		return weights.Part{Tensor: tensor, Shape: []int{n}, KeepRows: [2]int{0, n}}
	}
	h, a := c.HiddenSize, &c.Attention
	add("", finalNorm, 0, rows(finalNorm, h))
	for i, mlp := range c.MLP {
		layer := layerName(i, "")
		for _, name := range []string{"input_layernorm.weight", "post_attention_layernorm.weight"} {
			add(layer, name, 0, rows(name, h))
		}
		for _, name := range []string{"self_attn.q_norm.weight", "self_attn.k_norm.weight"} {
			add(layer, name, 0, rows(name, a.HeadDim))
		}
		const q, k, v, o = "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight"
		add(layer, "self_attn.qkv_proj.weight", h, rows(q, a.Heads*a.HeadDim), rows(k, a.KVHeads*a.HeadDim), rows(v, a.KVHeads*a.HeadDim))
		add(layer, o, a.Heads*a.HeadDim, rows(o, h))

		shared, width := layer+c.mlpName(i, "shared_experts."), mlp.SharedIntermediate // or the dense MLP
		add(shared, "gate_up_proj.weight", h, rows("gate_proj.weight", width), rows("up_proj.weight", width))
		add(shared, "down_proj.weight", width, rows("down_proj.weight", h))
		if mlp.Experts == 0 {
			continue
		}
		const gate = "block_sparse_moe.gate.weight"
		add(layer, gate, h, rows(gate, mlp.Experts))
		add(layer, expertBias, 0, rows(expertBias, mlp.Experts))
		var up, down []weights.Part
		for e := range mlp.Experts {
			expert := func(id string) string { return fmt.Sprintf("%d.%s.weight", e, id) }
			up = append(up, rows(expert("w1"), mlp.Intermediate), rows(expert("w3"), mlp.Intermediate))
			down = append(down, rows(expert("w2"), h))
		}
		experts := layer + "block_sparse_moe.experts."
		add(experts, "w13_weight", h, up...)
		add(experts, "w2_weight", mlp.Intermediate, down...)
	}
	return all
}
