package reference

import (
	"reflect"

	"github.com/nlpodyssey/spago/mat"
)

func (h *Head) check(module int, tokens, positions []int, hidden mat.Matrix) error {
	if err := h.checkModule(module); err != nil {
		return err
	}
	if err := h.checkHidden(hidden); err != nil {
		return err
	}
	if rows := hidden.Shape()[0]; len(tokens) != rows || len(positions) != rows {
		return inputError("%d tokens and %d positions for %d hidden states", len(tokens), len(positions), rows)
	}
	if err := h.checkTokens(tokens); err != nil {
		return err
	}
	covered, last := h.Config.Rope.Positions(), -1
	for i, p := range positions {
		if p <= last || p >= covered {
			return inputError("positions[%d] is %d, want more than %d and less than %d", i, p, last, covered)
		}
		last = p
	}
	return nil
}

func (h *Head) checkModule(module int) error {
	if module < 0 || module >= len(h.modules) {
		return inputError("module %d of %d", module, len(h.modules))
	}
	return nil
}

func (h *Head) checkTokens(tokens []int) error {
	for i, token := range tokens {
		if token < 0 || token >= h.Config.VocabSize {
			return inputError("tokens[%d] is %d, want at least 0 and less than %d", i, token, h.Config.VocabSize)
		}
	}
	return nil
}

func (h *Head) checkHidden(hidden mat.Matrix) error {
	if v := reflect.ValueOf(hidden); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return inputError("no hidden states")
	}
	if shape := hidden.Shape(); shape[0] < 1 || shape[1] != h.Config.HiddenSize {
		return inputError("hidden states of shape %v, want [rows, %d]", shape, h.Config.HiddenSize)
	}
	return nil
}

func checkRows(rows []int, n int) error {
	if len(rows) == 0 {
		return inputError("no rows")
	}
	last := -1
	for i, r := range rows {
		if r <= last || r >= n {
			return inputError("rows[%d] is %d, want more than %d and less than %d", i, r, last, n)
		}
		last = r
	}
	return nil
}
