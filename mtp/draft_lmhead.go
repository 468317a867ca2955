package mtp

import (
	"context"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// draftLMHead is the matrix with which Draft picks tokens: lm_head itself, or something
// cheaper to read.
type draftLMHead struct {
	matrix     *weights.Matrix
	vocabulary []int32           // the token of each row, ascending; nil: row r is token r
	tokens     hip.Ptr           // the vocabulary in device memory
	made       []*weights.Matrix // for drafting alone
}

// DraftLMHead returns the matrix that Draft reads for every token it drafts: lm_head
// itself, its rows of Options.DraftVocabulary, or a copy of either in the format
// Options.DraftLMHead. It is valid until Close. After Close, and for a head that is one
// rank's share, it is nil.
func (h *Head) DraftLMHead() *weights.Matrix {
	h.using.RLock()
	defer h.using.RUnlock()
	return h.draftHead.matrix
}

// buildDraftLMHead makes from lm_head what the options ask for. The head's release frees
// it, also after an error.
func (h *Head) buildDraftLMHead(ctx context.Context, progress func(done, total int64)) error {
	d := &h.draftHead
	d.matrix = h.lmHead
	if vocabulary := h.options.DraftVocabulary; vocabulary != nil {
		d.vocabulary = slices.Sorted(slices.Values(vocabulary))
		if err := d.replace(d.matrix.Select(h.device, d.vocabulary)); err != nil {
			return err
		}
		var err error
		if d.tokens, err = hip.Upload(h.device, d.vocabulary); err != nil {
			return fmt.Errorf("draft vocabulary: %w", err)
		}
	}
	format := h.options.DraftLMHead
	if format == 0 || storedAs(h.lmHead, format) {
		return nil
	}
	return d.replace(d.matrix.Requantize(ctx, h.device, format, progress))
}

// replace puts m in the place of the matrix.
func (d *draftLMHead) replace(m *weights.Matrix, err error) error {
	if err == nil {
		d.matrix, d.made = m, append(d.made, m)
	}
	return err
}

// requantizedBytes returns the planned size of what buildDraftLMHead will requantize; 0 for
// nothing.
func (c *Config) requantizedBytes(plan *weights.Plan, opts Options) int64 {
	name, format := lmHead, opts.DraftLMHead
	if c.TieWordEmbeddings {
		name = embedTokens
	}
	stored := plan.Format(name) == format
	if m := opts.LMHead; m != nil {
		stored = storedAs(m, format)
	} else if m := opts.Embed; m != nil && c.TieWordEmbeddings {
		stored = storedAs(m, format)
	}
	if format == 0 || stored {
		return 0
	}
	if v := opts.DraftVocabulary; v != nil {
		return format.Bytes(len(v), c.HiddenSize)
	}
	return format.Bytes(c.VocabSize, c.HiddenSize)
}

// storedAs reports whether all of a matrix is in the format.
func storedAs(m *weights.Matrix, f weights.Format) bool {
	return slices.Equal(m.Formats(), []weights.Format{f})
}
