package mtp

import (
	"context"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
	"github.com/drafthead/drafthead/mtp/internal/staging"
)

// TopK returns the k most probable tokens after each of the given rows, len(rows) × k in
// descending order, and their softmax probabilities: the candidates of a draft tree, or of
// a sampler. The first is the token that [Head.Draft] would draft, if it rounds nothing by
// Options.DraftActivations, which TopK does not. If logits are equal, the lower id comes
// first. A GPU copies back nothing but these. Options.DraftVocabulary and
// Options.DraftLMHead apply as in Draft. k is 1 to 64 and at most the number of tokens that
// can be drafted; any other is an [InputError]. Other arguments and errors are those of
// Logits.
func (h *Head) TopK(ctx context.Context, hidden Hidden, rows []int, step, k int) (ids []int32, probs []float32, err error) {
	check := func() error {
		if most := min(kernels.MaxTopK, h.draftHead.count); k < 1 || k > most {
			return refuse("k", k, fmt.Sprintf("1 to %d", most), nil)
		}
		return nil
	}
	err = h.onRows(ctx, hidden, rows, step, check, func(w *workspace, in *input, n, module int) error {
		results := 2*n*k + h.ranksResults()
		if err := w.reserveTop(h, n, k); err != nil {
			return err
		}
		if err := w.down.Expect(results); err != nil {
			return err
		}
		check := w.stagePlans(h)
		if err := w.up.Upload(); err != nil {
			return err
		}
		err := w.run(false, func(d hip.Device) error {
			if err := in.widen(d); err != nil {
				return err
			}
			to := kernels.Picked{IDs: w.down.At(0), Probabilities: w.down.At(n * k)}
			if err := h.logits(d, w, h.draftHead.matrix, in.states, n, module); err != nil {
				return err
			}
			if err := h.pickTokens(d, w, to, w.up.At(check), w.down.At(2*n*k), n, k); err != nil {
				return err
			}
			return w.down.Bring(d, results)
		})
		if err != nil {
			return err
		}
		values, err := w.wait(results)
		if err != nil {
			return err
		}
		if h.ranks != nil {
			if err := samePlans(values[2*n*k]); err != nil {
				return err
			}
		}
		ids, probs = slices.Clone(values[:n*k]), slices.Clone(staging.Floats(values[n*k:2*n*k]))
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return ids, probs, nil
}

// reserveTop makes room for the k most likely tokens of each of rows rows.
func (w *workspace) reserveTop(h *Head, rows, k int) error {
	vocab := h.draftHead.own
	if err := w.growLogits(h.config.HiddenSize, rows, vocab); err != nil {
		return err
	}
	if err := w.reserveRanks(h, rows, k, nil); err != nil {
		return err
	}
	return w.top.Grow(w.device, rows, vocab, k)
}

// pickTokens sets to to the k most probable tokens, [rows, k], of rows rows of draft logits.
// check and differs are those of pickOverRanks.
func (h *Head) pickTokens(d hip.Device, w *workspace, to kernels.Picked, check, differs hip.Ptr, rows, k int) error {
	if h.ranks != nil {
		return h.pickOverRanks(d, w, to, check, differs, rows, k)
	}
	return w.top.Pick(d, to, w.logits.Ptr(), h.draftHead.tokens, rows, h.draftHead.own, k)
}

// ranksResults is how many results pickOverRanks has beside the tokens.
func (h *Head) ranksResults() int {
	if h.ranks == nil {
		return 0
	}
	return 1
}
