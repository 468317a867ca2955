package mtp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// quantization is what quantization_config says about a checkpoint. It is used only for
// notes: what a tensor is stored as decides how it is read.
type quantization struct {
	// method is quant_method, with quant_algo if there is one; "" if there is neither.
	method string
	// ignoredLayers are the modules that mxfp8 and fp8 leave as they are, of those that may be
	// the head's: the entries of ignored_layers as written (or, when it is absent or empty, of
	// modules_to_not_convert), module names, or Python regular expressions after "re:".
	ignoredLayers []string
	// differ reports that the config has another one at the top level.
	differ bool
}

const quantizationKey = "quantization_config"

// comparedMethods are those whose ignored_layers mean what quantizationNotes compares.
var comparedMethods = []string{"mxfp8", "fp8"}

// readQuantization reads quantization_config, which may sit beside the model's keys or at
// the top level. Nothing that it says is an error.
func readQuantization(text, top section) *quantization {
	inner, outer := text.fields[quantizationKey], top.fields[quantizationKey]
	value := inner
	if inner == nil {
		value = outer
	}
	if value == nil {
		return nil
	}
	q := &quantization{differ: inner != nil && outer != nil && !jsonEqual(inner, outer)}
	object, ok := value.(objectText)
	if !ok {
		return q
	}
	fields := object.fields()
	q.method, _ = fields["quant_method"].(string)
	for _, key := range []string{"ignored_layers", "modules_to_not_convert"} {
		if list, ok := fields[key].(listText); ok && len(q.ignoredLayers) == 0 && slices.Contains(comparedMethods, q.method) {
			q.ignoredLayers = ignoredOf(list)
		}
	}
	if algorithm, ok := fields["quant_algo"].(string); ok {
		q.method = strings.TrimSpace(q.method + " " + algorithm)
	}
	return q
}

// ignoredOf returns the entries of ignored_layers that may exempt a module of the head, each
// once: the patterns, and the names of its modules or of what they lie in. It returns one
// pattern more than are ever compared, if there are more.
func ignoredOf(list listText) (entries []string) {
	seen := make(map[string]bool)
	patterns, bytes := 0, 0
	for text := range list.elements() {
		if text[0] != '"' {
			continue
		}
		entry := decodeValue(text).(string)
		pattern, isPattern := strings.CutPrefix(entry, patternPrefix)
		switch {
		case seen[entry]:
			continue
		case isPattern && patterns <= maxPatterns && bytes <= maxPatternBytes:
			patterns, bytes = patterns+1, bytes+len(pattern)
		case isPattern || !headModule(strings.TrimPrefix(entry, bundledPrefix)) && entry+"." != bundledPrefix:
			continue
		}
		seen[entry] = true
		entries = append(entries, entry)
	}
	return entries
}

// headModule reports whether a name is that of a module of the head or of one that it lies
// in.
func headModule(name string) bool {
	const layers = "model.mtp.layers."
	return strings.HasPrefix(name, layers) || strings.HasPrefix(layers, name+".") || name+".weight" == lmHead || name+".weight" == embedTokens
}

// notes says where quantization_config is not followed although somebody might expect it.
func (q *quantization) notes() (notes []string) {
	if q == nil {
		return nil
	}
	const stored = "what a tensor is stored as decides"
	switch {
	case q.method == "":
		notes = append(notes, quantizationKey+" names no quant_method: "+stored)
	case !slices.Contains(comparedMethods, q.method):
		notes = append(notes, fmt.Sprintf("%s is by %s: %s", quantizationKey, safetensors.Printable(q.method), stored))
	}
	if q.differ {
		notes = append(notes, quantizationKey+" differs from that in text_config: "+stored)
	}
	return notes
}

// bundledPrefix is what a bundled checkpoint puts before the name of every text tensor.
const bundledPrefix = "language_model."
