package reference

import (
	"fmt"
	"math"
	"reflect"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// The calls, as errors name them.
const (
	opForward = "reference: forward"
	opChain   = "reference: chain"
)

func (h *Head) check(module int, tokens, positions []int, hidden mat.Matrix, rows []int) error {
	refused := func(field string, got any, want string) error {
		return &hip.InputError{Op: opForward, Field: field, Got: got, Want: want}
	}
	if module < 0 || module >= len(h.modules) {
		return refused("module", module, fmt.Sprintf("at least 0 and less than %d", len(h.modules)))
	}
	if err := h.checkCache(opForward, module); err != nil {
		return err
	}
	if err := h.checkHidden(opForward, hidden); err != nil {
		return err
	}
	n := hidden.Shape()[0]
	switch {
	case len(tokens) != n:
		return refused("len(tokens)", len(tokens), fmt.Sprintf("%d, the rows of hidden", n))
	case len(positions) != n:
		return refused("len(positions)", len(positions), fmt.Sprintf("%d, the rows of hidden", n))
	}
	if err := h.checkTokens(opForward, tokens); err != nil {
		return err
	}
	if err := checkIncreasing("positions", positions, h.Config.Attention.Rope.Positions); err != nil {
		return err
	}
	return checkIncreasing("rows", rows, n)
}

// checkCache refuses a format that does not exist, and one by scales where a module's are
// not finite numbers above 0.
func (h *Head) checkCache(op string, module int) error {
	m := &h.modules[module]
	switch usable := func(scale float64) bool { return scale > 0 && !math.IsInf(scale, 1) }; h.CacheFormat {
	case attention.CacheBF16, attention.CacheF32:
		return nil
	case attention.CacheFP8, attention.CacheFP8Index:
		if usable(m.kScale) && usable(m.vScale) {
			return nil
		}
		got := fmt.Sprintf("%v, with scales %v and %v of module %d", h.CacheFormat, m.kScale, m.vScale, module)
		return &hip.InputError{Op: op, Field: "CacheFormat", Got: got, Want: "finite scales above 0, or another format"}
	}
	return &hip.InputError{Op: op, Field: "CacheFormat", Got: h.CacheFormat, Want: "CacheBF16, CacheF32, CacheFP8 or CacheFP8Index"}
}

func (h *Head) checkChain(tokens []int, hidden mat.Matrix, k int) error {
	if err := h.checkHidden(opChain, hidden); err != nil {
		return err
	}
	if rows := hidden.Shape()[0]; len(tokens) != rows+1 {
		return &hip.InputError{Op: opChain, Field: "len(tokens)", Got: len(tokens), Want: fmt.Sprintf("%d, one more than rows of hidden", rows+1)}
	}
	if k < 1 {
		return &hip.InputError{Op: opChain, Field: "k", Got: k, Want: "at least 1"}
	}
	return h.checkTokens(opChain, tokens)
}

func (h *Head) checkTokens(op string, tokens []int) error {
	for i, token := range tokens {
		if token < 0 || token >= h.Config.VocabSize {
			return &hip.InputError{
				Op: op, Field: fmt.Sprintf("tokens[%d]", i), Got: token, Want: fmt.Sprintf("at least 0 and less than %d", h.Config.VocabSize),
			}
		}
	}
	return nil
}

func (h *Head) checkHidden(op string, hidden mat.Matrix) error {
	want := fmt.Sprintf("[rows, %d]", h.Config.HiddenSize)
	if v := reflect.ValueOf(hidden); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return &hip.InputError{Op: op, Field: "hidden", Got: nil, Want: want}
	}
	if shape := hidden.Shape(); shape[0] < 1 || shape[1] != h.Config.HiddenSize {
		return &hip.InputError{Op: op, Field: "the shape of hidden", Got: shape, Want: want}
	}
	return nil
}

// checkIncreasing refuses values that do not increase, or reach limit.
func checkIncreasing(field string, values []int, limit int) error {
	last := -1
	for i, v := range values {
		if v <= last || v >= limit {
			return &hip.InputError{
				Op: opForward, Field: fmt.Sprintf("%s[%d]", field, i), Got: v, Want: fmt.Sprintf("more than %d and less than %d", last, limit),
			}
		}
		last = v
	}
	return nil
}
