package mtp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// requireBranches refuses the branches of the model family that the draft head does not have.
func (s section) requireBranches() {
	if s.native() {
		s.oneOf("hidden_act", false, "swigluoai", "silu") // transformers 5 writes silu for both
	} else {
		s.oneOf("hidden_act", true, "swigluoai")
	}
	s.oneOf("qk_norm_type", false, "per_head")
	s.oneOf("scoring_func", false, "sigmoid")
	s.requireBool("use_gemma_norm", true, false)
	s.requireBool("use_qk_norm", true, false)
	s.requireBool("use_routing_bias", true, false)
	s.requireBool("attention_output_gate", false, false)
}

// checkConsistent compares the values with each other. A size that was already
// reported is zero, and what depends on it is not reported again.
func (c *Config) checkConsistent(s section, heads int) {
	if c.Attention.KVHeads > 0 && c.Attention.Heads%c.Attention.KVHeads != 0 {
		s.fail("num_attention_heads", fmt.Sprintf("a multiple of num_key_value_heads %d", c.Attention.KVHeads), ruleInconsistent)
	}
	if c.MoE.Experts > 0 && c.MoE.TopK > c.MoE.Experts {
		s.fail("num_experts_per_tok", fmt.Sprintf("at most num_local_experts %d", c.MoE.Experts), ruleInconsistent)
	}
	if s.integerOr("n_shared_experts", 0, maxExperts, 1) != 1 {
		s.fail("n_shared_experts", "1", ruleUnsupported)
	}
	sparse := s.sparse(false)
	if kv := c.Attention.KVHeads; heads > 0 && kv > 0 && heads != kv {
		sparse.fail(indexHeads, fmt.Sprintf("num_key_value_heads %d", kv), ruleUnsupported)
	}
	if rotaryDim := 2 * len(c.Attention.Rope.Frequencies); c.Attention.IndexDim > 0 && c.Attention.IndexDim < rotaryDim {
		sparse.fail(indexDim, fmt.Sprintf("at least rotary_dim %d: index heads rotate too", rotaryDim), ruleInconsistent)
	}
}

// oneOf returns the string at key, which must be among supported; "" when it is absent or wrong.
func (s section) oneOf(key string, required bool, supported ...string) string {
	want := fmt.Sprintf("one of %q", supported)
	if len(supported) == 1 {
		want = fmt.Sprintf("%q", supported[0])
	}
	got, ok := value[string](s, key, want, required)
	if !ok {
		return ""
	}
	if !slices.Contains(supported, got) {
		s.fail(key, want, ruleUnsupported)
		return ""
	}
	return got
}

// requireBool refuses a boolean at key other than want.
func (s section) requireBool(key string, want, required bool) {
	got, ok := value[bool](s, key, fmt.Sprint(want), required)
	if ok && got != want {
		s.fail(key, fmt.Sprint(want), ruleUnsupported)
	}
}

// jsonEqual reports whether two decoded values are equal, numbers by their value. Objects
// and lists that are large are equal if they are written alike.
func jsonEqual(a, b any) bool {
	const large = 64 << 10
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		x, xErr := a.Float64()
		y, yErr := b.Float64()
		return ok && (a == b || xErr == nil && yErr == nil && x == y)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, jsonEqual)
	case objectText:
		b, ok := b.(objectText)
		return ok && (bytes.Equal(a, b) || max(len(a), len(b)) <= large && jsonEqual(a.fields(), b.fields()))
	case listText:
		b, ok := b.(listText)
		return ok && (bytes.Equal(a, b) || max(len(a), len(b)) <= large &&
			slices.EqualFunc(slices.Collect(a.elements()), slices.Collect(b.elements()), func(a, b []byte) bool {
				return jsonEqual(decodeValue(a), decodeValue(b))
			}))
	}
	switch b.(type) {
	case objectText, listText:
		return false
	}
	return a == b
}

// sortedKeys returns the keys of an object in order, so that problems are reported in the same order each time.
func sortedKeys(fields map[string]any) []string { return slices.Sorted(maps.Keys(fields)) }
