package mtp

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Quantization methods of a checkpoint.
const (
	// quantMXFP8 is F8_E4M3 with one E8M0 scale per 32 columns of a row.
	quantMXFP8 = "mxfp8"
	// quantFP8 is F8_E4M3 with one float scale per block of 128 × 128.
	quantFP8 = "fp8"
)

// quantization is quantization_config. It describes the checkpoint as a whole:
// whether one tensor is quantized is told by the scale beside it, not by this.
// Read only after parsing, safe for concurrent use.
type quantization struct {
	// Method is quant_method, quantMXFP8 or quantFP8.
	Method string
	// BlockRows and BlockCols are weight_block_size, the rows and columns that share a scale.
	BlockRows, BlockCols int
	// IgnoredLayers are the entries of ignored_layers as written (or, when it
	// is absent or empty, of modules_to_not_convert): module names, or Python
	// regular expressions after "re:".
	IgnoredLayers []string

	modules  map[string]bool
	patterns []ignorePattern
}

// ignored reports whether ignored_layers exempts a module from quantization.
// The module is a checkpoint name without ".weight"; it is tried both with and
// without the "language_model." prefix. A plain entry exempts the module of
// that name and all below it; a pattern must match from the module's first
// character, as Python's re.match. A pattern that does not finish in time is an
// error that names it and matches errPattern.
func (q *quantization) ignored(module string) (bool, error) {
	bare := strings.TrimPrefix(module, bundledPrefix)
	for _, name := range []string{bare, bundledPrefix + bare} {
		if q.modules[name] {
			return true, nil
		}
		for i, char := range name {
			if char == '.' && q.modules[name[:i]] {
				return true, nil
			}
		}
		for _, pattern := range q.patterns {
			matched, err := pattern.match(name)
			if matched || err != nil {
				return matched, err
			}
		}
	}
	return false, nil
}

// bundledPrefix is what a bundled checkpoint puts before the name of every text tensor.
const bundledPrefix = "language_model."

// quantization reads quantization_config, which may sit at the top level, beside the model's keys, or in both with equal contents.
func (s section) quantization(top section) *quantization {
	_, inner := s.get(quantizationKey)
	outer, both := top.get(quantizationKey)
	from := s
	if !inner {
		from = top
	}
	q, ok := from.object(quantizationKey, false)
	if !ok {
		return nil
	}
	if inner && both && jsonDiffer(outer, s.fields[quantizationKey]) {
		top.fail(quantizationKey, "the same as "+q.path, ruleInconsistent)
	}
	c := &quantization{}
	c.Method = q.oneOf("quant_method", true, quantMXFP8, quantFP8)
	c.BlockRows, c.BlockCols = q.weightBlockSize(c.Method)
	q.oneOf("fmt", false, "e4m3")
	if c.Method == quantMXFP8 {
		q.oneOf("scale_fmt", false, "ue8m0")
	}
	key := "ignored_layers"
	if c.IgnoredLayers = q.strings(key); len(c.IgnoredLayers) == 0 {
		key = "modules_to_not_convert"
		c.IgnoredLayers = q.strings(key)
	}
	c.compileIgnored(q, key)
	return c
}

const quantizationKey = "quantization_config"

// weightBlockSize reads weight_block_size, [rows, columns], which the method fixes.
func (s section) weightBlockSize(method string) (rows, cols int) {
	switch method {
	case quantMXFP8:
		rows, cols = 1, 32
	case quantFP8:
		rows, cols = 128, 128
	default:
		return 0, 0 // reported with the method
	}
	const key = "weight_block_size"
	want := fmt.Sprintf("[%d, %d]", rows, cols)
	if size, ok := value[[]any](s, key, want, true); ok {
		fixed := []any{json.Number(fmt.Sprint(rows)), json.Number(fmt.Sprint(cols))}
		if jsonDiffer(size, fixed) {
			s.fail(key, want, ruleUnsupported)
		}
	}
	return rows, cols
}

// compileIgnored prepares the entries of key for Ignored; a pattern that does not compile is a problem of the config.
func (q *quantization) compileIgnored(s section, key string) {
	q.modules = make(map[string]bool)
	for i, entry := range q.IgnoredLayers {
		path := fmt.Sprintf("%s[%d]", joinKey(s.path, key), i)
		expression, isPattern := strings.CutPrefix(entry, "re:")
		switch {
		case !isPattern && entry == "":
			s.problems.add(path, `""`, "a module name", ruleOutOfRange)
		case !isPattern:
			q.modules[entry] = true
		case len(q.patterns) == maxPatterns:
			s.problems.add(path, "one more pattern", fmt.Sprintf("at most %d patterns", maxPatterns), ruleOutOfRange)
			return
		default:
			pattern, err := compilePattern(entry, expression)
			if err != nil {
				s.problems.add(path, jsonText(entry), "a Python regular expression ("+err.Error()+")", rulePattern)
				continue
			}
			q.patterns = append(q.patterns, pattern)
		}
	}
}
