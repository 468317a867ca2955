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
	matrix     *weights.Matrix   // nil on a rank of a parallel head that has none of the tokens
	vocabulary []int32           // the tokens that can be drafted, ascending; nil: all
	count      int               // of them
	own        int               // rows of matrix
	tokens     hip.Ptr           // the token of each row in device memory; 0: row r is token r
	made       []*weights.Matrix // for drafting alone

	columns rankColumns // of the ranks of a parallel head
	all     hip.Ptr     // the vocabulary in device memory; 0: all tokens
}

// DraftLMHead returns the matrix that Draft reads for every token it drafts: lm_head
// itself, its rows of Options.DraftVocabulary, or a copy of either in the format
// Options.DraftLMHead; for a rank of an [Options.Group], its rows of that. It is valid until
// Close. It is nil after Close, for a rank without a group, and for one that has no tokens.
func (h *Head) DraftLMHead() *weights.Matrix {
	h.using.RLock()
	defer h.using.RUnlock()
	return h.draftHead.matrix
}

// buildDraftLMHead makes from lm_head what the options ask for. The head's release frees
// it, also after an error.
func (h *Head) buildDraftLMHead(ctx context.Context, progress func(done, total int64)) error {
	d := &h.draftHead
	d.matrix, d.count = h.lmHead, h.config.VocabSize
	if vocabulary := h.options.DraftVocabulary; vocabulary != nil {
		d.vocabulary = slices.Sorted(slices.Values(vocabulary))
		d.count = len(d.vocabulary)
	}
	if err := h.selectDraftRows(); err != nil {
		return err
	}
	format := h.options.DraftLMHead
	if d.matrix != nil {
		d.own = d.matrix.Rows
	}
	if d.matrix == nil || format == 0 || storedAs(h.lmHead, format) {
		return nil
	}
	return d.replace(d.matrix.Requantize(ctx, h.device, format, progress))
}

// selectDraftRows leaves the rows of the draft vocabulary that this rank has.
func (h *Head) selectDraftRows() (err error) {
	d := &h.draftHead
	if h.ranks == nil {
		if d.vocabulary == nil {
			return nil
		}
		if d.tokens, err = hip.Upload(h.device, d.vocabulary); err != nil {
			return fmt.Errorf("draft vocabulary: %w", err)
		}
		return d.replace(d.matrix.Select(h.device, d.vocabulary))
	}
	group, rows := h.options.parallel().group, []int32(nil)
	own, widths := group.rows(h.config.VocabSize), make([]int, group.Size)
	var tokens []int32
	for rank := range widths {
		part := Shard{rank, group.Size}.rows(h.config.VocabSize)
		if d.vocabulary == nil {
			widths[rank] = part.Len()
			continue
		}
		first, _ := slices.BinarySearch(d.vocabulary, int32(part[0]))
		end, _ := slices.BinarySearch(d.vocabulary, int32(part[1]))
		if widths[rank] = end - first; rank == group.Rank {
			tokens = d.vocabulary[first:end]
		}
	}
	if d.vocabulary == nil {
		for t := own[0]; t < own[1]; t++ {
			tokens = append(tokens, int32(t))
		}
	}
	if d.columns, err = newRankColumns(h.device, widths); err != nil {
		return err
	}
	if d.tokens, err = hip.Upload(h.device, tokens); err != nil || d.vocabulary == nil {
		return err
	}
	if d.all, err = hip.Upload(h.device, d.vocabulary); err != nil {
		return err
	}
	for _, t := range tokens {
		rows = append(rows, t-int32(own[0]))
	}
	if len(rows) == 0 {
		d.matrix = nil
		return nil
	}
	return d.replace(d.matrix.Select(h.device, rows))
}

// tables returns what the head keeps in device memory beside its weights.
func (h *Head) tables() []*hip.Ptr {
	tables := []*hip.Ptr{&h.draftHead.tokens, &h.draftHead.all, &h.draftHead.columns.table}
	if h.ranks != nil {
		tables = append(tables, &h.ranks.lmHead.table)
	}
	return tables
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
