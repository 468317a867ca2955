package weights

import (
	"strconv"
	"strings"
)

// Names of a checkpoint become names of the draft head's parameters in the steps of vLLM's
// MiniMaxM3MTP.load_weights, one function or table each. inventory.find in param.go applies
// them:
//
//	language_model.model.mtp.layers.0.transformer_layer.self_attn.q_proj.weight_scale_inv
//	  MTPLayer       0
//	  MapName        model.layers.0.transformer_layer.self_attn.q_proj.weight_scale
//	  StackedParams  model.layers.0.transformer_layer.self_attn.qkv_proj.weight_scale, shard "q"
//
// and for routed experts, instead of the last:
//
//	ExpertParams   ….experts.7.w3.weight → ….experts.w13_weight, expert 7, shard "w3"
//
// RemapKVScale renames the scales of an fp8 KV cache, which are not stacked.

// routedExperts marks the names of routed experts, which load_weights stacks
// otherwise.
const routedExperts = "block_sparse_moe.experts."

// MTPLayer returns N of the first ".mtp.layers.N." in a checkpoint name, as
// _get_mtp_layer_idx_from_weight_name does. A number too large for an int does not count.
func MTPLayer(name string) (int, bool) {
	const prefix = ".mtp.layers."
	for {
		at := strings.Index(name, prefix)
		if at < 0 {
			return 0, false
		}
		rest := name[at+len(prefix):]
		digits := leadingDigits(rest)
		if digits != "" && strings.HasPrefix(rest[len(digits):], ".") {
			layer, err := strconv.Atoi(digits)
			if err != nil {
				return 0, false
			}
			return layer, true
		}
		// The next match may begin at the dot that ends this prefix.
		name = name[at+len(prefix)-1:]
	}
}

// MapName maps a checkpoint name to the name of a parameter of the MTP module, as
// _map_checkpoint_name does. It returns false for a name that belongs to another module. In
// the name of a block scale "weight_scale_inv" becomes "weight_scale".
func MapName(name string) (string, bool) {
	name = strings.TrimPrefix(name, "language_model.")
	switch {
	case name == "model.embed_tokens.weight", name == "lm_head.weight":
		return name, true
	case strings.Contains(name, "model.mtp.layers"):
		name = strings.ReplaceAll(name, "weight_scale_inv", "weight_scale")
		return strings.ReplaceAll(name, ".mtp.", "."), true
	}
	return "", false
}

// stackedParams is stacked_params_mapping of load_weights.
var stackedParams = [...]struct{ param, tensor, id string }{
	{".qkv_proj", ".q_proj", "q"},
	{".qkv_proj", ".k_proj", "k"},
	{".qkv_proj", ".v_proj", "v"},
	{".qkv_proj", ".index_q_proj", "index_q"},
	{".qkv_proj", ".index_k_proj", "index_k"},
	{".gate_up_proj", ".gate_proj", "0"},
	{".gate_up_proj", ".up_proj", "1"},
}

// StackedParams returns stacked_params_mapping of load_weights as parameters and the
// parts that they are stacked from, in the order of their rows. Names are parts of names,
// with their leading dots, and there are no shapes: a mapped name that contains a part's,
// and is not one of a routed expert, is that of the parameter with the one in place of the
// other.
//
// The parameter need not exist: "….k_proj.k_scale" becomes "….qkv_proj.k_scale" too, which
// is not a parameter. So [RemapKVScale] must see the name first.
func StackedParams() []Param {
	var table []Param
	for _, s := range &stackedParams {
		if n := len(table); n == 0 || table[n-1].Name != s.param {
			table = append(table, Param{Name: s.param})
		}
		last := &table[len(table)-1]
		last.Parts = append(last.Parts, Part{Tensor: s.tensor})
	}
	return table
}

// stackedParam returns the stacked parameter that a mapped name is part of, and
// which part, by [StackedParams]. Routed experts are never stacked by it.
func stackedParam(name string) (param, shardID string, ok bool) {
	if strings.Contains(name, routedExperts) {
		return "", "", false
	}
	for _, s := range &stackedParams {
		if strings.Contains(name, s.tensor) {
			return strings.ReplaceAll(name, s.tensor, s.param), s.id, true
		}
	}
	return "", "", false
}

// expertShards are the matrices of one expert, gate, down and up, in the order of
// fused_moe_make_expert_params_mapping.
var expertShards = [...]struct{ id, param string }{
	{"w1", "experts.w13_"},
	{"w2", "experts.w2_"},
	{"w3", "experts.w13_"},
}

// ExpertParams returns what fused_moe_make_expert_params_mapping returns for
// numExperts experts with gate, down and up called w1, w2 and w3: the parameters
// "experts.w13_" and "experts.w2_" and their parts, "experts.7.w1." for example, in the
// order of their rows. Names are parts of names, and there are no shapes: a mapped name that
// contains a part's is that of the parameter with the one in place of the other.
func ExpertParams(numExperts int) []Param {
	if numExperts < 1 {
		return nil
	}
	table := []Param{{Name: "experts.w13_"}, {Name: "experts.w2_"}}
	for e := range numExperts {
		for _, s := range expertShards {
			p := &table[0]
			if s.param != p.Name {
				p = &table[1]
			}
			p.Parts = append(p.Parts, Part{Tensor: "experts." + strconv.Itoa(e) + "." + s.id + "."})
		}
	}
	return table
}

// expertParam returns the expert parameter that a mapped name is part of: what a
// scan of [ExpertParams] would find, for any number of experts, without it.
func expertParam(name string) (param string, expert int, shardID string, ok bool) {
	const prefix = "experts."
	for rest := name; ; {
		_, after, found := strings.Cut(rest, prefix)
		if !found {
			return "", 0, "", false
		}
		rest = after
		digits := leadingDigits(after)
		n, err := strconv.Atoi(digits)
		if err != nil || strconv.Itoa(n) != digits {
			continue // no number, or one that the table writes differently
		}
		for _, s := range expertShards {
			if strings.HasPrefix(after[len(digits):], "."+s.id+".") {
				weight := prefix + digits + "." + s.id + "."
				return strings.ReplaceAll(name, weight, s.param), n, s.id, true
			}
		}
	}
}

// RemapKVScale maps the name of a scale of an fp8 KV cache to that of the
// attention layer's parameter, as vLLM's maybe_remap_kv_scale_name does:
//
//	….kv_scale                      ….attn.k_scale
//	….self_attn.k_proj.k_scale      ….self_attn.attn.k_scale
//	….self_attn.v_proj.v_scale      ….self_attn.attn.v_scale
//	any other ….k_scale, ….v_scale  ….attn.k_scale, ….attn.v_scale
//
// The first form, one scale for keys and values, is deprecated. RemapKVScale returns false
// if has, which reports whether a parameter exists, does not know the new name. It returns
// any other name as it is, with true.
func RemapKVScale(name string, has func(param string) bool) (string, bool) {
	const (
		keyScale   = ".self_attn.k_proj.k_scale"
		valueScale = ".self_attn.v_proj.v_scale"
	)
	perProjection := strings.Contains(name, keyScale) || strings.Contains(name, valueScale)
	old, attn := "", ""
	switch {
	case strings.HasSuffix(name, ".kv_scale"):
		old, attn = ".kv_scale", ".attn.k_scale"
	case strings.HasSuffix(name, ".k_scale") && perProjection:
		old, attn = keyScale, ".self_attn.attn.k_scale"
	case strings.HasSuffix(name, ".k_scale"):
		old, attn = ".k_scale", ".attn.k_scale"
	case strings.HasSuffix(name, ".v_scale") && perProjection:
		old, attn = valueScale, ".self_attn.attn.v_scale"
	case strings.HasSuffix(name, ".v_scale"):
		old, attn = ".v_scale", ".attn.v_scale"
	default:
		return name, true
	}
	remapped := strings.ReplaceAll(name, old, attn)
	if !has(remapped) {
		return "", false
	}
	return remapped, true
}

func leadingDigits(s string) string {
	end := strings.IndexFunc(s, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(s)
	}
	return s[:end]
}
