package mtp

import (
	"context"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// TopK returns the k tokens that [Head.Draft] would draft first, second and so on
// after each of the given rows, len(rows) × k in descending order of probability,
// and their softmax probabilities: the candidates of a draft tree, or of a sampler.
// On a GPU nothing else comes back. Of equal logits the lower id is first.
// Options.DraftVocabulary and Options.DraftLMHead hold as for Draft. k is at most 64
// and at most the number of tokens that there are to draft, else the error is an
// [InputError]; other arguments and errors are those of Logits.
func (h *Head) TopK(ctx context.Context, hidden Hidden, rows []int, step, k int) (ids []int32, probs []float32, err error) {
	check := func() error {
		if most := min(maxTopK, h.drafts.matrix.Rows); k < 1 || k > most {
			return &InputError{Sequence: -1, Field: "k", Got: k, Want: fmt.Sprintf("1 to %d", most)}
		}
		return nil
	}
	err = h.onRows(ctx, hidden, rows, step, check, func(w *workspace, in *input, n, module int) error {
		unembed := &h.drafts
		vocab := unembed.matrix.Rows
		if err := w.growLogits(h.config.HiddenSize, n, vocab); err != nil {
			return err
		}
		if err := w.growTop(n, vocab, k); err != nil {
			return err
		}
		if err := w.results.expect(w.device, w.sharer, 2*n*k); err != nil {
			return err
		}
		err := w.run(false, func(d hip.Device) error {
			if err := h.logitsOf(d, w, unembed.matrix, in, n, module); err != nil {
				return err
			}
			if err := w.top(d, w.results.at(0), w.results.at(n*k), unembed.tokens, n, vocab, k); err != nil {
				return err
			}
			return w.results.bring(d)
		})
		if err != nil {
			return err
		}
		values, err := w.wait()
		if err != nil {
			return err
		}
		ids, probs = slices.Clone(values[:n*k]), slices.Clone(floatsOf(values[n*k:]))
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return ids, probs, nil
}

// growTop makes room for top.
func (w *workspace) growTop(rows, vocab, k int) error {
	parts := topkPartsOf(vocab)
	return w.grow(need{&w.largest, rows * parts * k, 4}, need{&w.index, rows * parts * k, 4}, need{&w.sums, rows * parts, 8})
}

// top sets ids [rows, k] to the indices of the k largest of each row of w.logits,
// rows × vocab, or to what tokens has at them, and probabilities to theirs.
func (w *workspace) top(d hip.Device, ids, probabilities, tokens hip.Ptr, rows, vocab, k int) error {
	parts := topkPartsOf(vocab)
	a := &topkArgs{
		Logits: w.logits.ptr, Largest: w.largest.ptr, Index: w.index.ptr, Sums: w.sums.ptr, Tokens: tokens, IDs: ids, Probabilities: probabilities,
		Rows: int32(rows), Vocab: int32(vocab), Parts: int32(parts), K: int32(k),
	}
	if err := topkParts.Launch(d, hip.Grid{Blocks: rows * parts, Threads: 256, BlockCost: 16 * topkPart}, a); err != nil {
		return err
	}
	return topkMerge.Launch(d, hip.Grid{Blocks: rows, Threads: 64, BlockCost: 16 * parts * k}, a)
}
