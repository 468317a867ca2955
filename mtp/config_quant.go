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
	// ignoredLayers are the modules that mxfp8 and fp8 leave as they are: the entries of
	// ignored_layers as written (or, when it is absent or empty, of
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
	fields, _ := value.(map[string]any)
	q.method, _ = fields["quant_method"].(string)
	for _, key := range []string{"ignored_layers", "modules_to_not_convert"} {
		if len(q.ignoredLayers) == 0 && slices.Contains(comparedMethods, q.method) {
			q.ignoredLayers = stringsOf(fields[key])
		}
	}
	if algorithm, ok := fields["quant_algo"].(string); ok {
		q.method = strings.TrimSpace(q.method + " " + algorithm)
	}
	return q
}

// stringsOf returns the strings of a list.
func stringsOf(value any) []string {
	elements, _ := value.([]any)
	var list []string
	for _, element := range elements {
		if text, ok := element.(string); ok && text != "" {
			list = append(list, text)
		}
	}
	return list
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
