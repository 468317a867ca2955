package mtp

import "encoding/json"

// sparseKey is a size of the indexer by its two names: in sparse_attention_config, and
// beside the model's keys as Hugging Face transformers writes it from version 5 on.
type sparseKey struct{ nested, native string }

var (
	indexDim    = sparseKey{"sparse_index_dim", "index_head_dim"}
	indexHeads  = sparseKey{"sparse_num_index_heads", "index_n_heads"}
	topkBlocks  = sparseKey{"sparse_topk_blocks", "index_topk_blocks"}
	sparseBlock = sparseKey{"sparse_block_size", "index_block_size"}
	initBlocks  = sparseKey{"sparse_init_block", "index_init_blocks"}
	localBlocks = sparseKey{"sparse_local_block", "index_local_blocks"}
)

// native reports whether s has a size of the indexer by its name in transformers.
func (s section) native() bool {
	for _, key := range []sparseKey{indexDim, indexHeads, topkBlocks, sparseBlock, initBlocks, localBlocks} {
		if _, ok := s.get(key.native); ok {
			return true
		}
	}
	return false
}

// readSparse returns sparse_num_index_heads, which must be the number of KV heads.
func (c *Config) readSparse(text section) (heads int) {
	s := text.sparse(true)
	if !s.given && !text.native() {
		return 0 // reported
	}
	local := 0 // as vLLM has it
	if !s.given {
		local = 1 // as transformers
	}
	a := &c.Attention
	a.IndexDim = s.size(indexDim, 1, maxHeadDim, 0)
	heads = s.size(indexHeads, 1, maxHeads, 0)
	a.TopkBlocks = s.size(topkBlocks, 1, maxBlocks, 0)
	a.BlockSize = s.size(sparseBlock, 1, maxBlockSize, 0)
	a.InitBlocks = s.size(initBlocks, 0, maxBlocks, 0)
	a.LocalBlocks = s.size(localBlocks, 0, maxBlocks, local)
	s.requireBool("use_sparse_attention", true, s.given)
	s.oneOf("sparse_score_type", false, "max")
	s.requireScoreOnlyIndexer()
	return heads
}

// sparseSection is sparse_attention_config, with the model's keys around it.
type sparseSection struct {
	section
	text  section
	given bool
}

// sparse returns sparse_attention_config. If required is set, it reports a section that is
// wrong, or that is absent with nothing in its place.
func (s section) sparse(required bool) sparseSection {
	const key = "sparse_attention_config"
	if required {
		nested, given := s.object(key, !s.native())
		return sparseSection{nested, s, given}
	}
	text, given := s.fields[key].(objectText)
	nested := section{path: joinKey(s.path, key), problems: s.problems}
	if given {
		nested.fields = text.fields()
	}
	return sparseSection{nested, s, given}
}

// size reads a size by either name, or by both with equal values. A size with low ≥ 1 is
// required; another has the value absent if neither is given.
func (s sparseSection) size(key sparseKey, low, high, absent int) int {
	_, nested := s.get(key.nested)
	_, native := s.text.get(key.native)
	required := low > 0
	from, name := s.section, key.nested
	if native && !nested || !s.given {
		from, name = s.text, key.native
	}
	n, ok := from.integerIn(name, low, high, required)
	if !ok {
		return absent
	}
	if nested && native {
		if m, ok := s.text.integerIn(key.native, low, high, true); ok && m != n {
			s.text.fail(key.native, "the same as "+joinKey(s.path, key.nested), ruleInconsistent)
		}
	}
	return n
}

// fail records a problem with a size under the name that it was read by.
func (s sparseSection) fail(key sparseKey, want, rule string) {
	if _, nested := s.get(key.nested); nested {
		s.section.fail(key.nested, want, rule)
		return
	}
	s.text.fail(key.native, want, rule)
}

// requireScoreOnlyIndexer checks sparse_disable_index_value: the indexer only
// scores blocks, index value and output projections do not exist. A list has an
// entry per layer of the target, of which those count that sparse_attention_freq
// marks as sparse (all, without it).
func (s section) requireScoreOnlyIndexer() {
	const key, frequency, want = "sparse_disable_index_value", "sparse_attention_freq", "true for every sparse layer"
	const mostLayers = 10_000
	disabled, present := s.get(key)
	if !present {
		return
	}
	text, isList := disabled.(listText)
	layers := []any{disabled}
	if isList {
		layers = text.first(mostLayers)
	}
	var sparse []any
	if text, ok := value[listText](s, frequency, "a list", false); ok {
		sparse = text.first(mostLayers)
	}
	if len(layers) == mostLayers || sparse != nil && isList && len(sparse) != len(layers) {
		s.fail(key, "an entry per entry of sparse_attention_freq", ruleInconsistent)
		return
	}
	for i, layer := range layers {
		if isList && sparse != nil && isFlag(sparse[i], false) {
			continue
		}
		switch {
		case isFlag(layer, true):
		case isFlag(layer, false):
			s.fail(key, want, ruleUnsupported)
			return
		default:
			s.fail(key, want, ruleWrongType)
			return
		}
	}
}

// first returns up to n elements of a list.
func (l listText) first(n int) []any {
	list := []any{}
	for element := range l.elements() {
		if len(list) == n {
			break
		}
		list = append(list, decodeValue(element))
	}
	return list
}

// isFlag reports whether a value is want, as true or false or as 1 or 0.
func isFlag(value any, want bool) bool {
	switch v := value.(type) {
	case bool:
		return v == want
	case json.Number:
		n, err := wholeNumber(v.String())
		return err == nil && (n == 1 && want || n == 0 && !want)
	}
	return false
}
