package mtp

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/mtp/internal/rope"
)

// ropeKeys are the keys understood in rope_scaling and rope_parameters. Any
// other would change the angles in a way that is not computed here.
var ropeKeys = []string{
	"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor",
	"original_max_position_embeddings", "beta_fast", "beta_slow",
	"attention_factor", "mscale", "mscale_all_dim", "truncate",
}

// rope reads the rotary embedding. Hugging Face transformers keeps rope_theta and
// partial_rotary_factor beside a rope_scaling object up to version 4, and inside
// rope_parameters from version 5; rope reads both layouts.
func (s section) rope(headDim, maxPosition int) attention.Rope {
	scaling, scaled := s.object("rope_scaling", false)
	parameters, parametrized := s.object("rope_parameters", false)
	switch {
	case scaled && parametrized && !sameRope(scaling.fields, parameters.fields):
		s.fail("rope_scaling", "the same as rope_parameters", ruleInconsistent)
	case !parametrized:
		parameters = scaling
	}
	parameters.onlyKnown(ropeKeys)

	r, attentionFactor := rope.Rule{Type: rope.Default, MaxPosition: maxPosition}, 1.0
	r.Theta, _ = s.either(parameters, "rope_theta", 1, math.MaxFloat32, true)
	r.Dim = s.rotaryDim(parameters, headDim)
	if scaled || parametrized {
		r.Type = parameters.ropeType(scaled)
	}
	switch r.Type {
	case rope.Linear:
		r.Factor, _ = parameters.float("factor", 1, maxPositions, true)
	case rope.YaRN:
		attentionFactor = parameters.yarn(&r)
	}
	if r.MaxPosition > 0 && r.Positions() >= math.MaxInt32 {
		parameters.fail("factor", "a range of fewer than "+strconv.Itoa(math.MaxInt32)+" positions", ruleOutOfRange)
	}
	return attention.Rope{Frequencies: r.Frequencies(), AttentionFactor: attentionFactor, Positions: r.Positions()}
}

// sameRope reports whether rope_scaling and rope_parameters say the same: rope_theta and
// partial_rotary_factor, which stand elsewhere beside rope_scaling, may be in one alone.
func sameRope(scaling, parameters map[string]any) bool {
	plain := func(fields, other map[string]any) map[string]any {
		all := map[string]any{}
		for key, value := range fields {
			elsewhere := (key == "rope_theta" || key == "partial_rotary_factor") && other[key] == nil
			if value != nil && !elsewhere {
				all[key] = value
			}
		}
		if kind, ok := all["type"]; ok && all["rope_type"] == nil {
			all["rope_type"] = kind
		}
		delete(all, "type")
		return all
	}
	return jsonEqual(plain(scaling, parameters), plain(parameters, scaling))
}

// ropeType reads rope_type, or type as older configs spell it.
func (s section) ropeType(required bool) string {
	key := "rope_type"
	if _, modern := s.get(key); !modern {
		if _, older := s.get("type"); older {
			key = "type"
		}
	} else if older, both := s.get("type"); both && !jsonEqual(older, s.fields[key]) {
		s.fail("type", "the same as rope_type", ruleInconsistent)
	}
	name := s.oneOf(key, required, rope.Default, rope.Linear, rope.YaRN)
	if name == "" {
		return rope.Default
	}
	return name
}

// yarn reads the parameters of YaRN into r, with the defaults of Hugging Face transformers,
// and returns the factor of cos and sin.
func (s section) yarn(r *rope.Rule) (attentionFactor float64) {
	r.Factor, _ = s.float("factor", 1, maxPositions, true)
	r.OriginalMaxPosition = s.integerOr("original_max_position_embeddings", 1, maxPositions, r.MaxPosition)
	if r.Theta == 1 {
		s.problems.add(joinKey(s.path, "rope_theta"), "1", "more than 1 for yarn, which divides by its logarithm", ruleOutOfRange)
	}
	r.BetaFast, r.BetaSlow = 32, 1
	if beta, ok := s.positive("beta_fast", false); ok {
		r.BetaFast = beta
	}
	if beta, ok := s.positive("beta_slow", false); ok {
		r.BetaSlow = beta
	}
	if r.BetaFast <= r.BetaSlow {
		s.problems.add(joinKey(s.path, "beta_fast"), fmt.Sprint(r.BetaFast), fmt.Sprintf("more than beta_slow %g", r.BetaSlow), ruleInconsistent)
	}
	if !s.boolOr("truncate", true) {
		s.fail("truncate", "true", ruleUnsupported)
	}

	const maxMagnitude = 1 << 10 // far above any in use
	// A zero mscale counts as absent, as in both sources.
	mscale, _ := s.float("mscale", 0, maxMagnitude, false)
	mscaleAllDim, _ := s.float("mscale_all_dim", 0, maxMagnitude, false)
	given, ok := s.positive("attention_factor", false)
	switch {
	case ok:
		return given
	case mscale != 0 && mscaleAllDim != 0:
		return yarnMagnitude(r.Factor, mscale) / yarnMagnitude(r.Factor, mscaleAllDim)
	}
	return yarnMagnitude(r.Factor, 1)
}

// yarnMagnitude returns get_mscale(factor, mscale) of the YaRN code, the growth of cos and
// sin that offsets the flatter attention of a stretched range:
//
//	0.1·mscale·ln(factor) + 1, and 1 for factor <= 1
func yarnMagnitude(factor, mscale float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*mscale*math.Log(factor) + 1
}

// rotaryDim reads rotary_dim, or derives it as ⌊partial_rotary_factor · head_dim⌋. Given both, they must agree.
func (s section) rotaryDim(parameters section, headDim int) int {
	fraction, derived := s.either(parameters, "partial_rotary_factor", 0, 1, false)
	dim, given := s.integerIn("rotary_dim", 2, maxHeadDim, false)
	_, present := s.get("rotary_dim")
	_, outside := s.get("partial_rotary_factor")
	_, inside := parameters.get("partial_rotary_factor")
	switch {
	case !present && !outside && !inside:
		s.fail("rotary_dim", "an even integer, or partial_rotary_factor in its place", ruleMissingKey)
		return 0
	case headDim == 0 || present && !given || !present && !derived:
		return 0 // reported already
	case given && derived && dim != int(fraction*float64(headDim)):
		s.fail("rotary_dim", fmt.Sprintf("partial_rotary_factor %g · head_dim %d", fraction, headDim), ruleInconsistent)
	case !given:
		dim = int(fraction * float64(headDim))
	}
	if dim < 2 || dim%2 != 0 || dim > headDim {
		s.problems.add(joinKey(s.path, "rotary_dim"), strconv.Itoa(dim), fmt.Sprintf("an even integer in [2, head_dim %d]", headDim), ruleInconsistent)
	}
	return dim
}

// either reads a number that may sit in s or in nested, or in both with equal values.
func (s section) either(nested section, key string, low, high float64, required bool) (float64, bool) {
	_, inside := nested.get(key)
	x, ok := s.float(key, low, high, required && !inside)
	if !inside {
		return x, ok
	}
	y, nestedOK := nested.float(key, low, high, true)
	if ok && nestedOK && x != y {
		nested.fail(key, "the same as "+joinKey(s.path, key), ruleInconsistent)
	}
	return y, nestedOK
}

// onlyKnown reports the keys of s that are not among known.
func (s section) onlyKnown(known []string) {
	for _, key := range sortedKeys(s.fields) {
		if _, present := s.get(key); present && !slices.Contains(known, key) {
			s.fail(key, "no such key", ruleUnsupported)
		}
	}
}
