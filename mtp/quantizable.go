package mtp

import (
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// quantizableModule returns the module of a head's weight that a quantizer would
// take by default: a matrix of an MTP layer.
func quantizableModule(t *safetensors.Tensor) (module string, ok bool) {
	if _, ours := weights.MTPLayer(t.Name); !ours || len(t.Shape) != 2 {
		return "", false
	}
	return strings.CutSuffix(t.Name, ".weight")
}
